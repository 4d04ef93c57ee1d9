"""A client of the API that `stock-assets serve` answers: what is published, as polars frames.

    import stock_assets

    client = stock_assets.Client("http://127.0.0.1:8000")
    client.predictions("latest")

It needs no store and no model, only the address. Columns and types are those of `publication/tables.py`, whatever the
server adds to its JSON.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any, TypeVar, get_args, get_type_hints
from urllib.parse import quote, urlsplit

import polars as pl
import requests
from requests.auth import AuthBase

from stock_assets.addresses import redacted
from stock_assets.errors import ApiError, SourceError
from stock_assets.market.download import body_within, json_within
from stock_assets.publication.tables import MONITORING, PREDICTIONS_FILE
from stock_assets.tables import UTC_TIME

#: Where `stock-assets serve` listens when nothing else is said.
LOCAL = "http://127.0.0.1:8000"
#: Bytes of one answer; a page of history has some hundred thousand.
MOST_BYTES = 200_000_000
#: Rows of a page.
PAGE = 1_000
LOOPBACK = ("127.0.0.1", "localhost", "::1")

#: `predictions` and `rankings`: the published columns, with the session.
PREDICTIONS = pl.Schema({"ticker": pl.String(), "session": pl.Date(), **PREDICTIONS_FILE.schema})
MODELS = pl.Schema(
    {
        "model": pl.String(),
        "in_service": pl.Boolean(),
        "serving": pl.String(),
        "asked": pl.String(),
        "trained_through": pl.Date(),
        "effective_from": pl.Date(),
        "reason": pl.String(),
    }
)
PUBLICATIONS = pl.Schema(
    {
        "id": pl.String(),
        "published_at": UTC_TIME,
        "previous": pl.String(),
        "reason": pl.String(),
        "code_version": pl.String(),
        "first_session": pl.Date(),
        "last_session": pl.Date(),
    }
)

Day = date | str
Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Prediction:
    """What is published of one ticker and session; `status` says why the probabilities are absent where they are."""

    ticker: str
    session: date
    status: str
    reason: str | None = None
    p_sell: float | None = None
    p_hold: float | None = None
    p_buy: float | None = None
    score: float | None = None
    """p_buy - p_sell"""
    rank: int | None = None
    """1 for the highest score of the model and session"""
    model: str | None = None
    model_version: str | None = None
    trained_through: date | None = None
    horizon: int | None = None
    """in the ticker's own bars"""
    label: int | None = None
    """what came true: 1 buy, -1 sell, 0 hold; None before it is known"""
    horizon_end: date | None = None
    suspect: str | None = None
    publication: str | None = None
    published_at: datetime | None = None
    """UTC"""
    simulated: bool | None = None


@dataclass(frozen=True)
class SessionStatus:
    """Whether a day is a session, and whether its predictions are published."""

    day: date
    status: str
    """published, due, late, holiday or not_yet"""
    reason: str | None = None
    due_at: datetime | None = None
    """UTC"""
    published_at: datetime | None = None
    """UTC"""
    publication: str | None = None
    previous: date | None = None
    next: date | None = None


