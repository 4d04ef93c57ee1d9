"""Suspect bars and gaps below a day, against rules written as loops."""

import math
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stock_assets.market.bar_quality import ABSURD, MOST_ABSURD, gaps_of, with_suspects
from stock_assets.market.calendar import trading_calendar
from stock_assets.market.intervals import Interval, expected_bars
from stock_assets.market.tables import UNIVERSE_SCHEMA

ALWAYS = trading_calendar("24/7", date(2025, 6, 1), date(2025, 6, 9))
START = datetime(2025, 6, 1, 23, 50, tzinfo=UTC)
FIGURES = ("open", "high", "low", "close", "volume")


def bars(rows: list[tuple[int, float, float, float, float, float]], ticker: str = "A") -> pl.DataFrame:
    """Of (minute after START, open, high, low, close, volume)."""
    ends = [START + timedelta(minutes=row[0]) for row in rows]
    days = [(end - timedelta(seconds=1)).date() for end in ends]
    return pl.DataFrame(
        {"ticker": [ticker] * len(rows), "session": days, "bar_end": ends}
        | {name: [row[k + 1] for row in rows] for k, name in enumerate(FIGURES)},
        schema_overrides={"bar_end": pl.Datetime("us", "UTC"), "session": pl.Date} | dict.fromkeys(FIGURES, pl.Float64),
    )


def flat(minute: int, close: float, volume: float = 1.0) -> tuple[int, float, float, float, float, float]:
    return minute, close, close + 0.5, close - 0.5, close, volume + minute / 100


def suspects(rows: list[tuple[int, float, float, float, float, float]]) -> list[str | None]:
    return with_suspects(bars(rows), ALWAYS)["suspect"].to_list()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *((name, value) for name in FIGURES[:4] for value in (0.0, -1.0, math.nan, math.inf, None)),
        *(("volume", value) for value in (-1.0, math.nan, math.inf, None)),
    ],
)
def test_a_bar_without_a_price_is_suspect_and_nothing_is_measured_by_it(column: str, value: float | None):
    rows = bars([flat(1, 100), flat(2, 100), flat(3, 100.1)])
    broken = rows.with_columns(
        pl.when(pl.col("bar_end") == rows["bar_end"][1]).then(value).otherwise(column).alias(column)
    )
    assert with_suspects(broken, ALWAYS)["suspect"].to_list() == [None, "no_price", None]


def test_a_close_outside_its_range_is_suspect():
    assert suspects([(1, 100, 99, 98, 100, 1.0), (2, 100, 101, 100.5, 100.7, 1.0)]) == ["ohlc", "ohlc"]
    assert suspects([(1, 100, 98, 99, 98.5, 1.0)]) == ["ohlc"]


def test_a_print_that_goes_back_is_suspect_alone():
    assert suspects([flat(1, 100), flat(2, 100), flat(3, 150), flat(4, 100), flat(5, 100)]) == [
        None, None, "absurd_return", None, None,
    ]  # fmt: skip


def test_a_move_that_stays_is_suspect_until_the_next_bar_confirms_it():
    assert suspects([flat(1, 100), flat(2, 100), flat(3, 80), flat(4, 80.1), flat(5, 80)]) == [
        None, None, "absurd_return", None, None,
    ]  # fmt: skip


def test_what_is_absurd_grows_with_the_minutes_in_between():
    assert suspects([flat(1, 100), flat(2, 100), flat(3, 115)])[-1] == "absurd_return"
    assert suspects([flat(1, 100), flat(2, 100), flat(12, 115)])[-1] is None


def test_a_bar_delivered_twice_is_suspect_and_a_quiet_one_is_not():
    same = (100.0, 101.0, 99.0, 100.5)
    assert suspects([(1, *same, 5.0), (2, *same, 5.0)]) == [None, "repeated"]
    assert suspects([(1, *same, 0.0), (2, *same, 0.0)]) == [None, None]


