"""Quarters and trailing years from what reports state, against sums of made-up days."""

from collections.abc import Mapping
from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.side_inputs.concepts import CONCEPTS, Period, quarters, trailing_year, year_before


def of_days(start: date, end: date) -> float:
    """What a company earns from `start` to `end`: each day its own number, so that every period has its own sum."""
    return float(sum(day % 997 for day in range(start.toordinal(), end.toordinal() + 1)))


def stated(*periods: tuple[date, date]) -> dict[Period, float]:
    return {period: of_days(*period) for period in periods}


def fiscal_year(starts: list[date]) -> list[tuple[date, date]]:
    """The periods that a year's reports state, of the first days of its quarters and of the next year: the quarters in
    the first three, the year to date, and the whole year; the last quarter nowhere."""
    ends = [start - timedelta(days=1) for start in starts[1:]]
    return [*zip(starts[:3], ends[:3], strict=True), *((starts[0], end) for end in ends)]


CALENDAR_YEARS = [
    fiscal_year([date(year, month, 1) for month in (1, 4, 7, 10)] + [date(year + 1, 1, 1)])
    for year in (2021, 2022, 2023)
]


def weeks(first: date, *lengths: int) -> list[date]:
    days = [first]
    for length in lengths:
        days.append(days[-1] + timedelta(weeks=length))
    return days


RETAILER = date(2021, 8, 30)
#: 52 weeks, then 53: quarters of 12, 12, 12 and 16 or 17 weeks.
WEEKS = [
    fiscal_year(weeks(RETAILER, 12, 12, 12, 16)),
    fiscal_year(weeks(RETAILER + timedelta(weeks=52), 12, 12, 12, 17)),
    fiscal_year(weeks(RETAILER + timedelta(weeks=105), 12, 12, 12, 16)),
]


@pytest.mark.parametrize("years", [CALENDAR_YEARS, WEEKS], ids=["calendar", "weeks"])
def test_every_quarter_and_every_year_to_one(years: list[list[tuple[date, date]]]) -> None:
    figures = stated(*(period for year in years for period in year))
    found = quarters(figures)
    assert len(found) == 12
    for quarter in found:
        assert quarter.value == of_days(quarter.start, quarter.end)
    for one, other in pairwise(found):
        assert one.end + timedelta(days=1) == other.start
    for place, quarter in enumerate(found):
        expected = of_days(found[place - 3].start, quarter.end) if place >= 3 else None
        assert trailing_year(figures, quarter.end) == expected


def test_a_year_to_date_without_quarters() -> None:
    """Statements of cash flows state the year to date alone."""
    figures = stated(*(period for year in CALENDAR_YEARS for period in year[3:]), CALENDAR_YEARS[0][0])
    found = quarters(figures)
    assert [quarter.value for quarter in found] == [of_days(quarter.start, quarter.end) for quarter in found]
    assert trailing_year(figures, date(2022, 6, 30)) == of_days(date(2021, 7, 1), date(2022, 6, 30))


def test_a_real_year() -> None:
    """Snowflake's year to January 2025, as EDGAR's facts state it (github.com/dgunning/edgartools,
    tests/fixtures/entity/snow_facts.json): quarters and years to date of net income, years to date alone of cash."""
    begin, ends = date(2024, 2, 1), [date(2024, 4, 30), date(2024, 7, 31), date(2024, 10, 31), date(2025, 1, 31)]
    income: dict[Period, float] = dict(
        zip(((begin, end) for end in ends), (-316988e3, -633887e3, -958166e3, -1285640e3), strict=True)
    )
    income |= {(date(2024, 5, 1), ends[1]): -316899e3, (date(2024, 8, 1), ends[2]): -324279e3}
    cash: dict[Period, float] = dict(
        zip(((begin, end) for end in ends), (355468e3, 425333e3, 527039e3, 959764e3), strict=True)
    )
    earlier: dict[Period, float] = {
        (date(2023, 2, 1), date(2023, 10, 31)): 503542e3,
        (date(2023, 2, 1), date(2024, 1, 31)): 848122e3,
    }
    assert [quarter.value for quarter in quarters(income)] == [-316988e3, -316899e3, -324279e3, -327474e3]
    assert [quarter.value for quarter in quarters(cash)] == [355468e3, 69865e3, 101706e3, 432725e3]
    assert trailing_year(cash | earlier, ends[2]) == 848122e3 + 527039e3 - 503542e3


def test_a_year_end_that_moves() -> None:
    """From December to June: a report of the six months between, and years from July on. Nothing that is summed over
    the gap counts a day twice, or leaves one out."""
    between = (date(2022, 1, 1), date(2022, 6, 30))
    quarter = (date(2022, 1, 1), date(2022, 3, 31))
    after = fiscal_year([date(2022, 7, 1), date(2022, 10, 1), date(2023, 1, 1), date(2023, 4, 1), date(2023, 7, 1)])
    figures = stated(*CALENDAR_YEARS[0], between, quarter, *after)
    for end in (date(2021, 12, 31), date(2022, 3, 31), date(2022, 6, 30), date(2022, 9, 30), date(2023, 6, 30)):
        start = date(end.year - 1, end.month, end.day) + timedelta(days=1)
        assert trailing_year(figures, end) == of_days(start, end), end
    assert quarters(figures)[4].value == of_days(*quarter)
    month_later = stated(*CALENDAR_YEARS[0], (date(2022, 2, 1), date(2022, 4, 30)))
    assert trailing_year(month_later, date(2022, 4, 30)) is None, "nothing states January"
    alone = stated(*CALENDAR_YEARS[0], between, after[0])
    assert trailing_year(alone, date(2022, 9, 30)) is None, (
        "nobody stated the summer of 2021 to 2022 in parts of a year"
    )


@given(st.sets(st.sampled_from([period for year in CALENDAR_YEARS for period in year])))
def test_what_is_found_is_right_whatever_is_stated(periods: set[tuple[date, date]]) -> None:
    figures = stated(*periods)
    for quarter in quarters(figures):
        assert quarter.value == of_days(quarter.start, quarter.end)
    for end in {end for _, end in periods}:
        start = date(end.year - 1, end.month, end.day) + timedelta(days=1)
        assert trailing_year(figures, end) in (None, of_days(start, end))


@pytest.mark.parametrize("figures", [{}, {(None, date(2022, 1, 1)): 1.0}, {(date(2010, 1, 1), date(2022, 1, 1)): 1.0}])
def test_without_quarters_there_are_none(figures: Mapping[Period, float]) -> None:
    assert quarters(figures) == []
    assert trailing_year(figures, date(2022, 1, 1)) is None


def test_the_end_of_a_year_before() -> None:
    ends = [date(2021, 12, 26), date(2022, 3, 31), date(2022, 12, 31)]
    assert year_before(ends, date(2022, 12, 31)) == date(2021, 12, 26), "53 weeks"
    assert year_before(ends, date(2023, 6, 30)) is None


def test_tags_are_of_one_concept_each() -> None:
    tags = [tag for concept in CONCEPTS.values() for tag in concept.tags]
    assert len(tags) == len({*tags})
    assert all(tag.split(":")[0] in ("us-gaap", "dei") for tag in tags)
