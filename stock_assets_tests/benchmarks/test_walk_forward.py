from datetime import date

import numpy as np
import polars as pl

from benchmarks.walk_forward import compared, lagged
from stock_assets.market.calendar import trading_calendar

FRIDAY, MONDAY, TUESDAY = date(2019, 7, 5), date(2019, 7, 8), date(2019, 7, 9)
HOLIDAY = date(2019, 7, 4)


def test_a_lagged_series_has_each_value_a_session_later_and_the_others_are_left_alone():
    rows = [("SPY", day, 1.0) for day in (FRIDAY, MONDAY, TUESDAY)]
    rows += [("^VIX", HOLIDAY, 9.0), ("^VIX", FRIDAY, 10.0), ("^VIX", MONDAY, 11.0), ("^VIX", TUESDAY, 12.0)]
    indices = pl.DataFrame(rows, ["ticker", "date", "close"], orient="row")
    shifted = lagged(indices)
    assert shifted.filter(pl.col("ticker") == "SPY").equals(indices[:3])
    vix = shifted.filter(pl.col("ticker") == "^VIX").sort("date")
    assert vix.select("date", "close").rows() == [(MONDAY, 10.0), (TUESDAY, 11.0)]


def test_two_stores_are_compared_on_the_rows_that_both_have():
    days = trading_calendar("XNYS", date(2018, 1, 2), date(2019, 12, 31)).sessions
    rng, tickers = np.random.default_rng(0), 6
    sessions = [day for day in days for _ in range(tickers)]
    rows = pl.DataFrame({"ticker": [f"T{i}" for i in range(tickers)] * len(days), "session": sessions})
    label = rng.integers(-1, 2, rows.height)
    right = np.where(label[:, None] == np.array([-1, 0, 1]), 0.5, 0.25)

    def store(probabilities: np.ndarray) -> pl.DataFrame:
        names = ("p_sell", "p_hold", "p_buy")
        columns = {name: probabilities[:, i] for i, name in enumerate(names)}
        return rows.with_columns(label=pl.Series(label), forward_return_1=pl.Series(0.01 * label), **columns)

    flat = np.tile([0.2, 0.4, 0.4], (rows.height, 1))
    answer = compared(store(right), store(flat).filter(pl.col("ticker") != "T5"), variants=20)
    assert f"on {rows.height * 5 // 6:,} rows" in answer
    ours, theirs, difference = (line.split("|")[2:5] for line in answer.strip().splitlines()[-3:])
    assert ours[0].strip() == f"{np.log(2):.4f}"
    kept = label[np.arange(len(label)) % tickers != 5]
    assert abs(float(theirs[0]) - -np.log(np.where(kept == -1, 0.2, 0.4)).mean()) < 2e-3  # the mean of two years
    low, high = (float(value) for value in difference[0].split("[")[1].rstrip("] ").split(","))
    assert low < float(ours[0]) - float(theirs[0]) < high < 0