def _by_hand(rows: pl.DataFrame) -> list[str | None]:
    """The rules as a loop over one ticker."""
    usable: list[dict] = []
    found: list[str | None] = []
    for row in rows.iter_rows(named=True):
        priced = all(row[name] is not None and math.isfinite(row[name]) and row[name] > 0 for name in FIGURES[:4])
        if not (priced and math.isfinite(row["volume"]) and row["volume"] >= 0):
            found.append("no_price")
            continue
        near = [each for each in usable[-2:] if (row["session"] - each["session"]).days <= 1]
        far = [
            abs(math.log(row["close"] / each["close"]))
            > min(ABSURD * math.sqrt((row["bar_end"] - each["bar_end"]).total_seconds() / 60), MOST_ABSURD)
            for each in near
        ]
        if not all(row["low"] <= row[name] <= row["high"] for name in ("open", "close")):
            found.append("ohlc")
        elif len(far) == 2 and all(far):
            found.append("absurd_return")
        elif near and row["volume"] > 0 and all(row[name] == near[-1][name] for name in FIGURES):
            found.append("repeated")
        else:
            found.append(None)
        usable.append(row)
    return found


prices = st.sampled_from([100.0, 100.1, 109.0, 92.0, 150.0, 0.0, math.nan])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.integers(1, 5000), prices, st.sampled_from([0.0, 1.0, 2.0])), max_size=25, unique_by=lambda r: r[0]
    ),
    st.integers(0, 25),
)
def test_the_rules_are_those_of_a_loop_and_look_at_nothing_later(rows: list[tuple[int, float, float]], cut: int):
    frame = bars([(minute, close, close + 0.2, close - 0.2, close, volume) for minute, close, volume in sorted(rows)])
    judged = with_suspects(frame, ALWAYS)
    assert judged["suspect"].to_list() == _by_hand(frame)
    assert with_suspects(frame.head(cut), ALWAYS)["suspect"].to_list() == judged["suspect"].to_list()[:cut]


# ---------------------------------------------------------------- gaps


def test_every_missing_bar_is_named_once_with_its_reason():
    expected = expected_bars(ALWAYS, ALWAYS.sessions[:2], Interval.parse("1h"))
    universe = pl.DataFrame(
        [
            ("A", None, None, date(2025, 6, 1), None),
            ("B", None, None, date(2025, 6, 1), None),
            ("GONE", None, None, date(2025, 5, 1), date(2025, 6, 1)),
            ("NEW", None, None, date(2025, 6, 2), None),
            ("DEAF", None, None, date(2025, 6, 1), None),
        ],
        UNIVERSE_SCHEMA,
        orient="row",
    )
    ends = expected["bar_end"].to_list()
    there = {
        "A": [end for k, end in enumerate(ends) if k not in (3, 4, 10)],
        "B": [end for k, end in enumerate(ends) if k not in (4, 10, 11)],
        "GONE": ends[:24],
        "NEW": ends[30:],
    }
    frame = pl.DataFrame(
        [(ticker, end) for ticker, each in there.items() for end in each],
        {"ticker": pl.String, "bar_end": pl.Datetime("us", "UTC")},
        orient="row",
    )
    failures = {"DEAF": ("error", "HTTP 503")}
    # GONE and NEW trade in the 11th hour, so that no bar is missing of all
    gaps = gaps_of(expected, frame, universe, failures=failures, limits={}, through=ends[-2])
    told = {
        (row["ticker"], ends.index(row["first"]), ends.index(row["last"]), row["bars"], row["outcome"])
        for row in gaps.iter_rows(named=True)
    }
    assert told == {
        ("A", 3, 4, 2, "no_bar"),
        ("A", 10, 10, 1, "no_bar"),
        ("B", 4, 4, 1, "no_bar"),
        ("B", 10, 11, 2, "no_bar"),
        ("GONE", 24, 46, 23, "delisted"),
        ("NEW", 0, 23, 24, "not_listed"),
        ("NEW", 24, 29, 6, "not_listed"),
        ("DEAF", 0, 23, 24, "error"),
        ("DEAF", 24, 46, 23, "error"),
    }
    without = frame.filter(~pl.col("bar_end").is_in(ends[10:12]))
    outage = gaps_of(expected, without, universe, failures=failures, limits={}, through=ends[-1])
    assert outage.filter(pl.col("ticker") == "A", pl.col("outcome") == "outage")["bars"].to_list() == [2]
    limited = gaps_of(expected, frame, universe, failures={}, limits={"DEAF": date(2025, 6, 2)}, through=ends[-1])
    assert limited.filter(pl.col("ticker") == "DEAF")["outcome"].to_list() == ["limit", "no_bar"]
