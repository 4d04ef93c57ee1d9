"""The side input `fundamentals`: what companies reported, from EDGAR."""

from collections.abc import Sequence

from stock_assets.market.sources.budget import Pace
from stock_assets.settings import PREFIX, Settings
from stock_assets.side_inputs import SideSource
from stock_assets.side_inputs.registry import Say, SideInput, register_side_input
from stock_assets.side_inputs.tables import FUNDAMENTALS


def sources(settings: Settings, say: Say) -> Sequence[SideSource]:
    """EDGAR, where the settings say who asks it."""
    if settings.sec_contact is None or settings.source == "simulated":
        return []
    from stock_assets.side_inputs.sources.sec_filings import sec_filings
    from stock_assets.side_inputs.sources.sec_fundamentals import SecFundamentals

    return [SecFundamentals(sec_filings(settings, say), on_progress=Pace("EDGAR, facts", say))]


def missing(settings: Settings) -> str | None:
    """Why nothing says what companies reported."""
    if settings.source == "simulated":
        return "the companies of the simulated market file nothing"
    if settings.sec_contact is None:
        return f"{PREFIX}SEC_CONTACT is not set; expected a name and an e-mail address, which the SEC asks for"
    return None


register_side_input(
    SideInput(
        table=FUNDAMENTALS,
        subjects="tickers",
        sources=sources,
        text="figures of companies' reports, as filed and as restated",
        missing=missing,
    )
)
