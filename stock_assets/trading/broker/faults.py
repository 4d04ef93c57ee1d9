"""What may go wrong at a broker, on request: the simulated broker and its tests."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong `times` times, with orders of `ticker`, or of any where it is None.

    - answer lost: the order is accepted, and the sender does not learn it
    - order lost: the order does not arrive, and the sender does not learn it
    - no answer: a look at anything fails
    - late rejection: the order is accepted, and rejected before the open
    - partial fill: `share` of the order is filled, whole shares; the rest expires
    - halt: the ticker does not open
    - duplicate event: a fill is shown twice among the activities, under one id
    """

    kind: Literal["answer lost", "order lost", "no answer", "late rejection", "partial fill", "halt", "duplicate event"]
    ticker: str | None = None
    times: int = 1
    share: float = 0.5


class Faults:
    """Which faults are still to come."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._left = [[fault, fault.times] for fault in faults]

    def take(self, kind: str, ticker: str | None = None) -> Fault | None:
        """The next fault of `kind` that concerns `ticker`, which is one less from now on."""
        for entry in self._left:
            fault, times = entry
            if fault.kind == kind and times and fault.ticker in (None, ticker):
                entry[1] -= 1
                return fault
        return None
