"""What an evening has to do: due moments over twenty years, catching up, failures, labels and new model years."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.lifecycle.evening import (
    BARS,
    BY_SESSION,
    EVENING,
    FEATURES,
    LONGEST_RETRY,
    RETRY,
    WAITED_FAILURES,
    Gaps,
    State,
    chain_due,
    due_at,
    labels_due,
    model_year_due,
    rest_due,
    with_side_inputs,
)
from stock_assets.market.calendar import trading_calendar
from stock_assets_tests.lifecycle.store import SIDE

XNYS = trading_calendar("XNYS", date(2010, 1, 4), date(2030, 12, 31))
HOUR = timedelta(hours=1)
HORIZON = 7


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


DONE = State(
    now=at("2025-03-05T00:05"),
    predicted_through=date(2025, 3, 3),
    labelled_through=date(2025, 2, 20),
    model_years=frozenset({2024, 2025}),
)


@pytest.mark.parametrize(
    ("session", "hours", "expected"),
    [
        ("2025-01-15", 1, "2025-01-16T00:00"),  # 21:00 UTC and an hour: the partition begins at midnight
        ("2025-01-15", 5, "2025-01-16T02:00"),  # standard time
        ("2025-07-15", 5, "2025-07-16T01:00"),  # daylight saving
        ("2025-11-28", 5, "2025-11-29T00:00"),  # a half day, closed at 18:00 UTC
        ("2025-11-28", 7, "2025-11-29T01:00"),
        ("2025-11-26", 5, "2025-11-27T02:00"),  # the evening before Thanksgiving
    ],
)
def test_a_session_is_due_so_long_after_its_own_close(session: str, hours: int, expected: str):
    assert due_at(XNYS, date.fromisoformat(session), hours * HOUR) == at(expected)


def test_every_session_of_twenty_years_is_due_once_after_its_close_and_before_the_next_one_opens():
    for hours in (0, 1, 5):
        moments = [due_at(XNYS, session, hours * HOUR) for session in XNYS.sessions]
        assert all(moment >= XNYS.closes[s] + hours * HOUR for s, moment in zip(XNYS.sessions, moments, strict=True))
        assert all(moment.date() == s + timedelta(days=1) for s, moment in zip(XNYS.sessions, moments, strict=True))
        assert len(set(moments)) == len(moments)


def test_a_tick_asks_for_the_closed_session():
    assert chain_due(XNYS, HOUR, DONE).sessions == (date(2025, 3, 4),)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"predicted_through": date(2025, 3, 4)}, "2025-03-05 is due at 2025-03-06 00:00 UTC"),
        ({"now": at("2025-03-04T23:59")}, "2025-03-04 is due at 2025-03-05 00:00 UTC"),
        ({"under_way": "run 1234 (evening)"}, "run 1234 .evening. is under way"),
        ({"predicted_through": None}, "no session is predicted yet"),
        ({"model_years": frozenset({2024})}, "2025-03-04 waits for model year 2025"),
        ({"predicted_through": XNYS.sessions[-1]}, "calendar of the settings ends there"),
        ({"now": at("2025-03-09T12:00"), "predicted_through": date(2025, 3, 7)}, "2025-03-10 is due"),  # a Sunday
        ({"now": at("2025-12-26T00:30"), "predicted_through": date(2025, 12, 24)}, "2025-12-26 is due"),  # Christmas
    ],
)
def test_a_tick_that_does_nothing_says_why(change: dict, reason: str):
    plan = chain_due(XNYS, HOUR, replace(DONE, **change))
    assert plan.sessions == ()
    assert re.search(reason, plan.reason)


def test_an_outage_is_caught_up_oldest_first_and_stops_where_no_model_serves():
    away = replace(DONE, predicted_through=date(2025, 12, 22), now=at("2026-01-08T09:00"))
    plan = chain_due(XNYS, HOUR, away)
    assert plan.sessions == XNYS.between(date(2025, 12, 23), date(2025, 12, 31))
    assert "from 2025-12-23" in plan.reason
    both = replace(away, model_years=frozenset({2025, 2026}))
    assert chain_due(XNYS, HOUR, both).sessions == XNYS.between(date(2025, 12, 23), date(2026, 1, 7))


def test_after_a_failure_the_oldest_alone_is_tried_again_later_and_later():
    failed = replace(DONE, predicted_through=date(2025, 2, 28), failures=1, failed_at=DONE.now)
    assert "failed 1 time" in chain_due(XNYS, HOUR, failed).reason
    assert chain_due(XNYS, HOUR, replace(failed, now=DONE.now + RETRY)).sessions == (date(2025, 3, 3),)
    often = replace(failed, failures=9)
    assert chain_due(XNYS, HOUR, replace(often, now=DONE.now + LONGEST_RETRY - RETRY)).sessions == ()
    assert chain_due(XNYS, HOUR, replace(often, now=DONE.now + LONGEST_RETRY)).sessions == (date(2025, 3, 3),)


def test_labels_are_due_for_what_the_predicted_sessions_complete():
    later = replace(DONE, predicted_through=date(2025, 3, 5))
    assert labels_due(XNYS, HORIZON, DONE).sessions == ()
    assert "every label that 2025-03-03 completes is there" in labels_due(XNYS, HORIZON, DONE).reason
    assert labels_due(XNYS, HORIZON, later).sessions == (date(2025, 2, 21), date(2025, 2, 24))


LACKING = Gaps(unmade={"indicators": [date(2025, 3, 3)]})


def test_labels_and_the_next_models_wait_for_the_rest_of_an_evening_but_not_for_ever():
    later = replace(DONE, predicted_through=date(2025, 3, 5), gaps=LACKING)
    assert (
        labels_due(XNYS, HORIZON, later).reason
        == "indicators, operations, publication of session 2025-03-03 is still to be made"
    )
    assert labels_due(XNYS, HORIZON, later).sessions == ()
    assert len(labels_due(XNYS, HORIZON, replace(later, rest_failures=WAITED_FAILURES)).sessions) == 2
    year = replace(DONE, predicted_through=date(2025, 12, 31), labelled_through=date(2025, 12, 19))
    assert model_year_due(XNYS, HORIZON, year) == 2026
    assert model_year_due(XNYS, HORIZON, replace(year, gaps=LACKING)) is None


def test_labels_that_are_missing_between_others_are_due_first():
    gaps = Gaps(unmade={"labels": [date(2025, 2, 3)]}, lost={"labels": [date(2025, 2, 4), date(2025, 2, 20)]})
    assert labels_due(XNYS, HORIZON, replace(DONE, gaps=gaps)).sessions == (date(2025, 2, 3), date(2025, 2, 4))


def test_what_is_missing_is_made_oldest_first_and_nothing_else():
    monday, tuesday, wednesday = date(2025, 3, 3), date(2025, 3, 4), date(2025, 3, 5)

    def due(unmade: dict | None = None, lost: dict | None = None, operations: bool = False) -> tuple | None:
        work = rest_due(XNYS, Gaps(unmade or {}, lost or {}, operations), wednesday)
        return work and (work.assets, work.first, work.last)

    assert due() is None
    assert rest_due(XNYS, LACKING, None) is None
    assert due(operations=True) == (("operations",), None, None)
    behind = {"indicators": [monday, tuesday], "drift": [tuesday]}
    assert due(behind) == (("indicators", "operations", "publication"), "2025-03-03", "2025-03-03")
    both = {"indicators": [monday, tuesday, wednesday], "drift": [monday, tuesday]}
    assert due(both) == (("indicators", "drift", "operations", "publication"), "2025-03-03", "2025-03-04")
    # rows that are gone were right: they are made of what there is
    again = ("predictions", "operations", "publication")
    assert due(lost={"predictions": [tuesday]}) == (again, "2025-03-04", "2025-03-04")
    # what was never made may have stopped at a check, which fetches and looks again
    assert due({"pca_components": [monday]}) == (
        (*BARS, *FEATURES, "operations", "publication"),
        "2025-03-03",
        "2025-03-03",
    )
    assert due({"predictions": [monday]}) == (EVENING, "2025-03-03", "2025-03-03")


def test_side_inputs_are_made_with_bars_and_features_where_they_are_on():
    monday, tuesday = date(2025, 3, 3), date(2025, 3, 4)

    def assets(unmade: dict | None = None, lost: dict | None = None) -> tuple[str, ...]:
        work = rest_due(XNYS, Gaps(unmade or {}, lost or {}, side_inputs=SIDE), tuesday)
        assert work is not None
        return work.assets

    every = with_side_inputs(EVENING, SIDE)
    assert every[2:8] == (
        *("context_series", "announcements", "daily_bars", "indicators"),
        *("stationary_features", "side_features"),
    )
    assert assets({"predictions": [monday]}) == every
    made = with_side_inputs((*BARS, *FEATURES), SIDE)
    assert assets({"side_features": [monday]}) == (*made, "operations", "publication")
    assert assets({"announcements": [monday]}) == (*made, "operations", "publication")
    # what is gone is made of what there is
    assert assets(lost={"side_features": [monday]}) == ("side_features", "operations", "publication")
    assert with_side_inputs(EVENING, ("macro",)) == (*BARS, "macro", *FEATURES, *EVENING[len(BARS) + len(FEATURES) :])


@given(
    st.dictionaries(
        st.sampled_from(with_side_inputs(BY_SESSION, SIDE)),
        st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True),
        max_size=4,
    ),
    st.dictionaries(
        st.sampled_from(with_side_inputs(BY_SESSION, SIDE)),
        st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True),
        max_size=4,
    ),
)
def test_whatever_is_missing_is_made_in_the_end(unmade: dict[str, list[int]], lost: dict[str, list[int]]):
    days = XNYS.sessions[:10]
    missing = [{table: {days[place] for place in places} for table, places in gaps.items()} for gaps in (unmade, lost)]
    sessions = set().union(*(days for gaps in missing for days in gaps.values()))
    for _ in range(len(sessions) + 1):
        work = rest_due(XNYS, Gaps(*missing, side_inputs=SIDE), days[-1])
        if work is None:
            break
        assert work.first == str(min(set().union(*(days for gaps in missing for days in gaps.values()))))
        made = XNYS.between(date.fromisoformat(work.first), date.fromisoformat(work.last or work.first))
        missing = [
            {
                table: left
                for table, days in gaps.items()
                if (left := days - set(made) if table in work.assets else days)
            }
            for gaps in missing
        ]
    assert missing == [{}, {}], "in no more runs than there are sessions"


def test_a_model_year_is_due_once_the_year_before_is_done_and_labelled():
    last = replace(DONE, predicted_through=date(2025, 12, 31), labelled_through=date(2025, 12, 17))
    assert model_year_due(XNYS, HORIZON, last) is None, "two labels are missing still"
    done = replace(last, labelled_through=XNYS.shift(date(2025, 12, 31), -HORIZON))
    assert model_year_due(XNYS, HORIZON, done) == 2026
    assert model_year_due(XNYS, HORIZON, replace(done, model_years=frozenset({2025, 2026}))) is None
    assert model_year_due(XNYS, HORIZON, replace(done, under_way="a run")) is None
    assert model_year_due(XNYS, HORIZON, DONE) is None


@given(
    # the longest pauses that are drawn, 2,400 hours, hold less than 80 sessions
    st.integers(0, len(XNYS.sessions) - 80),
    st.lists(st.integers(0, 200), min_size=1, max_size=12),
)
def test_however_the_machine_is_off_every_session_is_made_once_and_in_order(start: int, hours: list[int]):
    made = [XNYS.sessions[start]]
    now = due_at(XNYS, made[0], HOUR)
    years = frozenset(range(2010, 2032))
    for pause in hours:
        now += timedelta(hours=pause)
        plan = chain_due(XNYS, HOUR, State(now, made[-1], None, years))
        made += plan.sessions
        assert all(due_at(XNYS, session, HOUR) <= now for session in made)
    assert made == list(XNYS.sessions[start : start + len(made)])
    following = XNYS.sessions[start + len(made)]
    assert due_at(XNYS, following, HOUR) > now
