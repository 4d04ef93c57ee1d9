"""The step `backtest` of a market of bars: the tables, the page, and last what is published of them."""

from dataclasses import dataclass
from datetime import datetime

from stock_assets.market.calendar import currency_of
from stock_assets.objects import Place, put
from stock_assets.publication.bar_backtest import backtest_document
from stock_assets.publication.bar_files import put_backtest
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.bar_page import BarBacktestFacts, render_bar_backtest, session_equity
from stock_assets.trading.materialize.bar_backtest import MadeBarBacktest, make_bar_backtest


@dataclass(frozen=True)
class PublishedBacktest:
    """What `publish_bar_backtest` wrote."""

    made: MadeBarBacktest
    page: Place


def publish_bar_backtest(store: Warehouse, settings: Settings, *, now: datetime) -> PublishedBacktest:
    """Makes the tables of the back-test, its page `bar_backtest/report.html`, and the file that the API answers from.

    Raises as `make_bar_backtest`. A kill leaves what was published before; the next run writes all of it again.
    """
    back_test = make_bar_backtest(store, settings, now=now)
    capitals = dict(back_test.table.select("book", "capital").unique().iter_rows())
    sessions = session_equity(back_test.equity, capitals)
    facts = BarBacktestFacts(settings.source, settings.interval, currency_of(settings), settings.hold_overnight)
    page = settings.artifacts / "bar_backtest" / "report.html"
    put(page, render_bar_backtest(back_test.table, sessions, facts).encode())
    put_backtest(settings.published, backtest_document(back_test.table, sessions, facts, now=now))
    return PublishedBacktest(back_test, page)