class Client:
    """The API at `url`.

    `token` is what the server requires beyond loopback; it is sent in a header and shown nowhere. `seconds` bounds the
    wait for one answer. Every method raises ApiError, with the title, the status and the detail of the problem that the
    server states, and with one line about what is wrong where no server of ours answers.
    """

    def __init__(self, url: str | None = None, token: str | None = None, *, seconds: float = 30.0) -> None:
        self.url = _address(LOCAL if url is None else url)
        self.seconds = seconds
        self._session = requests.Session()
        self._session.auth = _Bearer(token)  # also without one: else requests looks for a password in ~/.netrc
        # a proxy of the environment cannot reach this machine
        self._session.trust_env = urlsplit(self.url).hostname not in LOOPBACK

    def __repr__(self) -> str:
        return f"Client({redacted(self.url)!r})"

    def prediction(
        self,
        ticker: str,
        session: Day = "latest",
        *,
        model: str | None = None,
        as_of: datetime | str | None = None,
    ) -> Prediction:
        """What is published of one ticker: of the latest session or of one, by the model in service or another, now or
        as of a moment with its zone.

        >>> import stock_assets
        >>> client = stock_assets.Client()  # http://127.0.0.1:8000
        >>> client.prediction("AAPL").status
        'predicted'
        """
        answer = self._get(f"/v1/predictions/{_segment(ticker)}", session=session, model=model, as_of=as_of)
        return _record(Prediction, answer)

    def predictions(
        self,
        session: Day = "latest",
        *,
        model: str | None = None,
        tickers: str | Iterable[str] | None = None,
        as_of: datetime | str | None = None,
    ) -> pl.DataFrame:
        """A session's predictions of every ticker or some, sorted by ticker, those that are left out included.

        >>> import stock_assets
        >>> client = stock_assets.Client()  # http://127.0.0.1:8000
        >>> client.predictions(tickers=["AAPL", "BRK.B"])["ticker"].to_list()
        ['AAPL', 'BRK.B']
        """
        ticker_list = tickers if isinstance(tickers, str) or tickers is None else ",".join(tickers)
        pages = self._pages("/v1/predictions", session=session, model=model, tickers=ticker_list, as_of=as_of)
        return _frame(_rows(pages, "predictions"), PREDICTIONS).sort("ticker")

    def history(
        self, ticker: str, first: Day | None = None, last: Day | None = None, *, model: str | None = None
    ) -> pl.DataFrame:
        """The predictions of one ticker from session `first` to `last`, both included, all of one publication.

        >>> import stock_assets
        >>> client = stock_assets.Client()  # http://127.0.0.1:8000
        >>> client.history("AAPL", "2026-11-17", "2026-11-19").height
        3
        """
        query = {"from": first, "to": last, "model": model, "limit": PAGE}
        pages = self._pages(f"/v1/history/{_segment(ticker)}", **query)
        return _frame(_rows(pages, "predictions", ticker=ticker), PREDICTIONS).sort("session")

    def rankings(self, session: Day = "latest", *, top: int = 20, model: str | None = None) -> pl.DataFrame:
        """The `top` highest and the `top` lowest scores of a session, the highest first.

        >>> import stock_assets
        >>> client = stock_assets.Client()  # http://127.0.0.1:8000
        >>> client.rankings(top=1)["rank"].to_list()
        [1, 4]
        """
        answer = self._get(f"/v1/rankings/{_segment(session)}", top=top, model=model)
        rows = [dict(row, session=answer["session"]) for side in ("top", "bottom") for row in answer[side]]
        return _frame(rows, PREDICTIONS).unique("ticker").sort("rank")

    def sessions(self, day: Day) -> SessionStatus:
        """Whether `day` is a session, and whether its predictions are published, due, late or not yet there.

        >>> import stock_assets
        >>> client = stock_assets.Client()  # http://127.0.0.1:8000
        >>> client.sessions("2026-11-21").status
        'holiday'
        """
        return _record(SessionStatus, self._get(f"/v1/sessions/{_segment(day)}"))

    def models(self) -> pl.DataFrame:
        """Which version of every model serves, since which session and why, and which one its alias asks for.

        >>> import stock_assets
        >>> client = stock_assets.Client()  # http://127.0.0.1:8000
        >>> client.models().filter("in_service")["model"].item()
        'rnn'
        """
        return _frame(_rows([self._get("/v1/models")], "models"), MODELS)

    def card(self, version: str) -> dict[str, Any]:
        """The card of a model version: cutoff, columns, training window, scores with their intervals, limits."""
        # a version is its model, its cutoff and the digest of its weights
        model = version.rsplit("-", 4)[0]
        return self._get(f"/v1/models/{_segment(model)}/versions/{_segment(version)}")

    def monitoring(self, name: str) -> pl.DataFrame:
        """One of the tables of `publication/tables.py:MONITORING`, such as rolling_skill, drift or promotions.

        >>> import stock_assets
        >>> client = stock_assets.Client()  # http://127.0.0.1:8000
        >>> client.monitoring("drift").columns
        ['session', 'kind', 'column', 'psi', 'ks', 'reference_through']
        """
        if name not in MONITORING:
            raise ApiError(f"{name} is no monitoring table; expected one of {', '.join(MONITORING)}")
        return _frame(_rows(self._pages(f"/v1/monitoring/{name}"), name), MONITORING[name].schema)

    def publications(self, session: Day | None = None) -> pl.DataFrame:
        """The ledger, oldest first: what was published when and why; the entries of one session where it is named.

        >>> import stock_assets
        >>> client = stock_assets.Client()  # http://127.0.0.1:8000
        >>> client.publications()["last_session"].to_list()
        [datetime.date(2026, 11, 20)]
        """
        pages = self._pages("/v1/publications", session=session)
        return _frame(_rows(pages, "publications"), PUBLICATIONS).sort("published_at")

    def _pages(self, path: str, **query: object) -> Iterator[dict[str, Any]]:
        """Every page of an answer; the cursor of one leads to the next, of the same publication."""
        cursor = None
        while True:
            page = self._get(path, **query, cursor=cursor)
            yield page
            cursor = page.get("next")
            if cursor is None:
                return

    def _get(self, path: str, **query: object) -> dict[str, Any]:
        return self._call("GET", path, params={key: _text(value) for key, value in query.items() if value is not None})

    def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        """The JSON object that the server answers. Raises ApiError."""
        address = redacted(self.url)
        try:
            # a redirect is no answer of ours, and the token must not follow one
            answer = self._session.request(
                method, self.url + path, timeout=self.seconds, allow_redirects=False, stream=True, **arguments
            )
            content = body_within(answer, most_bytes=MOST_BYTES, seconds=self.seconds)
        except requests.Timeout as error:
            raise ApiError(f"{address} did not answer within {self.seconds:g} s; is the machine busy?") from error
        except (requests.RequestException, OSError) as error:
            raise ApiError(
                f"nothing answers at {address} ({type(error).__name__}); start it with `make run` or `stock-assets "
                "serve`, or correct the address"
            ) from error
        except SourceError as error:
            raise ApiError(f"{address}: {error}") from error
        return _parsed(address, answer, content)


