"""What an evening has to do, decided from what the store holds, what is under way and the clock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from itertools import takewhile

from stock_assets.features.side_features import SIDE_FEATURES
from stock_assets.market.calendar import TradingCalendar

#: Work that failed is tried again after RETRY, twice as long after every further failure, and LONGEST_RETRY at most:
#: a vendor corrects a bad day within hours, and an alarm a minute helps nobody.
RETRY, LONGEST_RETRY = timedelta(minutes=30), timedelta(hours=6)

#: The tag of a run that ended because its server was killed: no failure of its session, which is tried again at once.
INTERRUPTED = "stock_assets/interrupted"
#: Tags of a run: who asked for it, a sensor or `make run`, and the name of its work, by which a failed run is found.
ASKED_BY, WORK = "stock_assets/asked_by", "stock_assets/work"
MAKE_RUN = "make run"
#: The tag of a run that another follows, and how long nothing else begins after its end.
FOLLOWED, FOLLOWS_WITHIN = "stock_assets/followed", timedelta(minutes=1)

#: The assets that an evening makes of a closed session, in one run.
BARS = ("universe", "raw_ohlcv", "context_series")
FEATURES = ("daily_bars", "indicators", "stationary_features", "pca_components")
#: What the books trade: one step makes the ledger.
LEDGER = ("fills", "positions", "equity")
TRADED = ("target_weights", *LEDGER)
AFTER_PREDICTIONS = (*TRADED, "drift", "operations", "publication")
SERVED = ("predictions", *AFTER_PREDICTIONS)
EVENING = (*BARS, *FEATURES, *SERVED)
#: Those that stand for a session each, and those of them that predictions are made of: what was never made of these is
#: made from the vendor's answer on, since the bars that there are may have stopped at a check.
BY_SESSION = tuple(asset for asset in EVENING if asset not in ("universe", "operations"))
BEFORE_PREDICTIONS = tuple(
    asset for asset in BY_SESSION if asset not in ("indicators", *TRADED, "drift", "publication")
)
#: Failures after which labels and decisions do not wait any longer for what is missing of an evening.
WAITED_FAILURES = 3


@dataclass(frozen=True)
class Work:
    """One run to ask for."""

    name: str
    """the same in every attempt, so that earlier attempts are found by it"""
    assets: tuple[str, ...]
    first: str | None
    """first partition; None where the assets have none"""
    last: str | None
    reason: str
    """why, in one sentence"""
    config: Mapping[str, object] | None = None
    """of the assets that train models"""


@dataclass(frozen=True)
class Gaps:
    """What the store lacks of the sessions up to the last that is predicted, by table; sessions ascend."""

    unmade: Mapping[str, Sequence[date]] = field(default_factory=dict)
    """sessions between others that were never made"""
    lost: Mapping[str, Sequence[date]] = field(default_factory=dict)
    """sessions that have fewer rows than were written, or whose predictions are others than the published ones"""
    operations: bool = False
    """whether the table `operations` is older than the predictions"""
    side_inputs: tuple[str, ...] = ()
    """the assets of the side inputs that are on (`with_side_inputs`)"""

    def of(self, table: str) -> list[date]:
        """The sessions of `table` that are to be made again, ascending."""
        return sorted({*self.unmade.get(table, ()), *self.lost.get(table, ())})


@dataclass(frozen=True)
class Attempts:
    """The runs there were for some work."""

    runs: int = 0
    succeeded: bool = False
    """the last of them"""
    failures: int = 0
    """since the last success, without runs that the server took along when it was killed, and without the first whose
    own process was killed"""
    failed_at: datetime | None = None
    """when the last failed"""


@dataclass(frozen=True)
class State:
    """What a tick of the automation decides on."""

    now: datetime
    """aware"""
    predicted_through: date | None
    """the last session of which predictions were made"""
    labelled_through: date | None
    """the last session of which labels were made"""
    model_years: frozenset[int]
    """the model years that are trained, networks, baselines and ensemble"""
    under_way: str | None = None
    """the run or backfill that writes now, in words"""
    failures: int = 0
    """failed runs for the oldest session that is not predicted"""
    failed_at: datetime | None = None
    """when the last of them failed"""
    attempts: int = 0
    """all runs for it"""
    gaps: Gaps = Gaps()
    """of the sessions before it"""
    rest_failures: int = 0
    """failed runs for what is missing of these sessions"""


@dataclass(frozen=True)
class Plan:
    """The sessions to make now, ascending; none where `reason` says why there is nothing to do."""

    sessions: tuple[date, ...]
    reason: str


def with_side_inputs(assets: Sequence[str], side_inputs: Sequence[str]) -> tuple[str, ...]:
    """`assets` and, as they are made, `side_inputs`: their tables after the context series, their features after the
    other ones.

    >>> with_side_inputs(("context_series", "stationary_features"), ("announcements", "side_features"))
    ('context_series', 'announcements', 'stationary_features', 'side_features')
    """
    tables = [name for name in side_inputs if name != SIDE_FEATURES]
    after = {"context_series": tables, "stationary_features": [SIDE_FEATURES] if SIDE_FEATURES in side_inputs else []}
    return tuple(name for asset in assets for name in (asset, *after.get(asset, ())))


def due_at(calendar: TradingCalendar, session: date, after_close: timedelta) -> datetime:
    """When a session is to be fetched, UTC: `after_close` after its close, and not before its partition exists, at
    midnight of the calendar's zone."""
    return max(calendar.closes[session] + after_close, calendar.day_over(session))


