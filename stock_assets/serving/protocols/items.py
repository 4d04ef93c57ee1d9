"""What a request of another protocol asks for: pairs of a ticker and a session. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from stock_assets.serving.parameters import A_SESSION, read_session, read_ticker
from stock_assets.serving.problems import Problem, quoted
from stock_assets.tickers import EXPECTED as EXPECTED_TICKER

#: As many as a batch of the API.
MOST_ITEMS = 1000


class BadRequestError(Problem):
    """A request does not fit its protocol; the message is for the client."""

    def __init__(self, detail: str) -> None:
        super().__init__("unreadable-request", detail)


@dataclass(frozen=True)
class Item:
    ticker: str
    session: date | None
    """None for the newest session that is published"""


def item_of(place: str, ticker: object, session: object = None) -> Item:
    """One row of a request; `place` names it in an error. Raises BadRequestError."""
    if not isinstance(ticker, str):
        raise BadRequestError(f"the ticker of {place} is {type(ticker).__name__}; expected a text")
    try:
        read_ticker(ticker)
    except ValueError:
        raise BadRequestError(f"the ticker of {place} is {quoted(ticker)}; expected {EXPECTED_TICKER}") from None
    if session is None:
        return Item(ticker, None)
    if not isinstance(session, str):
        raise BadRequestError(f"the session of {place} is {type(session).__name__}; expected {A_SESSION}")
    try:
        return Item(ticker, read_session(session))
    except ValueError:
        raise BadRequestError(f"the session of {place} is {quoted(session)}; expected {A_SESSION}") from None


def items_of_columns(tickers: Sequence[object], sessions: Sequence[object] | None) -> list[Item]:
    """The rows of a column of tickers and one of sessions, which may be absent or hold one value for all."""
    require_some(len(tickers))
    if sessions is None:
        sessions = [None]
    if len(sessions) == 1:
        sessions = [*sessions] * len(tickers)
    if len(sessions) != len(tickers):
        raise BadRequestError(
            f"there are {len(tickers)} tickers and {len(sessions)} sessions; expected as many, or one"
        )
    return [
        item_of(f"row {place}", ticker, session)
        for place, (ticker, session) in enumerate(zip(tickers, sessions, strict=True))
    ]


def items_of_records(records: Iterable[Mapping[str, Any]]) -> list[Item]:
    """The rows of objects with a `ticker` and, where it is not the newest, a `session`."""
    items = []
    for place, record in enumerate(records):
        require_columns(record)
        items.append(item_of(f"row {place}", record["ticker"], record.get("session")))
    return items


def require_columns(names: Iterable[object]) -> None:
    """Raises BadRequestError for other columns than `ticker` and `session`, and where `ticker` is absent."""
    column_names = [str(name) for name in names]
    unknown = sorted({*column_names} - {"ticker", "session"})
    if unknown:
        raise BadRequestError(f"there is no input {quoted(unknown[0])}; expected ticker and session")
    if column_names.count("ticker") != 1 or column_names.count("session") > 1:
        raise BadRequestError("expected the input ticker once and session at most once")


def require_some(count: int) -> None:
    """Raises BadRequestError where a request asks for nothing or for too much."""
    if not 1 <= count <= MOST_ITEMS:
        raise BadRequestError(f"the request has {count:,} rows; expected 1 to {MOST_ITEMS:,}")
