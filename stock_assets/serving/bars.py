"""The running session of a market of bars, over HTTP: `/v1/bars`, and the page that shows it. Mounted at an interval
below a day alone, in front of what answers of daily publications."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from typing import Any

import polars as pl
from fastapi import APIRouter, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from starlette.responses import Response

from stock_assets.errors import PublicationError
from stock_assets.objects import Place
from stock_assets.publication.bar_files import (
    BACKTEST,
    POINTER,
    BarPointer,
    follow_bar_predictions,
    read_backtest,
    read_bar_pointer,
)
from stock_assets.serving.answers import text_of
from stock_assets.serving.current import Current
from stock_assets.serving.days import relative
from stock_assets.serving.health import NO_STORE
from stock_assets.serving.lookup import stamp
from stock_assets.serving.pages.alerts import read_alerts, troubles
from stock_assets.serving.pages.bars import newest_rows, running_view
from stock_assets.serving.pages.rendering import Moment, Page, html
from stock_assets.serving.pages.router import respond_with
from stock_assets.serving.parameters import MODEL_NAME, TICKERS, Parameters
from stock_assets.serving.problems import Problem, documented
from stock_assets.serving.schemas import BacktestOfBars, BarsOfASession

NEWEST = Parameters((MODEL_NAME, TICKERS))
NONE = Parameters()
#: The screens of a market of days.
DAILY_SCREENS = (
    *("/signals", "/skill", "/inputs", "/models", "/announcements", "/paper", "/models/{rest:path}"),
    *("/ticker", "/ticker/{rest:path}", "/chart/{rest:path}"),
)
ABOUT_BARS = ("wrong-parameter", "not-published", "damaged-publication", "unknown-model", "unknown-ticker")
_NUMBERS = ("expected_return", "p_sell", "p_hold", "p_buy", "score")


@dataclass
class RunningSession:
    """The newest published session of `folder`: what the pointer says, and the rows of its files as they come."""

    folder: Place
    _parts: Mapping[Place, pl.DataFrame] = field(default_factory=dict)
    _seen: tuple[BarPointer, pl.DataFrame] | None = None
    _lock: Lock = field(default_factory=Lock)

    def read(self) -> tuple[BarPointer, pl.DataFrame] | None:
        """(pointer, what was said first of every bar of its session), None before a bar was published.

        A request reads the files that came since the one before. Raises PublicationError.
        """
        with self._lock:
            pointer = read_bar_pointer(self.folder)
            if pointer is None or (self._seen is not None and self._seen[0] == pointer):
                return None if pointer is None else self._seen
            is_same_session = self._seen is not None and self._seen[0].session == pointer.session
            rows, self._parts = follow_bar_predictions(
                self.folder, pointer.session, self._parts if is_same_session else {}
            )
            self._seen = (pointer, rows)
            return self._seen


def document(
    pointer: BarPointer, rows: pl.DataFrame, *, model: str | None, tickers: list[str] | None, now: datetime
) -> dict[str, Any]:
    """The answer of `/v1/bars`. Raises Problem for a model or a ticker without a row."""
    model = model or str(pointer.facts["in_service"])
    newest = newest_rows(rows, model)
    if newest.is_empty():
        model_names = ", ".join(sorted(rows["model"].unique()))
        raise Problem("unknown-model", f"{pointer.session} has no bar of {model}; it has {model_names}")
    if tickers is not None:
        if missing := sorted({*tickers} - {*newest["ticker"]}):
            raise Problem("unknown-ticker", f"{pointer.session} has no bar of {', '.join(missing)} by {model}")
        newest = newest.filter(pl.col("ticker").is_in(tickers))
    facts = pointer.facts
    late_after = facts.get("late_after")
    return {
        "session": str(pointer.session),
        "bar_end": stamp(pointer.bar_end),
        "published_at": stamp(pointer.published_at),
        **{name: facts.get(name) for name in ("interval", "exchange", "source", "horizon", "in_service", "champion")},
        "next_bar_end": facts.get("next_bar_end"),
        "late_after": late_after,
        "late": late_after is not None and now > datetime.fromisoformat(late_after),
        "simulated": bool(facts.get("simulated")),
        "model": model,
        "rows": [
            {
                "ticker": row["ticker"],
                "bar_end": stamp(row["bar_end"]),
                **{name: row[name] for name in _NUMBERS},
                "model_version": row["model_version"],
                "trained_through": stamp(row["trained_through"]),
                "published_at": stamp(row["published_at"]),
            }
            for row in newest.iter_rows(named=True)
        ],
    }


def mount_bars(app: FastAPI, current: Current, interval: str) -> None:
    """Adds the routes of bars to `app`, before any other; `interval` is how long one lasts."""
    router, running = APIRouter(), RunningSession(current.folder)

    def published() -> tuple[BarPointer, pl.DataFrame]:
        try:
            running_bars = running.read()
        except PublicationError as error:
            raise Problem("damaged-publication", relative(error, current.folder), file=POINTER) from error
        if running_bars is None:
            raise Problem("not-published", "no bar is published yet; it is once models serve a session")
        return running_bars

    @router.get(
        "/v1/bars",
        summary="The newest bar of every ticker",
        tags=["bars"],
        response_model=BarsOfASession,
        openapi_extra={"parameters": NEWEST.openapi()},
        responses=documented(*ABOUT_BARS),
    )
    async def newest_bars(request: Request) -> Response:
        """What the model in service, or the one that is named, said at the end of the newest bar of each ticker of the
        newest session; and whether the next bar is late."""
        values = NEWEST.of(request)
        pointer, rows = await run_in_threadpool(published)
        answer = document(pointer, rows, model=values["model"], tickers=values["tickers"], now=current.clock())
        return Response(text_of(answer), 200, NO_STORE, "application/json")

    @router.get("/readyz", summary="Whether it can answer", tags=["health"], responses=documented("not-ready"))
    async def readyz(_request: Request) -> Response:
        """Builds the answer of `/v1/bars`."""
        try:
            pointer, rows = await run_in_threadpool(published)
            answer = document(pointer, rows, model=None, tickers=None, now=current.clock())
        except Problem as problem:
            raise Problem("not-ready", problem.detail, headers={"Retry-After": "2"}) from problem
        ready = {name: answer[name] for name in ("session", "bar_end", "published_at", "late", "simulated")}
        return Response(text_of({"status": "ready", **ready}), 200, NO_STORE, "application/json")

    _add_back_test(router, current)
    _add_screens(router, running, current, interval=interval)
    app.include_router(router)


def _add_back_test(router: APIRouter, current: Current) -> None:
    """Adds `/v1/bars/backtest` to `router`."""

    @router.get(
        "/v1/bars/backtest",
        summary="What acting on the scores would have earned",
        tags=["bars"],
        response_model=BacktestOfBars,
        responses=documented("wrong-parameter", "not-published", "damaged-publication"),
    )
    async def back_test(request: Request) -> Response:
        """Every book over the newest sessions that are over, by session and after all costs, beside holding every
        ticker. It is made anew once a session is over."""
        NONE.of(request)
        try:
            document = await run_in_threadpool(read_backtest, current.folder)
        except PublicationError as error:
            raise Problem("damaged-publication", relative(error, current.folder), file=BACKTEST) from error
        if document is None:
            raise Problem("not-published", "no back-test is published yet; it is once a session is over and predicted")
        return Response(
            text_of({k: v for k, v in document.items() if k != "schema"}), 200, NO_STORE, "application/json"
        )


def _add_screens(router: APIRouter, running: RunningSession, current: Current, *, interval: str) -> None:
    """Adds the page of the running session to `router`, and the screens of days, which lead to it."""

    def page(request: Request) -> Response:
        def make() -> Page:
            running_bars, back_test = running.read(), read_backtest(current.folder)
            view = running_view(running_bars, troubles(at.alerts, None), at.now, back_test=back_test)
            return html(
                "bars", at, view.etag(at.alerts.digest), title=view.title, here="/", view=view, bars=view.market
            )

        at = Moment(None, read_alerts(current.folder), current.clock())
        return respond_with(request, at, make)

    def of_days(request: Request) -> Response:
        def make() -> Page:
            running_bars = running.read()
            market = running_view(running_bars, (), at.now).market
            text = f"{request.url.path} is of a market of days. This one has bars of {interval}: the running session "
            text += "and the back-test are on the first page, and at /v1/bars and /v1/bars/backtest."
            return html(
                "trouble", at, "", title="Of days", here="", status=404, bars=market, heading="Of days", text=text
            )

        at = Moment(None, read_alerts(current.folder), current.clock())
        return respond_with(request, at, make)

    router.add_route("/", page, methods=["GET", "HEAD"], include_in_schema=False)
    for address in DAILY_SCREENS:
        router.add_route(address, of_days, methods=["GET", "HEAD"], include_in_schema=False)


def answer_of_days(app: FastAPI, routers: Iterable[APIRouter], interval: str) -> None:
    """Adds to `app` the addresses of `routers`, which answer of days: each says where the answer about bars is."""

    async def of_days(request: Request) -> Response:
        raise Problem(
            "not-published",
            f"{request.url.path} is of a market of days, and this one has bars of {interval}: /v1/bars has the newest "
            "bar of every ticker, and /v1/bars/backtest what acting on them would have earned",
        )

    for router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute):
                app.add_route(route.path, of_days, methods=sorted(route.methods or ()), include_in_schema=False)
