"""How long what an evening leaves behind is kept."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Retention:
    """The age at which something goes. Dagster removes ticks itself (`retention` in dagster.yaml)."""

    events: timedelta = timedelta(days=30)
    """the steps and log lines of a run that succeeded; its materializations and checks are kept apart from them"""
    events_of_failures: timedelta = timedelta(days=180)
    """of a run that failed or was cancelled"""
    runs: timedelta = timedelta(days=400)
    """the run itself, in the list of runs"""
    pictures: timedelta = timedelta(days=30)
    """pictures and previews of a materialization that is not the newest of its asset"""
    checks: timedelta = timedelta(days=90)
    """an evaluation of a check that is not its newest"""
    printed: timedelta = timedelta(days=30)
    """what steps and ticks printed"""
    checkpoints: timedelta = timedelta(days=30)
    """where a training that never went on was interrupted"""
    reasons: timedelta = timedelta(days=400)
    """the words of `fetch_outcomes`; the outcome of every ticker and session stays"""
    leftovers: timedelta = timedelta(days=1)
    """what a killed writer left of a file that it was publishing; nothing that the ledger names ever goes"""
    unserved: timedelta = timedelta(days=400)
    """the run in the model registry of a version that never served, and the saved model of a challenger that lost"""


@dataclass(frozen=True)
class Removed:
    """What the tidying did about one kind of thing."""

    kind: str
    count: int
    bytes: int = 0

    def __str__(self) -> str:
        size_text = f", {self.bytes / 1e6:,.1f} MB" if self.bytes else ""
        return f"{self.kind}: {self.count:,}{size_text}"
