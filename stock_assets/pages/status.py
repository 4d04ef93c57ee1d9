"""Can tonight's predictions be used? One verdict, and what is open."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from stock_assets.pages.numbers import plural


@dataclass(frozen=True)
class Verdict:
    """The answer in a word, and why."""

    state: Literal["usable", "late", "unusable"]
    title: str
    why: tuple[str, ...]
    """sentences"""


@dataclass(frozen=True)
class Trouble:
    """An alert that is open."""

    title: str
    text: str
    first_at: datetime | None
    last_at: datetime | None
    run: str | None
    """the address of its run in Dagster"""
    count: int = 1


@dataclass(frozen=True)
class FailedCheck:
    """A check whose newest result is a failure."""

    asset: str
    check: str
    severity: str
    text: str | None
    at: datetime
    run: str | None

    @property
    def blocks(self) -> bool:
        return self.severity == "ERROR"


def verdict(
    *,
    newest: date | None,
    predicted: int,
    behind: int,
    reason: str,
    checks: Sequence[FailedCheck] = (),
    alerts: int = 0,
) -> Verdict:
    """The verdict on the session `newest`, of which `predicted` tickers have a prediction.

    `behind` sessions are late, as `reason` says. A failed check of severity ERROR forbids use; what is merely open is
    named beside the answer.

    >>> verdict(newest=date(2026, 11, 20), predicted=4, behind=0, reason="2026-11-20 is the newest session").title
    'Usable: the predictions of 2026-11-20 are the newest expected'
    """
    if newest is None:
        return Verdict("unusable", "Not usable: nothing is published yet", ("Materialize publication in Dagster.",))
    blocking = [check for check in checks if check.blocks]
    notes = [f"The check {check.check} of {check.asset} failed." for check in blocking]
    if warnings := len(checks) - len(blocking):
        notes.append(f"{plural(warnings, 'check')} failed as a warning.")
    if alerts:
        notes.append(f"{plural(alerts, 'alert is', 'alerts are')} open: read below before use.")
    if not predicted:
        return Verdict("unusable", f"Not usable: no ticker of {newest} is predicted", (_sentence(reason), *notes))
    if blocking:
        return Verdict("unusable", f"Not usable: {plural(len(blocking), 'check')} failed", (*notes, _sentence(reason)))
    if behind:
        title = f"Late: {plural(behind, 'session')} behind; {newest} is the newest"
        return Verdict("late", title, (_sentence(reason), *notes))
    title = f"Usable: the predictions of {newest} are the newest expected"
    return Verdict("usable", title, (_sentence(reason), *notes))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""
