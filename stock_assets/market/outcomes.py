"""Why a (ticker, session) that was asked for has no bar: nothing is silently empty."""

from collections.abc import Sequence
from datetime import date, datetime

import polars as pl

from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.sources import Answer
from stock_assets.market.tables import OUTCOME_SCHEMA
from stock_assets.tables import UTC_TIME

#: A ticker without a bar for longer than so many sessions is delisted, before that halted.
HALT_SESSIONS = 10


def outcomes_of(
    answer: Answer,
    stored_outcomes: pl.DataFrame,
    *,
    tickers: Sequence[str],
    sessions: Sequence[date],
    universe: pl.DataFrame,
    calendar: TradingCalendar,
    fetched_at: datetime,
) -> pl.DataFrame:
    """Why there is no bar of some of `tickers` on some of `sessions` (`OUTCOME_SCHEMA`, sorted): one row for a
    stretch of sessions on which one ticker had one and the same outcome.

    A bar is in the `answer`, or among those of `stored_outcomes` before (ticker, session; other columns do not matter).

    - `delisted`: the universe (`UNIVERSE_SCHEMA`) says that it had left, or its last bar is long ago
    - `error`: there is no answer; `unknown`: the vendor says that it has nothing
    - `not_listed`: its first bar, or its first day in the universe, is later
    - `holiday`: no ticker has a bar, though some have one before and one after
    - `halted`: it has bars before, and after or not so long ago
    """
    bars = pl.concat([answer.bars.select("ticker", "session"), stored_outcomes.select("ticker", "session")])
    days = _positions(sessions, calendar)
    # most tickers have every bar: they are counted, and only the others looked at session by session
    within = bars.filter(pl.col("session").is_in(days["session"].implode()))
    complete = within.group_by("ticker").agg(pl.col("session").n_unique()).filter(pl.col("session") == days.height)
    incomplete = sorted(set(tickers) - set(complete["ticker"]))
    members = universe.group_by("ticker").agg(
        pl.col("from_session").min(), pl.col("to_session").fill_null(date.max).max()
    )
    missing = (
        pl.DataFrame({"ticker": incomplete}, schema={"ticker": pl.String})
        .join(days, how="cross")
        .join(bars.filter(pl.col("ticker").is_in(incomplete)), on=["ticker", "session"], how="anti")
        .join(_spans(bars, answer), on="ticker", how="left")
        .join(members, on="ticker", how="left")
        .join(_failures(answer), on="ticker", how="left")
        .select("ticker", "session", "position", _outcome(bars, days, calendar).alias("why"))
        .unnest("why")
        .with_columns(first="session", last="session", last_position="position", fetched_at=_utc(fetched_at))
    )
    return _joint_stretches(missing)


def _spans(bars: pl.DataFrame, answer: Answer) -> pl.DataFrame:
    """ticker, first_bar, last_bar: the days of the first and the last bar in `bars` or by the vendor's word."""
    spans = bars.group_by("ticker").agg(first_bar=pl.col("session").min(), last_bar=pl.col("session").max())
    stated_spans = [(ticker, first, last) for ticker, (first, last) in answer.spans.items()]
    return (
        pl.concat([spans, pl.DataFrame(stated_spans, spans.schema, orient="row")])
        .group_by("ticker")
        .agg(pl.col("first_bar").min(), pl.col("last_bar").max())
    )


def _failures(answer: Answer) -> pl.DataFrame:
    """ticker, failure (unknown or error), vendor_reason of the tickers without an answer."""
    return pl.DataFrame(
        [
            (ticker, "unknown" if failure.unknown else "error", failure.reason)
            for ticker, failure in answer.failures.items()
        ],
        {"ticker": pl.String, "failure": pl.String, "vendor_reason": pl.String},
        orient="row",
    )


def _outcome(bars: pl.DataFrame, days: pl.DataFrame, calendar: TradingCalendar) -> pl.Expr:
    """The struct (outcome, reason) of a row of `outcomes_of`: a ticker without a bar on a session."""

    def named(outcome: str | pl.Expr, reason: pl.Expr) -> pl.Expr:
        return pl.struct(outcome=pl.lit(outcome) if isinstance(outcome, str) else outcome, reason=reason)

    traded_sessions = bars["session"].unique()
    is_closed = ~pl.col("session").is_in(traded_sessions.implode()) & pl.col("session").is_between(
        traded_sessions.min(), traded_sessions.max()
    )
    last_position = pl.col("last_bar").replace_strict(
        dict(zip(calendar.sessions, range(len(calendar.sessions)), strict=True)), default=None, return_dtype=pl.Int64
    )
    first_listed = pl.coalesce("first_bar", "from_session")
    silent_since = pl.format("no bar since {}", "last_bar")
    return (
        pl.when(pl.col("session") > pl.col("to_session"))
        .then(named("delisted", pl.format("left the universe after {}", "to_session")))
        .when(pl.col("failure").is_not_null())
        .then(named(pl.col("failure"), pl.col("vendor_reason")))
        .when(is_closed)
        .then(named("holiday", pl.lit("no ticker has a bar, though some have before and after")))
        .when(pl.col("session") < first_listed)
        .then(named("not_listed", pl.format("nothing before {}", first_listed)))
        .when(pl.col("session") < pl.col("last_bar"))
        .then(named("halted", pl.lit("bars before and after")))
        .when(days["position"].max() - last_position <= HALT_SESSIONS)
        .then(named("halted", silent_since))
        .when(pl.col("last_bar").is_not_null())
        .then(named("delisted", silent_since))
        .otherwise(named("halted", pl.lit("no bar in what was asked for")))
    )


