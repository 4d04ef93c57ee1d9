"""`/v1/models`: which version of every model serves, and the card of each."""

import re
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from stock_assets.serving.answers import text_of
from stock_assets.serving.current import Served
from stock_assets.serving.etags import answer
from stock_assets.serving.forms import form_of
from stock_assets.serving.parameters import NAME_OF_PATH, VERSION_OF_PATH, Parameters
from stock_assets.serving.problems import Problem
from stock_assets.serving.routes.asked import described, served_of
from stock_assets.serving.schemas import Card, ModelInService, ModelsInService
from stock_assets.serving.tables import card_of, rows_of_table

router = APIRouter(prefix="/v1", tags=["models"])
NONE = Parameters()
MODEL = Parameters((NAME_OF_PATH,))
VERSION = Parameters((NAME_OF_PATH, VERSION_OF_PATH))

#: A version is its model, its cutoff and a digest of its weights.
_VERSION = re.compile(r"(.+)-\d{4}-\d\d-\d\d(-.*)?")
CHAMPION, ASKED = "champion", "champion (requested)"


@router.get("/models", summary="Every model", response_model=ModelsInService, **described(NONE))
async def models_in_service(request: Request) -> Response:
    """Which version of every model serves, since which session and why, and which one its alias asks for."""
    form_of(request)
    NONE.of(request)
    served_state = served_of(request)
    aliases = await rows_of_table(served_state, "in_service")
    models = [summary(served_state, name, aliases) for name in names(served_state, aliases)]
    return answer(request, served_state, text_of({"publication": served_state.pointer.entry, "models": models}))


@router.get("/models/{name}", summary="One model", response_model=ModelInService, **described(MODEL, "unknown-model"))
async def model_in_service(request: Request) -> Response:
    """The same of one model, with its versions, its score beside the best naive baseline, and its promotions."""
    form_of(request)
    name = MODEL.of(request)["name"]
    served_state = served_of(request)
    aliases = await rows_of_table(served_state, "in_service")
    require_model(served_state, name, aliases)
    scores = await rows_of_table(served_state, "score")
    promotions = await rows_of_table(served_state, "promotions")
    body = {
        **summary(served_state, name, aliases),
        "versions": versions_of(served_state, name),
        "aliases": [row for row in aliases if row["model"] == name],
        "scores": [row for row in scores if row["model"] == name or row["naive"]],
        "promotions": [row for row in promotions if row["model"] == name],
        "publication": served_state.pointer.entry,
    }
    return answer(request, served_state, text_of(body), headers=_version_header(body["serving"]))


@router.get(
    "/models/{name}/versions/{version}",
    summary="The card of a model version",
    response_model=Card,
    **described(VERSION, "unknown-model", "unknown-version"),
)
async def card_of_a_version(request: Request) -> Response:
    """What the version learned from, how well it does beside the best naive baseline, and its limits."""
    form_of(request)
    values = VERSION.of(request)
    served_state, name, version = served_of(request), values["name"], values["version"]
    require_model(served_state, name, await rows_of_table(served_state, "in_service"))
    versions = versions_of(served_state, name)
    card = await card_of(served_state, version) if version in versions else None
    if card is None:
        detail = f"no card of {version} of the model {name} is published"
        raise Problem("unknown-version", detail, versions=versions)
    return answer(request, served_state, text_of(card), headers=_version_header(version))


def _version_header(version: str | None) -> dict[str, str]:
    return {"x-model-version": version} if version else {}


def model_of(version: str) -> str | None:
    """The model of a version, by its name.

    >>> model_of("rnn-2025-12-31-0a0a0a0a")
    'rnn'
    """
    parts = _VERSION.fullmatch(version)
    return parts and parts[1]


def names(served_state: Served, aliases: Sequence[dict[str, Any]]) -> list[str]:
    """Every model, that in service first, then by name."""
    model_names = {*served_state.pointer.champions, *(row["model"] for row in aliases)}
    model_names |= {name for version in served_state.pointer.files["cards"] if (name := model_of(version))}
    return sorted(model_names, key=lambda name: (name != served_state.facts.in_service, name))


def versions_of(served_state: Served, name: str) -> list[str]:
    """The versions of a model that have a card, the newest cutoff last."""
    return sorted(version for version in served_state.pointer.files["cards"] if model_of(version) == name)


def require_model(served_state: Served, name: str, aliases: Sequence[dict[str, Any]]) -> None:
    """Raises Problem for a model that nothing published names."""
    model_names = names(served_state, aliases)
    if name not in model_names:
        raise Problem(
            "unknown-model", f"there is no model {name}; there are {', '.join(model_names)}", models=model_names
        )


def summary(served_state: Served, name: str, aliases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Which version of a model serves, and which its alias asks for."""
    by_alias = {row["alias"]: row for row in aliases if row["model"] == name}
    champion = by_alias.get(CHAMPION, {})
    serving = served_state.pointer.champions.get(name) or champion.get("version")
    return {
        "model": name,
        "in_service": name == served_state.facts.in_service,
        "serving": serving,
        "asked": by_alias[ASKED]["version"] if ASKED in by_alias else serving,
        "trained_through": champion.get("trained_through"),
        "effective_from": champion.get("serves_from"),
        "reason": champion.get("reason"),
    }
