"""What is due of a market of bars below a day, decided from what the store holds and the clock."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import polars as pl

from stock_assets.lifecycle.evening import Work
from stock_assets.lifecycle.freshness import Freshness
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.intervals import Interval, bar_ends, expected_bars
from stock_assets.market.sources import SETTLE
from stock_assets.model.bar_schedule import BarTraining, first_served

#: What is made of sessions that are over, of a look at the one that runs, and of sessions that models serve.
FINISHED = ("universe", "raw_bars", "bars", "bar_features", "bar_labels")
LOOK = ("raw_bars", "bars", "bar_features", "bar_predictions", "bar_publication")
JUDGED = ("bar_predictions", "bar_publication", "drift", "bar_report", "backtest")
TRAINED = ("trained_bar_models",)
PROMOTED = ("promotions",)
#: Sessions that a challenger is compared on, the first that it could have served: a week of an exchange.
JUDGED_SESSIONS = 5
#: A session that is over is asked for once more, for late revisions, so long after its close at least and at most.
REVISED_AFTER, REVISED_WITHIN = timedelta(hours=1), timedelta(days=4)


@dataclass(frozen=True)
class BarState:
    """What the store holds at a moment."""

    now: datetime
    """aware"""
    labelled: Collection[date]
    """sessions that were made after they were over: they have labels"""
    trained: Collection[date]
    """sessions that have models"""
    judged: Collection[date]
    """sessions that every model has predicted, and whose publication is one file"""
    challengers: Sequence[date] = ()
    """the first sessions that versions on which nothing was decided yet were trained for, ascending"""
    asked_at: Mapping[date, datetime] = field(default_factory=dict)
    """when the vendor was asked last for the bars of a session"""
    settle: timedelta = SETTLE
    """so long after its close a session is over"""


def sessions_over(calendar: TradingCalendar, now: datetime, settle: timedelta = SETTLE) -> list[date]:
    """The sessions that closed `settle` before `now`, ascending."""
    recent = calendar.between(calendar.sessions[0], now.date() + timedelta(days=1))
    return [day for day in recent if calendar.closes[day] + settle <= now]


def sessions_running(calendar: TradingCalendar, now: datetime, settle: timedelta = SETTLE) -> list[date]:
    """The sessions that have opened and are not over yet (`sessions_over`), ascending: two for `settle` at midnight."""
    recent = calendar.between(now.date() - timedelta(days=3), now.date() + timedelta(days=2))
    return [day for day in recent if calendar.opens[day] < now < calendar.closes[day] + settle]


def finished_due(calendar: TradingCalendar, state: BarState) -> Work | None:
    """The sessions that are over and have no labels yet: all of them from the first, in one run."""
    missing = [day for day in sessions_over(calendar, state.now, state.settle) if day not in state.labelled]
    if not missing:
        return None
    first, last = missing[0], missing[-1]
    return Work(f"bars from {first}", FINISHED, str(first), str(last), f"{_span(missing)} over and not complete")


def revision_due(calendar: TradingCalendar, interval: Interval, state: BarState) -> Work | None:
    """The sessions that are asked for once more, for what the vendor revised after they were over: from the first bar
    of the next session on, REVISED_AFTER the close at least, and no later than REVISED_WITHIN after it.

    What changed is made again, and predicted where models serve the session.
    """
    sessions = []
    for day in calendar.between((state.now - REVISED_WITHIN).date() - timedelta(days=2), state.now.date()):
        following = calendar.shift(day, 1)
        if day not in state.labelled or day not in state.asked_at or following is None:
            continue
        due_at = max(calendar.closes[day] + REVISED_AFTER, calendar.opens[following] + interval.length)
        if state.asked_at[day] < due_at <= state.now <= calendar.closes[day] + REVISED_WITHIN:
            sessions.append(day)
    if not sessions:
        return None
    day = sessions[0]
    has_models = day in state.trained and day in state.judged
    assets = (*FINISHED, *JUDGED) if has_models else FINISHED
    return Work(f"revised bars of {day}", assets, str(day), str(day), f"what was revised of {day} is asked for")


def training_due(
    calendar: TradingCalendar, interval: Interval, state: BarState, *, training: Callable[[date], BarTraining]
) -> Work | None:
    """The first sessions without models that a training can serve by now, up to the one after the running one;
    `training` is `bar_schedule.training_of` with the settings."""
    past_sessions = sessions_over(calendar, state.now, state.settle)
    last = calendar.shift(past_sessions[-1], 2) or calendar.sessions[-1] if past_sessions else calendar.sessions[0]
    candidates = [day for day in calendar.between(first_served(calendar, interval), last) if day not in state.trained]
    if not candidates:
        return None
    next_training = training(candidates[0])
    if not set(next_training.sessions) <= set(state.labelled):
        return None
    served_sessions = [day for day in candidates if training(day) == next_training]
    training_sessions = next_training.sessions
    reason = (
        f"{_span(served_sessions)} without models; they learn from {training_sessions[0]} to {training_sessions[-1]}"
    )
    return Work(
        f"models of bars from {served_sessions[0]}", TRAINED, str(served_sessions[0]), str(served_sessions[-1]), reason
    )


def served_from(calendar: TradingCalendar, trained_for: date) -> date | None:
    """The session that a version serves from when it is promoted, of the first one that it was trained for: the second
    after those that it is judged on, so that no look waits for the verdict; None after the calendar's end."""
    return calendar.shift(trained_for, JUDGED_SESSIONS + 1)


