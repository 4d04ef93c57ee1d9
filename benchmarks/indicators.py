"""Indicators and labels: the reference study's pandas loop against ours, same numbers.

    python benchmarks/indicators.py [--tickers 100] [--prices FILE]

The reference is what a pandas study of 2020 does: take the tickers one after the other out of one frame,
compute each indicator with a vectorised rolling or exponential mean, then label row by row and day by day with
`.iloc`. Its indicators are as fast as pandas is; its labels are slow, as in the study. Ours are
`classic_indicators` and `barrier_labels`, which also sort, check and date what they return. Both get the
same tickers (those without missing bars) in memory; reading them is not timed. FILE is a Parquet of ticker,
date, close and adj_close; without one, and without the folder of real data, prices are generated.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import polars as pl

from stock_assets.features.indicators import FIRST_BAR, INDICATORS, classic_indicators
from stock_assets.features.labels import barrier_labels
from stock_assets.setting_values import LabelRule

DATA = Path(os.environ.get("REAL_DATA_DIR", Path(__file__).parent.parent.parent / "shared" / "data"))
RULE = LabelRule()
HORIZON, BUY, SELL = RULE.horizon, RULE.buy_threshold, RULE.sell_threshold

Result = TypeVar("Result")


class Measured(NamedTuple):
    part: str
    reference: float
    ours: float

    def row(self) -> str:
        return f"| {self.part} | {self.reference:.2f} | {self.ours:.2f} | {self.reference / self.ours:.1f} |"


def reference_indicators(data: pd.DataFrame, tickers: Sequence[str]) -> list[pd.DataFrame]:
    """One frame of prices and indicators per ticker."""
    frames = []
    for ticker in tickers:
        df = data[data["ticker"] == ticker].copy()
        price: Any = df["adj_close"]
        for k in (5, 10, 25, 50):
            df[f"ma_{k}"] = price.rolling(k).mean()
        for k in (10, 25, 50):
            df[f"std_{k}"] = price.rolling(k).std()
        for k in (25, 50):
            df[f"bb_upper_{k}"] = df[f"ma_{k}"] + 2 * df[f"std_{k}"]
            df[f"bb_lower_{k}"] = df[f"ma_{k}"] - 2 * df[f"std_{k}"]
        delta = price.diff()
        gain, loss = delta.clip(lower=0), -delta.clip(upper=0)
        for k in (5, 10, 25, 50):
            df[f"rsi_{k}"] = 100 - 100 / (1 + gain.ewm(span=k).mean() / loss.ewm(span=k).mean())
        for a, b in ((5, 10), (5, 25), (5, 50), (10, 25), (10, 50), (25, 50)):
            fast, slow = price.ewm(span=a, adjust=False).mean(), price.ewm(span=b, adjust=False).mean()
            df[f"macd_{a}_{b}"] = fast - slow
        for k in (5, 10, 25, 50):
            df[f"momentum_{k}"] = price - price.shift(k)
        frames.append(df)
    return frames


def reference_labels(frames: Sequence[pd.DataFrame]) -> list[list[int]]:
    """The labels of each ticker's rows with a whole horizon ahead."""
    all_labels = []
    for df in frames:
        price, labels = df["adj_close"], []
        for t in range(len(df) - HORIZON):
            label = 0
            for i in range(1, HORIZON + 1):
                change = price.iloc[t + i] / price.iloc[t] - 1
                if change > BUY:
                    label = 1
                    break
                if change < -SELL:
                    label = -1
                    break
            labels.append(label)
        all_labels.append(labels)
    return all_labels


def assert_same(
    frames: Sequence[pd.DataFrame], marks: Sequence[Sequence[int]], own_frame: pl.DataFrame, labelled_bars: pl.DataFrame
) -> None:
    """Prices to 1e-9 of the day's price, RSI to 1e-9 of 100; labels but for float ties at a threshold."""
    ours_of = own_frame.partition_by("ticker", as_dict=True)
    labels_of = labelled_bars.partition_by("ticker", as_dict=True)
    different = 0
    for df, expected_marks in zip(frames, marks, strict=True):
        ticker = (df["ticker"].iloc[0],)
        own_rows, expected = ours_of[ticker], df.iloc[FIRST_BAR - 1 :]
        adjusted_close, close = expected["adj_close"].to_numpy(), expected["close"].to_numpy()
        for name in INDICATORS:
            is_rsi = name.startswith("rsi")
            reference_values = expected[name].to_numpy() * (1 if is_rsi else close / adjusted_close)
            error = np.abs(own_rows[name].to_numpy() - reference_values) / (100 if is_rsi else close)
            if is_rsi:  # of a frozen quote ours is 50, pandas' the ratio of two remnants
                error = error[(own_rows[name] != 50.0).to_numpy()]
            assert error.max() < 1e-9, f"{ticker[0]} {name} is off by {error.max()}"
        different += int((labels_of[ticker]["label"].to_numpy() != np.array(expected_marks)).sum())
    assert different <= 10, f"{different} labels differ"


def read_prices(path: Path) -> pl.DataFrame:
    """ticker, session, close and adj_close of the tickers that have every session of the file, sorted."""
    prices = pl.read_parquet(path).select("ticker", pl.col("date").cast(pl.Date).alias("session"), "close", "adj_close")
    whole = pl.len().over("ticker") == pl.col("session").n_unique()
    return prices.filter(whole).sort("ticker", "session")


def generate_prices(tickers: int = 498, sessions: int = 2516) -> pl.DataFrame:
    """The same columns of random walks."""
    days = [date(2010, 1, 4) + timedelta(days=i) for i in range(sessions)]
    close = 50 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.015, (tickers, sessions)), axis=1))
    keys = {"ticker": [f"T{i:03d}" for i in range(tickers) for _ in days], "session": days * tickers}
    return pl.DataFrame(keys | {"close": close.ravel(), "adj_close": close.ravel()})


def timed(compute: Callable[[], Result]) -> tuple[Result, float]:
    begin = time.perf_counter()
    return compute(), time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickers", type=int, default=100, help="how many, for both sides (default: 100)")
    parser.add_argument("--prices", type=Path, default=DATA / "yahoo_sp500_2010_2019.parquet")
    options = parser.parse_args()

    source = options.prices.name if options.prices.exists() else "generated prices"
    prices = read_prices(options.prices) if options.prices.exists() else generate_prices()
    tickers = prices["ticker"].unique().sort().head(options.tickers)
    prices = prices.filter(pl.col("ticker").is_in(tickers.implode()))
    data = prices.to_pandas()
    bars = prices.with_columns(
        (pl.col("adj_close") / pl.col("adj_close").shift(1).over("ticker") - 1).alias("total_return")
    )

    frames, reference_seconds = timed(lambda: reference_indicators(data, tickers.to_list()))
    marks, reference_label_seconds = timed(lambda: reference_labels(frames))
    own_frame, our_seconds = timed(lambda: classic_indicators(bars))
    labelled_bars, our_label_seconds = timed(lambda: barrier_labels(bars, RULE))
    assert_same(frames, marks, own_frame, labelled_bars)

    print(f"{tickers.len()} tickers, {prices.height:,} rows of {source}; equal to 1e-9 of the price.\n")
    print("| part | pandas loop, s | stock_assets, s | times faster |")
    print("|---|---|---|---|")
    for measurement in (
        Measured(f"{len(INDICATORS)} indicators", reference_seconds, our_seconds),
        Measured("labels", reference_label_seconds, our_label_seconds),
        Measured("together", reference_seconds + reference_label_seconds, our_seconds + our_label_seconds),
    ):
        print(measurement.row())


if __name__ == "__main__":
    main()
