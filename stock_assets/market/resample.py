"""From the bars of minutes to the bars of sessions."""

from typing import NamedTuple

import polars as pl

from stock_assets.errors import SourceError
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.clocks import refuse_changed_clock
from stock_assets.market.coverage import HOLE, bar_lengths, coverage, in_sessions, stamped_at_end
from stock_assets.market.findings import finding, no_findings
from stock_assets.market.repair import impossible
from stock_assets.market.sources.forms.reading import NoBarsError
from stock_assets.market.sources.row_checks import FEW_ROWS, NAMED, SHARE_OF_ROWS
from stock_assets.tables import UTC_TIME

#: A file of which more sessions of its tickers are not covered than this share, and more than so many, is refused.
MOST_UNCOVERED, FEW = 0.5, 3
#: Times without a zone are doubted where so many sessions are not covered, or so many bars lie outside of any trading.
DOUBTFUL = 0.05


class SessionBars(NamedTuple):
    """What the bars of minutes of a file make."""

    bars: pl.DataFrame
    """ticker, session, open (the first), high, low, close (the last), volume (the sum), sorted by ticker and session"""
    held_out: pl.DataFrame
    """ticker, session, reason: the sessions that make no bar, sorted likewise"""
    findings: pl.DataFrame
    """what is wrong with these, and what is doubtful in the others (`findings.no_findings`)"""


def session_bars(
    minutes: pl.DataFrame, calendar: TradingCalendar, place: str, *, zone_is_certain: bool = True
) -> SessionBars:
    """The `minutes` of each session as one bar; a session that they do not cover (`coverage`), or of which a minute is
    no bar, is held out.

    `minutes` has ticker, at (when the bar begins, UTC), open, high, low, close, volume, in any order. A session's are
    those from its opening on and before its close; all others are left out, and so are minutes without any figure. With
    `zone_is_certain` False the times may be those of the exchange's own zone.

    Raises SourceError, which names `place`, for a bar without a ticker or a time, where too many are none, where most
    sessions are not covered, where the times seem to be those at which the bars end, and where another zone would fit
    them better; NoBarsError where no session is whole.
    """
    rows = priced_minutes(minutes, place)
    if not zone_is_certain:
        refuse_changed_clock(rows, place)
    hours = session_hours(calendar)
    bars = bar_lengths(rows.select("ticker", "at").unique(maintain_order=True))
    session_coverage = coverage(bars, hours)
    if session_coverage["longest"].max() is not None and session_coverage["longest"].max() >= HOLE:  # pyright: ignore[reportOperatorIssue]
        hours = session_hours(calendar, rests=True)
        session_coverage = coverage(bars, hours)
    if not zone_is_certain:
        doubt_zone(bars, session_coverage, calendar, place=place)
    inside = in_sessions(bars, hours).select("ticker", "at", "session")
    faults = faults_of(rows, inside)
    refuse_many(faults, rows.height, place)
    of_rows = faults.filter(~pl.col("repaired")).group_by("ticker", "session").agg(pl.col("fault").first())
    session_coverage = session_coverage.join(of_rows, on=["ticker", "session"], how="left", maintain_order="left")
    session_coverage = session_coverage.with_columns(reason=pl.coalesce("reason", "fault"))
    _refuse_most(session_coverage, stamped_at_end(bars, hours), times=rows["at"], calendar=calendar, place=place)
    whole = session_coverage.filter(pl.col("reason").is_null()).select("ticker", "session")
    bars_of_sessions = (
        rows.unique(["ticker", "at"], keep="first", maintain_order=True)
        .join(inside, on=["ticker", "at"])
        .join(whole, on=["ticker", "session"], how="semi")
        .sort("ticker", "at")
        .group_by("ticker", "session")
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume").sum(),
        )
    )
    held_out = session_coverage.filter(pl.col("reason").is_not_null()).select("ticker", "session", "reason")
    return SessionBars(bars_of_sessions.sort("ticker", "session"), held_out, _findings(session_coverage, faults))


def _findings(session_coverage: pl.DataFrame, faults: pl.DataFrame) -> pl.DataFrame:
    """What is wrong with sessions and their minutes: of one kind and column the first of a session."""
    figure, expected = pl.col("minutes"), pl.col("expected")
    uncovered = session_coverage.filter(pl.col("reason").is_not_null() & pl.col("fault").is_null())
    return pl.concat(
        [
            uncovered.select(finding("minutes", "minutes", figure=figure, expected=expected, repaired=False)),
            session_coverage.filter(pl.col("pause").is_not_null()).select(
                finding("pause", "minutes", figure=pl.col("pause"), repaired=False)
            ),
            faults.unique(["ticker", "session", "kind", "column"], keep="first", maintain_order=True).select(
                no_findings().columns
            ),
        ]
    )


