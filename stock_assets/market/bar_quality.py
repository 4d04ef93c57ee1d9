"""Which bars below a day cannot be trusted, and which are missing, as far as the bars themselves say it."""

from collections.abc import Mapping
from datetime import date, datetime

import polars as pl

from stock_assets.frames import BAR_KEYS
from stock_assets.market.bar_tables import BAR_GAPS
from stock_assets.market.calendar import TradingCalendar

#: A close further from the one before than this, after one minute; it grows with the root of the minutes between them.
ABSURD, MOST_ABSURD = 0.08, 0.5

PRICES = ("open", "high", "low", "close")
_FIGURES = (*PRICES, "volume")

#: Why a bar is suspect, in the order in which the first that holds is named.
REASONS = {
    "no_price": "a price that is not positive and finite, or a volume that is not a number from 0 on",
    "ohlc": "open or close outside [low, high]",
    "absurd_return": "a close further than 8 % times the root of the minutes (50 % at most) from both closes before: a "
    "print that goes back, or a move that the next bar confirms",
    "repeated": "all figures are those of the bar before, and something was traded: a bar that was delivered twice",
    "split": "of the session of a split that the vendor takes out of its bars, where the bars before it were fetched "
    "before it was seen: looking back may mix two bases",
}


def on_two_bases(bars: pl.DataFrame, splits: pl.DataFrame, calendar: TradingCalendar) -> pl.DataFrame:
    """ticker, session of those of `splits` (`BAR_SPLITS`) before which the ticker's newest bar of `bars` (BAR_KEYS,
    fetched_at) was fetched before the split was seen: nobody can tell whether it is taken out of that bar."""
    opens = pl.col("session").replace_strict(calendar.opens, default=None, return_dtype=pl.Datetime("us", "UTC"))
    opened = splits.with_columns(opens=opens).sort("opens")
    before = bars.select("ticker", "fetched_at", opens="bar_end").sort("opens")
    pairs = opened.join_asof(before, on="opens", by="ticker", check_sortedness=False)
    return pairs.filter(pl.col("fetched_at") < pl.col("seen_at")).select("ticker", "session")


def with_suspects(bars: pl.DataFrame, calendar: TradingCalendar, splits: pl.DataFrame | None = None) -> pl.DataFrame:
    """`bars` (BAR_KEYS, open, high, low, close, volume) sorted by BAR_KEYS, with `suspect` (String): the first of
    REASONS that holds, null for a trusted bar. `splits` is that of `on_two_bases`; none where it is unset.

    A row looks at the two bars of its ticker before it that have prices, where they are of its session or of the one
    before, and at nothing later: a jump is suspect until the next bar stays where it led. Give the session before the
    first one as well.
    """
    rows = bars.sort(BAR_KEYS)
    usable = pl.all_horizontal(
        *((pl.col(name).is_finite() & (pl.col(name) > 0)).fill_null(value=False) for name in PRICES),
        (pl.col("volume").is_finite() & (pl.col("volume") >= 0)).fill_null(value=False),
    )
    inside = pl.all_horizontal(pl.col(name).is_between(pl.col("low"), pl.col("high")) for name in ("open", "close"))
    position = pl.col("session").replace_strict(
        {day: k for k, day in enumerate(calendar.sessions)}, default=None, return_dtype=pl.Int64
    )
    flagged_rows = rows.with_columns(usable=usable, position=position)
    before = flagged_rows.filter("usable").with_columns(
        absurd=pl.all_horizontal(_absurd(1), _absurd(2)),
        repeated=pl.all_horizontal(pl.col(name) == pl.col(name).shift() for name in _FIGURES)
        & (pl.col("volume") > 0)
        & (pl.col("ticker") == pl.col("ticker").shift())
        & (pl.col("position") - pl.col("position").shift() <= 1),
    )
    rows_with_flags = flagged_rows.join(
        before.select(*BAR_KEYS, "absurd", "repeated"), on=BAR_KEYS, how="left", maintain_order="left"
    )
    suspect = (
        pl.when(~pl.col("usable"))
        .then(pl.lit("no_price"))
        .when(~inside)
        .then(pl.lit("ohlc"))
        .when("absurd")
        .then(pl.lit("absurd_return"))
        .when("repeated")
        .then(pl.lit("repeated"))
        .when(pl.col("split").fill_null(value=False))
        .then(pl.lit("split"))
    )
    if splits is None:
        splits = bars.select("ticker", "session").clear()
    rows_with_flags = rows_with_flags.join(
        splits.with_columns(split=pl.lit(value=True)), on=["ticker", "session"], how="left", maintain_order="left"
    )
    return rows_with_flags.with_columns(suspect=suspect).drop("usable", "position", "absurd", "repeated", "split")


