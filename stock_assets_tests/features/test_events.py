from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from stock_assets.features.events import AHEAD, ALONE_WITHIN, FEATURES, LAGS, LARGE, burst_sizes, bursts, event_columns
from stock_assets_tests.features.generators import calendar


def panel(sessions: int = 200, tickers: int = 4, burst_at: int | None = None) -> pl.DataFrame:
    """Quiet rows, `burst_at` the bar at which T0 trades far more, and wider, than usual."""
    rng = np.random.default_rng(0)
    days = calendar(sessions)
    parts = []
    for i in range(tickers):
        ratio, volatility = rng.normal(0, 0.1, sessions), -4 + rng.normal(0, 0.05, sessions)
        if i == 0 and burst_at is not None:
            ratio[burst_at], volatility[burst_at] = 2.0, -2.5
        parts.append(
            pl.DataFrame(
                {
                    "ticker": [f"T{i}"] * sessions,
                    "session": days,
                    "history": [i] * sessions,
                    "bar": range(1, sessions + 1),
                    "volume_ratio": ratio,
                    "vol_total_1": volatility,
                    "suspect": pl.Series([None] * sessions, dtype=pl.String),
                }
            )
        )
    return pl.concat(parts)


def of_t0(rows: pl.DataFrame) -> list[date]:
    return bursts(burst_sizes(rows)).filter((pl.col("ticker") == "T0") & (pl.col("burst") > 3))["session"].to_list()


def test_a_joint_burst_of_volume_and_range_is_an_event():
    assert of_t0(panel(burst_at=120)) == [calendar(200)[120]]
    assert of_t0(panel()) == []


def test_a_burst_of_every_ticker_is_none():
    rows = panel(burst_at=120)
    of_all = [120 + 200 * i for i in range(4)]
    rows = rows.with_columns(
        volume_ratio=pl.when(pl.int_range(pl.len()).is_in(of_all)).then(2.0).otherwise("volume_ratio"),
        vol_total_1=pl.when(pl.int_range(pl.len()).is_in(of_all)).then(-2.5).otherwise("vol_total_1"),
    )
    assert of_t0(rows) == []


@pytest.mark.parametrize(("after", "known"), [(ALONE_WITHIN - 1, False), (ALONE_WITHIN, True)])
def test_an_event_is_known_once_so_many_bars_came_after_it(after, known):
    rows = panel(burst_at=120).filter(pl.col("session") <= calendar(200)[120 + after])
    assert of_t0(rows) == ([calendar(200)[120]] if known else [])


def test_a_suspect_bar_is_no_event():
    rows = panel(burst_at=120).with_columns(
        suspect=pl.when(pl.int_range(pl.len()) == 120).then(pl.lit("absurd return"))
    )
    assert of_t0(rows) == []


def test_every_event_is_the_largest_around_it_and_large():
    found = bursts(burst_sizes(panel(burst_at=120)))
    assert (found["burst"] > LARGE).all()
    gaps = found.sort("ticker", "session").with_columns(gap=pl.col("session").diff().over("ticker"))["gap"].drop_nulls()
    assert (gaps > timedelta(days=ALONE_WITHIN)).all()


def test_columns_equal_a_search_over_all_events():
    rng = np.random.default_rng(1)
    days = [date(2018, 1, 1) + timedelta(days=int(d)) for d in range(0, 900, 3)]
    rows = pl.DataFrame({"ticker": ["A"] * len(days) + ["B"] * len(days), "session": days * 2})
    when = rng.choice(900, 60, replace=False)
    events = pl.DataFrame(
        {
            "ticker": ["A"] * 30 + ["B"] * 30,
            "session": [date(2018, 1, 1) + timedelta(days=int(d)) for d in when],
            "burst": rng.uniform(1.2, 6, 60),
        }
    )
    found = rows.with_columns(event_columns(rows, events))
    for row in found.sample(60, seed=0).iter_rows(named=True):
        own = events.filter(pl.col("ticker") == row["ticker"])
        for lag in LAGS:
            ahead = (pl.col("session") + timedelta(days=lag)).is_between(
                row["session"] + timedelta(days=AHEAD[0]), row["session"] + timedelta(days=AHEAD[1])
            )
            assert row[f"event_{lag}"] == (own.filter(ahead)["burst"].max() or 0.0)


def test_no_rows_have_no_events():
    assert [column.name for column in event_columns(panel().clear(), bursts(burst_sizes(panel())))] == list(FEATURES)
