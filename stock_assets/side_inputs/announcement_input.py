"""The side input `announcements`: who says when companies report."""

from collections.abc import Sequence

from stock_assets.market.calendar import calendar_of
from stock_assets.market.sources.budget import Pace
from stock_assets.settings import PREFIX, Settings
from stock_assets.side_inputs import SideSource
from stock_assets.side_inputs.announcing import with_replays
from stock_assets.side_inputs.registry import Say, SideInput, register_side_input
from stock_assets.side_inputs.tables import ANNOUNCEMENTS


def sources(settings: Settings, say: Say) -> Sequence[SideSource]:
    """A file of one's own; else the simulated companies, or with prices of Yahoo the SEC."""
    calendar, made = calendar_of(settings), []
    if settings.announcements is not None:
        from stock_assets.side_inputs.sources.announcement_file import AnnouncementFile

        made.append(AnnouncementFile(settings.announcements, calendar, settings.announcement_notice))
    elif settings.source == "simulated":
        from stock_assets.side_inputs.sources.simulated_announcements import SimulatedAnnouncements

        made.append(SimulatedAnnouncements(calendar, settings.seed, settings.tickers))
    if settings.source == "yahoo" and settings.sec_contact is not None:
        from stock_assets.side_inputs.sources.sec_announcements import SecAnnouncements
        from stock_assets.side_inputs.sources.sec_filings import sec_filings

        made.append(SecAnnouncements(sec_filings(settings, say), calendar, on_progress=Pace("EDGAR, filings", say)))
    return made


def missing(settings: Settings) -> str | None:
    """Why nothing says when companies report."""
    if settings.announcements is not None or settings.source == "simulated":
        return None
    if settings.source == "yahoo" and settings.sec_contact is not None:
        return None
    of_vendors = f", and {PREFIX}SEC_CONTACT has no address for the SEC" if settings.source == "yahoo" else ""
    return f"{PREFIX}ANNOUNCEMENTS names no file of announcements{of_vendors}"


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