class _Bearer(AuthBase):
    """Puts a token into the header of a request, where there is one."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _address(url: str) -> str:
    """`url` without a slash at its end. Raises ApiError for what is no address of HTTP."""
    try:
        parts = urlsplit(url.strip())
        complete = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        complete = False
    if not complete:
        raise ApiError(f"{redacted(url)} is no address; expected one such as {LOCAL}")
    return url.strip().rstrip("/")


def _parsed(address: str, answer: requests.Response, content: bytes) -> dict[str, Any]:
    """The JSON object of an answer. Raises ApiError for a problem, and for an answer of another server."""
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    try:
        body = json_within(content) if kind.endswith("json") else None
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ApiError(
            f"{address} answered HTTP {answer.status_code} with {kind or 'no type'} in the place of JSON: another "
            "server listens there; expected `stock-assets serve`",
            status=answer.status_code,
        )
    if answer.status_code < 300:
        return body
    title = str(body.get("title") or answer.reason or "problem")
    detail = str(body.get("detail") or "")
    if answer.status_code == 401:
        detail = f"{detail or 'the token is absent or wrong'}; give it as Client(url, token=…)"
    raise ApiError(
        f"{address}: {title}" + (f": {detail}" if detail else ""),
        status=answer.status_code,
        title=title,
        detail=detail,
        problem=body,
    )


def _segment(value: object) -> str:
    """`value` as one part of a path."""
    return quote(_text(value), safe="")


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)  # a datetime is a date as well


def _rows(pages: Iterable[Mapping[str, Any]], name: str, **shared_fields: object) -> list[dict[str, Any]]:
    """The rows of every page, each with what the page states once for all of them."""
    rows = []
    for page in pages:
        common = {**shared_fields, **{key: page[key] for key in ("session", "model") if key in page}}
        rows += [{**common, **row} for row in page[name]]
    return rows


def _frame(rows: list[dict[str, Any]], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """`rows` of JSON in the columns and types of `schema`; what the server adds is left out."""
    columns = []
    for name, dtype in schema.items():
        values = [row.get(name) for row in rows]
        texts = isinstance(dtype, pl.Date | pl.Datetime)
        column = pl.Series(name, values, pl.String() if texts else dtype, strict=False)
        if isinstance(dtype, pl.Datetime):
            column = column.str.to_datetime(time_unit="us", time_zone="UTC", strict=True)
        elif isinstance(dtype, pl.Date):
            column = column.str.to_date("%Y-%m-%d", strict=True)
        columns.append(column)
    return pl.DataFrame(columns)


#: How the JSON of a field becomes its value, by its type.
_READ: Mapping[type, Callable[[Any], Any]] = {date: date.fromisoformat, datetime: datetime.fromisoformat}


def _record(kind: type[Kind], body: Mapping[str, Any]) -> Kind:
    """`body` as a dataclass; what the server adds is left out."""
    hints = get_type_hints(kind)
    values = {}
    for entry in fields(kind):  # type: ignore[arg-type]
        value = body.get(entry.name)
        (plain, *_) = get_args(hints[entry.name]) or (hints[entry.name],)
        values[entry.name] = _READ[plain](value) if value is not None and plain in _READ else value
    return kind(**values)
