"""The replay of a book on the store: what was said each evening, on the bars of that evening and on those of today."""

from collections.abc import Mapping
from datetime import date, datetime

import polars as pl

from stock_assets.errors import TradingError
from stock_assets.market import quality
from stock_assets.market.calendar import calendar_of
from stock_assets.market.materialize.time_travel import tables_as_of
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.book_files import model_of
from stock_assets.trading.books import Book
from stock_assets.trading.materialize.bars import BAR_COLUMNS, read_panel
from stock_assets.trading.materialize.targets import read_predictions, sleeves_by_year
from stock_assets.trading.panel import LOOKBACK_SESSIONS, Panel, panel_of
from stock_assets.trading.portfolio import FIRST_SLEEVES
from stock_assets.trading.replay import Replay, replay

#: SQL: when the newest version of a bar of each session was fetched.
_NEWEST = "SELECT session, max(fetched_at) AS newest FROM market.raw_ohlcv GROUP BY session"


def replay_book(
    store: Warehouse,
    settings: Settings,
    book: Book,
    *,
    published_predictions: pl.DataFrame,
    moments: Mapping[date, datetime],
) -> Replay:
    """`book` through the sessions of `moments`, as it was said at each of these moments and with hindsight.

    `published_predictions` are the predictions as they were published (`targets.PREDICTION_COLUMNS`); `moments` are
    when, by session. The sessions follow each other without a gap. Bars are those whose versions had been fetched by
    the moment; where nothing was fetched since, they are those of today. Raises TradingError with fewer than two
    sessions or with a gap.
    """
    calendar, sessions = calendar_of(settings), tuple(sorted(moments))
    if len(sessions) < 2 or calendar.between(sessions[0], sessions[-1]) != sessions:
        raise TradingError(
            f"book {book.name}: found {len(sessions)} session(s) that were published before the open after them, "
            "expected two or more without a gap between"
        )
    newest = dict(store.read_sql("raw_ohlcv", _NEWEST).iter_rows())
    model, stored_sleeves = model_of(book), sleeves_by_year(store, book)

    def known(session: date) -> Panel | None:
        window = (*calendar.before(session, LOOKBACK_SESSIONS + 1), session)
        if all(fetched_at <= moments[session] for day in window if (fetched_at := newest.get(day))):
            return None
        return _panel_as_of(store, settings, book, window=window, moment=moments[session])

    return replay(
        book,
        read_panel(store, settings, sessions, limits=book.limits, needed_by="replay"),
        known,
        published_predictions=published_predictions.filter(pl.col("model") == model),
        predictions=read_predictions(store, model, sessions),
        sleeves={
            year: book.sleeves or stored_sleeves.get(year, FIRST_SLEEVES) for year in {day.year for day in sessions}
        },
    )


def _panel_as_of(
    store: Warehouse, settings: Settings, book: Book, *, window: tuple[date, ...], moment: datetime
) -> Panel:
    """The panel whose last two sessions are those of `window`, as its bars were known at `moment`."""
    judged_from = calendar_of(settings).before(window[0], quality.LOOKBACK_SESSIONS)
    tables = tables_as_of(store, settings, moment, since=judged_from[0] if judged_from else None)
    bars = tables["daily_bars"].filter(pl.col("session").is_between(window[0], window[-1])).select(BAR_COLUMNS)
    columns = ["series", "session", "total_return"]
    context = tables.get("context_series", pl.DataFrame(schema=dict.fromkeys(columns)))
    universe = tables["universe"].sort("ticker", "from_session")
    return panel_of(bars, universe, context.select(columns), sessions=window[-2:], limits=book.limits)
