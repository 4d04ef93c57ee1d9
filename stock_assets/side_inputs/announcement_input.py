"""The side input `announcements`: who says when companies report."""

from collections.abc import Sequence

from stock_assets.market.calendar import calendar_of
from stock_assets.settings import PREFIX, Settings
from stock_assets.side_inputs import SideSource
from stock_assets.side_inputs.announcing import with_replays
from stock_assets.side_inputs.registry import Say, SideInput, register_side_input
from stock_assets.side_inputs.tables import ANNOUNCEMENTS


def sources(settings: Settings, say: Say) -> Sequence[SideSource]:  # noqa: ARG001
    """A file of one's own, and those that go with the source of prices."""
    made: list[SideSource] = []
    if settings.announcements is not None:
        from stock_assets.side_inputs.sources.announcement_file import AnnouncementFile

        made.append(AnnouncementFile(settings.announcements, calendar_of(settings), settings.announcement_notice))
    return made


def missing(settings: Settings) -> str | None:
    """Why nothing says when companies report."""
    if settings.announcements is not None:
        return None
    return f"{PREFIX}ANNOUNCEMENTS names no file of announcements"


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
