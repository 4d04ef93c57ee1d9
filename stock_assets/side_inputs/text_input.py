"""The side input `texts`: headlines, messages and filings with their tone."""

from collections.abc import Sequence
from pathlib import Path

from stock_assets.market.sources.budget import Budget, Pace, Politeness
from stock_assets.settings import PREFIX, Settings
from stock_assets.side_inputs import SideSource
from stock_assets.side_inputs.registry import Say, SideInput, register_side_input
from stock_assets.side_inputs.sources.asking import Client
from stock_assets.side_inputs.sources.filing_texts import FilingTexts
from stock_assets.side_inputs.sources.sec_filings import sec_filings
from stock_assets.side_inputs.sources.texts import FeedTexts, TextFile, feeds_of
from stock_assets.side_inputs.tables import TEXTS as TABLE
from stock_assets.side_inputs.tones import Tones


def _sources(settings: Settings, say: Say) -> Sequence[SideSource]:
    tones, sources = Tones(settings.text_model), []
    if settings.texts is not None and "://" in settings.texts:
        client = Client(Budget(Politeness(per_second=settings.requests_per_second), say=say))
        sources.append(FeedTexts(feeds_of(settings.texts), client, tones, on_progress=Pace("feeds", say)))
    elif settings.texts is not None:
        sources.append(TextFile(Path(settings.texts), tones))
    if _has_filings(settings):
        filings = sec_filings(settings, say)
        client = Client(filings.edgar.budget, agent=filings.edgar.contact)
        sources.append(FilingTexts(filings, client, tones, on_progress=Pace("EDGAR, texts", say)))
    return sources


def _has_filings(settings: Settings) -> bool:
    """Whether the SEC is asked: not about companies that there are only in the simulated market."""
    return settings.sec_contact is not None and settings.source != "simulated"


def _missing(settings: Settings) -> str | None:
    if settings.texts is not None or _has_filings(settings):
        return None
    return (
        f"{PREFIX}TEXTS names no file of headlines or messages and no feeds, and {PREFIX}SEC_CONTACT no name and "
        "e-mail address, with which the SEC could be asked for filings"
    )


TEXT_INPUT = register_side_input(
    SideInput(
        table=TABLE,
        subjects="tickers",
        sources=_sources,
        text="headlines, messages and filings with their tone",
        missing=_missing,
    )
)
