"""The back-test of bars: a day is the case of one bar a session, and a slow loop of one ticker and one cost at a time
books the same."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.market.calendar import TradingCalendar, trading_calendar
from stock_assets.market.intervals import Interval, expected_bars
from stock_assets.trading.bar_backtest import BookedBars, back_test_bars, bar_weights, baselines
from stock_assets.trading.bar_panel import BarMarket, at_bars, bar_market
from stock_assets.trading.books import BY_SIGN, LONG_ONLY, Book
from stock_assets.trading.ledger import run
from stock_assets.trading.panel import panel_of
from stock_assets.trading.sensitivities import SCALES
from stock_assets.trading.targets import own_targets, scores_of, weights_of
from stock_assets.trading.trials import BASE
from stock_assets_tests.trading.random_market import COSTLY, COSTLY_BOOK, LIMITS, random_bars, random_weights

ALWAYS = trading_calendar("24/7", date(2024, 3, 1), date(2024, 3, 23))  # more than the 20 sessions of a traded value
NEW_YORK = trading_calendar("XNYS", date(2024, 11, 25), date(2024, 12, 6))  # Thanksgiving, and a half day after it
TOKYO = trading_calendar("XTKS", date(2024, 1, 4), date(2024, 1, 12))  # it rests at noon
CALENDARS = {"always": ALWAYS, "half day": NEW_YORK, "rest at noon": TOKYO}
LENGTH = timedelta(hours=1)
BOOK = replace(
    BY_SIGN,
    costs=replace(COSTLY, half_spreads=(0.001, 0.0008, 0.0006, 0.0004, 0.0002), participation=0.6),
    limits=replace(BY_SIGN.limits, frozen_sessions=2, ended_sessions=2, lowest_adv=0.0),
)


def universe_of(bars: pl.DataFrame) -> pl.DataFrame:
    tickers = bars["ticker"].unique().sort()
    return pl.DataFrame({"ticker": tickers}).with_columns(
        sector=pl.lit("A"), from_session=pl.lit(date(2000, 1, 1)), to_session=pl.lit(None, pl.Date)
    )


def random_hours(calendar: TradingCalendar, seed: int, *, tickers: int = 4) -> pl.DataFrame:
    """Rows of `bars` at 1h with holes, an outage, suspect bars and bars without a volume."""
    generator = np.random.default_rng(seed)
    slots = expected_bars(calendar, calendar.sessions, Interval.parse("1h"))
    shape = slots.height, tickers
    close = generator.uniform(20, 90, tickers) * np.exp(np.cumsum(generator.normal(0, 0.01, shape), axis=0))
    opened = close * np.exp(generator.normal(0, 0.003, shape))
    there = generator.random(shape) > 0.06
    there[generator.integers(5, slots.height - 9) :][:3] = False
    reason = generator.choice(["", "absurd_return", "no_price"], shape, p=[0.94, 0.03, 0.03])
    bars = slots.join(pl.DataFrame({"ticker": [f"T{i}" for i in range(tickers)]}), how="cross", maintain_order="left")
    return bars.with_columns(
        open=opened.ravel(),
        high=np.maximum(opened, close).ravel(),
        low=np.minimum(opened, close).ravel(),
        close=pl.when(pl.Series(reason.ravel()) == "no_price").then(-1.0).otherwise(pl.Series(close.ravel())),
        volume=(generator.integers(0, 20, shape) * 500.0).ravel(),
        suspect=pl.Series(reason.ravel()).replace("", None),
    ).filter(pl.Series(there.ravel()))


def market_of(calendar: TradingCalendar, bars: pl.DataFrame, *, book: Book = BOOK, first: int = 1) -> BarMarket:
    sessions = calendar.sessions
    return bar_market(
        bars,
        universe_of(bars),
        expected_bars(calendar, sessions, Interval.parse("1h")),
        sessions=sessions[first:],
        length=LENGTH,
        limits=book.limits,
    )


def predictions_of(bars: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Scores of nine bars in ten, of any sign, now and then 0."""
    generator = np.random.default_rng(seed)
    p_buy, p_sell = generator.uniform(0, 0.5, (2, bars.height))
    rows = bars.select("ticker", "session", "bar_end").with_columns(p_buy=p_buy, p_sell=p_sell)
    score = (
        pl.when(pl.Series(generator.random(bars.height) < 0.1)).then(0.0).otherwise(pl.col("p_buy") - pl.col("p_sell"))
    )
    rows = rows.with_columns(score=score, model=pl.lit("bar_rnn"), model_version=pl.lit("v"))
    return rows.filter(pl.Series(generator.random(bars.height) < 0.9))


