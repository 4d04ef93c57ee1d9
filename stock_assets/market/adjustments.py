"""From what the vendor said to the bar of the day: as-traded prices and total returns.

Vendors rewrite history: their close is split-adjusted as of the download and their adjusted close moves with
every later dividend. Multiplied back, a bar is what was traded on its day and never changes again.
"""

from collections.abc import Sequence
from datetime import date, datetime

import polars as pl

from stock_assets.market.bars import BAR_SCHEMA, RESTATEMENT_SCHEMA, UTC_TIME
from stock_assets.market.quality import MAX_ABSENCE, suspect_reason

#: Two figures of one bar that differ by less than this are the same figure, said twice: vendors round to
#: seven significant digits.
SAME_FIGURE = 1e-6


def latest_versions(raw: pl.DataFrame) -> pl.DataFrame:
    """The version of every (ticker, session) that was fetched last (`RAW_SCHEMA`), sorted by both."""
    return raw.sort("ticker", "session", "fetched_at").unique(["ticker", "session"], keep="last", maintain_order=True)


def as_traded(raw: pl.DataFrame) -> pl.DataFrame:
    """The rows of `RAW_SCHEMA` with prices and dividends multiplied, and volumes divided, by the later splits."""
    factor = pl.col("later_splits")
    return raw.with_columns(
        *[(pl.col(name) * factor).alias(name) for name in ("open", "high", "low", "close", "dividend")],
        (pl.col("volume") / factor).alias("volume"),
    )


def total_returns(bars: pl.DataFrame, preceding: pl.Expr) -> pl.DataFrame:
    """`bars` (as traded, sorted by ticker and session) with `total_return`, null on the first of a listing.

    (close[t] + dividend[t]) * split_ratio[t] / close[t-1] - 1, with the listing's preceding bar as t-1: no
    later event can change it. A source without corporate actions (null `split_ratio`) falls back to the
    ratio of two adjusted closes of one and the same answer. `preceding` is true where the row above is
    the bar before, of the same listing.
    """
    before = pl.when(preceding).then(pl.col("close").shift(1))
    from_actions = (pl.col("close") + pl.col("dividend")) * pl.col("split_ratio") / before - 1
    from_adjusted = pl.when(preceding).then(pl.col("adj_close") / pl.col("previous_adj_close") - 1)
    return bars.with_columns(
        total_return=pl.when(pl.col("split_ratio").is_null()).then(from_adjusted).otherwise(from_actions)
    )


def differs(now: str, then: str) -> pl.Expr:
    """Whether two columns say different figures: apart by more than rounding, or only one of them null."""
    apart = (pl.col(now) - pl.col(then)).abs() > SAME_FIGURE * pl.max_horizontal(pl.col(now).abs(), pl.col(then).abs())
    return (pl.col(now).is_null() != pl.col(then).is_null()) | apart.fill_null(value=False)


def restatements(stored: pl.DataFrame, bars: pl.DataFrame, seen_at: datetime) -> pl.DataFrame:
    """What `bars` says otherwise than the `stored` ones of the same sessions (`RESTATEMENT_SCHEMA`).

    Both have the columns of `BAR_SCHEMA`. A bar that only one of them has counts with all its figures, unless its
    session had no bar at all: then it was simply not made yet.
    """
    figures = ["open", "high", "low", "close", "volume", "dividend", "split_ratio", "total_return"]
    keys = ["ticker", "session"]
    made = stored["session"].unique()

    def long(frame: pl.DataFrame, name: str) -> pl.DataFrame:
        of_made = frame.filter(pl.col("session").is_in(made.implode()))
        return of_made.unpivot(figures, index=keys, variable_name="column", value_name=name)

    return (
        long(stored, "before")
        .join(long(bars, "after"), on=[*keys, "column"], how="full", coalesce=True)
        .filter(differs("after", "before"))
        .with_columns(seen_at=pl.lit(seen_at).cast(UTC_TIME))
        .select(RESTATEMENT_SCHEMA.names())
        .sort("session", "ticker", "column")
    )


def new_versions(stored: pl.DataFrame, answered: pl.DataFrame) -> pl.DataFrame:
    """The rows of `answered` that say something `stored` (latest versions) does not: what to append.

    Compared are the as-traded figures, not the vendor's basis, so that a split announced today or a dividend
    paid since is no new version of every past row. Rows without corporate actions are compared by the
    return between their two adjusted closes.
    """

    if stored.is_empty():
        return answered

    def figures(raw: pl.DataFrame) -> pl.DataFrame:
        return as_traded(raw).select(
            "ticker",
            "session",
            "source",
            "open",
            "high",
            "low",
            "close",
            "volume",
            "dividend",
            "split_ratio",
            adjusted_return=pl.when(pl.col("split_ratio").is_null()).then(
                pl.col("adj_close") / pl.col("previous_adj_close")
            ),
        )

    pairs = figures(answered).join(
        figures(stored), on=["ticker", "session"], how="left", suffix="_stored", nulls_equal=True
    )

    numbers = [*("open", "high", "low", "close", "volume", "dividend", "split_ratio"), "adjusted_return"]
    changed = pl.col("source").ne_missing(pl.col("source_stored")) | pl.any_horizontal(
        differs(name, f"{name}_stored") for name in numbers
    )
    return answered.join(pairs.filter(changed).select("ticker", "session"), on=["ticker", "session"])


def clean_bars(raw: pl.DataFrame, universe: pl.DataFrame, sessions: Sequence[date]) -> pl.DataFrame:
    """The one clean bar of every (session, ticker) in `raw` (`BAR_SCHEMA`), sorted by session and ticker.

    `raw` may hold several versions of a bar: the one fetched last counts. `sessions` are the exchange's from
    the first of the store to the last in `raw`. A row depends on `quality.LOOKBACK_SESSIONS` sessions before it.
    """
    positions = pl.DataFrame(
        {"session": sessions, "position": range(len(sessions))},
        schema={"session": pl.Date, "position": pl.Int32},
    )
    bars = (
        as_traded(latest_versions(raw))
        .join(positions, on="session", maintain_order="left")
        .with_columns(
            preceding=(
                (pl.col("ticker") == pl.col("ticker").shift(1)) & (pl.col("position").diff() <= MAX_ABSENCE)
            ).fill_null(value=False)
        )
        .with_columns(listing=(~pl.col("preceding")).cum_sum())
    )
    judged = total_returns(bars, pl.col("preceding")).with_columns(suspect=suspect_reason())
    return with_membership(judged, universe).select(BAR_SCHEMA.names()).cast(BAR_SCHEMA).sort("session", "ticker")  # pyright: ignore[reportArgumentType]


def with_membership(bars: pl.DataFrame, universe: pl.DataFrame) -> pl.DataFrame:
    """`bars` with `is_member`: whether the universe (`UNIVERSE_SCHEMA`) holds the ticker on that session."""
    stays = universe.select("ticker", "from_session", pl.col("to_session").fill_null(date.max))
    member = (
        bars.select("ticker", "session")
        .join(stays, on="ticker")
        .filter(pl.col("session").is_between(pl.col("from_session"), pl.col("to_session")))
        .select("ticker", "session", is_member=pl.lit(value=True))
        .unique()
    )
    return bars.join(member, on=["ticker", "session"], how="left").with_columns(
        pl.col("is_member").fill_null(value=False)
    )
