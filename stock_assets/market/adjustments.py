"""From the vendor's figures to the bar of the day: as-traded prices and total returns.

Vendors rewrite history: their close is split-adjusted as of the download and their adjusted close moves with
every later dividend. Multiplied back, a bar is what was traded on its day and never changes again.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial

import polars as pl

from stock_assets.market import repair
from stock_assets.market.dividends import plausible_dividends
from stock_assets.market.findings import no_findings, same_closes, with_contradicted
from stock_assets.market.quality import MAX_ABSENCE, suspect_reason
from stock_assets.market.splits import uncertain_jumps, with_unlisted_splits
from stock_assets.market.tables import BAR_SCHEMA, RESTATEMENT_SCHEMA
from stock_assets.tables import UTC_TIME

#: Two figures of one bar that differ by less than this are the same figure, stated twice: vendors round to
#: seven significant digits.
SAME_FIGURE = 1e-6
#: What is fetched sooner after the close is provisional: vendors correct prints and volumes over night.
SETTLING = timedelta(hours=12)
#: Yahoo's settled volumes, before splits, are multiples of it.
ROUND_LOT = 100


def latest_versions(raw: pl.DataFrame) -> pl.DataFrame:
    """The version of every (ticker, session) that was fetched last (`RAW_SCHEMA`), sorted by both."""
    rows = raw.sort("ticker", "session", "fetched_at")
    later = pl.any_horizontal(pl.col(name) != pl.col(name).shift(-1) for name in ("ticker", "session"))
    return rows.filter(later.fill_null(value=True))


def as_traded(raw: pl.DataFrame) -> pl.DataFrame:
    """The rows of `RAW_SCHEMA` with prices and dividends multiplied, and volumes divided, by the later splits."""
    factor = pl.col("later_splits")
    return raw.with_columns(
        *[(pl.col(name) * factor).alias(name) for name in ("open", "high", "low", "close", "dividend")],
        (pl.col("volume") / factor).alias("volume"),
    )


def total_returns(bars: pl.DataFrame) -> pl.DataFrame:
    """`bars` (as traded) with `total_return`, null where `before`, the close of the listing's preceding bar, is.

    (close[t] + dividend[t]) * split_ratio[t] / before - 1: no later event can change it. A source without corporate
    actions (null `split_ratio`) falls back to the ratio of two adjusted closes of one and the same answer.
    """
    from_actions = (pl.col("close") + pl.col("dividend")) * pl.col("split_ratio") / pl.col("before") - 1
    from_adjusted = pl.col("adj_close") / pl.col("previous_adj_close") - 1
    by_source = pl.when(pl.col("split_ratio").is_null()).then(from_adjusted).otherwise(from_actions)
    return bars.with_columns(total_return=pl.when(pl.col("before").is_not_null()).then(by_source))


def figures_differ(now: pl.Expr, then: pl.Expr) -> pl.Expr:
    """Whether two figures of a row are different: apart by more than rounding, or only one of them null."""
    apart = (now - then).abs() > SAME_FIGURE * pl.max_horizontal(now.abs(), then.abs())
    return (now.is_null() != then.is_null()) | apart.fill_null(value=False)


def differs(now: str, then: str) -> pl.Expr:
    """`figures_differ` of the two columns."""
    return figures_differ(pl.col(now), pl.col(then))


def restatements(
    stored_bars: pl.DataFrame, bars: pl.DataFrame, seen_at: datetime, *, made_sessions: Collection[date] | None = None
) -> pl.DataFrame:
    """The figures of `bars` that differ from those of `stored_bars` of the same sessions (`RESTATEMENT_SCHEMA`).

    Both have the columns of `BAR_SCHEMA`. A bar that only one of them has counts with all its figures, unless its
    session had no bar at all, or is none of `made_sessions` where both are of some tickers alone: then it had not been
    made yet.
    """
    figures = ["open", "high", "low", "close", "volume", "dividend", "split_ratio", "total_return"]
    keys = ["ticker", "session"]
    stored_sessions = (
        stored_bars["session"].unique() if made_sessions is None else pl.Series(list(made_sessions), dtype=pl.Date)
    )

    def long(frame: pl.DataFrame, name: str) -> pl.DataFrame:
        rows = frame.filter(pl.col("session").is_in(stored_sessions.implode()))
        return rows.unpivot(figures, index=keys, variable_name="column", value_name=name)

    return (
        long(stored_bars, "before")
        .join(long(bars, "after"), on=[*keys, "column"], how="full", coalesce=True)
        .filter(differs("after", "before"))
        .with_columns(seen_at=pl.lit(seen_at).cast(UTC_TIME))
        .select(RESTATEMENT_SCHEMA.names())
        .sort("session", "ticker", "column")
    )


def new_versions(
    stored_versions: pl.DataFrame, answered_bars: pl.DataFrame, closes: Mapping[date, datetime] | None = None
) -> pl.DataFrame:
    """The rows of `answered_bars` with figures that `stored_versions` (latest versions) lacks: what to append.

    Compared are the as-traded figures, not the vendor's basis, so that a split announced today or a dividend
    paid since is no new version of every past row. Rows without corporate actions are compared by the
    return between their two adjusted closes. With `closes` (session: moment of its close, UTC), a settled answer
    to a version that was fetched within `SETTLING` is new though its figures are the same: it confirms it.
    """

    if stored_versions.is_empty():
        return answered_bars

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
            "fetched_at",
            adjusted_return=pl.when(pl.col("split_ratio").is_null()).then(
                pl.col("adj_close") / pl.col("previous_adj_close")
            ),
        )

    pairs = figures(answered_bars).join(
        figures(stored_versions), on=["ticker", "session"], how="left", suffix="_stored", nulls_equal=True
    )

    numbers = [*("open", "high", "low", "close", "volume", "dividend", "split_ratio"), "adjusted_return"]
    settling_time = settled_at(closes or {})
    confirming = (utc("fetched_at") >= settling_time) & (utc("fetched_at_stored") < settling_time)
    is_changed = (
        confirming.fill_null(value=False)
        | pl.col("source").ne_missing(pl.col("source_stored"))
        | pl.any_horizontal(differs(name, f"{name}_stored") for name in numbers)
    )
    return answered_bars.join(pairs.filter(is_changed).select("ticker", "session"), on=["ticker", "session"])


def clean_bars(
    raw: pl.DataFrame,
    universe: pl.DataFrame,
    sessions: Sequence[date],
    *,
    closes: Mapping[date, datetime] | None = None,
    doubts: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The one clean bar of every (session, ticker) in `raw` (`BAR_SCHEMA`), sorted by session and ticker.

    `raw` may hold several versions of a bar: the one fetched last counts. `sessions` are the exchange's from
    the first of the store to the last in `raw`, and `closes` holds when they closed (UTC): without it, when a bar was
    fetched does not make it provisional. A row depends on `quality.LOOKBACK_SESSIONS` sessions before it.
    """
    return clean_bars_and_findings(raw, universe, sessions, closes=closes, doubts=doubts)[0]


