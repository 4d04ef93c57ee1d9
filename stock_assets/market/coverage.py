"""Whether the bars of minutes that a session has cover it: from its opening to its close, without a hole.

A share that trades seldom has no bar in most minutes, and an auction leaves the last ones empty. What is usual is
therefore read from the ticker's own sessions, within bounds that the exchange's hours set.
"""

from datetime import timedelta

import polars as pl

#: What a ticker with a bar in nearly every minute may lack at the opening or the close, and in between: a pause in the
#: trading of one share lasts five minutes, one of the whole exchange fifteen.
EDGE, HOLE = timedelta(minutes=5), timedelta(minutes=20)
#: The pause of a whole exchange and the auction after it; another hole of all tickers at once is one of the file.
EXCHANGE_PAUSE = (timedelta(minutes=14), HOLE)
#: A closing auction takes so long at most: a ticker whose bars end as early in most sessions ends there.
AUCTION = timedelta(minutes=15)
#: The longest of many intervals between trades is about so many times the one that nine of ten do not exceed.
LONGEST = 4
#: Of a ticker that has this share of its bars, a session with less than half of that is not covered.
DENSE = 0.8
#: The share of a ticker's sessions from which on bars outside of the exchange's hours are its habit.
HABIT = 0.1
_DAY = timedelta(days=1)
_NOTHING = timedelta(0)


def bar_lengths(minutes: pl.DataFrame) -> pl.DataFrame:
    """`minutes` (ticker, at), sorted by both, with `end` (UTC): a bar lasts as long as most of its ticker's, where a
    session has a length of its own as long as most of that day's, and never longer than to the next bar."""
    day = pl.col("at").dt.date()
    rows = minutes.with_columns(day=day, spacing=pl.col("at").diff().shift(-1).over("ticker"))
    spacings = rows.filter(pl.col("spacing") <= _DAY)
    of_day = _usual_spacing(spacings, ["ticker", "day"]).filter(pl.col("times") >= 3, pl.col("share") >= 0.5)
    of_ticker = _usual_spacing(spacings, ["ticker"])
    finest = spacings.group_by("ticker").agg(finest=_common_divisor())
    of_all = _usual_spacing(spacings.with_columns(file=1), ["file"])["usual"]
    of_file = pl.lit(of_all[0] if of_all.len() else _DAY)
    length = pl.coalesce(
        "of_day",
        pl.when(pl.col("share") >= 0.5).then("usual").otherwise(pl.min_horizontal("usual", "finest", of_file)),
    )
    return (
        rows.join(of_day.select("ticker", "day", of_day="usual"), on=["ticker", "day"], how="left")
        .join(of_ticker, on="ticker", how="left")
        .join(finest, on="ticker", how="left")
        .with_columns(length=length)
        .with_columns(end=pl.col("at") + pl.min_horizontal("length", "spacing"))
        .select(*minutes.columns, "end", "length")
        .sort("ticker", "at")
    )


