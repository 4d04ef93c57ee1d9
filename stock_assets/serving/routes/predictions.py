"""`/v1/predictions`: one prediction."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from stock_assets.serving.answers import prediction, text_of
from stock_assets.serving.etags import answer
from stock_assets.serving.lookup import resolve
from stock_assets.serving.parameters import AS_OF, MODEL_NAME, SESSION, TICKER_OF_PATH, Parameters
from stock_assets.serving.routes.asked import described, now_of, served_as_of

router = APIRouter(prefix="/v1", tags=["predictions"])

#: Problems of a route that answers of a session, and of a ticker in it.
OF_A_SESSION = ("unknown-model", "not-a-session", "not-published-yet", "late", "moment-in-the-future")
OF_A_ROW = (*OF_A_SESSION, "unknown-ticker")
ONE = Parameters((TICKER_OF_PATH, SESSION, MODEL_NAME, AS_OF))


@router.get("/predictions/{ticker:path}", summary="One prediction", **described(ONE, *OF_A_ROW))
async def one_prediction(request: Request) -> Response:
    """What is published of a ticker in a session: its probabilities, or why it has none (`status`, `reason`)."""
    asked = ONE.of(request)
    served, root = await served_as_of(request, asked["as_of"])
    session = resolve(served, asked["session"], now_of(request), root=root)
    day = await served.day(session)
    assert day is not None
    row = prediction(served, day, asked["ticker"], model=asked["model"] or served.facts.in_service)
    version = row["model_version"]
    return answer(request, served, text_of(row), headers={"x-model-version": version} if version else None)
