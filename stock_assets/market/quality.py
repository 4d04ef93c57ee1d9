"""Which bars cannot be trusted, and why: a pointwise judgement from the past alone.

A suspect bar stays in `daily_bars` and `labels`; it neither trains nor scores.
"""

from dataclasses import dataclass
from datetime import date

import polars as pl

from stock_assets.errors import StockAssetsError

#: A return above +100 % or below -50 % that no corporate action explains is taken for a vendor's error.
ABSURD_GAIN, ABSURD_LOSS = 1.0, -0.5
#: A ticker with an absurd return is distrusted for a year of sessions: its volatilities hold it that long.
DISTRUST = 250
#: One bar is frozen when nothing traded and nothing moved; a ticker is frozen when five of its last fifty are.
FROZEN_BARS, FROZEN_WINDOW = 5, 50
#: Sessions for which a ticker that skipped one is distrusted.
GAP_MEMORY = 50
#: Bars that the longest indicator needs; a listing younger than that has no history to judge it by.
SHORT_HISTORY = 50
#: A ticker that was absent for longer comes back as a new listing: no return leads over the absence.
MAX_ABSENCE = 270
#: Rounding of the vendor: an open or close this far outside [low, high], as a fraction, is still inside.
OHLC_TOLERANCE = 1e-4
#: The sessions before a bar that decide its judgement: the oldest absurd return that still counts, and the
#: bar that this return started from.
LOOKBACK_SESSIONS = DISTRUST + MAX_ABSENCE


def absurd() -> pl.Expr:
    """Whether the return of the day is too large to be true."""
    return ~pl.col("total_return").is_between(ABSURD_LOSS, ABSURD_GAIN)


def frozen() -> pl.Expr:
    """Whether nothing traded and nothing moved on the day."""
    return (pl.col("volume") == 0) & (pl.col("high") == pl.col("low"))


def _since(event: pl.Expr) -> pl.Expr:
    """Sessions since the listing's last `event`, null before the first."""
    return pl.col("position") - pl.when(event).then(pl.col("position")).forward_fill().over("listing")


def _outside_range() -> pl.Expr:
    low, high = pl.col("low") * (1 - OHLC_TOLERANCE), pl.col("high") * (1 + OHLC_TOLERANCE)
    return ~(pl.col("open").is_between(low, high) & pl.col("close").is_between(low, high))


def _often_frozen() -> pl.Expr:
    return frozen().cast(pl.Int32).rolling_sum(FROZEN_WINDOW, min_samples=1).over("listing") >= FROZEN_BARS


def _short_history() -> pl.Expr:
    # a ticker that trades on the first session of the store was listed before it
    listed_later = pl.col("position").first().over("listing") > 0
    return (pl.int_range(pl.len()).over("listing") < SHORT_HISTORY) & listed_later


@dataclass(frozen=True)
class BarCheck:
    """A reason to distrust a bar."""

    name: str
    """as `suspect` and the check `no_<name>` of daily_bars spell it"""
    text: str
    """completes the sentence: no bar is suspect because …"""
    flag: pl.Expr
    """Whether a bar is suspect (Boolean), evaluated as `suspect_reason` describes. It may look at `LOOKBACK_SESSIONS`
    sessions before the bar and at none after it."""
    against_vendor: bool = False
    """Whether it speaks against the vendor's answer and not against one ticker: above a share of a session's bars it
    stops the run."""


#: Every check, by name; of several that hold for a bar the first is its reason.
BAR_CHECKS: dict[str, BarCheck] = {}


def register_bar_check(check: BarCheck) -> None:
    """Adds `check` after those there are, which are stronger. Raises StockAssetsError where its name is taken."""
    if check.name in BAR_CHECKS:
        raise StockAssetsError(
            f"a bar check named {check.name} is registered already ({BAR_CHECKS[check.name].text}); expected another "
            "name"
        )
    BAR_CHECKS[check.name] = check


for _check in (
    BarCheck(
        "vendor_error",
        "another figure of the vendor contradicts it: the table quarantine holds which",
        pl.col("contradicted"),
        against_vendor=True,
    ),
    BarCheck(
        "ohlc",
        "open or close lies outside [low, high], as in a bar the vendor has not settled yet",
        _outside_range(),
        against_vendor=True,
    ),
    BarCheck(
        "absurd_return",
        f"a return above {ABSURD_GAIN:+.0%} or below {ABSURD_LOSS:+.0%} within {DISTRUST} sessions",
        _since(absurd()) < DISTRUST,
        against_vendor=True,
    ),
    BarCheck(
        "gap",
        f"the ticker skipped a session within the last {GAP_MEMORY}",
        _since(pl.col("position").diff().over("listing") > 1) < GAP_MEMORY,
    ),
    BarCheck(
        "frozen",
        f"nothing traded and nothing moved, today or on {FROZEN_BARS} of the last {FROZEN_WINDOW} bars",
        frozen() | _often_frozen(),
        against_vendor=True,
    ),
    BarCheck("short_history", f"fewer than {SHORT_HISTORY} bars since the ticker was listed", _short_history()),
):
    register_bar_check(_check)


def suspect_reason() -> pl.Expr:
    """The name of the first of BAR_CHECKS that holds for a bar (String), or null.

    To be evaluated on rows sorted by ticker and session that begin `LOOKBACK_SESSIONS` before the first one
    to judge, with the as-traded bar, `total_return`, `position` (Int32, the session's place in the calendar
    of the store), `listing` (one value per uninterrupted listing of a ticker) and `contradicted`
    (Boolean, whether `repair` found a figure of the bar wrong).
    """
    return pl.coalesce(pl.when(check.flag).then(pl.lit(check.name)) for check in BAR_CHECKS.values())


#: The share of the universe's members that must have a bar for a session to count as delivered.
COVERAGE = 0.90


def impossible_prices(bars: pl.DataFrame) -> pl.DataFrame:
    """The bars with a price that is not positive and finite, or with a negative volume."""
    prices = pl.col("open", "high", "low", "close")
    possible = pl.all_horizontal(prices.is_finite() & (prices > 0)) & (pl.col("volume") >= 0)
    return bars.filter(~possible.fill_null(value=False)).select(
        "ticker", "session", "open", "high", "low", "close", "volume"
    )


def absent_members(bars: pl.DataFrame, universe: pl.DataFrame) -> pl.DataFrame:
    """The members of the universe without a bar, per session of `bars`: ticker, session."""
    stays = universe.select("ticker", "from_session", pl.col("to_session").fill_null(date.max))
    expected = (
        stays.join(bars.select("session").unique(), how="cross")
        .filter(pl.col("session").is_between("from_session", "to_session"))
        .select("ticker", "session")
    )
    return expected.join(bars, on=["ticker", "session"], how="anti").sort("session", "ticker")


def thin_sessions(bars: pl.DataFrame, absences: pl.DataFrame) -> pl.DataFrame:
    """The sessions on which less than `COVERAGE` of the members have a bar, and more than one has none: session, bars,
    absent."""
    return (
        bars.group_by("session")
        .agg(bars=pl.len())
        .join(absences.group_by("session").agg(absent=pl.len()), on="session")
        .filter(pl.col("bars") < COVERAGE * (pl.col("bars") + pl.col("absent")), pl.col("absent") > 1)
        .sort("session")
    )
