"""No side feature sees the future: every registered group, on made-up rows of every side input that it reads."""

from datetime import date
from functools import cache

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.features.side_features import GROUPS, SideColumn, SideFrames, SideGroup, computed
from stock_assets.features.tables import SIDE_GROUPS
from stock_assets.market.calendar import TradingCalendar, trading_calendar
from stock_assets.side_inputs.as_of import rows_by
from stock_assets_tests.features.stores import bars_of
from stock_assets_tests.side_inputs.histories import history

assert SIDE_GROUPS  # importing them registers their groups
CALENDAR: TradingCalendar = trading_calendar("XNYS", date(2019, 1, 2), date(2022, 12, 30))
TICKERS = ("AAA", "BBB", "CCC", "DDD", "EEE", "FFF")
#: Sessions of bars; those at which the future is cut off, and those that are computed.
LAST, CUT, FIRST = 880, 850, 820


@cache
def bars() -> pl.DataFrame:
    """A listing that is younger, one with gaps, one that ends, and a split."""
    gaps = {"AAA": [], "BBB": range(300), "CCC": [200, 201, 640], "DDD": range(845, LAST), "EEE": [], "FFF": [830]}
    rows = bars_of(CALENDAR.sessions[:LAST], gaps, seed=3)
    split = (pl.col("ticker") == "EEE") & (pl.col("session") == CALENDAR.sessions[700])
    return rows.with_columns(split_ratio=pl.when(split).then(2.0).otherwise(pl.col("split_ratio")))


def known(group: SideGroup, last: date) -> dict[str, pl.DataFrame]:
    """The rows that `group` may read at the close of `last`, of made-up histories that go on beyond."""
    rows = {name: history(name, CALENDAR, TICKERS, seed) for seed, name in enumerate(group.reads)}
    return {name: frame.filter(pl.col("known_at") <= CALENDAR.closes[last]) for name, frame in rows.items()}


def made(group: SideGroup, first: int, last: int, *, from_bar: int = 0) -> pl.DataFrame:
    """The columns of the sessions from place `first` to `last`, with what is known at the last of them."""
    sessions = CALENDAR.sessions[first : last + 1]
    seen = bars().filter(pl.col("session").is_between(CALENDAR.sessions[from_bar], sessions[-1]))
    return computed(group, SideFrames(seen, known(group, sessions[-1]), sessions, CALENDAR))


@cache
def of_range(name: str) -> pl.DataFrame:
    return made(GROUPS[name], FIRST, LAST - 1)


@pytest.mark.parametrize("name", GROUPS)
def test_what_became_known_later_changes_no_row_before(name: str):
    until_cut = of_range(name).filter(pl.col("session") <= CALENDAR.sessions[CUT])
    assert_frame_equal(made(GROUPS[name], FIRST, CUT), until_cut, abs_tol=1e-9)
    columns = list(GROUPS[name].columns)
    assert until_cut.select(pl.col(columns).is_not_null().sum()).sum_horizontal().item() > 0.3 * until_cut.height * len(
        columns
    )


@pytest.mark.parametrize("name", GROUPS)
def test_a_session_alone_with_its_look_back_equals_that_of_the_range(name: str):
    group = GROUPS[name]
    for place in (FIRST, CUT, LAST - 1):
        alone = made(group, place, place, from_bar=max(0, place - group.lookback))
        day = of_range(name).filter(pl.col("session") == CALENDAR.sessions[place])
        assert_frame_equal(alone, day, abs_tol=1e-9)


@pytest.mark.parametrize("name", GROUPS)
def test_values_are_finite_within_their_bounds_and_of_every_bar(name: str):
    rows, group = of_range(name), GROUPS[name]
    keys = bars().filter(pl.col("session").is_in(CALENDAR.sessions[FIRST:LAST])).select("ticker", "session")
    assert_frame_equal(rows.select("ticker", "session"), keys, check_row_order=False)
    for column, about in group.columns.items():
        values = rows[column].drop_nulls().to_numpy()
        assert np.isfinite(values).all(), column
        assert ((values >= about.low) & (values <= about.high)).all(), column
        assert about.text


@pytest.mark.parametrize("name", GROUPS)
def test_a_session_without_a_bar_has_no_row_and_one_without_a_side_row_has_nulls_at_most(name: str):
    group, session = GROUPS[name], CALENDAR.sessions[CUT]
    others = bars().filter(pl.col("session") < session)
    rows = known(group, session)
    assert computed(group, SideFrames(others, rows, [session], CALENDAR)).is_empty()
    assert computed(group, SideFrames(others.clear(), rows, [session], CALENDAR)).is_empty()
    nothing = {side: frame.clear() for side, frame in rows.items()}
    of_day = bars().filter(pl.col("session") <= session)
    made_of_nothing = computed(group, SideFrames(of_day, nothing, [session], CALENDAR))
    assert made_of_nothing.height == of_day.filter(pl.col("session") == session).height


def test_a_group_that_looks_ahead_is_caught():
    """The test above can fail: a group that counts all rows that it gets, of whatever session."""

    def peeking(frames: SideFrames) -> pl.DataFrame:
        number = float(frames.rows["announcements"].height)
        honest = float(rows_by(frames.rows["announcements"], frames.sessions[0]).height)
        keys = frames.bars.filter(pl.col("session").is_in(list(frames.sessions))).select("ticker", "session")
        return keys.with_columns(peek=pl.lit(number), honest=pl.lit(honest))

    columns = {"peek": SideColumn("", 0, 1e9), "honest": SideColumn("", 0, 1e9)}
    group = SideGroup(
        name="peeking", reads=("announcements",), columns=columns, compute=peeking, lookback=0, in_model=False
    )
    now, then = made(group, FIRST, LAST - 1)[:1], made(group, FIRST, CUT)[:1]
    assert now["peek"].item() > then["peek"].item()
    assert now["honest"].item() == then["honest"].item()
