"""What became of every (ticker, session) that was asked for and has no bar: nothing is silently empty."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime

import polars as pl

from stock_assets.market.bars import OUTCOME_SCHEMA, UTC_TIME
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.sources import Answer
from stock_assets.market.sources.answers import some

#: A ticker without a bar for longer than so many sessions is delisted, before that halted.
HALT_SESSIONS = 10


def outcomes(
    answer: Answer,
    stored: pl.DataFrame,
    tickers: Sequence[str],
    universe: pl.DataFrame,
    sessions: Sequence[date],
    calendar: TradingCalendar,
    fetched_at: datetime,
) -> pl.DataFrame:
    """Why there is no bar of some of `tickers` on some of `sessions` (`OUTCOME_SCHEMA`, sorted): one row for a
    stretch of sessions on which one ticker had one and the same outcome.

    A bar is in the `answer`, or among those `stored` before (ticker, session; other columns do not matter).

    - `delisted`: the universe (`UNIVERSE_SCHEMA`) says that it had left, or its last bar is long ago
    - `error`: there is no answer; `unknown`: the vendor says that it has nothing
    - `not_listed`: its first bar, or its first day in the universe, is later
    - `holiday`: nobody has a bar, though some have one before and one after
    - `halted`: it has bars before, and after or not so long ago
    """
    bars = pl.concat([answer.bars.select("ticker", "session"), stored.select("ticker", "session")])
    spans = bars.group_by("ticker").agg(known_first=pl.col("session").min(), known_last=pl.col("session").max())
    known = [(ticker, first, last) for ticker, (first, last) in answer.known.items()]
    spans = (
        pl.concat([spans, pl.DataFrame(known, spans.schema, orient="row")])
        .group_by("ticker")
        .agg(pl.col("known_first").min(), pl.col("known_last").max())
    )
    members = universe.group_by("ticker").agg(
        pl.col("from_session").min(), pl.col("to_session").fill_null(date.max).max()
    )
    failures = pl.DataFrame(
        [
            (ticker, "unknown" if failure.unknown else "error", failure.reason)
            for ticker, failure in answer.failures.items()
        ],
        {"ticker": pl.String, "failure": pl.String, "said": pl.String},
        orient="row",
    )
    days = _positions(sessions, calendar)
    traded = bars["session"].unique()
    closed = ~pl.col("session").is_in(traded.implode()) & pl.col("session").is_between(traded.min(), traded.max())
    newest = days["position"].max()
    last_position = pl.col("known_last").replace_strict(
        dict(zip(calendar.sessions, range(len(calendar.sessions)), strict=True)), default=None, return_dtype=pl.Int64
    )
    listed = pl.coalesce("known_first", "from_session")
    outcome = (
        pl.when(pl.col("session") > pl.col("to_session"))
        .then(_outcome("delisted", pl.format("left the universe after {}", "to_session")))
        .when(pl.col("failure").is_not_null())
        .then(_outcome(pl.col("failure"), pl.col("said")))
        .when(closed)
        .then(_outcome("holiday", pl.lit("no ticker has a bar, though some have before and after")))
        .when(pl.col("session") < listed)
        .then(_outcome("not_listed", pl.format("nothing before {}", listed)))
        .when(pl.col("session") < pl.col("known_last"))
        .then(_outcome("halted", pl.lit("bars before and after")))
        .when(newest - last_position <= HALT_SESSIONS)
        .then(_outcome("halted", pl.format("no bar since {}", "known_last")))
        .when(pl.col("known_last").is_not_null())
        .then(_outcome("delisted", pl.format("no bar since {}", "known_last")))
        .otherwise(_outcome("halted", pl.lit("no bar in what was asked for")))
    )
    # most tickers have every bar: they are counted, and only the others looked at session by session
    within = bars.filter(pl.col("session").is_in(days["session"].implode()))
    complete = within.group_by("ticker").agg(pl.col("session").n_unique()).filter(pl.col("session") == days.height)
    incomplete = sorted(set(tickers) - set(complete["ticker"]))
    missing = (
        pl.DataFrame({"ticker": incomplete}, schema={"ticker": pl.String})
        .join(days, how="cross")
        .join(bars.filter(pl.col("ticker").is_in(incomplete)), on=["ticker", "session"], how="anti")
        .join(spans, on="ticker", how="left")
        .join(members, on="ticker", how="left")
        .join(failures, on="ticker", how="left")
        .select("ticker", "session", "position", outcome.alias("why"))
        .unnest("why")
        .with_columns(first="session", last="session", last_position="position", fetched_at=_utc(fetched_at))
    )
    return _joined(missing)


def updated(
    stored: pl.DataFrame,
    new: pl.DataFrame,
    tickers: Sequence[str],
    sessions: Sequence[date],
    calendar: TradingCalendar,
) -> pl.DataFrame:
    """The `stored` stretches with what is `new` of `tickers` in the place of what was said of them from the
    first to the last of `sessions`; stretches that meet are one (all `OUTCOME_SCHEMA`)."""
    first, last = min(sessions), max(sessions)
    before = calendar.before(first, 1)
    after = calendar.shift(last, 1)
    asked = pl.col("ticker").is_in(list(tickers))
    kept = [stored.filter(~asked)]
    if before:
        earlier = stored.filter(asked, pl.col("first") < first)
        kept.append(earlier.with_columns(last=pl.min_horizontal("last", pl.lit(before[0]))))
    if after:
        later = stored.filter(asked, pl.col("last") > last)
        kept.append(later.with_columns(first=pl.max_horizontal("first", pl.lit(after))))
    positions = _positions(calendar.sessions, calendar)
    stretches = pl.concat([*kept, new])
    return _joined(
        stretches.join(positions, left_on="first", right_on="session", how="left").join(
            positions.rename({"position": "last_position"}), left_on="last", right_on="session", how="left"
        )
    )


def expected(universe: pl.DataFrame, first: date) -> set[str]:
    """The tickers that the universe (`UNIVERSE_SCHEMA`) holds on `first` or later: of others nobody expects a bar."""
    return set(universe.filter(pl.col("to_session").fill_null(date.max) >= first)["ticker"])


def owed(stored: pl.DataFrame, tickers: Sequence[str]) -> dict[str, date]:
    """The first session that each of `tickers` failed to answer for and might answer for now.

    What a vendor says it has nothing of is not asked for again, except on new sessions.
    """
    errors = stored.filter(pl.col("outcome") == "error", pl.col("ticker").is_in(list(tickers)))
    return dict(errors.group_by("ticker").agg(pl.col("first").min()).sort("ticker").iter_rows())


def too_many(reasons: Mapping[str, str], asked: int, allowed: float, shown: int = 50) -> str | None:
    """Who failed and why, in words, when it is more than the `allowed` share of the `asked` tickers."""
    if len(reasons) <= allowed * asked:
        return None
    groups: dict[str, list[str]] = {}
    for ticker, reason in sorted(reasons.items()):
        groups.setdefault(reason, []).append(ticker)
    told = [
        f"{some(names, shown)}: {reason}" for reason, names in sorted(groups.items(), key=lambda group: -len(group[1]))
    ]
    return (
        f"no answer for {len(reasons)} of {asked} tickers, {len(reasons) / asked:.1%}, where {allowed:.1%} may fail. "
        f"{'; '.join(told)}"
    )


def _outcome(name: str | pl.Expr, reason: pl.Expr) -> pl.Expr:
    return pl.struct(outcome=pl.lit(name) if isinstance(name, str) else name, reason=reason)


def _utc(moment: datetime) -> pl.Expr:
    return pl.lit(moment).cast(UTC_TIME)


def _positions(sessions: Sequence[date], calendar: TradingCalendar) -> pl.DataFrame:
    """session, position in the calendar; ascending."""
    return pl.DataFrame(
        {"session": list(sessions), "position": [calendar.position(session) for session in sessions]},
        schema={"session": pl.Date, "position": pl.Int64},
    ).sort("session")


def _joined(stretches: pl.DataFrame) -> pl.DataFrame:
    """`stretches` (also position, last_position) of which those that follow each other and say the same are one."""
    same = pl.all_horizontal(
        pl.col(name).eq_missing(pl.col(name).shift()) for name in ("ticker", "outcome", "reason")
    ) & (pl.col("position") == pl.col("last_position").shift() + 1)
    return (
        stretches.sort("ticker", "first")
        .with_columns(stretch=(~same).fill_null(value=True).cum_sum())
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
