from datetime import date

import polars as pl

from benchmarks.walk_forward import lagged

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