def retry_at(failures: int, failed_at: datetime) -> datetime:
    """When work that failed so many times in a row, last at `failed_at`, is tried again.

    >>> str(retry_at(3, datetime(2026, 3, 4, 12)))
    '2026-03-04 14:00:00'
    """
    return failed_at + min(RETRY * 2 ** min(failures - 1, 10), LONGEST_RETRY)


def evening_work(oldest: date) -> str:
    """The name of an evening's work: its first session, which it keeps until that session is made."""
    return f"session {oldest}"


def chain_due(calendar: TradingCalendar, after_close: timedelta, state: State) -> Plan:
    """The closed sessions that have no predictions yet, oldest first.

    After a failure the oldest alone is tried again: the sessions after it wait until it is made.
    """
    if state.under_way:
        return Plan((), f"{state.under_way} is under way")
    if state.predicted_through is None:
        return Plan((), "no session is predicted yet; `make run` or a backfill makes the first ones")
    following = calendar.between(state.predicted_through + timedelta(days=1), calendar.sessions[-1])
    if not following:
        return Plan((), f"{state.predicted_through} is predicted, and the calendar of the settings ends there")
    due_sessions = list(takewhile(lambda session: due_at(calendar, session, after_close) <= state.now, following))
    if not due_sessions:
        moment = due_at(calendar, following[0], after_close)
        return Plan((), f"{state.predicted_through} is predicted; {following[0]} is due at {moment:%Y-%m-%d %H:%M} UTC")
    sessions_with_models = list(takewhile(lambda session: session.year in state.model_years, due_sessions))
    if not sessions_with_models:
        return Plan((), f"{due_sessions[0]} waits for model year {due_sessions[0].year}, which is not trained yet")
    if state.failures:
        assert state.failed_at is not None
        next_try = retry_at(state.failures, state.failed_at)
        if state.now < next_try:
            return Plan(
                (),
                f"{sessions_with_models[0]} failed {state.failures} time(s), last at {state.failed_at:%Y-%m-%d %H:%M} "
                f"UTC; it is tried again at {next_try:%Y-%m-%d %H:%M} UTC",
            )
        sessions_with_models = sessions_with_models[:1]
    return Plan(
        tuple(sessions_with_models),
        f"{len(sessions_with_models)} closed session(s) without predictions, from {sessions_with_models[0]}",
    )


def rest_due(calendar: TradingCalendar, gaps: Gaps, predicted_through: date | None) -> Work | None:
    """The run that makes what is missing of sessions that are predicted already, or of sessions between them: the
    oldest, with the sessions after it that lack the same. None where everything is there.
    """
    if predicted_through is None:
        return None
    by_session = with_side_inputs(BY_SESSION, gaps.side_inputs)
    lacking = {asset: set(gaps.of(asset)) for asset in by_session}
    sessions = sorted(set().union(*lacking.values()))
    if not sessions:
        if not gaps.operations:
            return None
        name = evening_work(predicted_through)
        return Work(name, ("operations",), None, None, f"{name} is predicted, but operations ends before it")
    first, assets = sessions[0], _missing_at(gaps, sessions[0])
    alike = takewhile(lambda session: _missing_at(gaps, session) == assets, _first_stretch(calendar, sessions))
    *_, last = alike
    name, missing = evening_work(first), [asset for asset in by_session if first in lacking[asset]]
    span = f"{first} to {last}" if last > first else f"{first}"
    reason = f"{span} lacks {', '.join(missing)}"
    return Work(name, assets, str(first), str(last), reason)