def priced_minutes(minutes: pl.DataFrame, place: str) -> pl.DataFrame:
    """`minutes` sorted by ticker and time, without those in which nothing was traded: no price, and a volume of 0 or
    none. A ticker that never has a volume has 0. Raises SourceError for a row without a ticker or a time."""
    figures = pl.col("open", "high", "low", "close", "volume").fill_nan(None)
    if (unknown := minutes.filter(pl.any_horizontal(pl.col("ticker", "at").is_null()))).height:
        row = unknown.row(0, named=True)
        raise SourceError(f"{place}: found {row}, expected a ticker and a time ({unknown.height} such row(s))")
    rows = minutes.with_columns(figures).with_columns(
        volume=pl.when(pl.col("volume").is_null().all().over("ticker")).then(0.0).otherwise("volume")
    )
    is_empty = pl.all_horizontal(pl.col("open", "high", "low", "close").is_null()) & (
        pl.col("volume").fill_null(0) == 0
    )
    return rows.filter(~is_empty).sort("ticker", "at", maintain_order=True)


def faults_of(rows: pl.DataFrame, inside: pl.DataFrame) -> pl.DataFrame:
    """What is wrong with those of `rows` that are `inside` a session (ticker, at, session): the columns of a finding,
    and of the row at and fault (in words). Of a row that comes twice alike one is kept, and that is repaired."""
    key = ["ticker", "at"]
    is_doubled = (pl.struct(key) == pl.struct(key).shift()).fill_null(value=False)  # they are sorted
    twice = rows.join(rows.filter(is_doubled).select(key).unique(), on=key, how="semi").group_by(key)
    twice = twice.agg(
        different=pl.struct(pl.exclude(key)).n_unique() > 1, first=pl.col("close").first(), last=pl.col("close").last()
    ).join(inside, on=key)
    at = pl.col("at").dt.strftime("%H:%M:%S")
    repetition = pl.format("a second row of {}", at).alias("fault")
    faults = [
        twice.filter(pl.col("different") == different).select(
            *finding("repeated", "close", figure=pl.col("last"), expected=pl.col("first"), repaired=not different),
            *("at", repetition),
        )
        for different in (True, False)
    ]
    value_faults = impossible()
    del value_faults["adj_close"]  # minutes are as traded
    unpriced = rows.filter(pl.any_horizontal(*value_faults.values())).join(inside, on=key)
    for name, flag in value_faults.items():
        figure_text = pl.col(name).cast(pl.String).fill_null("nothing")
        fault = pl.format("{} of {} at {}", pl.lit(name), figure_text, at).alias("fault")
        faults.append(
            unpriced.filter(flag).select(*finding("no_price", name, figure=pl.col(name), repaired=False), "at", fault)
        )
    return pl.concat(faults).sort(key)


def refuse_many(faults: pl.DataFrame, rows: int, place: str) -> None:
    """SourceError where so many rows are no bars that the file is another than expected."""
    faulty_rows = faults.filter(~pl.col("repaired")).unique(["ticker", "at"], maintain_order=True)
    if faulty_rows.height > max(FEW_ROWS, SHARE_OF_ROWS * rows):
        offenders = [
            f"{row['ticker']} {row['at']}: {row['fault']}" for row in faulty_rows.head(NAMED).iter_rows(named=True)
        ]
        raise SourceError(
            f"{place}: {faulty_rows.height} of {rows} rows are no bars, more than {SHARE_OF_ROWS:.0%}; expected one "
            f"row per ticker and time, with finite prices above 0 and a volume not below 0. {'; '.join(offenders)}"
        )


def session_hours(calendar: TradingCalendar, *, rests: bool = False) -> pl.DataFrame:
    """session, opens, closes, rest_start, rest_end of each session of `calendar`; with `rests` False it has none."""
    days = calendar.sessions
    at_noon = calendar.rests if rests else {}
    return pl.DataFrame(
        {
            "session": days,
            "opens": [calendar.opens[day] for day in days],
            "closes": [calendar.closes[day] for day in days],
            "rest_start": [at_noon[day][0] if day in at_noon else None for day in days],
            "rest_end": [at_noon[day][1] if day in at_noon else None for day in days],
        },
        schema={"session": pl.Date, **dict.fromkeys(("opens", "closes", "rest_start", "rest_end"), UTC_TIME)},
    )