def updated_outcomes(
    stored_outcomes: pl.DataFrame,
    new: pl.DataFrame,
    *,
    tickers: Sequence[str],
    sessions: Sequence[date],
    calendar: TradingCalendar,
) -> pl.DataFrame:
    """The stretches of `stored_outcomes` after `new` ones replace those of `tickers` from the first to the last of
    `sessions`.

    Neighbouring stretches with the same outcome are joined. All frames have `OUTCOME_SCHEMA`.
    """
    first, last = min(sessions), max(sessions)
    before = calendar.before(first, 1)
    after = calendar.shift(last, 1)
    in_request = pl.col("ticker").is_in(list(tickers))
    stretches_kept = [stored_outcomes.filter(~in_request)]
    if before:
        earlier = stored_outcomes.filter(in_request, pl.col("first") < first)
        stretches_kept.append(earlier.with_columns(last=pl.min_horizontal("last", pl.lit(before[0]))))
    if after:
        later = stored_outcomes.filter(in_request, pl.col("last") > last)
        stretches_kept.append(later.with_columns(first=pl.max_horizontal("first", pl.lit(after))))
    positions = _positions(calendar.sessions, calendar)
    stretches = pl.concat([*stretches_kept, new])
    return _joint_stretches(
        stretches.join(positions, left_on="first", right_on="session", how="left").join(
            positions.rename({"position": "last_position"}), left_on="last", right_on="session", how="left"
        )
    )


def without_old_reasons(stored_outcomes: pl.DataFrame, before: date, calendar: TradingCalendar) -> pl.DataFrame:
    """`stored_outcomes` with neighbouring stretches of one outcome joined that end before a day; the last reason speaks
    for all.

    The outcome of every (ticker, session) stays: a vendor's words, which change from day to day, go. Both frames have
    `OUTCOME_SCHEMA`.
    """
    positions = _positions(calendar.sessions, calendar)
    rows = (
        stored_outcomes.join(positions, left_on="first", right_on="session", how="left")
        .join(positions.rename({"position": "last_position"}), left_on="last", right_on="session", how="left")
        .sort("ticker", "first")
    )
    old = pl.col("last") < before
    continues = (
        pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift()) for name in ("ticker", "outcome"))
        & (pl.col("position") == pl.col("last_position").shift() + 1)
        & old
    )
    stretches = rows.with_columns(stretch=(~continues).fill_null(value=True).cum_sum())
    return _joint_stretches(stretches.with_columns(reason=pl.col("reason").last().over("stretch")).drop("stretch"))


def expected_tickers(universe: pl.DataFrame, first: date) -> set[str]:
    """The tickers that `universe` (`UNIVERSE_SCHEMA`) holds on `first` or later; of others no bar is expected."""
    return set(universe.filter(pl.col("to_session").fill_null(date.max) >= first)["ticker"])


def owed_since(stored_outcomes: pl.DataFrame, tickers: Sequence[str]) -> dict[str, date]:
    """The first session that each of `tickers` failed to answer for and might answer for now.

    What a vendor says it has nothing of is not asked for again, except on new sessions.
    """
    errors = stored_outcomes.filter(pl.col("outcome") == "error", pl.col("ticker").is_in(list(tickers)))
    return dict(errors.group_by("ticker").agg(pl.col("first").min()).sort("ticker").iter_rows())


def _utc(moment: datetime) -> pl.Expr:
    return pl.lit(moment).cast(UTC_TIME)


def _positions(sessions: Sequence[date], calendar: TradingCalendar) -> pl.DataFrame:
    """session, position in the calendar; ascending."""
    return pl.DataFrame(
        {"session": list(sessions), "position": [calendar.position(session) for session in sessions]},
        schema={"session": pl.Date, "position": pl.Int64},
    ).sort("session")


def _joint_stretches(stretches: pl.DataFrame) -> pl.DataFrame:
    """`stretches` (also position, last_position) of which those with one outcome that follow each other are one."""
    continues = pl.all_horizontal(
        pl.col(name).eq_missing(pl.col(name).shift()) for name in ("ticker", "outcome", "reason")
    ) & (pl.col("position") == pl.col("last_position").shift() + 1)
    return (
        stretches.sort("ticker", "first")
        .with_columns(stretch=(~continues).fill_null(value=True).cum_sum())
        .group_by("stretch", maintain_order=True)
        .agg(
            pl.col("ticker").first(),
            pl.col("first").min(),
            pl.col("last").max(),
            pl.col("outcome", "reason").first(),
            pl.col("fetched_at").max(),
        )
        .select(OUTCOME_SCHEMA.names())
        .cast(dict(OUTCOME_SCHEMA))  # pyright: ignore[reportArgumentType]
    )
