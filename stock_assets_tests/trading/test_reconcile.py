"""A simulated broker and the ledger over random markets: whatever happens to long and short positions is explained."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.market.calendar import trading_calendar
from stock_assets.trading.books import Book
from stock_assets.trading.broker.orders import client_order_id
from stock_assets.trading.broker.protocol import Accepted, Order
from stock_assets.trading.broker.simulated import SimulatedBroker
from stock_assets.trading.broker.simulated_file import Opening
from stock_assets.trading.panel import Events, Panel
from stock_assets.trading.plan import decided
from stock_assets.trading.reconcile import Sent, Shown, backtest, opening_record, reconcile
from stock_assets_tests.effort import tries
from stock_assets_tests.trading.random_market import COSTLY, COSTLY_BOOK, SESSIONS, panel, random_bars, random_weights

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
CALENDAR = trading_calendar("XNYS", date(2024, 1, 2), date(2024, 12, 31))
BOOK = replace(COSTLY_BOOK, costs=replace(COSTLY, participation=0.5, ending=-0.3), whole_shares=True)
CAPITAL = 400_000.0


def market(seed: int, sessions: int, tickers: int) -> Panel:
    """A random market on sessions of the exchange that the broker's orders are sent to."""
    own = dict(zip(SESSIONS, CALENDAR.sessions, strict=False))
    bars = random_bars(seed, sessions, tickers).with_columns(pl.col("session").replace_strict(own))
    return panel(bars, CALENDAR.sessions[:sessions])


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for the disk."""
    monkeypatch.setattr("stock_assets.trading.broker.simulated_file.SYNCHRONOUS", "OFF")


class Account:
    """An account at the simulated broker, reconciled at every close from the record of the close before."""

    def __init__(self, file: Path, bars: Panel, weights: np.ndarray, book: Book) -> None:
        self.panel, self.weights, self.book, self.now = bars, weights, book, LONG_AGO
        opening = Opening(capital=CAPITAL, multiplier=1000)
        self.broker = SimulatedBroker(file, opening, clock=lambda: self.now, calendar=CALENDAR, costs=book.costs)
        self.sent: dict[str, Sent] = {}
        self.kinds: set[str] = set()
        self.shorts = False

    def shown(self, since: datetime) -> Shown:
        activities = [one for one in self.broker.activities(since) if since < one.at]
        self.kinds |= {one.kind for one in activities}
        ids = [one.id for one in activities]
        assert len(ids) == len(set(ids)), "two activities with one id"
        assert ids == sorted(ids), "a page of activities begins after the last id of the one before"
        orders = self.broker.orders(since - timedelta(days=5))
        return Shown(self.broker.account(), self.broker.positions(), orders, activities, self.now)

    def send(self, ordered: np.ndarray, session: date) -> None:
        for ticker, shares in zip(self.panel.tickers, ordered.tolist(), strict=True):
            if not shares:
                continue
            name = client_order_id(self.book.name, session, ticker)
            order = Order(name, ticker, "buy" if shares > 0 else "sell", Decimal(int(abs(shares))), session)
            answer = self.broker.submit(order)
            assert isinstance(answer, Accepted), answer
            self.sent[name] = Sent(ticker, session)

    def live(self) -> None:
        """Every session to its close: nothing differs from the back-test."""
        bars, first, before, capital = self.panel, self.panel.sessions[0], None, 0.0
        for t, session in enumerate(bars.sessions):
            self.broker.advance(bars.day(t), bars.tickers)
            self.now = CALENDAR.closes[session] + timedelta(hours=4)
            shown = self.shown(before.seen_at if before else self.now)
            if before is None:
                before = opening_record(bars, session, shown)
                capital = float(before.account.cash)
            part = replace(bars, sessions=bars.sessions[: t + 1])
            tested = backtest(part, self.weights, self.book, capital=capital, first=first)
            done = reconcile(before, shown, tested, sent_orders=self.sent, accepted_breaks={})
            assert not done.breaks, (session, done.breaks)
            assert done.equity == done.record.backtest_equity, session
            assert abs(done.unexplained) < 1e-6
            assert abs(done.record.causes.total) < 1e-6
            self.shorts |= bool((done.record.account.shares < 0).any())
            before = done.record
            if t + 1 < len(bars.sessions):
                counted, orders = decided(before.account, self.weights[t], bars.day(t), book=self.book)
                assert (counted.shares == before.account.shares).all()
                self.send(orders, bars.sessions[t + 1])


def account_of(seed: int, kind: str, sessions: int, tickers: int, folder: Path) -> Account:
    bars = market(seed, sessions, tickers)
    weights = random_weights(seed + 1, bars) / tickers
    weights = np.abs(weights) if kind == "long_only" else weights
    return Account(folder / "account.sqlite", bars, weights, replace(BOOK, kind=kind))  # pyright: ignore[reportArgumentType]


@pytest.mark.tries
@pytest.mark.parametrize("kind", ["long_only", "long_short"])
@settings(max_examples=tries(10, 60), deadline=None)
@given(seed=st.integers(0, 10_000), tickers=st.integers(1, 8))
def test_the_account_is_the_back_test_through_every_event(kind: str, seed: int, tickers: int):
    with TemporaryDirectory() as folder:
        account_of(seed, kind, 20, tickers, Path(folder)).live()


@pytest.mark.parametrize("kind", ["long_only", "long_short"])
def test_these_markets_have_every_event(kind: str, tmp_path: Path):
    account = account_of(2, kind, 40, 8, tmp_path)
    account.live()
    assert account.kinds == {"FILL", "FEE", "DIV", "SPLIT", "REORG", "INT"}
    assert account.shorts == (kind == "long_short")


def test_half_a_share_that_a_split_leaves_is_an_activity(tmp_path: Path):
    """A share and a half is one share and money: the number of shares does not change."""
    bars = market(0, 3, 1)
    ones = np.ones_like(bars.close)
    bars = replace(bars, open=40 * ones, close=40 * ones, refusal=np.zeros_like(bars.refusal), suspect=bars.refusal * 0)
    bars = replace(bars, splits=Events.of(np.array([[1.0], [1.0], [1.5]]), 1.0), adv=1e9 * np.ones_like(bars.adv))
    weights = np.array([[40.5 / CAPITAL], [np.nan], [np.nan]])
    account = Account(tmp_path / "account.sqlite", bars, weights, replace(BOOK, kind="long_only"))
    account.live()
    (split,) = (one for one in account.broker.activities(LONG_AGO) if one.kind == "SPLIT")
    assert split.shares == 0
    assert float(split.amount) == pytest.approx(0.5 * 40 / 1.5)
