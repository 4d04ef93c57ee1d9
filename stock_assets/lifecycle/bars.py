"""What is due of a market of bars below a day, decided from what the store holds and the clock."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import polars as pl

from stock_assets.lifecycle.evening import Work
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.intervals import Interval, bar_ends
from stock_assets.market.sources import SETTLE
from stock_assets.model.bar_schedule import BarTraining, first_served

#: What is made of sessions that are over, of a look at the one that runs, and of sessions that models serve.
FINISHED = ("universe", "raw_bars", "bars", "bar_features", "bar_labels")
LOOK = ("raw_bars", "bars", "bar_features", "bar_predictions", "bar_publication")
JUDGED = ("bar_predictions", "bar_publication", "bar_report")
TRAINED = ("trained_bar_models",)


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
    """sessions that every model has predicted"""
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


def training_due(
    calendar: TradingCalendar, interval: Interval, state: BarState, *, training: Callable[[date], BarTraining]
) -> Work | None:
    """The first sessions without models that a training can serve by now, up to the one after the running one;
    `training` is `bar_schedule.training_of` with the settings."""
    over = sessions_over(calendar, state.now, state.settle)
    last = calendar.shift(over[-1], 2) or calendar.sessions[-1] if over else calendar.sessions[0]
    candidates = [day for day in calendar.between(first_served(calendar, interval), last) if day not in state.trained]
    if not candidates:
        return None
    due = training(candidates[0])
    if not set(due.sessions) <= set(state.labelled):
        return None
    served = [day for day in candidates if training(day) == due]
    reason = f"{_span(served)} without models; they learn from {due.sessions[0]} to {due.sessions[-1]}"
    return Work(f"models of bars from {served[0]}", TRAINED, str(served[0]), str(served[-1]), reason)


def judging_due(calendar: TradingCalendar, state: BarState) -> Work | None:
    """The sessions that are over and have models, and that not every model has predicted: the first stretch."""
    missing = [
        day
        for day in sessions_over(calendar, state.now, state.settle)
        if day in state.trained and day in state.labelled and day not in state.judged
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


def _span(sessions: Sequence[date]) -> str:
    if len(sessions) == 1:
        return f"{sessions[0]} is"
    return f"{sessions[0]} to {sessions[-1]} ({len(sessions)} sessions) are"
