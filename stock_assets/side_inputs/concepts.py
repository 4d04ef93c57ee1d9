"""What companies report, under one name each, and what follows from it: quarters and trailing years.

Companies choose the tag of a figure and change it over the years, so a concept lists its tags, the first that a filing
has counts. Reports state a quarter, the year to date or a whole year: the others follow by differences and sums. No
rule here looks at calendar quarters: years of 52 or 53 weeks, quarters of 12 or 16 weeks and a year end that moves are
all read from the first and last day of each figure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple

#: First and last day of a figure; the last alone for one of a day, such as assets.
Period = tuple[date | None, date]
#: Figures of one concept by period.
Figures = Mapping[Period, float]

#: Days of a quarter: 12 weeks, and the 16 or 17 of the last one of some retailers.
QUARTER = (75, 125)
#: Days of a year: 52 or 53 weeks, or a calendar year.
YEAR = (350, 380)
#: Days between the end of one figure and the beginning of the next, or between two beginnings, that are the same.
SLACK = 3


@dataclass(frozen=True)
class Concept:
    """One concept. `tags` are those of XBRL, taxonomy first, in the order in which they count."""

    text: str
    tags: tuple[str, ...]
    unit: str = "USD"
    newest_only: bool = False
    """whether only the newest figure of a filing counts: the others are stated anew in its own terms, as after a split
    of the share"""


CONCEPTS: Mapping[str, Concept] = {
    "revenue": Concept(
        "sales of the period",
        (
            "us-gaap:Revenues",
            "us-gaap:RevenueFromContractWithCustomerExcludingAssessedTax",
            "us-gaap:RevenueFromContractWithCustomerIncludingAssessedTax",
            "us-gaap:SalesRevenueNet",
            "us-gaap:SalesRevenueGoodsNet",
            "us-gaap:SalesRevenueServicesNet",
            "us-gaap:RevenuesNetOfInterestExpense",
        ),
    ),
    "cost_of_revenue": Concept(
        "cost of what was sold",
        (
            "us-gaap:CostOfRevenue",
            "us-gaap:CostOfGoodsAndServicesSold",
            "us-gaap:CostOfGoodsSold",
            "us-gaap:CostOfServices",
        ),
    ),
    "gross_profit": Concept("sales less their cost", ("us-gaap:GrossProfit",)),
    "net_income": Concept(
        "profit after tax of the shareholders",
        (
            "us-gaap:NetIncomeLoss",
            "us-gaap:NetIncomeLossAvailableToCommonStockholdersBasic",
            "us-gaap:ProfitLoss",
        ),
    ),
    "operating_cash_flow": Concept(
        "cash from operations",
        (
            "us-gaap:NetCashProvidedByUsedInOperatingActivities",
            "us-gaap:NetCashProvidedByUsedInOperatingActivitiesContinuingOperations",
        ),
    ),
    "assets": Concept("all assets", ("us-gaap:Assets",)),
    "liabilities": Concept("all liabilities", ("us-gaap:Liabilities",)),
    "equity": Concept(
        "book value of the shareholders",
        (
            "us-gaap:StockholdersEquity",
            "us-gaap:StockholdersEquityIncludingPortionAttributableToNoncontrollingInterest",
        ),
    ),
    "shares": Concept(
        "shares outstanding on the day that the cover of a report names",
        ("dei:EntityCommonStockSharesOutstanding",),
        "shares",
        newest_only=True,
    ),
    "reported_shares": Concept(
        "shares outstanding in the report itself, in terms of the share at the time of its filing",
        (
            "us-gaap:CommonStockSharesOutstanding",
            "us-gaap:WeightedAverageNumberOfSharesOutstandingBasic",
            "us-gaap:WeightedAverageNumberOfDilutedSharesOutstanding",
        ),
        "shares",
        newest_only=True,
    ),
}


class Quarter(NamedTuple):
    """A figure of one quarter."""

    start: date
    end: date
    value: float


def days(start: date, end: date) -> int:
    """The days of a period, both ends included."""
    return (end - start).days + 1


def is_between(number: float, bounds: tuple[int, int]) -> bool:
    """Whether `number` lies within `bounds`, both included."""
    return bounds[0] <= number <= bounds[1]


def spans_of(figures: Figures) -> list[tuple[date, date, float]]:
    """First day, last day and value of the figures that have both days, by last day."""
    spans = [(start, end, value) for (start, end), value in figures.items() if start is not None]
    return sorted(spans, key=lambda span: (span[1], span[0]))


def quarters(figures: Figures) -> list[Quarter]:
    """The quarters of a concept, by last day: as stated, or a year to date less a shorter one from the same day on.

    >>> spring = {(date(2023, 1, 1), date(2023, 3, 31)): 10.0, (date(2023, 1, 1), date(2023, 6, 30)): 25.0}
    >>> [(quarter.end.isoformat(), quarter.value) for quarter in quarters(spring)]
    [('2023-03-31', 10.0), ('2023-06-30', 15.0)]
    """
    spans = spans_of(figures)
    of_end: dict[date, Quarter] = {}
    for start, end, value in spans:
        if is_between(days(start, end), QUARTER):
            other_quarter = of_end.get(end)
            if other_quarter is None or abs(days(start, end) - 91) < abs(days(other_quarter.start, end) - 91):
                of_end[end] = Quarter(start, end, value)
    for start, end, value in spans:
        if end in of_end or days(start, end) > YEAR[1]:
            continue
        # the shorter one that leaves a quarter; of several the one that ends last
        rests = [
            Quarter(shorter + timedelta(days=1), end, value - part)
            for begin, shorter, part in spans
            if shorter < end and abs((begin - start).days) <= SLACK and is_between((end - shorter).days, QUARTER)
        ]
        if rests:
            of_end[end] = rests[-1]
    return [of_end[end] for end in sorted(of_end)]


def trailing_year(figures: Figures, end: date) -> float | None:
    """The sum of the year to `end`: as stated; or the last whole year, and the year to date less that of a year before;
    or four quarters in a row. None where none of them is complete, as after a year end that moved.

    >>> figures = {
    ...     (date(2022, 1, 1), date(2022, 12, 31)): 100.0,
    ...     (date(2022, 1, 1), date(2022, 3, 31)): 20.0,
    ...     (date(2023, 1, 1), date(2023, 3, 31)): 30.0,
    ... }
    >>> trailing_year(figures, date(2022, 12, 31)), trailing_year(figures, date(2023, 3, 31))
    (100.0, 110.0)
    """
    spans = spans_of(figures)
    whole = [span for span in spans if is_between(days(span[0], span[1]), YEAR)]
    stated_values = [value for _, last, value in whole if last == end]
    if stated_values:
        return stated_values[-1]
    for start, last, value in spans:  # the longest first, since they ascend by first day
        if last != end or days(start, last) > YEAR[1]:
            continue
        for year_start, year_end, year in whole:
            if abs((start - year_end).days - 1) > SLACK:
                continue
            before = [
                part
                for begin, shorter, part in spans
                if abs((begin - year_start).days) <= SLACK and abs(days(begin, shorter) - days(start, last)) <= 10
            ]
            if before:
                return year + value - before[-1]
    return _four_quarters(quarters(figures), end)


def _four_quarters(rows: list[Quarter], end: date) -> float | None:
    """The sum of the four quarters in a row of which the last one ends on `end`; None where there are fewer."""
    by_end = {quarter.end: quarter for quarter in rows}
    chain: list[Quarter] = []
    last = end
    while len(chain) < 4:
        near_quarters = (
            by_end.get(last + timedelta(days=shift)) for shift in sorted(range(-SLACK, SLACK + 1), key=abs)
        )
        quarter = next((quarter for quarter in near_quarters if quarter is not None), None)
        if quarter is None or (not chain and quarter.end != end):
            return None
        chain.append(quarter)
        last = quarter.start - timedelta(days=1)
    return sum(quarter.value for quarter in chain) if is_between(days(chain[-1].start, end), YEAR) else None


def year_before(ends: list[date], end: date) -> date | None:
    """The one of `ends` that lies a year before `end`; None where there is none."""
    near_ends = [other for other in ends if is_between((end - other).days, YEAR)]
    return min(near_ends, key=lambda other: abs((end - other).days - 365), default=None)