def _absurd(back: int) -> pl.Expr:
    """Whether the close is too far from that of the ticker's usable bar so many bars `back`; False where there is none
    of this session or the one before."""
    log = pl.col("close").log()
    minutes = (pl.col("bar_end") - pl.col("bar_end").shift(back)).dt.total_seconds() / 60
    limit = (ABSURD * minutes.sqrt()).clip(upper_bound=MOST_ABSURD)
    same_stretch = (pl.col("ticker") == pl.col("ticker").shift(back)) & (
        pl.col("position") - pl.col("position").shift(back) <= 1
    )
    return (same_stretch & ((log - log.shift(back)).abs() > limit)).fill_null(value=False)


def gaps_of(
    expected: pl.DataFrame,
    present_bars: pl.DataFrame,
    universe: pl.DataFrame,
    *,
    failures: Mapping[str, tuple[str, str]],
    limits: Mapping[str, date],
    through: datetime,
) -> pl.DataFrame:
    """The stretches of `expected` bars (session, bar_end) that the tickers of `universe` lack: `BAR_GAPS`, sorted.

    `present_bars` has ticker and bar_end of the bars that there are. `failures` holds (outcome, reason) by ticker,
    `limits` the first session that the vendor still has. Of bars that end after `through` nothing is said.
    """
    due_bars = expected.filter(pl.col("bar_end") <= through).sort("bar_end").with_row_index("place")
    members = universe.group_by("ticker").agg(
        pl.col("from_session").min(), pl.col("to_session").fill_null(date.max).max()
    )
    missing = members.join(due_bars, how="cross").join(
        present_bars.select("ticker", "bar_end"), on=["ticker", "bar_end"], how="anti"
    )
    traded_ends = present_bars["bar_end"].unique().implode()
    first_bars = present_bars.group_by("ticker").agg(begun=pl.col("bar_end").min())
    failure_rows = pl.DataFrame(
        [(ticker, *failure) for ticker, failure in failures.items()],
        {"ticker": pl.String, "failed": pl.String, "why": pl.String},
        orient="row",
    )
    oldest = pl.DataFrame(list(limits.items()), {"ticker": pl.String, "oldest": pl.Date}, orient="row")
    rows = missing.join(first_bars, on="ticker", how="left").join(failure_rows, on="ticker", how="left")
    rows = rows.join(oldest, on="ticker", how="left")
    first_day = (pl.col("session") == pl.col("from_session")) & (pl.col("bar_end") < pl.col("begun"))
    reason_columns = (
        pl.when(pl.col("session") > pl.col("to_session"))
        .then(_outcome_and_reason("delisted", pl.format("left the universe after {}", "to_session")))
        .when(pl.col("session") < pl.col("oldest"))
        .then(_outcome_and_reason("limit", pl.format("the vendor has bars from {} on", "oldest")))
        .when((pl.col("session") < pl.col("from_session")) | first_day)
        .then(_outcome_and_reason("not_listed", pl.format("nothing before {}", pl.coalesce("begun", "from_session"))))
        .when(pl.col("failed").is_not_null())
        .then(_outcome_and_reason(pl.col("failed"), pl.col("why")))
        .when(~pl.col("bar_end").is_in(traded_ends))
        .then(_outcome_and_reason("outage", pl.lit("no ticker has the bar")))
        .otherwise(_outcome_and_reason("no_bar", pl.lit("other tickers have the bar")))
    )
    spelled_gaps = rows.with_columns(reason_columns.alias("both")).unnest("both").sort("ticker", "place")
    follows = pl.all_horizontal(pl.col(name) == pl.col(name).shift() for name in ("ticker", "session", "outcome"))
    begins = ~(follows & (pl.col("place") == pl.col("place").shift() + 1)).fill_null(value=False)
    stretches = spelled_gaps.with_columns(stretch=begins.cum_sum()).group_by("stretch", maintain_order=True)
    gaps = stretches.agg(
        pl.col("ticker", "session").first(),
        first=pl.col("bar_end").first(),
        last=pl.col("bar_end").last(),
        bars=pl.len().cast(pl.Int64),
        outcome=pl.col("outcome").first(),
        reason=pl.col("reason").first(),
    )
    return BAR_GAPS.fit(gaps.drop("stretch"))


def _outcome_and_reason(outcome: str | pl.Expr, reason: pl.Expr) -> pl.Expr:
    return pl.struct(outcome=pl.lit(outcome) if isinstance(outcome, str) else outcome, reason=reason)
