"""The simulated broker behind Alpaca's JSON, on loopback alone: what alpaca-py says to Alpaca, it can say to this.

with serving(broker, key="key", secret="a secret") as url:
    TradingClient("key", "a secret", url_override=url).get_account()
"""

import hmac
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from threading import Event, Thread
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from stock_assets.errors import StockAssetsError, TradingError
from stock_assets.trading.broker import alpaca_json as as_json
from stock_assets.trading.broker.protocol import TERMINAL, Accepted, Order, Refused
from stock_assets.trading.broker.simulated import FORBIDDEN, UNPROCESSABLE, WRONG_VALUE, SimulatedBroker

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

LOOPBACK = "127.0.0.1"
#: The status of HTTP for a code of a refusal.
STATUS = {WRONG_VALUE: 422, UNPROCESSABLE: 422, FORBIDDEN: 403}
LONGEST_CLIENT_ID, MOST_ORDERS, FEWER_ORDERS, MOST_ACTIVITIES, MOST_ACTIONS = 128, 500, 50, 100, 1000
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class _Problem(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def face(broker: SimulatedBroker, *, key: str, secret: str) -> "Starlette":
    """The application. A request without both keys is refused, and so is one for another host than loopback."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    answers = _Answers(broker)

    def guarded(answer: "Callable[[Request], Any]") -> "Callable[[Request], Response]":
        def endpoint(request: "Request") -> "Response":
            credentials = [request.headers.get(f"apca-api-{name}", "").encode() for name in ("key-id", "secret-key")]
            expected = [key.encode(), secret.encode()]
            if not all([hmac.compare_digest(*pair) for pair in zip(credentials, expected, strict=True)]):  # noqa: C419
                raise _Problem(401, "40110000", "request is not authorized")
            return JSONResponse(answer(request), 207 if request.method == "DELETE" else 200)

        return endpoint

    async def new_order(request: "Request") -> "Response":
        from starlette.concurrency import run_in_threadpool

        try:
            body = await request.json()
        except ValueError as error:
            raise _Problem(400, "40010000", "request body format is invalid") from error
        return await run_in_threadpool(guarded(lambda _: answers.new_order(body)), request)

    reads = {
        "/v2/clock": answers.clock,
        "/v2/calendar": answers.calendar,
        "/v2/account": answers.account,
        "/v2/positions": answers.positions,
        "/v2/assets": answers.assets,
        "/v2/orders": answers.orders,
        "/v2/orders:by_client_order_id": answers.order,
        "/v2/account/activities": answers.activities,
        "/v1/corporate-actions": answers.actions,
    }
    return Starlette(
        routes=[
            *(Route(path, guarded(answer), methods=["GET"]) for path, answer in reads.items()),
            Route("/v2/orders", new_order, methods=["POST"]),
            Route("/v2/orders", guarded(answers.cancel_all), methods=["DELETE"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"])],
        exception_handlers=_errors(),
    )


def _errors() -> Mapping[Any, Callable[..., Any]]:
    """What is answered instead of an exception, by its class."""
    from starlette.exceptions import HTTPException
    from starlette.responses import JSONResponse

    def problem(_: "Request", error: Any) -> "Response":
        return JSONResponse({"code": int(error.code), "message": str(error)}, error.status)

    def missing(_: "Request", error: Any) -> "Response":
        return JSONResponse({"code": 40410000, "message": "endpoint not found"}, error.status_code)

    def trouble(_: "Request", __: Any) -> "Response":
        return JSONResponse({"code": 50010000, "message": "internal server error occurred"}, 500)

    return {_Problem: problem, HTTPException: missing, StockAssetsError: trouble}


class _Answers:
    """The JSON of each question."""

    def __init__(self, broker: SimulatedBroker) -> None:
        self._broker = broker

    def clock(self, _: "Request") -> Any:
        return as_json.clock_json(self._broker.clock())

    def calendar(self, request: "Request") -> Any:
        first, last = (
            _read(date.fromisoformat, request, name, default=default)
            for name, default in (("start", date(1970, 1, 1)), ("end", date(2099, 12, 31)))
        )
        return as_json.calendar_json(self._broker.calendar(first, last))

    def account(self, _: "Request") -> Any:
        return as_json.account_json(
            self._broker.account(), multiplier=self._broker.opening.multiplier, opened_at=LONG_AGO
        )

    def positions(self, _: "Request") -> Any:
        return [as_json.holding_json(holding) for holding in self._broker.positions()]

    def assets(self, request: "Request") -> Any:
        if request.query_params.get("asset_class", "us_equity") != "us_equity":
            return []
        rows = [as_json.asset_json(asset) for asset in self._broker.tradable(self._broker.listed()).values()]
        status = request.query_params.get("status")
        return [row for row in rows if status in (None, "all", row["status"])]

    def actions(self, request: "Request") -> Any:
        """Page by page; a page token is the number of rows before it."""
        query = request.query_params
        limit, skip = (_read(int, request, name, default=usual) for name, usual in (("limit", 100), ("page_token", 0)))
        if not 0 < limit <= MOST_ACTIONS:
            raise _Problem(400, "40010000", f"invalid limit: larger than {MOST_ACTIONS}")
        today = self._broker.clock().now.astimezone(as_json.NEW_YORK).date()
        first, last = (_read(date.fromisoformat, request, name, default=today) for name in ("start", "end"))
        types = query["types"].split(",") if "types" in query else None
        rows = [
            action
            for action in self._broker.actions(first, last)
            if types is None or action.kind.removesuffix("s") in types
        ]
        by_kind: dict[str, list[Any]] = {}
        for action in rows[skip : skip + limit]:
            by_kind.setdefault(action.kind, []).append(as_json.action_json(action))
        token = f"{skip + limit}" if skip + limit < len(rows) else None
        return {"corporate_actions": by_kind, "next_page_token": token}

    def new_order(self, body: Any) -> Any:
        if not isinstance(body, dict):
            raise _Problem(400, "40010000", "request body format is invalid")
        if (body.get("type"), body.get("time_in_force")) != ("market", "opg"):
            raise _Problem(422, UNPROCESSABLE, "this broker takes market orders of the opening auction (opg) alone")
        try:
            shares = Decimal(str(body.get("qty")))
        except InvalidOperation as error:
            raise _Problem(422, WRONG_VALUE, "qty is required and has to be a number") from error
        if not shares.is_finite() or shares <= 0:
            raise _Problem(422, WRONG_VALUE, "qty must be > 0")
        if shares != shares.to_integral_value():
            raise _Problem(422, UNPROCESSABLE, "fractional orders must be DAY orders")
        name = str(body.get("client_order_id") or uuid4())
        if len(name) > LONGEST_CLIENT_ID:
            raise _Problem(422, WRONG_VALUE, f"client_order_id must be no more than {LONGEST_CLIENT_ID} characters")
        ticker, session = self._ticker(str(body.get("symbol"))), self._broker.auction() or date.max
        try:
            order = Order(name, ticker, body.get("side", ""), shares.to_integral_value(), session)
            answer = self._broker.submit(order)
        except TradingError as error:
            raise _Problem(422, WRONG_VALUE, str(error)) from error
        if isinstance(answer, Refused):
            raise _Problem(STATUS[answer.code], answer.code, answer.reason)
        if not isinstance(answer, Accepted):
            raise _Problem(504, "50410000", "the upstream server did not answer in time")
        return as_json.order_json(answer.state, answer.state.updated_at)

    def _ticker(self, symbol: str) -> str:
        """The ticker of the listing that Alpaca would write as `symbol`."""
        return next((ticker for ticker in self._broker.listed() if as_json.symbol_of(ticker, "-") == symbol), symbol)

    def orders(self, request: "Request") -> Any:
        query = request.query_params
        limit = _read(int, request, "limit", default=FEWER_ORDERS)
        if not 0 < limit <= MOST_ORDERS:
            raise _Problem(422, WRONG_VALUE, f"limit must be between 1 and {MOST_ORDERS}")
        after, until = (_read(_moment, request, name) for name in ("after", "until"))
        status = query.get("status", "open")
        symbols = query["symbols"].split(",") if "symbols" in query else None
        stored_orders = [
            order
            for order in self._broker.stored_orders(LONG_AGO)
            if (after is None or order.submitted_at > after)
            and (until is None or order.submitted_at < until)
            and (status == "all" or (order.status in TERMINAL) == (status == "closed"))
            and (symbols is None or as_json.symbol_of(order.ticker, "-") in symbols)
        ]
        if query.get("direction", "desc") == "desc":
            stored_orders.reverse()
        return [as_json.order_json(order.state, order.submitted_at) for order in stored_orders[:limit]]

    def order(self, request: "Request") -> Any:
        name = request.query_params.get("client_order_id", "")
        for order in self._broker.stored_orders(LONG_AGO):
            if order.client_order_id == name:
                return as_json.order_json(order.state, order.submitted_at)
        raise _Problem(404, "40410000", f"order not found for {name}")

    def cancel_all(self, _: "Request") -> Any:
        before = [order for order in self._broker.stored_orders(LONG_AGO) if order.status not in TERMINAL]
        self._broker.cancel_all()
        after = {order.broker_id: order.status for order in self._broker.stored_orders(LONG_AGO)}
        return [
            {
                "id": open_order.broker_id,
                "status": 200 if after[open_order.broker_id] == "canceled" else 422,
                "body": None,
            }
            for open_order in before
        ]

    def activities(self, request: "Request") -> Any:
        query = request.query_params
        size = _read(int, request, "page_size", default=MOST_ACTIVITIES)
        if not 0 < size <= MOST_ACTIVITIES:
            raise _Problem(422, WRONG_VALUE, f"page_size must be between 1 and {MOST_ACTIVITIES}")
        after, until = (_read(_moment, request, name) for name in ("after", "until"))
        kinds = query["activity_types"].split(",") if "activity_types" in query else None
        rows = [
            activity
            for activity in self._broker.activities(LONG_AGO)
            if (after is None or activity.at > after)
            and (until is None or activity.at < until)
            and (kinds is None or activity.kind in kinds)
        ]
        if query.get("direction", "desc") == "desc":
            rows.reverse()
        if token := query.get("page_token"):
            ids = [activity.id for activity in rows]
            rows = rows[len(ids) - ids[::-1].index(token) :] if token in ids else rows
        orders = {order.client_order_id: order.state for order in self._broker.stored_orders(LONG_AGO)}
        return [as_json.activity_json(activity, orders.get(activity.client_order_id or "")) for activity in rows[:size]]


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _read(parse: Callable[[str], Any], request: "Request", name: str, *, default: Any = None) -> Any:
    text = request.query_params.get(name)
    try:
        return default if text is None else parse(text)
    except ValueError as error:
        raise _Problem(422, WRONG_VALUE, f"{name} is invalid: {text}") from error


@contextmanager
def serving(
    broker: SimulatedBroker,
    *,
    key: str,
    secret: str,
    around: "Callable[[ASGIApp], ASGIApp]" = lambda app: app,
) -> Iterator[str]:
    """The address of the face, which answers on a free port of loopback until the end; `around` may wrap it."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            is_up.set()

    is_up = Event()
    with socket.create_server((LOOPBACK, 0)) as listener:
        app = around(face(broker, key=key, secret=secret))
        server = Server(uvicorn.Config(app, log_config=None, lifespan="off", access_log=False))
        thread = Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            if not is_up.wait(30):
                raise TradingError("the HTTP face of the simulated broker did not start within 30 s")
            yield f"http://{LOOPBACK}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