def _usual_spacing(spacings: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """*keys, usual (the most frequent spacing, of several the shortest), times and share of all in which it occurs."""
    return (
        spacings.group_by(*keys, "spacing")
        .agg(times=pl.len())
        .with_columns(share=pl.col("times") / pl.col("times").sum().over(keys))
        .sort("times", "spacing", descending=[True, False])
        .group_by(keys, maintain_order=True)
        .agg(pl.col("spacing").first().alias("usual"), pl.col("times", "share").first())
    )


def _common_divisor() -> pl.Expr:
    """Seldom trades are whole multiples of the length of a bar apart."""
    import numpy as np

    def of(spacings: pl.Series) -> int:
        return int(np.gcd.reduce(spacings.dt.total_microseconds().to_numpy()))

    return (
        pl.col("spacing").unique().map_batches(of, return_dtype=pl.Int64, returns_scalar=True).cast(pl.Duration("us"))
    )


def in_sessions(bars: pl.DataFrame, hours: pl.DataFrame) -> pl.DataFrame:
    """Those of `bars` (as `bar_lengths`) that trade within a session, with the row of `hours` (session, opens, closes,
    ascending). A bar that begins before the opening and ends after it is one of them."""
    moment = (pl.col("end") - timedelta(microseconds=1)).alias("moment")
    return (
        bars.with_columns(moment)
        .sort("moment")
        .join_asof(hours.sort("opens"), left_on="moment", right_on="opens", strategy="backward")
        .filter(pl.col("at") < pl.col("closes"))
        .drop("moment")
        .sort("ticker", "at")
    )


def coverage(bars: pl.DataFrame, hours: pl.DataFrame) -> pl.DataFrame:
    """How the `bars` (as `bar_lengths`) cover each session that they trade in, one row per ticker and session: ticker,
    session, minutes (that have a bar), expected (minutes of the session), longest (time without a bar between two of
    them), reason (why it is not covered, or null), pause (`longest` in minutes where it is none of the ticker's habit
    and may be a pause in its trading as well as a hole in the file, else null).

    `hours` has session, opens, closes, and rest_start, rest_end (null where the exchange does not rest at noon).
    """
    inside = in_sessions(bars, hours)
    sessions = _session_measures(inside).join(_strays(bars, hours), on=["ticker", "session"], how="left")
    sessions = sessions.join(_holes_of_all(inside), on="session", how="left")
    continuous = pl.col("opens") == pl.col("closes").shift()
    session_starts = hours.sort("opens").select("session", continuous=continuous.fill_null(value=False))
    sessions = sessions.join(session_starts.with_columns(ends_continuous=pl.col("continuous").shift(-1)), on="session")
    hole = pl.col("hole")
    pool = inside.with_columns(hole=_hole()).group_by("ticker")
    usual = pool.agg(usual_hole=hole.quantile(0.9, "lower"), seldom=hole.quantile(0.5, "lower") != timedelta(0))
    sessions = sessions.join(usual, on="ticker", how="left").with_columns(
        early=pl.col("early").fill_null(value=False), late=pl.col("late").fill_null(value=False)
    )
    return (
        _with_reasons(sessions)
        .select("ticker", "session", "minutes", "expected", "longest", "reason", "pause")
        .sort("ticker", "session")
    )


def _holes_of_all(inside: pl.DataFrame) -> pl.DataFrame:
    """session, file_hole: the longest time in which no ticker of the file has a bar although one nearly always has;
    no row of a file with one ticker. A pause of the whole exchange is none."""
    if inside["ticker"].n_unique() < 2:
        return inside.select("session", file_hole=_NOTHING).clear()
    session_hours = pl.col("opens", "closes", "rest_start", "rest_end").first()
    together = inside.group_by("session", "at").agg(session_hours, pl.col("end").max()).sort("at")
    together = together.with_columns(ticker=pl.lit(""), end=pl.col("end").cum_max().over("session"))
    holes = together.with_columns(hole=_hole()).group_by("session").agg(file_hole=pl.col("hole").max())
    usual = holes["file_hole"].quantile(0.9, "lower")
    if usual is None or usual >= EDGE:  # pyright: ignore[reportOperatorIssue]: a duration
        return holes.clear()
    return holes.filter(pl.col("file_hole") >= EDGE, ~pl.col("file_hole").is_between(*EXCHANGE_PAUSE, closed="left"))


def _hole() -> pl.Expr:
    """From the end of a bar to the beginning of the next one in its session, less the exchange's rest; null for the
    last bar."""
    following = pl.col("at").shift(-1).over("ticker", "session")
    return (following - pl.col("end") - _pause_length("end", following)).clip(lower_bound=timedelta(0))


def _pause_length(start: str | pl.Expr, end: pl.Expr | str) -> pl.Expr:
    """How long the exchange rests from `start` to `end`."""
    first = pl.max_horizontal(start, "rest_start")
    last = pl.min_horizontal(end, "rest_end")
    return pl.when(pl.col("rest_start").is_not_null() & (last > first)).then(last - first).otherwise(_NOTHING)


def _session_measures(inside: pl.DataFrame) -> pl.DataFrame:
    """Per ticker and session: its hours, lead and tail (without a bar at both ends), the longest and the day's usual
    hole, minutes with a bar and expected ones, whether a bar reaches over the opening or the close."""
    within = pl.min_horizontal("end", "closes") - pl.max_horizontal("at", "opens")
    rows = inside.with_columns(hole=_hole(), within=within - _pause_length(pl.max_horizontal("at", "opens"), "end"))
    session_hours = pl.col("opens", "closes", "rest_start", "rest_end").first()
    sessions = rows.group_by("ticker", "session").agg(
        session_hours,
        pl.col("length").max(),
        bars=pl.len(),
        longest=pl.col("hole").max().fill_null(timedelta(0)),
        day_hole=pl.col("hole").quantile(0.75, "lower"),
        minutes=pl.col("within").sum(),
        first=pl.col("at").min(),
        last=pl.col("end").max(),
    )
    return sessions.with_columns(
        lead=(pl.col("first") - pl.col("opens")).clip(lower_bound=timedelta(0)),
        tail=(pl.col("closes") - pl.col("last")).clip(lower_bound=timedelta(0)),
        expected=pl.col("closes") - pl.col("opens") - _pause_length("opens", "closes"),
        over_start=pl.col("first") < pl.col("opens"),
        over_end=pl.col("last") > pl.col("closes"),
    )


def _strays(bars: pl.DataFrame, hours: pl.DataFrame) -> pl.DataFrame:
    """ticker, session, early, late: whether the ticker has bars before the opening and after the close of the session
    that do not touch it. A bar at the very close is the print of the closing auction."""
    hours = hours.sort("opens").select("session", "opens", "closes")
    tolerance = timedelta(hours=12)
    before = (
        bars.sort("end")
        .join_asof(hours, left_on="end", right_on="opens", strategy="forward", tolerance=tolerance)
        .join(hours.select(before_closes="closes", session=pl.col("session").shift(-1)), on="session", how="left")
        .filter(pl.col("at") >= pl.col("before_closes").fill_null(pl.col("at")))
        .select("ticker", "session", early=pl.lit(value=True), late=pl.lit(value=False))
    )
    after = (
        bars.sort("at")
        .join_asof(hours, left_on="at", right_on="closes", strategy="backward", tolerance=tolerance)
        .join(hours.select(next_opens="opens", session=pl.col("session").shift(1)), on="session", how="left")
        .filter(pl.col("at") > pl.col("closes"), pl.col("end") <= pl.col("next_opens").fill_null(pl.col("end")))
        .select("ticker", "session", early=pl.lit(value=False), late=pl.lit(value=True))
    )
    strays = pl.concat([before, after]).drop_nulls("session")
    return strays.group_by("ticker", "session").agg(pl.col("early", "late").any())


def _with_reasons(sessions: pl.DataFrame) -> pl.DataFrame:
    """`sessions` with `reason`."""
    instant = timedelta(microseconds=1)
    usual = LONGEST * pl.max_horizontal(
        pl.col("usual_hole").fill_null(_NOTHING), 2 * pl.col("day_hole").fill_null(_NOTHING)
    )
    # of so few bars that hardly two stand side by side, the mean is all that can be known
    mean = (pl.col("expected") - pl.col("minutes")) / (pl.col("bars") + 1)
    mean = (2 * LONGEST * mean.median().over("ticker")).cast(pl.Duration("us"))
    usual = (
        pl.when(pl.col("seldom").fill_null(value=True)).then(pl.max_horizontal(usual, mean)).otherwise(usual) + instant
    )
    habit = _habit("longest", pl.max_horizontal(2 * pl.col("length"), pl.lit(1.5 * HOLE)))
    habit = pl.when(habit > timedelta(0)).then(habit + pl.col("length")).otherwise(_NOTHING) + instant
    floor = pl.when(pl.col("length") > HOLE / 2).then("length").otherwise(pl.lit(HOLE))
    edges = {"lead_limit": pl.lit(EDGE), "tail_limit": _habit("tail", pl.lit(AUCTION)) + EDGE}
    sessions = sessions.with_columns(
        hole_limit=pl.max_horizontal(floor, usual, habit),
        **{name: pl.max_horizontal(limit, usual, habit) for name, limit in edges.items()},
    )
    share = pl.col("minutes") / pl.col("expected")
    usual_share = share.median().over("ticker")
    # where no ticker of the file has a bar, the file has none, however seldom a ticker trades
    file_lead = pl.col("lead").min().over("session") >= pl.col("lead_limit").min().over("session")
    file_tail = pl.col("tail").min().over("session") >= pl.col("tail_limit").min().over("session")
    habitual = {side: pl.col(side) | (pl.col(side).mean().over("ticker") >= HABIT) for side in ("early", "late")}
    whole = pl.col("length").dt.total_minutes()
    reason = pl.coalesce(
        pl.when(pl.col("length") > pl.col("closes") - pl.col("opens")).then(
            pl.format("a bar of {} minutes is longer than the session", whole)
        ),
        pl.when(pl.col("over_start") & (pl.col("continuous") | habitual["early"])).then(
            pl.format("a bar of {} minutes reaches over the opening", whole)
        ),
        pl.when(pl.col("over_end") & (pl.col("ends_continuous").fill_null(value=False) | habitual["late"])).then(
            pl.format("a bar of {} minutes reaches over the close", whole)
        ),
        pl.when((pl.col("lead") >= pl.col("lead_limit")) | file_lead).then(
            pl.format("its bars begin {} minutes after the opening", pl.col("lead").dt.total_minutes())
        ),
        pl.when((pl.col("tail") >= pl.col("tail_limit")) | file_tail).then(
            pl.format("its bars end {} minutes before the close", pl.col("tail").dt.total_minutes())
        ),
        pl.when(pl.col("longest") >= pl.col("hole_limit")).then(
            pl.format("{} minutes without a bar", pl.col("longest").dt.total_minutes())
        ),
        pl.when((usual_share >= DENSE) & (share < usual_share / 2)).then(
            pl.format("bars of {} % of its minutes", (share * 100).round().cast(pl.Int64))
        ),
        pl.when(pl.col("file_hole") > pl.col("length")).then(
            pl.format("no ticker of the file has a bar for {} minutes", pl.col("file_hole").dt.total_minutes())
        ),
    )
    unusual = (usual_share >= DENSE) & (pl.col("longest") >= pl.max_horizontal(pl.lit(EDGE), "length", usual))
    return sessions.with_columns(
        reason=reason,
        pause=pl.when(unusual & reason.is_null()).then(pl.col("longest").dt.total_seconds() / 60),
        minutes=pl.col("minutes").dt.total_seconds() / 60,
        expected=pl.col("expected").dt.total_seconds() / 60,
    )


def _habit(column: str, upper_bound: pl.Expr) -> pl.Expr:
    """What `column` does not exceed in nineteen of the ticker's twenty sessions, at most `upper_bound`."""
    return pl.min_horizontal(pl.col(column).quantile(0.95, "lower").over("ticker"), upper_bound)


def stamped_at_end(bars: pl.DataFrame, hours: pl.DataFrame) -> pl.DataFrame:
    """ticker, sessions, minutes (length of a bar) of the tickers whose times are those at which bars end: they have
    most bars of each session, never the one at the opening, and nearly always one at the close."""
    edges = hours.sort("opens").select("session", "opens", "closes")
    rows = (
        bars.sort("at")
        .join_asof(edges, left_on="at", right_on="opens", strategy="backward", coalesce=False)
        .filter(pl.col("at") <= pl.col("closes"))
    )
    return (
        rows.group_by("ticker", "session")
        .agg(
            at_open=(pl.col("at") == pl.col("opens")).any(),
            at_close=(pl.col("at") == pl.col("closes")).any(),
            share=pl.col("length").sum() / (pl.col("at").max() - pl.col("at").min()),
            early=pl.col("at").min() - pl.col("opens").first() == pl.col("length").first(),
            length=pl.col("length").first(),
        )
        .group_by("ticker")
        .agg(
            pl.col("at_open").any(),
            pl.col("at_close", "share", "early").mean(),
            sessions=pl.len(),
            minutes=pl.col("length").first().dt.total_minutes(),
        )
        .filter(
            ~pl.col("at_open") & (pl.col("at_close") >= DENSE) & (pl.col("early") >= DENSE), pl.col("share") >= DENSE
        )
        .select("ticker", "sessions", "minutes")
        .sort("ticker")
    )
