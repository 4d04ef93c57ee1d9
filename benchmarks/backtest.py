"""A back-test: seconds and memory of one book, against bt on a smaller market, and of a frontier of many accounts.

    python -m benchmarks.backtest [--small]

The markets are generated arrays: random walks with splits, dividends and a book that holds the top tenth of persistent
scores. bt books the fills that the ledger made for a book that trades each of 100 tickers in each of 500 sessions, long
and short, and both have the same equity. Seconds are those of the process, the best of three, so that they hold on a
busy machine.
"""

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from functools import partial

import numpy as np

from benchmarks.common import Target, table, targets
from stock_assets.trading.books import LONG_ONLY, Costs
from stock_assets.trading.ledger import DAYS_OF_A_YEAR, Run, opened, run
from stock_assets.trading.measures import FIFTHS
from stock_assets.trading.panel import Events, Panel

REAL, LARGE, OF_BT = (2516, 498), (5032, 5000), (500, 100)
SCALES, CAPITALS, SLEEVES = (0.0, 1.0, 2.0, 4.0), (1e6, 1e7, 1e8, 1e9), (1, 3, 7, 14)
TIMES, BORROW = 3, 0.03
BOOK = replace(LONG_ONLY, capital=1e8)


def generated_panel(sessions: int, tickers: int, seed: int = 0) -> Panel:
    """Random walks as traded, with a dividend a quarter and a split now and then."""
    generator = np.random.default_rng(seed)
    shape = sessions, tickers

    def events(share: float, value: float) -> Events:
        counts = generator.binomial(tickers, share, sessions)
        at = np.concatenate([generator.choice(tickers, count, replace=False) for count in counts])
        starts = np.concatenate([[0], np.cumsum(counts)])
        return Events(starts, at.astype(np.int32), np.full(len(at), value))

    splits = events(1e-4, 2.0)
    close = generator.normal(0.0, 0.015, shape)
    rows = np.repeat(np.arange(sessions), np.diff(splits.starts))
    close[rows, splits.tickers] -= np.log(splits.values)
    close = 50 * np.exp(np.cumsum(close, axis=0, out=close), out=close)
    adv = np.sort(np.exp(generator.normal(18, 1, tickers))).astype(np.float32)
    fifth = (np.arange(tickers) * FIFTHS // tickers).astype(np.int8)
    zeros = np.zeros(shape, np.int8)
    return Panel(
        sessions=tuple(date(2000, 1, 3) + timedelta(t) for t in range(sessions)),
        tickers=tuple(f"T{i:04d}" for i in range(tickers)),
        nights=np.ones(sessions, np.int64),
        open=close * generator.uniform(0.995, 1.005, shape),
        close=close,
        dividends=events(1 / 63, 0.3),
        splits=splits,
        endings=Events(np.zeros(sessions + 1, np.int64), np.zeros(0, np.int32), np.zeros(0)),
        refusal=zeros,
        suspect=zeros,
        suspect_reasons=("",),
        member=np.ones(shape, bool),
        adv=np.broadcast_to(adv, shape).copy(),
        volatility=np.full(shape, 0.015, np.float32),
        beta=np.ones(shape, np.float32),
        fifth=np.broadcast_to(fifth, shape).copy(),
        sector=np.zeros(tickers, np.int16),
        sectors=("",),
        market=np.zeros(sessions),
        equal_weight=np.zeros(sessions),
        opening=np.ones(sessions, bool),
    )


def generated_weights(sessions: int, tickers: int, seed: int = 1) -> np.ndarray:
    """float64 [T, N]: the top tenth of scores that keep .97 of themselves from session to session."""
    generator = np.random.default_rng(seed)
    scores, positions = np.zeros(tickers), tickers // 10
    weights = np.zeros((sessions, tickers))
    for row in weights:
        scores = 0.97 * scores + generator.normal(0, 0.24, tickers)
        row[np.argpartition(scores, -positions)[-positions:]] = 1 / positions
    return weights


def seconds_of(compute: Callable[[], Run]) -> tuple[Run, float, float]:
    """(result, seconds of the process, seconds by the clock), the best of `TIMES`."""
    process, clock = [], []
    for _ in range(TIMES):
        result = None  # what is kept of one run is given free before the next
        starts = time.process_time(), time.perf_counter()
        result = compute()
        process.append(time.process_time() - starts[0])
        clock.append(time.perf_counter() - starts[1])
    return result, min(process), min(clock)


def seconds_of_bt() -> float:
    """Seconds of the process in which bt books the ledger's fills. Raises AssertionError where equities differ."""
    import bt
    import pandas as pd

    panel = generated_panel(*OF_BT)
    costs = Costs(participation=1e9, borrow=BORROW, borrow_hard=BORROW)
    book = replace(BOOK, costs=costs, whole_shares=False)
    weights = np.random.default_rng(2).normal(0, 1 / OF_BT[1], OF_BT)
    result = run(panel, weights, book)
    dates, names = pd.DatetimeIndex(pd.to_datetime(list(panel.sessions))), list(panel.tickers)
    days = [panel.day(t) for t in range(len(dates))]
    fills = {name: values[result.fills["filled"] != 0] for name, values in result.fills.items()}
    price = fills["price"] + (fills["spread"] + fills["impact"]) / fills["filled"]
    fees = dict(
        zip(zip(fills["filled"].tolist(), price.tolist(), strict=True), fills["commission"].tolist(), strict=True)
    )
    at = [dates[fills["t"].astype(int)], np.array(names)[fills["ticker"].astype(int)]]
    index = pd.MultiIndex.from_arrays(at, names=["Date", "Security"])
    prices, dividends, splits = (
        pd.DataFrame(np.stack([getattr(day, name) for day in days]), index=dates, columns=names)
        for name in ("close", "dividend", "split_ratio")
    )
    strategy = bt.Strategy(
        "book", [bt.algos.CorporateActions(dividends, splits), bt.algos.ReplayTransactions("transactions")],
        children=[bt.CouponPayingSecurity(name, fixed_income=False) for name in names],
    )  # fmt: skip
    transactions = pd.DataFrame({"quantity": fills["filled"], "price": price}, index=index).sort_index()
    backtest = bt.Backtest(
        strategy,
        prices,
        initial_capital=book.capital,
        integer_positions=False,
        commissions=lambda quantity, price: fees[quantity, price],
        additional_data={
            "transactions": transactions,
            "bidoffer": prices * 0,
            "coupons": prices * 0,
            "cost_short": prices * BORROW / DAYS_OF_A_YEAR,
        },
    )
    start = time.process_time()
    backtest.run()
    seconds = time.process_time() - start
    np.testing.assert_allclose(backtest.strategy.values.reindex(dates), result.totals["equity"], rtol=1e-12)
    return seconds


def seconds_of_frontier() -> tuple[int, float]:
    """(points, seconds of the process a point): spread x capital x K of the size of the real prices, in one run."""
    panel, own = generated_panel(*REAL), generated_weights(*REAL)
    sums = np.concatenate([np.zeros((1, own.shape[1])), np.cumsum(own, axis=0)])
    rows = np.arange(1, len(own) + 1)
    first = {k: np.maximum(rows - k, 0) for k in SLEEVES}
    targets_by_sleeves = [(sums[rows] - sums[first[k]]) / (rows - first[k])[:, None] for k in SLEEVES]
    weights = np.stack(targets_by_sleeves, axis=1)[:, :, None, None, :]
    capitals = np.broadcast_to(np.array(CAPITALS)[:, None], (len(SLEEVES), len(CAPITALS), len(SCALES)))
    scales = np.array(SCALES)[:, None]
    start = time.process_time()
    run(panel, weights, BOOK, account=opened(capitals, REAL[1]), spread_scale=scales, details=False)
    points = len(SLEEVES) * len(CAPITALS) * len(SCALES)
    return points, (time.process_time() - start) / points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="without 5,000 tickers x 5,032 sessions")
    options = parser.parse_args()
    rows, seconds = [], {}
    for size in (REAL,) if options.small else (REAL, LARGE):
        panel, weights = generated_panel(*size), generated_weights(*size)
        for details in (False, True):
            result, process, clock = seconds_of(partial(run, panel, weights, BOOK, details=details))
            seconds[size] = max(seconds.get(size, 0.0), process)
            detail = "with fills and positions" if details else "equity alone"
            nanoseconds = process / (size[0] * size[1]) * 1e9
            rows.append((f"{size[1]:,} x {size[0]:,}, {detail}", process, clock, nanoseconds, len(result.fills["t"])))
            del result
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    of_bt = seconds_of_bt()
    rows.append((f"bt, {OF_BT[1]} x {OF_BT[0]}", of_bt, "–", of_bt / (OF_BT[0] * OF_BT[1]) * 1e9, OF_BT[0] * OF_BT[1]))
    points, a_point = seconds_of_frontier()
    print("Generated markets, tickers x sessions; the book holds the top tenth of the tickers.\n")
    header = ("back-test", "s of a core", "s by the clock", "ns per name and day", "fills")
    print(table(header, rows))
    per_name_and_day = of_bt / (OF_BT[0] * OF_BT[1])
    times = {
        size: per_name_and_day / (process_seconds / (size[0] * size[1])) for size, process_seconds in seconds.items()
    }
    large = [] if options.small else [
        Target("5,000 x 5,032, s", seconds[LARGE], 10),
        Target("5,000 x 5,032, peak memory of the process, GB", memory, 2),
        Target("5,000 x 5,032: times as fast as bt per name and day", times[LARGE], 500, at_least=True),
    ]  # fmt: skip
    print(f"498 x 2,516 is booked {times[REAL]:,.0f} times as fast as by bt per name and day.\n")
    print(
        targets(
            Target("498 x 2,516, s", seconds[REAL], 1),
            *large,
            Target(f"a frontier of {points} accounts of 498 x 2,516, s a point", a_point, 0.1),
        )
    )


if __name__ == "__main__":
    main()
