"""The routes of the Open Inference Protocol (KServe, Triton) and of /ping and /invocations (SageMaker, MLflow).

What they read by POST is described by their own specifications, and in docs/protocols.md, not in /openapi.json.
"""

import re
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from stock_assets.serving.answers import text_of
from stock_assets.serving.current import Served
from stock_assets.serving.health import NO_STORE, NONE, readiness
from stock_assets.serving.parameters import MODEL_NAME, VERSION, Parameter, Parameters, matching
from stock_assets.serving.problems import EVERYWHERE, PROBLEMS, Problem
from stock_assets.serving.protocols.forms import INVOCATIONS, PING
from stock_assets.serving.protocols.inference import inference_answer, model_metadata, parse_inference
from stock_assets.serving.protocols.invocations import COLUMNS, csv_of, parse_csv, parse_json
from stock_assets.serving.protocols.rows import predicted_rows, rows_with_status
from stock_assets.serving.routes.asked import current_of, now_of, served_of

router = APIRouter(tags=["protocols"])

_MODEL = Parameter("model", "the model", MODEL_NAME.expected, MODEL_NAME.read, MODEL_NAME.schema, place="path")
_VERSION = Parameter(
    "version",
    "a version of the model",
    "the name of a version",
    matching(VERSION),
    {"type": "string", "pattern": f"^(?:{VERSION})$"},
    place="path",
)
OF_MODEL, OF_VERSION = Parameters((_MODEL,)), Parameters((_MODEL, _VERSION))


def _route_description(
    parameters: Parameters, *kinds: str, members: Mapping[str, Any], mlflow: bool = False
) -> dict[str, Any]:
    """How a route is described: the `members` of its answer, and its errors in the form of its protocol."""
    text = {"type": "string"}
    schema = _object({"error_code": text, "message": text} if mlflow else {"error": text})
    kinds = ("wrong-parameter", *kinds, *EVERYWHERE)
    errors: dict[int | str, dict[str, Any]] = {
        PROBLEMS[kind].status: {
            "description": PROBLEMS[kind].title,
            "content": {"application/json": {"schema": schema}},
        }
        for kind in kinds
    }
    answer = {"description": "the answer", "content": {"application/json": {"schema": _object(members)}}}
    return {"openapi_extra": {"parameters": parameters.openapi()}, "responses": {200: answer, **errors}}


def _object(members: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {**members}, "required": [*members]}


_TEXT, _TEXTS = {"type": "string"}, {"type": "array", "items": {"type": "string"}}
_TENSORS = {
    "type": "array",
    "items": _object({"name": _TEXT, "datatype": _TEXT, "shape": {"type": "array", "items": {"type": "integer"}}}),
}
_SERVER = {"name": _TEXT, "version": _TEXT, "extensions": _TEXTS}
_MODEL_MEMBERS = {"name": _TEXT, "versions": _TEXTS, "platform": _TEXT, "inputs": _TENSORS, "outputs": _TENSORS}
_IS_TRUE = {"type": "boolean", "const": True}
_READY = {"name": _TEXT, "ready": _IS_TRUE}


def _json(value: object, publication: str | None = None) -> Response:
    headers = {**NO_STORE, "X-Publication": publication} if publication else NO_STORE
    return Response(text_of(value), 200, headers, "application/json")


@router.get("/v2", summary="The server, in the Open Inference Protocol", **_route_description(NONE, members=_SERVER))
async def server_metadata(request: Request) -> Response:
    NONE.of(request)
    return _json({"name": "stock_assets", "version": request.app.version, "extensions": []})


@router.get(
    "/v2/health/live", summary="Whether the process runs", **_route_description(NONE, members={"live": _IS_TRUE})
)
async def live(request: Request) -> Response:
    NONE.of(request)
    return _json({"live": True})


@router.get(
    "/v2/health/ready",
    summary="Whether it can answer",
    **_route_description(NONE, "not-ready", members={"ready": _IS_TRUE}),
)
async def ready(request: Request) -> Response:
    NONE.of(request)
    readiness(current_of(request))
    return _json({"ready": True})


def _versions(served_state: Served, model: str) -> list[str]:
    """The versions of `model` that are published, the serving one first. Raises Problem for an unknown model."""
    champions = served_state.pointer.champions
    own = re.compile(rf"{re.escape(model)}-\d{{4}}-\d\d-\d\d-[^-]+")
    cards = [version for version in served_state.pointer.files["cards"] if own.fullmatch(version)]
    serving = [champions[model]] if model in champions else []
    versions = list(dict.fromkeys(serving + sorted(cards, reverse=True)))
    if not versions:
        model_names = ", ".join(sorted(champions))
        raise Problem("unknown-model", f"there is no model {model}; expected one of {model_names}")
    return versions