def _refuse_most(
    session_coverage: pl.DataFrame, at_end: pl.DataFrame, *, times: pl.Series, calendar: TradingCalendar, place: str
) -> None:
    """SourceError where what the file holds, at `times`, cannot be what it seems to be."""
    refuse_times_of_ends(at_end, place)
    advice = (
        f"expected bars from the opening to the close of a session of {calendar.name}, each with the time at which it "
        "begins, in UTC unless the times or STOCK_ASSETS_TIME_ZONE name another zone"
    )
    held_out = session_coverage.filter(pl.col("reason").is_not_null())
    reasons = held_out.sort("session", "ticker").head(1).rows(named=True)
    example = "".join(f"; {row['session']} of {row['ticker']}: {row['reason']}" for row in reasons)
    if held_out.height == session_coverage.height:
        raise NoBarsError(
            f"{place} has bars from {times.min()} to {times.max()}, which hold no whole session of "
            f"{calendar.name}, {calendar.sessions[0]} to {calendar.sessions[-1]}{example}; {advice}"
        )
    if held_out.height > FEW and held_out.height > MOST_UNCOVERED * session_coverage.height:
        raise SourceError(
            f"{place} covers {session_coverage.height - held_out.height} of {session_coverage.height} sessions of its "
            f"tickers{example}; {advice}"
        )


def refuse_times_of_ends(at_end: pl.DataFrame, place: str) -> None:
    """SourceError where tickers have the times at which bars end (`stamped_at_end`)."""
    if at_end.height:
        row = at_end.row(0, named=True)
        raise SourceError(
            f"{place}, ticker {row['ticker']}: found no bar at the opening and one at the close of {row['sessions']} "
            f"session(s), as of bars of {row['minutes']} minute(s) whose time is that of their end; expected the times "
            "at which bars begin"
        )


def doubt_zone(bars: pl.DataFrame, session_coverage: pl.DataFrame, calendar: TradingCalendar, *, place: str) -> None:
    """SourceError where `bars`, read as UTC, make more sense in the zone of the exchange."""
    hours = session_hours(calendar)
    wrong_count = session_coverage["reason"].count()
    astray = _astray(bars, hours)
    if (
        session_coverage.height
        and wrong_count <= DOUBTFUL * session_coverage.height
        and astray <= DOUBTFUL * bars.height
    ):
        return
    zone = calendar.local_zone
    local = bars["at"].dt.replace_time_zone(None).dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    local_bars = bars.select("ticker", at=local.dt.convert_time_zone("UTC")).drop_nulls()
    local_bars = bar_lengths(local_bars.unique().sort("ticker", "at"))
    local_coverage = coverage(local_bars, session_hours(calendar, rests=True))
    wrong_there, astray_there = local_coverage["reason"].count(), _astray(local_bars, hours)
    fits = local_coverage.height > 0 and wrong_there < max(0.5 * local_coverage.height, 1) and astray_there <= astray
    better = (
        not session_coverage.height
        or wrong_there / max(local_coverage.height, 1) < 0.5 * wrong_count / session_coverage.height
    )
    if zone != "UTC" and fits and (better or (astray_there == 0 < astray and wrong_there <= wrong_count)):
        raise SourceError(
            f"{place} has times without a zone: read as UTC its bars cover {session_coverage.height - wrong_count} "
            f"of {session_coverage.height} sessions and {astray} of {bars.height} bars lie hours outside of them, read "
            f"as {zone} {local_coverage.height - wrong_there} of {local_coverage.height} and {astray_there}; expected "
            f"times that name their zone, or STOCK_ASSETS_TIME_ZONE={zone} (or UTC, if they are of it)"
        )


def _astray(bars: pl.DataFrame, hours: pl.DataFrame) -> int:
    """How many of `bars` begin more than six hours before the opening of a session and more than five after a close."""
    edges = hours.sort("opens").select("opens", "closes")
    nearest_session = (
        bars.select("at")
        .sort("at")
        .join_asof(edges.select("opens"), left_on="at", right_on="opens", strategy="forward", tolerance="6h")
    )
    nearest_session = nearest_session.join_asof(
        edges.select("closes"), left_on="at", right_on="closes", strategy="backward", tolerance="5h"
    )
    nearest_session = nearest_session.join_asof(
        edges.select(since="opens", until="closes"), left_on="at", right_on="since", strategy="backward"
    )
    outside = pl.col("opens").is_null() & pl.col("closes").is_null() & (pl.col("at") >= pl.col("until"))
    within = pl.col("at").is_between(hours["opens"].min(), hours["closes"].max())
    return nearest_session.filter(outside.fill_null(value=True) & within).height
