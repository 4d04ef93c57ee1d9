"""Ratios of reports against the arithmetic of their definitions, as known at the close of every session."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from statistics import fmean, stdev
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.features.fundamental_features import (
    COLUMNS,
    FUNDAMENTALS_GROUP,
    LOOKBACK,
    OLDEST,
    fundamental_features,
    surprise,
)
from stock_assets.features.side_features import GROUPS, SideFrames
from stock_assets.market.calendar import trading_calendar
from stock_assets.side_inputs.as_of import with_session
from stock_assets.side_inputs.tables import FUNDAMENTALS
from stock_assets.tables import UTC_TIME

CALENDAR = trading_calendar("XNYS", date(2018, 1, 2), date(2024, 6, 28))
FETCHED = datetime(2024, 7, 1, tzinfo=UTC)
QUARTER_ENDS = ((3, 31), (6, 30), (9, 30), (12, 31))

Row = tuple[Any, ...]


def bars(splits: dict[date, float] | None = None, ticker: str = "AAA", price: float = 50.0) -> pl.DataFrame:
    """Bars of every session at a price that splits alone change."""
    ratio = np.array([(splits or {}).get(session, 1.0) for session in CALENDAR.sessions])
    return pl.DataFrame({"ticker": ticker, "session": CALENDAR.sessions}).with_columns(
        close=pl.Series(price / np.cumprod(ratio)), split_ratio=pl.Series(ratio)
    )


def rows(*figures: Row, ticker: str = "AAA") -> pl.DataFrame:
    """Rows of fundamentals: (known_at, concept, period_start, period_end, value), each of a filing of its moment."""
    frame = pl.DataFrame(
        [
            {
                "subject": ticker,
                "event_time": datetime.combine(end, datetime.min.time(), UTC),
                "known_at": known_at,
                "fetched_at": FETCHED,
                "source": "sec",
                "concept": concept,
                "period_start": start,
                "period_end": end,
                "value": float(value),
                "unit": "USD",
                "form": "10-Q",
                "filing": f"{known_at:%Y%m%d%H%M}",
            }
            for known_at, concept, start, end, value in figures
        ],
        schema={name: dtype for name, dtype in FUNDAMENTALS.schema.items() if name != "session"},
    )
    return with_session(frame, CALENDAR).select(FUNDAMENTALS.names)


def at(day: date, hour: int = 21) -> datetime:
    return datetime(day.year, day.month, day.day, hour, 30, tzinfo=UTC)


def reports(first: int, last: int, seed: int = 7) -> list[Row]:
    """The reports of the years from `first` to `last`, 40 days after each quarter: quarters and the year to date of
    flows, the balance of the day, and the shares of the cover 30 days after it."""
    random = np.random.default_rng(seed)
    figures: list[Row] = []
    for year in range(first, last + 1):
        start, to_date = date(year, 1, 1), dict.fromkeys(("net_income", "revenue", "operating_cash_flow"), 0.0)
        for place, (month, day) in enumerate(QUARTER_ENDS):
            end = date(year, month, day)
            known = at(end + timedelta(days=40))
            begin = date(year, 3 * place + 1, 1)
            for name in to_date:
                flow = float(random.integers(50, 150))
                to_date[name] += flow
                if name != "operating_cash_flow" and place < 3:
                    figures.append((known, name, begin, end, flow))
                figures.append((known, name, start, end, to_date[name]))
            figures.append((known, "cost_of_revenue", start, end, to_date["revenue"] * 0.6))
            for name, low in (("assets", 2_000), ("liabilities", 800), ("equity", 1_000)):
                figures.append((known, name, None, end, float(random.integers(low, low + 400))))
            shares = 100.0 * (1 + 0.01 * ((year - first) * 4 + place))
            figures.append((known, "shares", None, end + timedelta(days=30), shares))
    return figures


def features(
    known: pl.DataFrame, sessions: Sequence[date], of_bars: pl.DataFrame | None = None, *, cut: bool = True
) -> pl.DataFrame:
    """The columns of `sessions`, from as little as the group asks for: bars of its look-back, rows known by then."""
    frame = bars() if of_bars is None else of_bars
    if cut:
        begin = CALENDAR.before(sessions[0], LOOKBACK)[0] if sessions[0] > CALENDAR.sessions[LOOKBACK] else date.min
        frame = frame.filter(pl.col("session").is_between(begin, sessions[-1]))
        known = known.filter(pl.col("session") <= sessions[-1])
    return fundamental_features(SideFrames(frame, {"fundamentals": known}, sessions, CALENDAR))


def one(known: pl.DataFrame, session: date, of_bars: pl.DataFrame | None = None) -> dict[str, Any]:
    return features(known, [session], of_bars).row(0, named=True)


def value_of(figures: Sequence[Row], concept: str, start: date | None, end: date) -> float:
    (value,) = {row[4] for row in figures if row[1:4] == (concept, start, end)}
    return value


def year_to(figures: Sequence[Row], concept: str, year: int) -> float:
    """The year that ends with June of `year`: the year before, less its first half, and the half since."""
    before, half, now = (
        value_of(figures, concept, date(begin, 1, 1), date(end, month, day))
        for begin, end, month, day in ((year - 1, year - 1, 12, 31), (year - 1, year - 1, 6, 30), (year, year, 6, 30))
    )
    return before - half + now


def test_every_column_is_its_definition() -> None:
    figures = reports(2019, 2023)
    session = date(2023, 8, 31)  # the report of June is the last one, since 2023-08-09
    end, before = date(2023, 6, 30), date(2022, 6, 30)
    row = one(rows(*figures), session)
    income, sales, cash = (year_to(figures, name, 2023) for name in ("net_income", "revenue", "operating_cash_flow"))
    assets, assets_before = (value_of(figures, "assets", None, day) for day in (end, before))
    equity, equity_before = (value_of(figures, "equity", None, day) for day in (end, before))
    shares = value_of(figures, "shares", None, date(2023, 7, 30))
    market = 50.0 * shares
    quarter_of = {
        (year, place): value_of(figures, "net_income", date(year, 3 * place + 1, 1), date(year, *QUARTER_ENDS[place]))
        for year in range(2019, 2024)
        for place in range(3)
        if (year, place) <= (2023, 1)
    }
    for year in range(2019, 2023):
        whole = value_of(figures, "net_income", date(year, 1, 1), date(year, 12, 31))
        quarter_of[year, 3] = whole - sum(quarter_of[year, place] for place in range(3))
    changes = [quarter_of[key] - quarter_of[key[0] - 1, key[1]] for key in sorted(quarter_of) if key[0] > 2019]
    expected = {
        "earnings_yield": income / market,
        "book_to_price": equity / market,
        "cash_flow_to_price": cash / market,
        "accruals": (income - cash) / fmean([assets, assets_before]),
        "asset_growth": assets / assets_before - 1,
        "gross_profitability": 0.4 * sales / assets,
        "leverage": value_of(figures, "liabilities", None, end) / assets,
        "net_share_issuance": np.log(shares / value_of(figures, "shares", None, date(2022, 7, 30))),
        "sales_growth": sales / year_to(figures, "revenue", 2022) - 1,
        "return_on_equity": income / fmean([equity, equity_before]),
        "earnings_surprise": (changes[-1] - fmean(changes[-9:-1])) / stdev(changes[-9:-1]),
        "figures_age": (session - end).days / 365,
    }
    assert set(expected) == set(COLUMNS)
    assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-12)


def test_a_report_counts_from_the_first_close_after_it_was_read() -> None:
    """That of June is accepted at 17:30 in New York on 2023-08-09: the session of the next day is the first."""
    known = rows(*reports(2020, 2023))
    ages = features(known, CALENDAR.between(date(2023, 8, 8), date(2023, 8, 11)))["figures_age"] * 365
    march, june = date(2023, 3, 31), date(2023, 6, 30)
    days = (date(2023, 8, 8), march), (date(2023, 8, 9), march), (date(2023, 8, 10), june), (date(2023, 8, 11), june)
    assert ages.to_list() == pytest.approx([(session - end).days for session, end in days])


def test_a_restated_figure_counts_from_its_own_filing_on() -> None:
    figures = reports(2020, 2022)
    end, filed = date(2022, 12, 31), date(2023, 3, 15)
    restated = (at(filed), "equity", None, end, 500.0)
    known = rows(*figures, restated)
    before, after = (one(known, session)["book_to_price"] for session in (filed, filed + timedelta(days=1)))
    shares = value_of(figures, "shares", None, date(2023, 1, 30))
    assert before == pytest.approx(value_of(figures, "equity", None, end) / (50.0 * shares))
    assert after == pytest.approx(500.0 / (50.0 * shares))


def test_a_split_changes_no_ratio() -> None:
    """Of the price after it, and of the shares counted before: four for one, as AAPL on 2020-08-31."""
    known = rows(*reports(2018, 2022))
    split = date(2020, 8, 31)
    sessions = CALENDAR.between(date(2020, 8, 20), date(2021, 9, 30))
    shares_of = pl.col("value") * pl.when((pl.col("concept") == "shares") & (pl.col("period_end") >= split)).then(
        4.0
    ).otherwise(1.0)
    unsplit, as_split = (
        features(known, sessions),
        features(known.with_columns(value=shares_of), sessions, bars({split: 4})),
    )
    assert_frame_equal(as_split, unsplit)
    assert unsplit["earnings_yield"].null_count() == 0
    wrong = features(known, sessions, bars({split: 4}))
    assert wrong.filter(pl.col("session") >= date(2020, 12, 1))["earnings_yield"].to_list() != pytest.approx(
        unsplit.filter(pl.col("session") >= date(2020, 12, 1))["earnings_yield"].to_list()
    )


def test_shares_of_the_report_itself_where_no_cover_counts_them() -> None:
    """They are in terms of the share of the day of the filing: a split between the period and the filing is in them."""
    figures = [row for row in reports(2020, 2022) if row[1] != "shares"]
    end, filed = date(2022, 12, 31), date(2023, 2, 9)
    counted = (at(filed), "reported_shares", None, end, 400.0)
    split = date(2023, 1, 17)
    equity = value_of(figures, "equity", None, end)
    row = one(rows(*figures, counted), date(2023, 2, 10), bars({split: 4}))
    assert row["book_to_price"] == pytest.approx(equity / (50.0 / 4 * 400.0))
    later = one(rows(*figures, counted), date(2023, 4, 3), bars({split: 4, date(2023, 3, 1): 2}))
    assert later["book_to_price"] == pytest.approx(equity / (50.0 / 8 * 800.0))


def test_old_figures_and_old_counts_say_nothing() -> None:
    known = rows(*reports(2019, 2021))
    end = date(2021, 12, 31)
    last = max(day for day in CALENDAR.sessions if day <= end + timedelta(days=OLDEST))
    assert one(known, last)["leverage"] is not None
    beyond = one(known, CALENDAR.shift(last, 1) or last)
    assert {name: beyond[name] for name in COLUMNS} == dict.fromkeys(COLUMNS)
    none = one(rows(), date(2022, 1, 4))
    assert {name: none[name] for name in COLUMNS} == dict.fromkeys(COLUMNS)


def test_a_missing_figure_is_null_and_no_nought() -> None:
    figures = [
        row for row in reports(2019, 2022) if row[1] not in ("cost_of_revenue", "operating_cash_flow", "liabilities")
    ]
    row = one(rows(*figures), date(2023, 3, 1))
    assert {name for name in COLUMNS if row[name] is None} == {
        "cash_flow_to_price",
        "accruals",
        "gross_profitability",
    }
    end = date(2022, 12, 31)
    owed = 1 - value_of(figures, "equity", None, end) / value_of(figures, "assets", None, end)
    assert row["leverage"] == pytest.approx(owed), "what is not owned is owed"


def test_a_figure_without_a_number_changes_nothing() -> None:
    figures = reports(2020, 2022)
    known, empty = rows(*figures), rows((at(date(2023, 2, 20)), "equity", None, date(2022, 12, 31), float("nan")))
    no_number = pl.concat([known, empty, empty.with_columns(value=pl.lit(None, pl.Float64), filing=pl.lit("other"))])
    assert one(no_number, date(2023, 3, 1)) == one(known, date(2023, 3, 1))


def test_a_company_that_owes_more_than_it_has_has_no_return_on_equity() -> None:
    figures = [(*row[:4], -100.0) if row[1] == "equity" else row for row in reports(2020, 2022)]
    row = one(rows(*figures), date(2023, 3, 1))
    assert row["return_on_equity"] is None
    assert row["book_to_price"] < 0


def test_values_are_cut_at_their_bounds() -> None:
    figures = [(*row[:4], row[4] * 1e6) if row[1] == "net_income" else row for row in reports(2019, 2022)]
    row = one(rows(*figures), date(2023, 3, 1))
    assert (row["earnings_yield"], row["return_on_equity"]) == (1.0, 2.0)


def test_a_surprise_needs_enough_quarters_and_some_deviation() -> None:
    quarters = [
        (date(year, 3 * place + 1, 1), date(year, *QUARTER_ENDS[place]))
        for year in (2019, 2020, 2021)
        for place in range(4)
    ]
    assert surprise(dict.fromkeys(quarters, 1.0)) is None, "no deviation"
    growing = {period: float(place**2) for place, period in enumerate(quarters)}
    assert surprise({period: growing[period] for period in quarters[:8]}) is None, "three differences before"
    assert surprise({period: growing[period] for period in quarters[:9]}) is not None
    assert surprise({}) is None


def test_a_year_end_that_moves_takes_years_away_and_no_balance() -> None:
    """After the first report of the new year nothing states a whole year; the balance of the day does."""
    moved = [
        (at(date(2022, 8, 10)), "net_income", date(2022, 2, 1), date(2022, 6, 30), 300.0),
        (at(date(2022, 8, 10)), "assets", None, date(2022, 6, 30), 2_500.0),
        (at(date(2022, 8, 10)), "equity", None, date(2022, 6, 30), 1_000.0),
        (at(date(2022, 8, 10)), "shares", None, date(2022, 7, 30), 100.0),
    ]
    row = one(rows(*reports(2019, 2021), *moved), date(2022, 8, 31))
    assert row["earnings_yield"] is None
    assert row["book_to_price"] == pytest.approx(1_000.0 / 5_000.0)


def test_a_day_alone_is_the_same_day_of_a_range() -> None:
    known = pl.concat([rows(*reports(2018, 2023)), rows(*reports(2019, 2022, seed=8), ticker="BBB")])
    both = pl.concat([bars({date(2021, 6, 1): 3}), bars(ticker="BBB", price=20.0)])
    sessions = CALENDAR.between(date(2021, 5, 3), date(2023, 6, 1))
    whole = features(known, sessions, both, cut=False)
    assert whole.columns == ["ticker", "session", *COLUMNS]
    assert whole.height == 2 * len(sessions)
    for session in sessions[::40]:
        alone = features(known, [session], both)
        assert_frame_equal(alone, whole.filter(pl.col("session") == session), abs_tol=1e-9)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1100), st.integers(0, 71), st.floats(0.1, 3.0)), max_size=6),
    st.sampled_from(CALENDAR.between(date(2021, 1, 4), date(2023, 12, 29))),
)
def test_what_becomes_known_later_changes_nothing_before(changes: list[tuple[int, int, float]], cut: date) -> None:
    """Also restatements of any figure at any time: rows known after the close of `cut`, and bars after it, removed."""
    figures = reports(2018, 2023)
    restated = [
        (at(date(2021, 1, 4) + timedelta(days=days)), *figures[place][1:4], figures[place][4] * factor)
        for days, place, factor in changes
    ]
    known = rows(*figures, *restated)
    sessions = CALENDAR.between(cut - timedelta(days=60), cut)
    all_bars = bars({date(2022, 6, 6): 20})
    with_future = features(known, sessions, all_bars, cut=False)
    until = CALENDAR.closes[cut]
    without = features(
        known.filter(pl.col("known_at") <= until), sessions, all_bars.filter(pl.col("session") <= cut), cut=False
    )
    assert_frame_equal(with_future, without)


def test_the_group_is_there_and_no_input_of_the_models() -> None:
    assert GROUPS["fundamentals"] is FUNDAMENTALS_GROUP
    assert not FUNDAMENTALS_GROUP.in_model
    assert rows().schema["known_at"] == UTC_TIME
