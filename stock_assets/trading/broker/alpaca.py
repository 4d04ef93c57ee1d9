"""Alpaca's paper and live accounts, by alpaca-py (the extra `alpaca`).

Answers are read as they came (`raw_data`): a state that this version does not know is open, not an error. Every wait is
bounded, every request is made once by the library, and an answer to an order that is not certain is `Unknown`.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NoReturn
from urllib.parse import urlsplit

from stock_assets.addresses import HIDDEN
from stock_assets.errors import BrokerError, TradingError
from stock_assets.escape import one_line, shortened
from stock_assets.settings_file import is_loopback
from stock_assets.trading.broker.alpaca_json import (
    Json,
    account_of,
    actions_of,
    activity_of,
    asset_of,
    calendar_of,
    clock_of,
    holding_of,
    order_of,
    symbol_of,
)
from stock_assets.trading.broker.orders import another_order, require_order
from stock_assets.trading.broker.protocol import (
    Accepted,
    Activity,
    BrokerAccount,
    Clock,
    CorporateAction,
    Holding,
    Order,
    OrderState,
    Refused,
    Tradable,
    Unknown,
)

if TYPE_CHECKING:
    from alpaca.common.rest import RESTClient

HOSTS = {"paper": "https://paper-api.alpaca.markets", "live": "https://api.alpaca.markets"}
#: What else gets the keys: Alpaca's answers about the market, corporate actions among them.
DATA_HOST = "https://data.alpaca.markets"
#: Seconds to connect, and between two bytes of an answer.
TIMEOUT = (5.0, 20.0)
#: Requests a minute; Alpaca takes 200.
PER_MINUTE = 150
#: Seconds before a question that changes nothing is asked again.
PAUSES = (1.0, 3.0, 9.0)
#: Orders of one answer at most, and activities.
ORDERS_OF_A_PAGE, ACTIVITIES_OF_A_PAGE = 500, 100
#: Corporate actions of one answer at most, and those that change what an order is of.
ACTIONS_OF_A_PAGE = 1000
ACTIONS = ("forward_split", "reverse_split", "unit_split", "stock_dividend", "name_change")
#: Days around those that are asked for: Alpaca looks for the day on which an action is processed.
AROUND = timedelta(days=7)
#: Code of several wrong values of an order, of which a second use of an id is one.
WRONG_VALUE = 40010001
#: Code of an order that does not exist.
NO_ORDER = 40410000
#: A refusal of these leaves no order behind; of 408, 409, 425 and 429 it is not certain.
REFUSALS = (400, 401, 403, 404, 422)


@dataclass(frozen=True)
class Access:
    """Which account of Alpaca, and the keys to it.

    A live account needs both locks: `mode` is live, and `account` its number.
    """

    key: str = field(repr=False)
    secret: str = field(repr=False)
    mode: Literal["paper", "live"] = "paper"
    account: str | None = None
    """the number that the account must have; on paper any where it is None"""
    url: str | None = field(default=None, repr=False)
    """an address on loopback that speaks as Alpaca does; Alpaca's own where it is None"""
    class_separator: str = "-"
    """how the source writes a class of shares: Alpaca writes BRK.B"""

    @property
    def host(self) -> str:
        """Where the keys are sent. Raises TradingError for anything but Alpaca's hosts and loopback."""
        if self.mode not in HOSTS:
            raise TradingError(f"the mode of Alpaca is {self.mode!r}; expected paper or live")
        if self.mode == "live" and not self.account:
            raise TradingError(
                "a live account of Alpaca is traded only where its number is spelled out: set "
                "STOCK_ASSETS_ACCOUNT_NUMBER beside STOCK_ASSETS_TRADING=live"
            )
        if not (self.key and self.secret):
            raise TradingError(
                "Alpaca needs a key and its secret: set STOCK_ASSETS_ALPACA_KEY and STOCK_ASSETS_ALPACA_SECRET"
            )
        if self.url is None:
            return HOSTS[self.mode]
        parts = urlsplit(self.url)
        if parts.scheme != "http" or not is_loopback(parts.hostname or ""):
            raise TradingError("another address than Alpaca's own has to be http:// on loopback: it gets the keys")
        return self.url.rstrip("/")


