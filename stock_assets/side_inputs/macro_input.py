"""The side input `macro`: economic series, the first print and its revisions."""

from collections.abc import Sequence

from stock_assets.market.sources.budget import Budget, Pace
from stock_assets.settings import PREFIX, Settings
from stock_assets.side_inputs import SideSource
from stock_assets.side_inputs.registry import Say, SideInput, register_side_input
from stock_assets.side_inputs.sources.fred import POLITENESS, Fred, FredSeries
from stock_assets.side_inputs.tables import MACRO


def _sources(settings: Settings, say: Say) -> Sequence[SideSource]:
    if settings.fred_key is None:
        return ()
    fred = Fred(settings.fred_key.get_secret_value(), budget=Budget(POLITENESS, say=say))
    return (FredSeries(fred, settings.fred_series, on_progress=Pace("FRED", say)),)


def _missing(settings: Settings) -> str | None:
    if settings.fred_key is not None:
        return None
    return f"{PREFIX}FRED_KEY is unset; expected a key of FRED (https://fred.stlouisfed.org/docs/api/api_key.html)"


MACRO_INPUT = register_side_input(
    SideInput(
        table=MACRO,
        subjects="own",
        sources=_sources,
        text="economic series of FRED with every revision",
        missing=_missing,
    )
)
