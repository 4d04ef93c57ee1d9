"""What the models of real prices do without: inputs that are known to help, and how to add them.

One pure function says so for the summary of `make run`, the report, the check `market_context`, `stock-assets status`
and the dashboard.
"""

from collections.abc import Collection
from typing import NamedTuple

from stock_assets.market.context import VOLATILITY
from stock_assets.settings import PREFIX, Settings
from stock_assets.side_inputs.tables import ANNOUNCEMENTS

#: By source, how the market context comes in.
_SERIES_OF = {
    "yahoo": f"leave {PREFIX}CONTEXT unset and make context_series again",
    "snapshot": f"add rows with the ticker {VOLATILITY} to the file, and ^GSPC and SPY beside them",
}


class Absent(NamedTuple):
    """An input that the models lack."""

    name: str
    """of the side input, the series or the setting"""
    why: str
    cost: str
    """what was measured, and how"""
    remedy: str

    def __str__(self) -> str:
        return f"The models lack {self.name}: {self.why}. It costs {self.cost}. To add it, {self.remedy}."


def absent_inputs(
    settings: Settings, *, series: Collection[str], announced: bool, no_source: str | None
) -> list[Absent]:
    """What the models of `settings` lack; nothing of the simulated market, which makes its own.

    `series` are those that context_series holds a bar of, `announced` says whether announcements has a row, and
    `no_source` why it has no source (`SideInput.missing`), None where it has one.

    >>> [each.name for each in absent_inputs(Settings(source="yahoo"), series=(), announced=True, no_source=None)]
    ['^VIX', 'past announcements as filed']
    """
    if settings.source == "simulated":
        return []
    lacking = []
    if VOLATILITY not in series:
        how = _SERIES_OF.get(settings.source, f"let the source answer for {VOLATILITY}")
        cost = "about .005 of log-loss by the study (python -m benchmarks walk_forward with --context: .001)"
        lacking.append(Absent(VOLATILITY, f"context_series has no bar of {VOLATILITY}", cost, how))
    left_out = settings.side_inputs is not None and ANNOUNCEMENTS.name not in settings.side_inputs
    if left_out or not announced:
        cost = "about .007 of log-loss (BENCHMARKS.md, the recipe; the asset input_value measures it on your prices)"
        reason, remedy = "the table announcements has no row yet", "make the asset announcements"
        if left_out:
            reason, remedy = f"{PREFIX}SIDE_INPUTS leaves announcements out", "name them there, or leave it unset"
        elif no_source:
            reason, remedy = no_source, _announcing(settings)
        lacking.append(Absent("the dates of announcements", reason, cost, remedy))
    elif settings.source == "yahoo" and settings.sec_contact is None and settings.announcements is None:
        reason = f"{PREFIX}SEC_CONTACT is unset, so that the SEC is not asked when companies reported"
        cost = "up to .004 of log-loss, what past dates alone are worth (BENCHMARKS.md, the recipe)"
        lacking.append(Absent("past announcements as filed", reason, cost, _contact()))
    return lacking


def _announcing(settings: Settings) -> str:
    file = f"set {PREFIX}ANNOUNCEMENTS to a file with the columns ticker, date and when"
    return f"{_contact()}, or {file}" if settings.source == "yahoo" else file


def _contact() -> str:
    return f"set {PREFIX}SEC_CONTACT to a name and an e-mail address, which the SEC asks every program for"
