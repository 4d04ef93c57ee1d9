"""The side input `texts`: headlines, messages and filings with their tone."""

from collections.abc import Sequence
from pathlib import Path

from stock_assets.market.sources.budget import Budget, Pace, Politeness
from stock_assets.settings import PREFIX, Settings
from stock_assets.side_inputs import SideSource
from stock_assets.side_inputs.registry import Say, SideInput, register_side_input
from stock_assets.side_inputs.sources.asking import Client
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
    return sources


def _missing(settings: Settings) -> str | None:
    if settings.texts is not None:
        return None
    return f"{PREFIX}TEXTS is unset; expected a file of headlines or messages, or addresses of feeds"


TEXT_INPUT = register_side_input(
    SideInput(
        table=TABLE,
        subjects="tickers",
        sources=_sources,
        text="headlines, messages and filings with their tone",
        missing=_missing,
    )
)