@given(seed=st.integers(0, 1000), book=st.sampled_from([COSTLY_BOOK, replace(LONG_ONLY, limits=LIMITS)]))
@settings(max_examples=20, deadline=None)
def test_a_day_is_the_case_of_one_bar_a_session(seed: int, book: Book):
    """One bar a session through the code of bars, and the same rows through that of days."""
    limits = replace(book.limits, fewest_names=2, lowest_adv=0.0, ended_sessions=3, frozen_sessions=2)
    book = replace(book, limits=limits, costs=COSTLY)
    days = random_bars(seed).with_columns(dividend=pl.lit(0.0), split_ratio=pl.lit(1.0)).sort("ticker", "session")
    last: dict[str, float] = {}
    returns = []
    for row in days.iter_rows(named=True):
        returns.append(row["close"] / last[row["ticker"]] - 1 if row["ticker"] in last else None)
        if row["suspect"] is None:
            last[row["ticker"]] = row["close"]
    days = days.with_columns(total_return=pl.Series(returns, dtype=pl.Float64))
    sessions = days["session"].unique().sort().to_list()
    context = pl.DataFrame(schema={"series": pl.String, "session": pl.Date, "total_return": pl.Float64})
    daily = panel_of(days, universe_of(days), context, sessions=sessions[4:], limits=limits)

    def end(column: pl.Expr) -> pl.Expr:
        return column.cast(pl.Datetime("us", "UTC")) + pl.duration(hours=21)

    bars = days.with_columns(bar_end=end(pl.col("session")))
    expected = pl.DataFrame({"session": sessions}).with_columns(bar_end=end(pl.col("session")))
    market = bar_market(
        bars, universe_of(days), expected, sessions=sessions[4:], length=timedelta(hours=6), limits=limits
    )
    assert market.per_session == 1
    scores = random_weights(seed, daily)
    by_bar, by_day = (own_targets(panel, scores, book) for panel in (market.panel, daily))
    # a beta of bars is of 60 sessions, that of days of 250: there are fewer than both here
    weights = bar_weights(by_bar.own, market, sleeves=3, overnight=True)
    np.testing.assert_array_equal(weights, weights_of(by_day, dict.fromkeys({day.year for day in sessions}, 3)))
    ours, theirs = run(market.panel, weights, at_bars(book, 1)), run(daily, weights, book)
    assert theirs.totals["turnover"][1:].sum() > 0
    for name, figures in theirs.totals.items():
        np.testing.assert_allclose(ours.totals[name], figures, rtol=1e-12, atol=1e-12, err_msg=name)
    for name, figures in {**theirs.fills, **theirs.positions}.items():
        found = {**ours.fills, **ours.positions}[name]
        np.testing.assert_allclose(found, figures, rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("name", CALENDARS)
@pytest.mark.parametrize("overnight", [False, True])
def test_a_slow_loop_has_the_same_equity(name: str, overnight: bool):
    calendar = CALENDARS[name]
    bars = random_hours(calendar, 7)
    market, predictions = market_of(calendar, bars), predictions_of(bars, 7)
    found = back_test_bars(market, predictions, BOOK, sleeves=3, overnight=overnight)
    slow = SlowBook(calendar, bars, predictions, overnight).equity()
    assert found.equity["traded"].sum() > BOOK.capital, "it traded"
    # volatilities are counted in parts of 2^-40, and impact follows them
    np.testing.assert_allclose(found.equity["equity"].to_numpy(), slow, rtol=1e-9)


class SlowBook:
    """BOOK in plain Python over dictionaries, one ticker and one cost after the other: K = 3 sleeves by the sign."""

    def __init__(
        self, calendar: TradingCalendar, bars: pl.DataFrame, predictions: pl.DataFrame, overnight: bool
    ) -> None:
        self.every = expected_bars(calendar, calendar.sessions, Interval.parse("1h")).rows()
        rows = bars.filter(pl.col("suspect").is_null() | (pl.col("suspect") != "no_price"))
        self.rows = {(row["ticker"], row["bar_end"]): row for row in rows.iter_rows(named=True)}
        self.score = {(row["ticker"], row["bar_end"]): row["score"] for row in predictions.iter_rows(named=True)}
        self.tickers, self.overnight = sorted(bars["ticker"].unique()), overnight
        self.first = next(k for k, (day, _) in enumerate(self.every) if day == calendar.sessions[1])
        self.per_session = max(sum(day == other for other, _ in self.every) for day in calendar.sessions)
        ends = [end for _, end in self.every]
        self.opens = [k == self.first or ends[k] - ends[k - 1] > timedelta(hours=1) for k in range(len(ends))]
        self.cash, self.shares, self.marks = BOOK.capital, dict.fromkeys(self.tickers, 0.0), dict[str, float]()
        self.advs: dict[tuple[str, int], float] = {}
        self.frozen, self.orders = dict.fromkeys(self.tickers, 0), dict[str, float]()

    def row(self, ticker: str, k: int) -> dict | None:
        return self.rows.get((ticker, self.every[k][1]))

    def trusts(self, ticker: str, k: int) -> bool:
        row = self.row(ticker, k)
        return row is not None and row["suspect"] is None

    def adv(self, ticker: str, k: int) -> float:
        """Value traded a session, over 20 of them."""
        if (ticker, k) not in self.advs:
            rows = [self.row(ticker, j) for j in range(max(0, k - 20 * self.per_session + 1), k + 1)]
            total = sum(round(row["close"] * row["volume"]) for row in rows if row)
            self.advs[ticker, k] = float(np.float32(total / 20))
        return self.advs[ticker, k]

    def volatility(self, ticker: str, k: int) -> float:
        """Of a session, from the returns of bars over 60 of them."""
        last, returns = None, []
        for j in range(k + 1):
            if (row := self.row(ticker, j)) is None or row["suspect"]:
                continue
            if last is not None and j > k - 60 * self.per_session:
                returns.append(row["close"] / last - 1)
            last = row["close"]
        known = len(returns) >= 20
        return float(np.float32(np.std(returns, ddof=1) * self.per_session**0.5)) if known else 0.05

    def fifth(self, ticker: str, k: int) -> int:
        """Among the members by the value traded, 0 the least traded."""
        ranked = sorted(self.adv(t, k) for t in self.tickers if self.row(t, k) and self.adv(t, k) > 0)
        return sum(self.adv(ticker, k) >= ranked[len(ranked) * part // 5] for part in range(1, 5)) if ranked else 0

    def own(self, ticker: str, k: int) -> float | None:
        """The target of bar k alone; None holds."""
        judged = [t for t in self.tickers if self.trusts(t, k) and (t, self.every[k][1]) in self.score]
        traded = sum(self.adv(t, k) > 0 for t in self.tickers)
        part = 1 / max(traded, len(judged), 1)
        return float(np.sign(self.score[ticker, self.every[k][1]])) * part if ticker in judged else None

    def target(self, ticker: str, k: int) -> float | None:
        start = self.first
        if not self.overnight:
            left = next((j for j in range(k + 1, len(self.every)) if self.opens[j]), len(self.every)) - 1 - k
            if left < 2:
                return None if left == 0 else 0.0
            start = max(j for j in range(self.first, k + 1) if self.opens[j])
        asked = [self.own(ticker, j) for j in range(max(start, k - 2), k + 1)]
        return None if asked[-1] is None else sum(each or 0.0 for each in asked) / 3

    def night(self, k: int) -> None:
        costs, nights = BOOK.costs, (self.every[k][0] - self.every[k - 1][0]).days
        self.cash += self.cash * (costs.debit if self.cash < 0 else costs.credit) * nights / 360
        for ticker in [t for t in self.tickers if self.shares[t] < 0]:
            mark = self.marks[ticker]
            hard = self.adv(ticker, k - 1) < costs.hard_adv or mark < costs.hard_price
            rate = costs.borrow_hard if hard else costs.borrow
            self.cash += self.shares[ticker] * mark * nights / 360 * rate

    def fill(self, ticker: str, k: int) -> None:
        row, ordered, costs = self.row(ticker, k), self.orders[ticker], BOOK.costs
        if not ordered or row is None or row["suspect"] or row["volume"] == 0:
            return
        adv, reference = self.adv(ticker, k - 1), self.marks[ticker]
        filled = float(np.sign(ordered)) * min(abs(ordered), costs.participation / self.per_session * adv / reference)
        value = abs(filled * row["open"])
        half = max(costs.half_spreads[self.fifth(ticker, k - 1)], costs.tick / 2 / reference)
        wide = (costs.open_factor if self.opens[k] else 1.0) * costs.spread_scale
        moved = self.volatility(ticker, k - 1) * (value / adv) ** 0.5 if adv else 0.0
        fee = max(value * costs.commission, costs.commission_minimum) if filled else 0.0
        fee += value * costs.sale_fee if filled < 0 else 0.0
        self.cash -= filled * row["open"] + value * (half * wide + moved) + fee
        self.shares[ticker] += filled

    def decide(self, ticker: str, k: int, worth: float) -> None:
        wanted, trusted = self.target(ticker, k), self.trusts(ticker, k)
        stuck = self.shares[ticker] and (wanted is None or not trusted)
        self.frozen[ticker] = self.frozen[ticker] + 1 if stuck else 0
        if wanted is None and self.frozen[ticker] > BOOK.limits.frozen_sessions:
            wanted = 0.0
        self.orders[ticker] = 0.0
        if trusted and wanted is not None:
            self.orders[ticker] = wanted * max(worth, 0.0) / self.marks[ticker] - self.shares[ticker]

    def equity(self) -> list[float]:
        """After each bar but the first."""
        path = []
        for k in range(self.first, len(self.every)):
            if k > self.first:
                self.night(k)
                for ticker in self.tickers:
                    self.fill(ticker, k)
            for ticker in self.tickers:
                if (row := self.row(ticker, k)) is not None and self.trusts(ticker, k):
                    self.marks[ticker] = row["close"]
            path.append(self.cash + sum(self.shares[t] * self.marks[t] for t in self.tickers if self.shares[t]))
            for ticker in self.tickers:
                self.decide(ticker, k, path[-1])
        return path[1:]


@pytest.mark.parametrize("name", CALENDARS)
def test_what_comes_later_changes_nothing_before(name: str):
    calendar = CALENDARS[name]
    bars = random_hours(calendar, 3)
    predictions, cut = predictions_of(bars, 3), calendar.closes[calendar.sessions[-3]] - timedelta(hours=2)
    whole, early = (
        back_test_bars(market_of(calendar, rows), said, BOOK, sleeves=3, overnight=False)
        for rows, said in (
            (bars, predictions),
            (bars.filter(pl.col("bar_end") <= cut), predictions.filter(pl.col("bar_end") <= cut)),
        )
    )
    before = pl.col("bar_end") <= cut
    assert whole.equity.filter(before).equals(early.equity.filter(before))
    kept = early.fills["bar_end"].min()
    fills = [each.fills.filter(pl.col("bar_end").is_between(kept, cut)) for each in (whole, early)]
    assert fills[0].height > 10
    assert fills[0].equals(fills[1])


def test_nothing_is_held_nor_ordered_while_an_exchange_is_closed():
    """Every bar comes, so that every order is filled: the half day and the rest at noon are flat as well."""
    generator = np.random.default_rng(1)
    for calendar in (NEW_YORK, TOKYO):
        bars = random_hours(calendar, 1)
        keys = expected_bars(calendar, calendar.sessions, Interval.parse("1h")).join(
            bars.select("ticker").unique(), how="cross"
        )
        close = generator.uniform(40, 41, keys.height)
        bars = keys.with_columns(
            **dict.fromkeys(("open", "high", "low", "close"), close), volume=1e9, suspect=pl.lit(None, pl.String)
        )
        book = replace(BOOK, costs=replace(BOOK.costs, participation=1.0))
        market, predictions = market_of(calendar, bars, book=book), predictions_of(bars, 1)
        rows = back_test_bars(market, predictions, book, sleeves=2, overnight=False).equity
        closed = rows.filter(pl.Series(market.left[1:] == 0))
        assert closed["names"].sum() == 0
        assert (closed["long"] + closed["short"]).sum() == 0
        assert rows["borrow"].sum() == 0, "no short lasts over a night"
        opening = rows.filter(pl.Series(market.panel.opening[1:]))
        assert opening.height >= len(calendar.sessions) - 2
        assert opening["ordered"].sum() == 0
        over = back_test_bars(market, predictions, book, sleeves=2, overnight=True).equity
        assert over.filter(pl.Series(market.panel.opening[1:]))["ordered"].sum() > 0
        assert over["borrow"].sum() > 0


def test_a_market_that_goes_on_is_not_sold_at_the_end_of_the_window():
    """The equity of a window is that of a longer one, up to its end."""
    bars = random_hours(ALWAYS, 4)
    every, sessions = expected_bars(ALWAYS, ALWAYS.sessions, Interval.parse("1h")), ALWAYS.sessions
    predictions, rows = predictions_of(bars, 4), []
    for last in (12, 16):
        seen = pl.col("session") <= sessions[last]
        market = bar_market(
            bars.filter(seen), universe_of(bars), every.filter(pl.col("session") <= sessions[last + 1]),
            sessions=sessions[1 : last + 1], length=LENGTH, limits=BOOK.limits,
        )  # fmt: skip
        assert market.goes_on
        rows.append(back_test_bars(market, predictions.filter(seen), BOOK, sleeves=3, overnight=False).equity)
    assert rows[0].equals(rows[1].filter(pl.col("session") <= sessions[12]))
    assert rows[0]["names"][-1] > 0


def booked_of(calendar: TradingCalendar, seed: int = 5) -> tuple[BarMarket, BookedBars]:
    bars = random_hours(calendar, seed)
    market = market_of(calendar, bars)
    return market, back_test_bars(market, predictions_of(bars, seed), BOOK, sleeves=3, overnight=False)


@pytest.mark.parametrize("name", CALENDARS)
def test_gains_less_costs_are_the_change_of_equity(name: str):
    """Bar by bar, session by session, and in the fills of the newest sessions."""
    market, booked = booked_of(CALENDARS[name])
    for each in (booked, *baselines(market, BOOK)):
        rows = each.equity
        explained = rows.select(
            pl.sum_horizontal("price_gain", "ending", "interest")
            - pl.sum_horizontal("spread", "impact", "commission", "borrow")
        ).to_series()
        path = np.append(each.book.capital, rows["equity"].to_numpy())
        np.testing.assert_allclose(np.diff(path), explained, atol=1e-6)
        last = rows.group_by("session", maintain_order=True).agg(pl.col("equity").last())["equity"].to_numpy()
        cell = next(cell for cell in each.cells if cell.computed.variant == BASE)
        np.testing.assert_allclose(np.cumprod(1 + cell.net) * each.book.capital, last, rtol=1e-12)
        of_fills = each.fills.group_by("bar_end").agg(pl.col("spread", "impact", "commission").sum()).sort("bar_end")
        same = rows.filter(pl.col("bar_end").is_in(of_fills["bar_end"].implode()))
        for cost in ("spread", "impact", "commission"):
            np.testing.assert_allclose(of_fills[cost], same[cost], atol=1e-9)


def test_dearer_spreads_and_later_fills_are_back_tests_of_their_own():
    _, booked = booked_of(ALWAYS)
    by_variant = {cell.computed.variant: cell for cell in booked.cells}
    assert set(by_variant) == {
        BASE,
        *(f"spread x{scale:g}" for scale in SCALES if scale != 1),
        "fill at the second open",
    }
    totals = [float(np.prod(1 + by_variant[name].net)) for name in ("spread x0", BASE, "spread x2", "spread x4")]
    assert totals == sorted(totals, reverse=True)
    assert len({cell.computed.trial for cell in booked.cells}) == len(booked.cells)


def test_baselines_buy_once_and_in_each_session():
    """Without a cost, on bars that all come: a loop over prices alone."""
    generator, tickers = np.random.default_rng(2), ["A", "B"]
    keys = expected_bars(ALWAYS, ALWAYS.sessions, Interval.parse("1h"))
    close = np.exp(np.cumsum(generator.normal(0, 0.01, (keys.height, 2)), axis=0)) * 50
    bars = keys.join(pl.DataFrame({"ticker": tickers}), how="cross", maintain_order="left").with_columns(
        **{price: close.ravel() for price in ("open", "high", "low", "close")},
        volume=1e12,
        suspect=pl.lit(None, pl.String),
    )
    free = replace(BOOK.costs, commission=0.0, commission_minimum=0.0, sale_fee=0.0, spread_scale=0.0, impact=0.0)
    book = replace(BOOK, costs=replace(free, credit=0.0, debit=0.0))
    market = market_of(ALWAYS, bars, book=book)
    hold, equal = (each.equity["equity"].to_numpy() for each in baselines(market, book))
    own = close[24:]  # the first day is of the look-back
    for found, moments in ((hold, [0]), (equal, range(0, len(own), 24))):
        cash, shares, worth = book.capital, np.zeros(2), []
        wanted = None
        for i, price in enumerate(own):
            if wanted is not None:
                cash -= ((wanted - shares) * price).sum()
                shares, wanted = wanted, None
            worth.append(cash + (shares * price).sum())
            if i in moments:
                wanted = worth[-1] / 2 / price
        np.testing.assert_allclose(found, worth[1:], rtol=1e-12)


def test_a_book_by_sign_holds_equal_weights_of_every_ticker():
    bars = random_hours(ALWAYS, 9)
    panel = market_of(ALWAYS, bars).panel
    scores = scores_of(predictions_of(bars, 9).drop("session").rename({"bar_end": "session"}), panel, BOOK)
    own = own_targets(panel, scores, BOOK).own
    judged = panel.trusted & ~np.isnan(scores)
    assert (np.isnan(own) == ~judged).all()
    parts = np.maximum((panel.adv > 0).sum(axis=1, keepdims=True), judged.sum(axis=1, keepdims=True)).clip(1)
    np.testing.assert_allclose(own[judged], (np.sign(scores) / parts)[judged])
    assert (parts.ravel() > judged.sum(axis=1)).any(), "what is held back keeps its part"
