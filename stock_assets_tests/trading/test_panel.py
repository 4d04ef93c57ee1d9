"""The panel: what was traded, and what was known at each close, against naive loops and bit for bit."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from stock_assets.errors import BadBarsError, TradingError
from stock_assets.trading.books import Limits
from stock_assets.trading.panel import (
    FILLED,
    LOOKBACK_SESSIONS,
    NO_BAR,
    NO_OPEN,
    NO_VOLUME,
    OUTSIDE,
    REASONS,
    SUSPECT,
    UNKNOWN_ENDING,
    Panel,
    panel_of,
)

SESSIONS = [day for day in (date(2023, 1, 2) + timedelta(n) for n in range(500)) if day.weekday() < 5][:330]
TICKERS = [f"T{i:02d}" for i in range(12)]
UNIVERSE = pl.DataFrame({"ticker": TICKERS, "sector": ["A", "B", None] * 4})
ENDED = 5


def random_bars(seed: int) -> pl.DataFrame:
    """Rows of daily_bars of 12 tickers in which bars are absent, suspect, without volume or without an open."""
    generator = np.random.default_rng(seed)
    shape = len(SESSIONS), len(TICKERS)
    close = 50 * np.exp(np.cumsum(generator.normal(0, 0.02, shape), axis=0))
    frame = pl.DataFrame(
        {
            "session": np.repeat(np.array(SESSIONS, dtype="datetime64[D]"), shape[1]),
            "ticker": TICKERS * shape[0],
            "open": (close * generator.uniform(0.98, 1.02, shape)).ravel(),
            "high": close.ravel() * 1.01,
            "low": close.ravel() * 0.99,
            "close": close.ravel(),
            "volume": generator.integers(0, 1_000_000, shape).ravel().astype(float),
            "dividend": np.where(generator.random(shape) < 0.02, 0.3, 0.0).ravel(),
            "split_ratio": np.where(generator.random(shape) < 0.01, 2.0, 1.0).ravel(),
            "total_return": generator.normal(0, 0.02, shape).ravel(),
            "is_member": (generator.random(shape) < 0.9).ravel(),
            "suspect": np.where(generator.random(shape) < 0.03, "absurd_return", "").ravel(),
            "kept": (generator.random(shape) < 0.9).ravel(),
        }
    ).with_columns(pl.col("session").cast(pl.Date), pl.col("suspect").replace("", None))
    gone = (pl.col("ticker") == "T05") & (pl.col("session") >= SESSIONS[300])
    return frame.filter(pl.col("kept") & ~gone).drop("kept")


CONTEXT = pl.DataFrame(
    {
        "series": ["SPY"] * len(SESSIONS),
        "session": SESSIONS,
        "total_return": np.random.default_rng(9).normal(0, 0.01, len(SESSIONS)),
    }
)
BARS = random_bars(1)


def panel(sessions: list[date], bars: pl.DataFrame = BARS, **arguments: object) -> Panel:
    return panel_of(bars, UNIVERSE, CONTEXT, sessions=sessions, limits=Limits(ended_sessions=ENDED), **arguments)


WHOLE = panel(SESSIONS)


def test_what_is_known_of_a_ticker_is_what_a_loop_computes():
    t = len(SESSIONS) - 1
    market = dict(CONTEXT.select("session", "total_return").iter_rows())
    for i, ticker in enumerate(TICKERS):
        rows = {row["session"]: row for row in BARS.filter(pl.col("ticker") == ticker).iter_rows(named=True)}
        value = [rows[day]["close"] * rows[day]["volume"] if day in rows else 0.0 for day in SESSIONS[t - 19 : t + 1]]
        np.testing.assert_allclose(WHOLE.adv[t, i], np.mean(value), rtol=1e-6)
        trusted = {day: row["total_return"] for day, row in rows.items() if row["suspect"] is None}
        of_window = [trusted[day] for day in SESSIONS[t - 59 : t + 1] if day in trusted]
        expected = np.std(of_window, ddof=1) if len(of_window) >= 20 else np.nan
        np.testing.assert_allclose(WHOLE.volatility[t, i], expected, rtol=1e-6)
        pairs = np.array([(trusted[day], market[day]) for day in SESSIONS[t - 249 : t + 1] if day in trusted])
        np.testing.assert_allclose(WHOLE.beta[t, i], np.cov(pairs.T)[0, 1] / pairs[:, 1].var(ddof=1), rtol=1e-5)


def test_a_session_is_the_same_alone_and_in_the_range():
    reach = SESSIONS[-2 - LOOKBACK_SESSIONS :]
    few = BARS.filter(pl.col("session").is_in(reach), pl.col("ticker") != "T03")
    alone, day = panel(SESSIONS[-2:], few).day(1), WHOLE.day(len(SESSIONS) - 1)
    others = [i for i, ticker in enumerate(TICKERS) if ticker != "T03"]
    assert (alone.session, alone.nights) == (day.session, day.nights)
    for name in ("open", "close", "dividend", "split_ratio", "refusal", "trusted", "ending", "adv_before"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(day, name)[others])
    np.testing.assert_array_equal(alone.volatility_before, day.volatility_before[others])
    np.testing.assert_array_equal(panel(SESSIONS[-2:], few).beta[1], WHOLE.beta[-1, others])


def test_the_future_changes_nothing():
    cut = 200
    before = panel(SESSIONS[:cut], BARS.filter(pl.col("session") < SESSIONS[cut]))
    for name in ("open", "close", "refusal", "suspect", "member", "adv", "volatility", "beta", "fifth", "equal_weight"):
        np.testing.assert_array_equal(getattr(before, name), getattr(WHOLE, name)[:cut])
    for t in range(cut):
        np.testing.assert_array_equal(before.day(t).ending, WHOLE.day(t).ending)


def test_a_listing_has_ended_when_it_had_no_bar_for_so_many_sessions():
    i = TICKERS.index("T05")
    last = max(t for t in range(len(SESSIONS)) if not np.isnan(WHOLE.close[t, i]))
    endings = [t for t in range(len(SESSIONS)) if not np.isnan(WHOLE.day(t).ending[i])]
    assert endings == [last + ENDED]
    assert WHOLE.day(endings[0]).ending[i] == UNKNOWN_ENDING
    stated = pl.DataFrame({"ticker": ["T05"], "session": [SESSIONS[last + 1]], "return": [-0.1]})
    assert panel(SESSIONS, endings=stated).day(last + 1).ending[i] == -0.1


def test_why_an_order_is_not_filled():
    day = BARS["session"].max()
    rows = BARS.filter(pl.col("session") < day).vstack(
        pl.DataFrame(
            {
                "session": [day] * 5,
                "ticker": TICKERS[:5],
                "open": [10.0, None, 10.0, 12.0, 10.0],
                "high": [11.0] * 5,
                "low": [9.0] * 5,
                "close": [10.0] * 5,
                "volume": [1.0, 1.0, 0.0, 1.0, 1.0],
                "dividend": [0.0] * 5,
                "split_ratio": [1.0] * 5,
                "total_return": [0.0] * 5,
                "is_member": [True] * 5,
                "suspect": [None, None, None, None, "ohlc"],
            },
            schema=BARS.schema,
        )
    )
    bars = panel(SESSIONS, rows).day(SESSIONS.index(day))
    assert list(bars.refusal[:6]) == [FILLED, NO_OPEN, NO_VOLUME, OUTSIDE, SUSPECT, NO_BAR]
    assert [REASONS[code] for code in bars.refusal[1:4]] == ["no open", "no volume", "open outside high and low"]
    assert list(bars.trusted[:6]) == [True, True, True, True, False, False]


def test_a_source_without_corporate_actions_pays_what_the_total_return_has_beyond_the_price():
    bars = pl.DataFrame(
        {
            "session": SESSIONS[:3],
            "ticker": ["T00"] * 3,
            **{name: [100.0, 99.0, 50.0] for name in ("open", "high", "low", "close")},
            "volume": [1e6] * 3,
            "dividend": [None] * 3,
            "split_ratio": [None] * 3,
            "total_return": [None, 0.01, 50.0 / 99.0 - 1 + 1e-9],
            "is_member": [True] * 3,
            "suspect": [None] * 3,
        },
        schema_overrides={"suspect": pl.String, "dividend": pl.Float64, "split_ratio": pl.Float64},
    )
    whole = panel(SESSIONS[:3], bars)
    np.testing.assert_allclose([whole.day(t).dividend[0] for t in range(3)], [0.0, 2.0, 0.0], rtol=1e-12)
    assert [whole.day(t).split_ratio[0] for t in range(3)] == [1.0, 1.0, 1.0]


def test_fifths_are_of_the_members_and_nights_are_calendar_days():
    t = len(SESSIONS) - 1
    members = WHOLE.member[t]
    counts = np.bincount(WHOLE.fifth[t][members], minlength=5)
    assert counts.sum() == members.sum()
    assert counts.max() - counts.min() <= 1
    order = np.argsort(WHOLE.adv[t])
    assert (np.diff(WHOLE.fifth[t][order]) >= 0).all()
    monday = next(t for t in range(1, 10) if SESSIONS[t].weekday() == 0)
    assert [WHOLE.day(t).nights for t in (monday, monday + 1)] == [3, 1]
    assert WHOLE.sectors == ("", "A", "B")
    assert list(WHOLE.sector[:3]) == [1, 2, 0]


def test_bad_bars_are_one_clear_error():
    first = BARS["session"].min()
    wrong = BARS.with_columns(pl.when(pl.col("session") == first).then(-1.0).otherwise("volume").alias("volume"))
    with pytest.raises(BadBarsError, match=rf"session {first}, column volume: found -1.0, expected .* not below 0"):
        panel(SESSIONS, wrong)
    with pytest.raises(BadBarsError, match="has two bars of"):
        panel(SESSIONS, BARS.vstack(BARS.head(1)))
    with pytest.raises(TradingError, match="ascending"):
        panel(SESSIONS[::-1])
    unknown = pl.DataFrame({"ticker": ["NONE"], "session": [SESSIONS[3]], "return": [0.0]})
    with pytest.raises(TradingError, match="the ending of NONE"):
        panel(SESSIONS, endings=unknown)
