"""The ledger against two libraries that book trades in other ways: bt and backtrader."""

from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pytest

from stock_assets.trading.ledger import Run, run
from stock_assets.trading.panel import Panel
from stock_assets_tests.trading.random_market import (
    COSTLY,
    COSTLY_BOOK,
    FREE,
    Frames,
    book,
    panel,
    random_bars,
    random_weights,
)

SESSIONS, TICKERS = 100, 16


@pytest.fixture(scope="module")
def booked() -> Run:
    """A long-short book whose listings split, pay, halt and end while they are held; no interest, which bt has not."""
    costs = replace(COSTLY, borrow=0.03, borrow_hard=0.1, credit=0.0, debit=0.0)
    whole = panel(random_bars(11, SESSIONS, TICKERS))
    return run(whole, random_weights(11, whole) / 4, replace(COSTLY_BOOK, costs=costs, whole_shares=False))


def marks_of(panel: Panel) -> np.ndarray:
    """float64 [T, N]: the last trusted close, after the splits since; before the first one that one."""
    closes = np.where(panel.trusted, panel.close, np.nan)
    splits = np.stack([panel.day(t).split_ratio for t in range(len(panel.sessions))])
    growth = np.cumprod(splits, axis=0)
    frame = pd.DataFrame(closes * growth).ffill().bfill().fillna(1.0)
    return frame.to_numpy() / growth


def equity_of_bt(result: Run, frames: Frames) -> np.ndarray:
    """The equity that bt has after the same fills, with its own accounts of everything else."""
    import bt

    whole, costs = result.panel, result.book.costs
    dates, tickers = pd.DatetimeIndex(pd.to_datetime(list(whole.sessions))), list(whole.tickers)
    marks = pd.DataFrame(marks_of(whole), index=dates, columns=tickers)
    days = [whole.day(t) for t in range(len(dates))]

    def frame(rows: list[np.ndarray]) -> pd.DataFrame:
        return pd.DataFrame(np.stack(rows), index=dates, columns=tickers)

    hard = [
        (day.adv_before < costs.hard_adv) | (row < costs.hard_price)
        for day, row in zip(days[1:], marks.to_numpy(), strict=False)
    ]
    nightly = [
        np.where(is_hard, costs.borrow_hard, costs.borrow) * day.nights / 360
        for is_hard, day in zip(hard, days[1:], strict=True)
    ]
    # bt books the carry of a night at its first update of the session after it, from the row of the session before
    borrow = marks * np.stack([*nightly, np.zeros(len(tickers))])

    transactions, fees = [], {}
    for row in frames.fills.filter(pl.col("filled") != 0).iter_rows(named=True):
        price = row["price"] + (row["spread"] + row["impact"]) / row["filled"]
        transactions.append((pd.Timestamp(row["session"]), row["ticker"], row["filled"], price))
        fees[row["filled"], price] = row["commission"]
    held = frames.positions.filter(pl.col("ending") != 0)
    for row in held.iter_rows(named=True):  # an end is a sale at the last price, without a fee
        t, i = whole.sessions.index(row["session"]), whole.tickers.index(row["ticker"])
        before = frames.positions.filter(pl.col("session") == whole.sessions[t - 1], pl.col("ticker") == row["ticker"])
        shares = before["shares"][0] * days[t].split_ratio[i]
        price = marks.iloc[t, i] * (1 + costs.ending)
        transactions.append((pd.Timestamp(row["session"]), row["ticker"], -shares, price))
        fees[-shares, price] = 0.0
    table = pd.DataFrame(transactions, columns=["Date", "Security", "quantity", "price"]).set_index(
        ["Date", "Security"]
    )
    strategy = bt.Strategy(
        "book",
        [bt.algos.CorporateActions(frame([day.dividend for day in days]), frame([day.split_ratio for day in days])),
         bt.algos.ReplayTransactions("transactions")],
        children=[bt.CouponPayingSecurity(ticker, fixed_income=False) for ticker in tickers],
    )  # fmt: skip
    backtest = bt.Backtest(
        strategy,
        marks,
        initial_capital=result.book.capital,
        integer_positions=False,
        commissions=lambda quantity, price: fees[quantity, price],
        additional_data={
            "transactions": table.sort_index(),
            "bidoffer": marks * 0,
            "coupons": marks * 0,
            "cost_short": borrow,
        },
    )
    backtest.run()
    return backtest.strategy.values.reindex(dates).to_numpy()


def test_bt_has_the_same_equity(booked: Run):
    frames = Frames.of(booked)
    positions, splits = frames.positions, booked.panel.splits
    assert frames.fills.filter(pl.col("filled") != 0).height > 400
    assert positions.filter(pl.col("dividend") > 0).height > 10
    assert positions.filter(pl.col("dividend") < 0).height > 10, "a short that pays"
    assert positions.filter(pl.col("ending") != 0).height > 2
    assert len(splits.values) > 10
    for name in ("spread", "impact", "commission", "borrow"):
        assert booked.totals[name].sum() > 0
    np.testing.assert_allclose(frames.equity["equity"].to_numpy(), equity_of_bt(booked, frames), rtol=1e-12)


def test_backtrader_fills_at_the_same_opens():
    import backtrader

    # it knows no absent bar, no split and no dividend
    keys = (
        random_bars(5, 60, 4)
        .select("session")
        .unique()
        .join(pl.DataFrame({"ticker": ["A", "B", "C", "D"]}), how="cross")
    )
    generator = np.random.default_rng(5)
    usual = {"high": 90.0, "low": 40.0, "volume": 1e9, "dividend": 0.0, "split_ratio": 1.0, "total_return": 0.0}
    bars = keys.sort("session", "ticker").with_columns(
        pl.Series("open", generator.uniform(50, 60, keys.height)),
        pl.Series("close", generator.uniform(50, 60, keys.height)),
        *(pl.lit(value).alias(name) for name, value in usual.items()),
        is_member=pl.lit(True),
        suspect=pl.lit(None, pl.String),
    )
    whole = panel(bars)
    weights = np.nan_to_num(random_weights(5, whole))
    result = run(whole, weights, book(replace(FREE, commission=0.001)))
    fills = Frames.of(result).fills
    orders = {
        (session, ticker): ordered for session, ticker, ordered in fills["session", "ticker", "ordered"].iter_rows()
    }

    values: list[float] = []

    class Replayed(backtrader.Strategy):
        def next(self) -> None:
            t = len(self) - 1
            values.append(self.broker.getvalue() - 1e9)
            for data in self.datas:
                following = whole.sessions[t + 1] if t + 1 < len(whole.sessions) else None
                shares = orders.get((following, data._name), 0.0)
                if shares:
                    (self.buy if shares > 0 else self.sell)(data=data, size=abs(shares))

    cerebro = backtrader.Cerebro()
    for ticker in whole.tickers:
        prices = bars.filter(pl.col("ticker") == ticker).select("session", "open", "high", "low", "close", "volume")
        frame = prices.to_pandas().set_index("session")
        frame.index = pd.DatetimeIndex(frame.index)
        cerebro.adddata(backtrader.feeds.PandasData(dataname=frame), name=ticker)
    cerebro.addstrategy(Replayed)
    cerebro.broker.setcash(1e9 + result.book.capital)  # nothing is rejected
    cerebro.broker.setcommission(0.001)
    cerebro.run()
    np.testing.assert_allclose(result.totals["equity"], values, rtol=1e-9)
