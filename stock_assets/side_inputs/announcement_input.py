"""The side input `announcements`: who says when companies report."""

from collections.abc import Sequence

from stock_assets.market.calendar import calendar_of
from stock_assets.market.sources.budget import Budget, Pace, Politeness
from stock_assets.settings import PREFIX, Settings
from stock_assets.side_inputs import SideSource
from stock_assets.side_inputs.announcing import with_replays
from stock_assets.side_inputs.registry import Say, SideInput, register_side_input
from stock_assets.side_inputs.tables import ANNOUNCEMENTS


def sources(settings: Settings, say: Say) -> Sequence[SideSource]:
    """A file of one's own, or the simulated companies; the SEC, where it may be asked; with Yahoo's prices its
    calendar, which asks for no address, unless a file alone is to say it."""
    calendar, result = calendar_of(settings), []
    if settings.announcements is not None:
        from stock_assets.side_inputs.sources.announcement_file import AnnouncementFile

        result.append(AnnouncementFile(settings.announcements, calendar, settings.announcement_notice))
    elif settings.source == "simulated":
        from stock_assets.side_inputs.sources.simulated_announcements import SimulatedAnnouncements

        result.append(SimulatedAnnouncements(calendar, settings.seed, settings.tickers))
    if _has_filings(settings):
        from stock_assets.side_inputs.sources.sec_announcements import SecAnnouncements
        from stock_assets.side_inputs.sources.sec_filings import sec_filings

        pace = Pace("EDGAR, announcements", say)
        result.append(SecAnnouncements(sec_filings(settings, say), calendar, on_progress=pace))
    if settings.source == "yahoo" and (settings.announcements is None or _has_filings(settings)):
        from stock_assets.side_inputs.sources.earnings_calendar import EarningsCalendar

        budget = Budget(Politeness(per_second=settings.requests_per_second), say=say)
        folder, pace = settings.data_dir / "staged_calendar", Pace("Yahoo, calendar of announcements", say)
        result.append(EarningsCalendar(calendar, budget=budget, staged=folder, on_progress=pace))
    return result


def _has_filings(settings: Settings) -> bool:
    """Whether the SEC is asked: not about companies that there are only in the simulated market."""
    return settings.sec_contact is not None and settings.source != "simulated"


def missing(settings: Settings) -> str | None:
    """Why nothing says when companies report."""
    if settings.announcements is not None or settings.source in ("simulated", "yahoo") or _has_filings(settings):
        return None
    return (
        f"{PREFIX}ANNOUNCEMENTS names no file of announcements, and {PREFIX}SEC_CONTACT no name and e-mail address, "
        "with which the SEC could be asked for filings"
    )


register_side_input(
    SideInput(
        table=ANNOUNCEMENTS,
        subjects="tickers",
        sources=sources,
        text="when companies report, and since when that is known",
        missing=missing,
        follows=with_replays,
    )
)