def _missing_at(gaps: Gaps, session: date) -> tuple[str, ...]:
    """The assets to make again of `session`, in flow order; operations shows and publication publishes them."""
    all_assets, by_session, before, made_once = (
        with_side_inputs(assets, gaps.side_inputs)
        for assets in (EVENING, BY_SESSION, BEFORE_PREDICTIONS, (*BARS, *FEATURES))
    )
    if session in gaps.unmade.get("predictions", ()):
        return all_assets
    missing = {asset for asset in by_session if session in gaps.of(asset)}
    if any(session in gaps.unmade.get(asset, ()) for asset in before):
        missing |= {*made_once}
    if missing.intersection(LEDGER):
        missing |= {*LEDGER}
    return tuple(asset for asset in all_assets if asset in missing or asset in ("operations", "publication"))


def _first_stretch(calendar: TradingCalendar, sessions: Sequence[date]) -> list[date]:
    """The first of `sessions`, ascending, and those that follow it without a gap."""
    first = calendar.position(sessions[0])
    following = takewhile(lambda pair: calendar.position(pair[1]) == first + pair[0], enumerate(sessions))
    return [session for _, session in following]


def rest_waited_for(calendar: TradingCalendar, state: State) -> str | None:
    """What of an evening labels and decisions still wait for, in words; None where it is there or keeps failing."""
    remaining_work = rest_due(calendar, state.gaps, state.predicted_through)
    if remaining_work is None or state.rest_failures >= WAITED_FAILURES:
        return None
    return f"{', '.join(remaining_work.assets)} of {remaining_work.name} is still to be made"


def session_waited_for(calendar: TradingCalendar, after_close: timedelta, state: State) -> str | None:
    """The oldest closed session that is still to be predicted, in words; None where there is none, or it keeps
    failing."""
    due_sessions = chain_due(calendar, after_close, replace(state, failures=0)).sessions
    return (
        f"session {due_sessions[0]} is still to be predicted"
        if due_sessions and state.failures < WAITED_FAILURES
        else None
    )


def labels_work(first: date) -> str:
    """The name of the work that makes labels from session `first` on."""
    return f"labels from {first}"


def labels_due(calendar: TradingCalendar, horizon: int, state: State) -> Plan:
    """The sessions whose labels became complete, or are missing between others: the oldest stretch of them.

    A session counts as closed once it is predicted: the bars of one that stopped at a check must not decide labels.
    They wait for the rest of an evening, whose page shows what was labelled before it.
    """
    if state.under_way:
        return Plan((), f"{state.under_way} is under way")
    if state.predicted_through is None or state.labelled_through is None:
        return Plan((), "nothing is predicted or labelled yet; `make run` or a backfill makes the first ones")
    if waits := rest_waited_for(calendar, state):
        return Plan((), waits)
    last = calendar.shift(state.predicted_through, -horizon)
    following = calendar.between(state.labelled_through + timedelta(days=1), last) if last else ()
    missing = [*state.gaps.of("labels"), *following]
    if not missing:
        return Plan((), f"every label that {state.predicted_through} completes is there")
    due_sessions = _first_stretch(calendar, missing)
    return Plan(
        tuple(due_sessions),
        f"labels of {len(due_sessions)} session(s) from {due_sessions[0]} became complete by {state.predicted_through}",
    )


def model_year_due(calendar: TradingCalendar, horizon: int, state: State) -> int | None:
    """The model year of the next session, where it is to be trained now: the sessions before it are done, with
    every label they complete, and no model serves it yet."""
    if state.under_way or state.predicted_through is None or state.labelled_through is None:
        return None
    upcoming = calendar.shift(state.predicted_through, 1)
    if upcoming is None or upcoming.year in state.model_years or rest_waited_for(calendar, state):
        return None
    if labels_due(calendar, horizon, state).sessions:
        return None
    return upcoming.year