def clean_bars_and_findings(
    raw: pl.DataFrame,
    universe: pl.DataFrame,
    sessions: Sequence[date],
    *,
    closes: Mapping[date, datetime] | None = None,
    doubts: pl.DataFrame | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`clean_bars`, and what is wrong with the versions they are made from (`findings.no_findings`), by the same rules
    of time.

    `doubts` are findings that were made when the versions were fetched (`splits.uncertain_splits`): a bar with such a
    close is suspect.
    """
    latest = latest_versions(raw).with_columns(provisional=provisional(closes or {}))
    locate_bars = partial(in_listings, sessions=sessions)
    steps = (
        repair.priced,
        locate_bars,
        repair.in_one_unit,
        with_unlisted_splits,
        plausible_dividends,
        uncertain_jumps,
    )
    bars, findings = repair.in_steps(as_traded(latest), steps)
    of_fetch = no_findings() if doubts is None else same_closes(doubts, bars)
    bars_of_members = total_returns(with_contradicted(bars, pl.concat([findings, of_fetch]))).with_columns(
        suspect=suspect_reason()
    )
    clean = (
        with_membership(bars_of_members, universe).select(BAR_SCHEMA.names()).cast(BAR_SCHEMA).sort("session", "ticker")
    )  # pyright: ignore[reportArgumentType]
    return clean, pl.concat([findings, repair.untrusted(bars_of_members)])


def traded_sessions(raw: pl.DataFrame, sessions: Sequence[date]) -> list[date]:
    """`sessions` without those from the first to the last of `raw` of which no ticker has a bar: no ticker skipped
    anything on a day on which the exchange was closed, or that the vendor lost."""
    return traded_on(set(raw.filter(~pl.any_horizontal(*repair.impossible().values()))["session"].unique()), sessions)


def traded_on(bar_sessions: Collection[date], sessions: Sequence[date]) -> list[date]:
    """As `traded_sessions`, of the sessions that have a bar."""
    if not bar_sessions:
        return list(sessions)
    first, last = min(bar_sessions), max(bar_sessions)
    return [session for session in sessions if not first < session < last or session in bar_sessions]


def in_listings(bars: pl.DataFrame, *, sessions: Sequence[date]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`bars` (sorted by ticker and session) with `position`, the place of their session among `sessions` (Int32),
    `listing`, one number per uninterrupted listing of a ticker, and `before`, the close of the listing's bar before.

    A step of `repair.in_steps` that finds nothing.
    """
    positions = pl.DataFrame(
        {"session": sessions, "position": range(len(sessions))}, schema={"session": pl.Date, "position": pl.Int32}
    )
    same_ticker = pl.col("ticker") == pl.col("ticker").shift(1)
    placed_bars = (
        bars.join(positions, on="session", maintain_order="left")
        .with_columns(preceding=(same_ticker & (pl.col("position").diff() <= MAX_ABSENCE)).fill_null(value=False))
        .with_columns(
            listing=(~pl.col("preceding")).cum_sum().set_sorted(),
            before=pl.when(pl.col("preceding")).then(pl.col("close").shift(1)),
        )
    )
    return placed_bars, no_findings()


def as_of(
    raw: pl.DataFrame,
    universe: pl.DataFrame,
    sessions: Sequence[date],
    *,
    moment: datetime,
    closes: Mapping[date, datetime] | None = None,
    doubts: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The clean bars as of `moment`: `clean_bars` of the versions that had been fetched by then."""
    rows_by_moment = raw.filter(utc("fetched_at") <= moment.astimezone(UTC))
    return clean_bars(rows_by_moment, universe, sessions, closes=closes, doubts=doubts)


def provisional(closes: Mapping[date, datetime]) -> pl.Expr:
    """Whether a version of `RAW_SCHEMA` (rows sorted by ticker and session) was fetched before the vendor settled it.

    Either it was fetched within `SETTLING` of the close, or its volume is no multiple of `ROUND_LOT` though the five
    bars before are: the vendor rounds once it has settled, and a snapshot does not say when it was taken.
    """
    lots = pl.col("volume") / ROUND_LOT
    own_basis = pl.col("later_splits") == 1  # a volume that is adjusted for a spin-off is rounded no more
    is_round_lot = ((lots == lots.round()) & (lots > 0) & own_basis).fill_null(value=False)
    five_before = is_round_lot.cast(pl.Int32).shift(1).rolling_sum(5).over("ticker") == 5
    breaks_round_lots = (five_before & ~is_round_lot & own_basis & (lots > 0)).fill_null(value=False)
    return (utc("fetched_at") < settled_at(closes)).fill_null(value=False) | breaks_round_lots


def utc(moment: str) -> pl.Expr:
    """The column as `UTC_TIME`: DuckDB calls the same zone by another name, and they do not compare."""
    return pl.col(moment).dt.convert_time_zone("UTC")


def settled_at(closes: Mapping[date, datetime]) -> pl.Expr:
    """When the bar of the row's session is settled; null where its close is not known."""
    moments = pl.Series([close + SETTLING for close in closes.values()], dtype=UTC_TIME)
    sessions = pl.Series(list(closes), dtype=pl.Date)
    return pl.col("session").replace_strict(sessions, moments, default=None, return_dtype=UTC_TIME)


def confirmed(bars: pl.DataFrame, raw: pl.DataFrame, closes: Mapping[date, datetime]) -> pl.DataFrame:
    """The rows (`BAR_SCHEMA`) that replace provisional `bars` once a settled version in `raw` repeats their figures.

    Only `fetched_at` and `provisional` change.
    """
    figures = ["open", "high", "low", "close", "volume", "dividend", "split_ratio"]
    keys = ["ticker", "session"]
    versions = raw.with_columns(fetched_at=utc("fetched_at")).sort(*keys, "fetched_at")
    newest = as_traded(latest_versions(versions).filter(~provisional(closes)))
    waiting = bars.filter(pl.col("provisional")).with_columns(fetched_at=utc("fetched_at"))
    figures_of = as_traded(versions).select(*keys, "fetched_at", *figures)
    pairs = (
        waiting.select(*keys, "fetched_at")
        .join(figures_of, on=[*keys, "fetched_at"])
        .join(newest.select(*keys, "fetched_at", *figures), on=keys, suffix="_now")
        .filter(pl.col("fetched_at_now") > pl.col("fetched_at"))
        .filter(~pl.any_horizontal(differs(f"{name}_now", name) for name in figures))
    )
    settled_keys = pairs.select(*keys, "fetched_at_now", settled=pl.lit(value=False))
    return (
        waiting.join(settled_keys, on=keys)
        .with_columns(fetched_at="fetched_at_now", provisional="settled")
        .select(BAR_SCHEMA.names())
    )


def with_membership(bars: pl.DataFrame, universe: pl.DataFrame) -> pl.DataFrame:
    """`bars` with `is_member`: whether the universe (`UNIVERSE_SCHEMA`) holds the ticker on that session."""
    stays = universe.select("ticker", "from_session", pl.col("to_session").fill_null(date.max))
    rows = bars.select("ticker", "session").with_row_index("row").join(stays, on="ticker")
    member_rows = rows.filter(pl.col("session").is_between(pl.col("from_session"), pl.col("to_session")))["row"]
    is_member = pl.repeat(value=False, n=bars.height, dtype=pl.Boolean, eager=True).scatter(member_rows, True)
    return bars.with_columns(is_member=is_member)
