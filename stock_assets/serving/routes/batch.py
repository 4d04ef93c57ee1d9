"""`POST /v1/predictions:batch`: up to a thousand questions at once."""

from collections.abc import Callable
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from stock_assets.serving.answers import common, result_of, text_of, without
from stock_assets.serving.current import Served
from stock_assets.serving.days import Day
from stock_assets.serving.etags import answer
from stock_assets.serving.forms import form_of
from stock_assets.serving.lookup import Resolved, resolved
from stock_assets.serving.parameters import AS_OF, MODEL_NAME, SESSION, TICKER_OF_PATH, Parameter, Parameters
from stock_assets.serving.problems import documented, of_validation
from stock_assets.serving.routes.asked import ALWAYS, HEADERS, beside, now_of, served_as_of
from stock_assets.serving.schemas import BatchOfPredictions

router = APIRouter(prefix="/v1", tags=["predictions"])
NONE = Parameters()
#: Items of one batch. The guard bounds the body and asks for JSON.
MOST_ITEMS = 1_000


def text(parameter: Parameter) -> Any:
    """A text of a body that is read as `parameter` is: the same form, the same error."""

    def check(value: str) -> str:
        try:
            parameter.read(value)
        except ValueError:
            raise ValueError(f"expected {parameter.expected}") from None
        return value

    schema = {name: value for name, value in parameter.schema.items() if name != "type"}
    return Annotated[str, AfterValidator(check), Field(description=parameter.text, json_schema_extra=schema)]


class Item(BaseModel):
    """One question."""

    model_config = ConfigDict(extra="forbid", strict=True)

    ticker: text(TICKER_OF_PATH)  # type: ignore[valid-type]
    session: text(SESSION) = "latest"  # type: ignore[valid-type]


class Batch(BaseModel):
    """The questions, and what holds for all of them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    items: Annotated[list[Item], Field(min_length=1, max_length=MOST_ITEMS)]
    model: text(MODEL_NAME) | None = None  # type: ignore[valid-type]
    as_of: text(AS_OF) | None = None  # type: ignore[valid-type]


@router.post(
    "/predictions:batch",
    summary="Many predictions",
    response_model=BatchOfPredictions,
    responses={
        200: {"description": "one result per item, in their order", "headers": HEADERS},
        304: {"description": "the client holds this answer"},
        **documented(*ALWAYS, "unreadable-request", "body-too-large", "unsupported-media-type", "moment-in-the-future"),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Batch"}}},
        }
    },
)
async def batch_of_predictions(request: Request) -> Response:
    """One result per item, in their order, each with its `status`; a wrong item is an error of the whole batch, one
    that nothing is published of is not."""
    form_of(request)
    NONE.of(request)
    try:
        batch = Batch.model_validate_json(await request.body())
    except ValidationError as error:
        raise of_validation(error.errors()) from None
    served_state, root = await served_as_of(request, AS_OF.read(batch.as_of) if batch.as_of else None)
    model = batch.model or served_state.facts.in_service
    requested_sessions = {item.session: SESSION.read(item.session) for item in batch.items}
    now = now_of(request)
    sessions = {text: resolved(served_state, session, now, root=root) for text, session in requested_sessions.items()}
    days: dict[date, Day | None] = {}
    for resolution in sessions.values():
        if resolution.problem is None and resolution.session not in days:
            days[resolution.session] = await served_state.day(resolution.session)

    def results() -> list[dict[str, Any]]:
        row = _rows(served_state, model, days)
        return [row(item.ticker, sessions[item.session]) for item in batch.items]

    body = {
        "publication": served_state.pointer.entry,
        "model": model,
        "results": await beside(len(batch.items), results),
    }
    return answer(request, served_state, text_of(body))


def _rows(served_state: Served, model: str, days: dict[date, Day | None]) -> Callable[[str, Resolved], dict[str, Any]]:
    fields_of_session = {session: common(served_state, session, model) for session in days}
    empty_row = {**common(served_state, date.min, model), "published_at": None}

    def row(ticker: str, resolution: Resolved) -> dict[str, Any]:
        day = None if resolution.problem else days[resolution.session]
        if day is None:
            reason = resolution.problem.detail if resolution.problem else ""
            return {
                "ticker": ticker,
                **without(resolution.status, reason),
                **empty_row,
                "session": str(resolution.session),
            }
        return {"ticker": ticker, **result_of(day, model, ticker), **fields_of_session[day.session]}

    return row
