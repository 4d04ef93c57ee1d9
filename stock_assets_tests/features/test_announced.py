from datetime import UTC, date, datetime, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.features.announced import ANNOUNCED, announced_rows
from stock_assets.side_inputs.lags import EDGES, known_lags
from stock_assets.side_inputs.schedule import SCHEDULE

NOW = date(2024, 5, 1)


def schedule(*rows: tuple[str, date, date, date | None]) -> pl.DataFrame:
    """(ticker, reaction session, known from, known until) each."""
    return pl.DataFrame([(t, e, e, "pre", "filed", f, u) for t, e, f, u in rows], SCHEDULE, orient="row")


MOVES = pl.DataFrame(
    {"ticker": ["A"], "session": [date(2024, 4, 25)], "total_return": [0.05], "residual_return": [0.04]}
)


def test_what_stands_is_listed_with_the_move_of_what_happened():
    days = [NOW - timedelta(days=91 * k + 6) for k in range(10)]
    past = [("A", day, day, None) for day in days]
    coming = ("A", NOW + timedelta(days=20), NOW - timedelta(days=5), None)
    moved_away = ("A", NOW + timedelta(days=10), NOW - timedelta(days=9), NOW)
    unknown_yet = ("A", NOW + timedelta(days=12), NOW + timedelta(days=1), None)
    far = ("A", NOW + timedelta(days=46), NOW - timedelta(days=5), None)
    rows = announced_rows(schedule(*past, coming, moved_away, unknown_yet, far), MOVES, NOW)
    assert rows.schema == ANNOUNCED
    assert rows["reaction_session"].to_list() == [*sorted(days[:8]), NOW + timedelta(days=20)]
    assert rows["happened"].to_list() == [True] * 8 + [False]
    assert rows.filter(pl.col("residual_return").is_not_null()).select(
        "reaction_session", "residual_return"
    ).rows() == [(date(2024, 4, 25), 0.04)]


def test_no_schedule_has_no_row():
    assert announced_rows(schedule(), MOVES, NOW).is_empty()


@given(st.lists(st.floats(-100, 200), min_size=1, max_size=40))
def test_every_row_is_in_the_bin_of_its_lag(days: list[float]):
    at = datetime(2024, 5, 2, tzinfo=UTC)
    known = [at + timedelta(days=lag) for lag in days]
    rows = known_lags(
        {"macro": pl.DataFrame({"event_time": [at] * len(days), "known_at": known}), "texts": pl.DataFrame()}
    )
    assert rows["side_input"].unique().to_list() == ["macro"]
    assert rows["bin"].to_list() == list(range(1, len(EDGES)))
    for low, high, share, count in rows.select("low", "high", "share", "rows").iter_rows():
        low, high = (float("-inf") if low is None else low), (float("inf") if high is None else high)
        inside = sum(low <= int((moment - at).total_seconds()) / 86_400 < high for moment in known)
        assert count == inside
        assert share == inside / len(days)