class Pace:
    """At most `per_minute` requests in any minute: `pause` waits for the next, in seconds of `clock`."""

    def __init__(self, per_minute: int, clock: Callable[[], float], pause: Callable[[float], None]) -> None:
        self._times: deque[float] = deque(maxlen=per_minute)
        self._clock, self._pause = clock, pause

    def wait(self) -> None:
        if len(self._times) == self._times.maxlen and (remaining_seconds := self._times[0] + 60 - self._clock()) > 0:
            self._pause(remaining_seconds)
        self._times.append(self._clock())


class AlpacaBroker:
    """An account at Alpaca. Nothing is sent before the account has shown the number that was configured."""

    name = "alpaca"

    def __init__(
        self,
        access: Access,
        *,
        timeout: tuple[float, float] = TIMEOUT,
        pause: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises TradingError where `access` lacks a lock, SettingsError where alpaca-py is not installed."""
        host = access.host
        from stock_assets.private.alpaca import actions_client, trading_client

        self._access, self._pause = access, pause
        self._client: RESTClient = trading_client(access.key, access.secret, url=host, timeout=timeout)
        data = host if access.url is not None else DATA_HOST
        self._market: RESTClient = actions_client(access.key, access.secret, url=data, timeout=timeout)
        self._pace = Pace(PER_MINUTE, monotonic, pause)
        self._verified = False

    def __repr__(self) -> str:
        return f"AlpacaBroker({self._access.mode})"

    def _shown(self, text: object) -> str:
        """What Alpaca or the network said, on one line and without the keys."""
        line = one_line(text)
        for secret in (self._access.key, self._access.secret):
            line = line.replace(secret, HIDDEN)
        return shortened(line, 300)

    def _call(
        self, path: str, values: Mapping[str, object] | None, *, method: str = "get", client: "RESTClient | None" = None
    ) -> Any:
        """One request, to the account or to `client`. Raises _Failure, whose text holds no key, where there is no
        answer in JSON."""
        from urllib3.exceptions import HTTPError

        from stock_assets.private.alpaca import APIError

        self._pace.wait()
        try:
            answer = getattr(client or self._client, method)(path, dict(values) if values is not None else None)
        except APIError as error:
            raise _Failure.of_body(error.status_code, str(error), self._shown) from None
        except (OSError, ValueError, HTTPError) as error:  # of requests: all of its errors are OSErrors
            raise _Failure(None, None, self._shown(f"{type(error).__name__}: {error}")) from None
        if answer is None:
            raise _Failure(None, None, "an answer without a body")
        return answer

    def _answer_of(
        self, path: str, values: Mapping[str, object] | None = None, client: "RESTClient | None" = None
    ) -> Any:
        """The answer to a question, which is asked again where the broker is busy. Raises BrokerError, _Failure."""
        for seconds in (*PAUSES, None):
            try:
                return self._call(path, values, client=client)
            except _Failure as failure:
                # an error of Alpaca's own has a code; one of a proxy on the way may be over with the next try
                if seconds is None or (failure.status in REFUSALS and failure.code is not None):
                    raise
            self._pause(seconds)
        raise AssertionError("unreachable")

    def _get(self, path: str, values: Mapping[str, object] | None = None) -> Any:
        self._verify()
        return self._answer_of(path, values)

    def _verify(self) -> None:
        """Raises TradingError where the account is not the one that is configured."""
        if not self._verified:
            self.account()

    def account(self) -> BrokerAccount:
        account = self._parsed(account_of, self._answer_of("/account"), is_paper=self._access.mode == "paper")
        expected = self._access.account
        if expected is not None and account.number != expected:
            raise TradingError(
                f"Alpaca's keys are of the {self._access.mode} account {one_line(account.number)}, expected "
                f"{one_line(expected)} as STOCK_ASSETS_ACCOUNT_NUMBER says; nothing was sent"
            )
        self._verified = True
        return account

    def _parsed(self, parse: Callable[..., Any], answer: Any, **options: Any) -> Any:
        """`parse` of an answer. Raises BrokerError where it lacks what is needed."""
        try:
            return parse(answer, **options)
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            self._misunderstood(answer, error)

    def _misunderstood(self, answer: Any, error: Exception) -> NoReturn:
        raise BrokerError(
            f"Alpaca's answer cannot be read ({self._shown(f'{type(error).__name__}: {error}')}): {self._shown(answer)}"
        ) from None

    def clock(self) -> Clock:
        return self._parsed(clock_of, self._get("/clock"))

    def calendar(self, first: date, last: date) -> Mapping[date, tuple[datetime, datetime]]:
        return self._parsed(calendar_of, self._get("/calendar", {"start": f"{first}", "end": f"{last}"}))

    def positions(self) -> Sequence[Holding]:
        answer = self._get("/positions")
        return self._parsed(lambda rows: [holding_of(row, self._access.class_separator) for row in _list(rows)], answer)

    def tradable(self, tickers: Iterable[str]) -> Mapping[str, Tradable]:
        answer = self._get("/assets", {"status": "active", "asset_class": "us_equity"})
        assets = self._parsed(lambda rows: {row["symbol"]: row for row in _list(rows)}, answer)
        symbols = {ticker: symbol_of(ticker, self._access.class_separator) for ticker in tickers}
        return {
            ticker: self._parsed(asset_of, assets[symbol], ticker=ticker)
            for ticker, symbol in symbols.items()
            if symbol in assets
        }

    def actions(self, first: date, last: date) -> Sequence[CorporateAction]:
        self._verify()
        rows: list[CorporateAction] = []
        values: dict[str, object] = {
            "types": ",".join(ACTIONS),
            "start": f"{first - AROUND}",
            "end": f"{last + AROUND}",
            "limit": ACTIONS_OF_A_PAGE,
        }
        while True:
            page = self._answer_of("/corporate-actions", values, self._market)
            rows += self._parsed(actions_of, page, class_separator=self._access.class_separator)
            token = page.get("next_page_token")
            if not token or token == values.get("page_token"):
                return [row for row in rows if first <= row.day <= last]
            values["page_token"] = token

    def submit(self, order: Order) -> Accepted | Refused | Unknown:
        """Sends `order` once. Raises TradingError, with nothing sent, where it is none or the account another."""
        require_order(order)
        from stock_assets.private.alpaca import MarketOrderRequest, OrderSide, TimeInForce

        try:
            self._verify()
        except BrokerError as error:
            return Unknown(f"not sent: {error}")
        request = MarketOrderRequest(
            symbol=symbol_of(order.ticker, self._access.class_separator),
            qty=int(order.shares),
            side=OrderSide(order.side),
            time_in_force=TimeInForce.OPG,
            client_order_id=order.client_order_id,
        )
        try:
            state = self._order(self._call("/orders", request.to_request_fields(), method="post"))
        except _Failure as failure:
            return self._not_accepted(order, failure)
        except BrokerError as error:
            return Unknown(str(error))
        if text := another_order(order, state):
            return Unknown(text)
        return Accepted(state)

    def _not_accepted(self, order: Order, failure: "_Failure") -> Accepted | Refused | Unknown:
        """What an error means for `order`: with 422 it may have been there before, as one code stands for much."""
        if failure.status not in REFUSALS or failure.code is None:
            return Unknown(str(failure))
        if failure.code != WRONG_VALUE:
            return Refused(str(failure.code), failure.text)
        try:
            state = self.order(order.client_order_id)
        except BrokerError as error:
            return Unknown(f"{failure}; {error}")
        if state is not None and another_order(order, state) is None:
            return Accepted(state)
        if state is not None or "client_order_id" in failure.text:
            return Unknown(str(failure))
        return Refused(str(failure.code), failure.text)

    def _order(self, answer: Any) -> OrderState:
        return self._parsed(order_of, answer, class_separator=self._access.class_separator)

    def order(self, client_order_id: str) -> OrderState | None:
        try:
            return self._order(self._get("/orders:by_client_order_id", {"client_order_id": client_order_id}))
        except _Failure as failure:
            # a page that is not Alpaca's own may be "not found" as well
            if failure.status == 404 and failure.code == NO_ORDER:
                return None
            raise

    def orders(self, since: datetime) -> Sequence[OrderState]:
        rows: dict[str, Json] = {}
        # `after` leaves out its own moment, and two orders may share one
        after = since - timedelta(microseconds=1)
        while True:
            values = {"status": "all", "limit": ORDERS_OF_A_PAGE, "direction": "asc", "after": _moment(after)}
            page = _list(self._get("/orders", values))
            fresh = {row["id"]: row for row in self._parsed(list, page) if row["id"] not in rows}
            rows |= fresh
            if len(page) < ORDERS_OF_A_PAGE:
                return [self._order(row) for row in rows.values()]
            if not fresh:
                raise BrokerError(f"Alpaca has more than {ORDERS_OF_A_PAGE} orders of one moment, {page[-1]}")
            last = self._parsed(lambda row: datetime.fromisoformat(row["submitted_at"]), page[-1])
            after = last.astimezone(UTC) - timedelta(microseconds=1)

    def activities(self, since: datetime) -> Sequence[Activity]:
        rows: dict[str, Json] = {}
        values: dict[str, object] = {
            "after": _moment(since - timedelta(microseconds=1)),
            "direction": "asc",
            "page_size": ACTIVITIES_OF_A_PAGE,
        }
        while True:
            page = _list(self._get("/account/activities", values))
            fresh = self._parsed(lambda rows: {row["id"]: row for row in rows}, page)
            is_last = len(page) < ACTIVITIES_OF_A_PAGE or not fresh.keys() - rows.keys()
            rows |= fresh
            if is_last:
                break
            values["page_token"] = page[-1]["id"]
        ids: dict[str, str] = {}
        if any(row.get("activity_type") == "FILL" for row in rows.values()):
            # a fill names the order by the broker's id alone; it was sent days before at most
            ids = {state.broker_id: state.client_order_id for state in self.orders(since - timedelta(days=7))}
        separator = self._access.class_separator
        return [self._parsed(activity_of, row, ids=ids, class_separator=separator) for row in rows.values()]

    def cancel_all(self) -> int:
        self._verify()
        answer = self._call("/orders", None, method="delete")
        return self._parsed(lambda rows: sum(int(row["status"]) < 300 for row in _list(rows)), answer)


class _Failure(BrokerError):
    """An error of Alpaca or of the network: `status` of HTTP and `code` of Alpaca are None where there was none."""

    def __init__(self, status: int | None, code: int | None, text: str) -> None:
        super().__init__(f"Alpaca: {f'{status} ' if status else ''}{f'{code} ' if code else ''}{text}")
        self.status, self.code, self.text = status, code, text

    @classmethod
    def of_body(cls, status: int | None, body: str, without_secrets: Callable[[object], str]) -> "_Failure":
        """Of the answer's body. `APIError.code` itself raises where it is HTML, so that none of it is asked."""
        import json

        try:
            answer = json.loads(body)
            return cls(status, int(answer["code"]), without_secrets(answer["message"]))
        except (ValueError, TypeError, KeyError):
            return cls(status, None, without_secrets(body))


def _list(answer: Any) -> list[Any]:
    if not isinstance(answer, list):
        raise BrokerError(f"Alpaca answered with {type(answer).__name__}, expected a list")
    return answer


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
