"""`POST /v1/predict`: what any trained version predicts for any stored session. Off unless the settings turn it on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from stock_assets.serving.answers import text_of
from stock_assets.serving.current import Current
from stock_assets.serving.forms import form_of
from stock_assets.serving.on_demand.process import OnDemand, UnavailableError
from stock_assets.serving.parameters import FIRST, TICKER_OF_PATH, VERSION_OF_PATH
from stock_assets.serving.problems import Problem, documented, of_validation
from stock_assets.serving.routes.asked import current_of
from stock_assets.serving.routes.batch import NONE, text

PATH = "/v1/predict"
PROBLEMS = (
    "wrong-parameter",
    "unreadable-request",
    "body-too-large",
    "unsupported-media-type",
    "not-acceptable",
    "unknown-ticker",
    "not-a-session",
    "not-published-yet",
    "unknown-version",
    "trained-too-late",
    "rows-missing",
    "internal-error",
    "not-ready",
)


class OnDemandPrediction(BaseModel):
    """What a version predicts of a ticker in a session; it is not stored."""

    ticker: str
    session: date
    status: str = Field(description="predicted or left_out")
    reason: str | None = Field(description="why there is no prediction; null where there is one")
    p_sell: float | None
    p_hold: float | None
    p_buy: float | None
    score: float | None = Field(description="p_buy - p_sell")
    model: str | None
    model_version: str
    trained_through: date | None = Field(description="the cutoff of the version; before the session")
    simulated: bool = Field(description="whether the prices are no real ones")


def mount_on_demand(app: FastAPI) -> None:
    """Adds the route to `app`: one that answers where the settings turn it on, else one that says how to."""
    if not app.state.settings.on_demand:
        app.add_route(PATH, _off, methods=["POST"], include_in_schema=False)
        return
    demand = OnDemand()

    @asynccontextmanager
    async def ended(_app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await demand.close()

    app.state.on_demand = demand
    app.state.metrics.queue_depth = lambda: demand.depth
    router = APIRouter(lifespan=ended, tags=["predictions"])
    router.add_api_route(
        PATH,
        predict,
        methods=["POST"],
        summary="A prediction on demand",
        response_model=OnDemandPrediction,
        responses=documented(*PROBLEMS),
        openapi_extra={
            "requestBody": {"required": True, "content": {"application/json": {"schema": Question.model_json_schema()}}}
        },
    )
    app.include_router(router)


async def _off(_request: Request) -> Response:
    raise Problem("unknown-route", "predictions on demand are off; STOCK_ASSETS_ON_DEMAND=true turns them on")


class Question(BaseModel):
    """Of which ticker and session, by which version."""

    model_config = ConfigDict(extra="forbid", strict=True)

    ticker: text(TICKER_OF_PATH)  # type: ignore[valid-type]
    session: text(replace(FIRST, text="a stored session"))  # type: ignore[valid-type]
    version: text(replace(VERSION_OF_PATH, text="a trained version"))  # type: ignore[valid-type]


async def predict(request: Request) -> Response:
    """What `version` predicts for `ticker` in `session`, made now and not stored. It equals what is stored of that
    version and session. A process of its own answers, one question after the other; 503 says when to come back."""
    form_of(request)
    NONE.of(request)
    try:
        question = Question.model_validate_json(await request.body())  # the guard bounds it and asks for JSON
    except ValidationError as error:
        raise of_validation(error.errors()) from None
    demand: OnDemand = request.app.state.on_demand
    try:
        answer = await demand.ask(question.model_dump())
    except UnavailableError as error:
        raise Problem("not-ready", str(error), headers={"Retry-After": str(error.retry_after)}) from error
    if "problem" in answer:
        later = {"Retry-After": "2"} if answer["problem"] == "not-ready" else None
        raise Problem(answer["problem"], answer["detail"], headers=later)
    return Response(
        text_of(_with_publication(answer["prediction"], current_of(request), request.app.state.settings.source)),
        media_type="application/json",
        headers={"Cache-Control": "no-store", "X-Model-Version": question.version},
    )


def _with_publication(prediction: dict[str, Any], current: Current, source: str) -> dict[str, Any]:
    """The answer as `OnDemandPrediction` describes it."""
    served_state = current.served
    names = ("p_sell", "p_hold", "p_buy", "score", "model", "model_version", "trained_through")
    return {
        "ticker": prediction["ticker"],
        "session": prediction["session"],
        "status": "left_out" if "reason" in prediction else "predicted",
        "reason": prediction.get("reason"),
        **{name: prediction.get(name) for name in names},
        "simulated": served_state.facts.simulated if served_state else source == "simulated",
    }