def promotion_due(calendar: TradingCalendar, state: BarState) -> Work | None:
    """The verdicts on challengers whose JUDGED_SESSIONS are over and labelled."""
    ready = [day for day in state.challengers if _verdict_is_due(calendar, state, day)]
    if not ready:
        return None
    reason = f"{len(ready)} challenger(s) up to that trained for {ready[-1]} can be judged"
    return Work(f"verdicts on challengers up to {ready[-1]}", PROMOTED, None, None, reason)


def _verdict_is_due(calendar: TradingCalendar, state: BarState, trained_for: date) -> bool:
    window = calendar.between(trained_for, calendar.sessions[-1])[:JUDGED_SESSIONS]
    return served_from(calendar, trained_for) is not None and set(window) <= set(state.labelled)


def judging_due(calendar: TradingCalendar, state: BarState) -> Work | None:
    """The sessions that are over and have models, and that not every model has predicted: the first stretch, up to the
    first session that a verdict which is due may give another champion."""
    first_sessions = [served_from(calendar, day) for day in state.challengers if _verdict_is_due(calendar, state, day)]
    before = min((day for day in first_sessions if day is not None), default=date.max)
    missing = [
        day
        for day in sessions_over(calendar, state.now, state.settle)
        if day in state.trained and day in state.labelled and day not in state.judged and day < before
    ]
    if not missing:
        return None
    stretch = [day for k, day in enumerate(missing) if calendar.position(day) == calendar.position(missing[0]) + k]
    first, last = stretch[0], stretch[-1]
    return Work(f"judged bars from {first}", JUDGED, str(first), str(last), f"{_span(stretch)} over and not judged")


def look_due(
    calendar: TradingCalendar, interval: Interval, state: BarState, *, looked: datetime | None, every: timedelta
) -> tuple[Work, datetime] | str:
    """The look at the running session that is due, with the end of the newest bar that it sees; or why none is.

    `looked` is that of the last look; the next one comes `every` so long after it, at the end of a bar.
    """
    running = [day for day in sessions_running(calendar, state.now, state.settle) if day in state.trained]
    if not running:
        return "no session with models is running"
    ends = pl.concat([bar_ends(calendar, day, interval) for day in running])
    newest = ends.filter(ends <= state.now).max()
    if newest is None:
        return f"the first bar of {running[-1]} is not over"
    if looked is not None and newest < looked + every and newest != ends.max():  # pyright: ignore[reportOperatorIssue]
        return f"nothing is new since the bar of {looked:%Y-%m-%d %H:%M} UTC"
    if newest == looked:
        return f"nothing is new since the bar of {looked:%Y-%m-%d %H:%M} UTC"
    reason = f"the bar of {newest:%Y-%m-%d %H:%M} UTC is over"
    work = Work(f"look at {running[-1]}: {newest:%Y-%m-%d %H:%M}", LOOK, str(running[0]), str(running[-1]), reason)
    return work, newest  # pyright: ignore[reportReturnType]


def bar_freshness(
    calendar: TradingCalendar, interval: Interval, *, newest: datetime | None, now: datetime, grace: timedelta
) -> Freshness:
    """How fresh the published bars are at `now`: `newest` is the end of the newest one, None before the first.

    A bar is late `grace` after its end. While the exchange is closed none ends, so nothing becomes late.
    """
    if newest is None:
        return Freshness(True, None, 0, "no bar is published yet", "bar")
    due_by = now - grace
    sessions = calendar.between(newest.date() - timedelta(days=1), now.date() + timedelta(days=1))
    ends = expected_bars(calendar, sessions, interval).filter(pl.col("bar_end") > newest, pl.col("bar_end") <= due_by)
    if ends.is_empty():
        return Freshness(True, newest.date(), 0, f"{newest:%Y-%m-%d %H:%M} UTC is published, and no bar is late", "bar")
    reason = (
        f"{ends.height} bar(s) behind: the newest published one ended {newest:%Y-%m-%d %H:%M} UTC, and {calendar.name} "
        f"has been open since; the newest one that is due ended {ends['bar_end'][-1]:%Y-%m-%d %H:%M} UTC"
    )
    return Freshness(False, ends["session"][-1], ends.height, reason, "bar")


def _span(sessions: Sequence[date]) -> str:
    if len(sessions) == 1:
        return f"{sessions[0]} is"
    return f"{sessions[0]} to {sessions[-1]} ({len(sessions)} sessions) are"