def _named_version(request: Request, parameters: Parameters) -> tuple[Served, str, str | None]:
    """(what is served, model, version where one is named). Raises Problem where it is not published."""
    values = parameters.of(request)
    served_state = served_of(request)
    model, version = values["model"], values.get("version")
    versions = _versions(served_state, model)
    if version is not None and version not in versions:
        raise Problem("unknown-version", f"{model} has no version {version}; expected one of {', '.join(versions[:5])}")
    return served_state, model, version


_KINDS = ("unknown-model", "not-published")


@router.get("/v2/models/{model}", summary="A model", **_route_description(OF_MODEL, *_KINDS, members=_MODEL_MEMBERS))
async def model_of_protocol(request: Request) -> Response:
    served_state, model, _ = _named_version(request, OF_MODEL)
    return _json(model_metadata(model, _versions(served_state, model)), served_state.pointer.entry)


@router.get(
    "/v2/models/{model}/versions/{version}",
    summary="A version of a model",
    **_route_description(OF_VERSION, *_KINDS, members=_MODEL_MEMBERS),
)
async def version_of_protocol(request: Request) -> Response:
    served_state, model, version = _named_version(request, OF_VERSION)
    return _json(model_metadata(model, [version] if version else []), served_state.pointer.entry)


async def _ready(request: Request, parameters: Parameters) -> Response:
    served_state, model, version = _named_version(request, parameters)
    day = None if served_state.newest is None else await served_state.day(served_state.newest)
    rows = None if day is None else day.models.get(model)
    if rows is None or (version is not None and version not in {name for name, _ in rows.versions}):
        raise Problem(
            "not-ready", f"{version or model} has no row of the newest session", headers={"Retry-After": "60"}
        )
    return _json({"name": model, "ready": True}, served_state.pointer.entry)


@router.get(
    "/v2/models/{model}/ready",
    summary="Whether a model answers",
    **_route_description(OF_MODEL, *_KINDS, "not-ready", members=_READY),
)
async def model_ready(request: Request) -> Response:
    return await _ready(request, OF_MODEL)


@router.get(
    "/v2/models/{model}/versions/{version}/ready",
    summary="Whether a version predicted the newest session",
    **_route_description(OF_VERSION, *_KINDS, "not-ready", members=_READY),
)
async def version_ready(request: Request) -> Response:
    return await _ready(request, OF_VERSION)


async def _infer(request: Request, parameters: Parameters) -> Response:
    served_state, model, version = _named_version(request, parameters)
    inference = parse_inference(await request.body(), request.headers.get("inference-header-content-length"))
    rows = await predicted_rows(served_state, inference.items, now_of(request), model=model, version=version)
    versions = {row["model_version"] for row in rows}
    version_of_rows = versions.pop() if len(versions) == 1 else version
    return _json(
        inference_answer(inference, rows, model=model, version=version_of_rows, publication=served_state.pointer.entry),
        served_state.pointer.entry,
    )


@router.post("/v2/models/{model}/infer", include_in_schema=False)
async def infer(request: Request) -> Response:
    return await _infer(request, OF_MODEL)


@router.post("/v2/models/{model}/versions/{version}/infer", include_in_schema=False)
async def infer_by_version(request: Request) -> Response:
    return await _infer(request, OF_VERSION)


@router.get(
    PING,
    summary="Whether it can answer, for SageMaker",
    **_route_description(NONE, "not-ready", mlflow=True, members={"status": _TEXT}),
)
async def ping(request: Request) -> Response:
    NONE.of(request)
    readiness(current_of(request))
    return _json({"status": "ready"})


@router.post(INVOCATIONS, include_in_schema=False)
async def invocations(request: Request) -> Response:
    """A row per row of the request, each with its `status`; probabilities are null where it is not predicted."""
    NONE.of(request)
    served_state = served_of(request)
    body = await request.body()
    is_csv = request.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/csv"
    invocation = parse_csv(body) if is_csv else parse_json(body)
    model = invocation.model or served_state.facts.in_service
    rows = await rows_with_status(served_state, invocation.items, now_of(request), model=model)
    if request.headers.get("accept", "").partition(";")[0].strip().lower() == "text/csv":
        headers = {**NO_STORE, "X-Publication": served_state.pointer.entry}
        return Response(csv_of(rows), 200, headers, "text/csv")
    predictions = [{name: row.get(name) for name in COLUMNS} for row in rows]
    return _json({"predictions": predictions}, served_state.pointer.entry)
