"""What the whole market knows of the economy: scheduled events within the horizon of a label, and how far the newest
figures of economic series lie from what went before. Each column has one value per session.

Neither group is read by models unless it was measured to help: see docs/macro_and_texts.md.
"""

from bisect import bisect_right, insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import islice

import numpy as np
import polars as pl

from stock_assets.features.side_features import SideColumn, SideFrames, SideGroup, register_side_group
from stock_assets.side_inputs.as_of import rows_by
from stock_assets.side_inputs.tables import MACRO, SCHEDULED_EVENTS

#: Sessions after t that are looked at: the horizon of the labels.
AHEAD = 7
#: Days by rule give way to those of a calendar or a file that lie so near.
NEAR = timedelta(days=15)
RULE = "rule"

SCHEDULED: Mapping[str, SideColumn] = {
    f"{subject}_ahead": SideColumn(f"number of {text} among the next {AHEAD} sessions", 0.0, float(AHEAD))
    for subject, text in {
        "fomc": "decisions of the Federal Open Market Committee",
        "payrolls": "employment reports",
        "cpi": "consumer price reports",
        "expiry": "expiries of monthly options",
    }.items()
}

#: Series of FRED with a column, and whether their growth rather than their change is looked at.
SERIES: Mapping[str, bool] = {
    "PAYEMS": True,
    "UNRATE": False,
    "CPIAUCSL": True,
    "ICSA": True,
    "RSAFS": True,
    "INDPRO": True,
    "T10Y2Y": False,
    "BAA10Y": False,
}
#: Changes before the newest one that it is compared with, and the fewest.
WINDOW, FEWEST = 24, 12

SURPRISES: Mapping[str, SideColumn] = {
    f"surprise_{series.lower()}": SideColumn(
        f"the newest {'growth' if grows else 'change'} of {series} less the mean of the {WINDOW} before it, over their "
        "spread, all as they stood then",
        -5.0,
        5.0,
    )
    for series, grows in SERIES.items()
}


def events_ahead(rows: pl.DataFrame, sessions: Sequence[date], all_sessions: Sequence[date]) -> pl.DataFrame:
    """session and `SCHEDULED`, one row of each of `sessions` (ascending), from `rows` of `scheduled_events`.

    `all_sessions` are those of the calendar. A day that a rule gives counts where no other source has one of its
    subject near it. Null where nothing of the subject was known by then.
    """
    changes = sorted(set(rows["session"].to_list()))
    lines: list[dict[str, object]] = []
    reactions: dict[str, list[date]] = {}
    versions = 0
    for session in sessions:
        if (place := bisect_right(changes, session)) != versions:
            reactions, versions = _reactions(rows_by(rows, session)), place
        last = all_sessions[min(bisect_right(all_sessions, session) - 1 + AHEAD, len(all_sessions) - 1)]
        line: dict[str, object] = {"session": session}
        for column in SCHEDULED:
            days = reactions.get(column.removesuffix("_ahead"))
            line[column] = None if days is None else float(bisect_right(days, last) - bisect_right(days, session))
        lines.append(line)
    return pl.DataFrame(lines, {"session": pl.Date, **dict.fromkeys(SCHEDULED, pl.Float64)})


def _reactions(known_rows: pl.DataFrame) -> dict[str, list[date]]:
    """By subject the reaction sessions of the events that stand, each once, ascending."""
    stands = known_rows.filter(~pl.col("withdrawn").fill_null(value=False), pl.col("reaction_session").is_not_null())
    rows = stands.select("subject", "source", "day", "reaction_session").rows()
    surer: dict[str, list[date]] = {}
    for subject, source, day, _ in rows:
        if source != RULE:
            surer.setdefault(subject, []).append(day)
    reactions: dict[str, set[date]] = {subject: set() for subject, *_ in rows}
    for subject, source, day, reaction in rows:
        if source != RULE or all(abs(day - other) > NEAR for other in surer.get(subject, ())):
            reactions[subject].add(reaction)
    return {subject: sorted(days) for subject, days in reactions.items()}


def surprises(rows: pl.DataFrame, sessions: Sequence[date]) -> pl.DataFrame:
    """session and `SURPRISES`, one row of each of `sessions` (ascending), from `rows` of `macro`.

    Null with fewer than FEWEST changes, and where those did not differ.
    """
    columns: dict[str, list[date] | list[float | None]] = {"session": list(sessions)}
    for series, grows in SERIES.items():
        of_series = rows.filter(pl.col("subject") == series).sort("session", "known_at", "fetched_at")
        newest = _newest_figures(of_series, sessions)
        columns[f"surprise_{series.lower()}"] = [_surprise(figures, grows=grows) for figures in newest]
    return pl.DataFrame(columns, {"session": pl.Date, **dict.fromkeys(SURPRISES, pl.Float64)})


def _newest_figures(rows: pl.DataFrame, sessions: Sequence[date]) -> Iterator[list[float]]:
    """The WINDOW + 2 newest figures as they stood at each of `sessions`, the oldest first, of the versions of one
    series in the order in which they were known (as `rows_by`, which would sort all of them for every session)."""
    versions = rows.select("session", "event_time", "value").rows()
    standing: dict[datetime, float | None] = {}
    moments: list[datetime] = []
    place = 0
    for session in sessions:
        while place < len(versions) and versions[place][0] <= session:
            _, moment, value = versions[place]
            if moment not in standing:
                insort(moments, moment)
            standing[moment] = value
            place += 1
        figures = (value for moment in reversed(moments) if (value := standing[moment]) is not None)
        yield list(islice(figures, WINDOW + 2))[::-1]


def _surprise(figures: Sequence[float], *, grows: bool) -> float | None:
    """The newest change against those before it."""
    levels = np.array(figures)
    if len(levels) < FEWEST + 2 or (grows and levels.min() <= 0):
        return None
    changes = np.diff(np.log(levels) if grows else levels)
    spread = changes[:-1].std(ddof=1)
    return float((changes[-1] - changes[:-1].mean()) / spread) if spread else None


def _per_session(columns_of: Callable[[SideFrames], pl.DataFrame]) -> Callable[[SideFrames], pl.DataFrame]:
    """The columns of the sessions on every bar of them."""

    def compute(frames: SideFrames) -> pl.DataFrame:
        bars = frames.bars.select("ticker", "session").filter(pl.col("session").is_in(list(frames.sessions)))
        return bars.join(columns_of(frames), on="session", how="left")

    return compute


SCHEDULE_GROUP = register_side_group(
    SideGroup(
        name="scheduled_events",
        reads=(SCHEDULED_EVENTS.name,),
        columns=SCHEDULED,
        compute=_per_session(
            lambda frames: events_ahead(frames.rows[SCHEDULED_EVENTS.name], frames.sessions, frames.calendar.sessions)
        ),
        lookback=0,
        in_model=False,
        bar_columns=(),
    )
)
MACRO_GROUP = register_side_group(
    SideGroup(
        name="macro",
        reads=(MACRO.name,),
        columns=SURPRISES,
        compute=_per_session(lambda frames: surprises(frames.rows[MACRO.name], frames.sessions)),
        lookback=0,
        in_model=False,
        bar_columns=(),
    )
)
