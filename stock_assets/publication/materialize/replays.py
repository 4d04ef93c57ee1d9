"""The tear sheets with what each book would have earned on what was published every evening."""

from collections.abc import Mapping
from datetime import date, datetime

from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.publication.materialize.said import said_each_evening
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.book_files import books_of
from stock_assets.trading.materialize.replay import replay_book
from stock_assets.trading.materialize.tear_sheet import MadeTearSheets, make_tear_sheets
from stock_assets.trading.replay import Replay

#: Sessions that a tear sheet replays: each is made of the bars as they were known that evening, which takes a second of
#: 500 tickers. `stock_assets.open().replay(book)` replays all.
REPLAYED_SESSIONS = 63


def make_replayed_tear_sheets(store: Warehouse, settings: Settings) -> MadeTearSheets:
    """`make_tear_sheets` with the replays of the books. Raises as that."""
    return make_tear_sheets(store, settings, replays=replays_of(store, settings))


def replays_of(store: Warehouse, settings: Settings) -> dict[str, Replay]:
    """The replay of each book by its name, over the newest sessions without a gap that were published in time, at most
    REPLAYED_SESSIONS.

    None where fewer than two were: a replay needs an evening and the open after it.
    """
    calendar = calendar_of(settings)
    published_predictions, publication_moments = said_each_evening(settings.published, calendar)
    moments = newest_without_gap(publication_moments, calendar)
    if len(moments) < 2:
        return {}
    return {
        book.name: replay_book(store, settings, book, published_predictions=published_predictions, moments=moments)
        for book in books_of(settings)
    }


def newest_without_gap(moments: Mapping[date, datetime], calendar: TradingCalendar) -> dict[date, datetime]:
    """Those of `moments`, by session, whose sessions follow each other up to the newest one."""
    newest: list[date] = []
    for session in sorted(moments, reverse=True):
        if newest and calendar.shift(session, 1) != newest[-1]:
            break
        newest.append(session)
    return {session: moments[session] for session in reversed(newest[:REPLAYED_SESSIONS])}
