"""The side input `scheduled_events`: what the whole market knows ahead."""

from collections.abc import Sequence
from pathlib import Path

from stock_assets.market.calendar import calendar_of
from stock_assets.market.sources.budget import Budget, Politeness
from stock_assets.settings import Settings
from stock_assets.side_inputs import SideSource
from stock_assets.side_inputs.registry import Say, SideInput, register_side_input
from stock_assets.side_inputs.sources.asking import Client
from stock_assets.side_inputs.sources.fred import POLITENESS, Fred
from stock_assets.side_inputs.sources.scheduled import EventFile, FedCalendar, FredReleases, ScheduleRules
from stock_assets.side_inputs.tables import SCHEDULED_EVENTS

#: What is no page of the Fed but a table of one's own.
_TABLES = (".csv", ".parquet", ".pq", ".jsonl", ".ndjson")


def _sources(settings: Settings, say: Say) -> Sequence[SideSource]:
    calendar = calendar_of(settings)
    sources: list[SideSource] = [ScheduleRules(calendar)]
    tables = [place for place in settings.scheduled_events if place.lower().endswith(_TABLES)]
    if pages := [place for place in settings.scheduled_events if place not in tables]:
        budget = Budget(Politeness(per_second=settings.requests_per_second), say=say)
        sources.append(FedCalendar(calendar, pages, Client(budget)))
    sources += [EventFile(calendar, Path(place)) for place in tables]
    if settings.fred_key is not None:
        sources.append(
            FredReleases(calendar, Fred(settings.fred_key.get_secret_value(), budget=Budget(POLITENESS, say=say)))
        )
    return sources


SCHEDULE_INPUT = register_side_input(
    SideInput(
        table=SCHEDULED_EVENTS,
        subjects="own",
        sources=_sources,
        text="decisions of the Fed, employment and consumer price reports, expiries of options",
        missing=lambda _settings: None,  # rules need nothing
    )
)
