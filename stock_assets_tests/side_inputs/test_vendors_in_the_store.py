"""The vendors' sources through the step that stores what they say: moved dates, and one that fails alone."""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from stock_assets.market.calendar import calendar_of
from stock_assets.market.sources.budget import Budget, Politeness
from stock_assets.settings import Settings, read_settings
from stock_assets.side_inputs import SideSource, registry
from stock_assets.side_inputs.as_of import rows_by
from stock_assets.side_inputs.materialize import FetchedSide, fetch_side_input, read_side_input
from stock_assets.side_inputs.schedule import schedule_of
from stock_assets.side_inputs.sources.earnings_calendar import EarningsCalendar
from stock_assets.side_inputs.sources.fred import Fred, FredSeries
from stock_assets.side_inputs.sources.scheduled import FredReleases, ScheduleRules
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.market.fake_time import FakeTime
from stock_assets_tests.market.vendor import RATE_LIMITED, serving
from stock_assets_tests.side_inputs.calendar_server import CalendarServer
from stock_assets_tests.side_inputs.fred_server import KEY, FakeFred
from stock_assets_tests.tables import rows_of

pytestmark = [
    # yfinance 1.7 renames with inplace=True, which pandas 3.1 deprecates
    pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame:DeprecationWarning"),
]

TICKERS = [f"T{i:02d}" for i in range(10)]


class Evenings:
    """A store, and sources that answer in the place of those of a side input."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.settings: Settings = read_settings(source="yahoo", data_dir=folder, start=date(2024, 1, 2))
        self.calendar, self.store = calendar_of(self.settings), Warehouse(self.settings.database)
        self.store.replace_table("universe", rows_of("universe", pl.DataFrame({"ticker": TICKERS})))
        self._patch = patch

    def fetch(self, name: str, day: str, *sources: SideSource, minutes: int = -30) -> FetchedSide:
        """Shortly before the close of the session, so that what is seen is known by it."""
        entry = registry.side_input(name)
        changed = type(entry)(**{**entry.__dict__, "sources": lambda *_: sources})
        self._patch.setitem(registry._SIDE_INPUTS, name, changed)
        session = date.fromisoformat(day)
        now = self.calendar.closes[session] + timedelta(minutes=minutes)
        return fetch_side_input(self.store, self.settings, name, sessions=[session], now=now)


def polite() -> Budget:
    time = FakeTime()
    return Budget(Politeness(per_second=1000, tries=2), clock=time.clock, sleep=time.sleep)


@pytest.fixture
def evenings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evenings:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return Evenings(tmp_path, monkeypatch)


def page(day: date, reported: str = "-") -> list[tuple[str, str]]:
    zone = "EDT" if date(2025, 3, 9) <= day < date(2025, 11, 2) else "EST"
    return [(f"{day:%B} {day.day}, {day.year} at 4 PM {zone}", reported)]


def test_a_date_of_the_vendors_calendar_moves_and_then_happens(evenings: Evenings) -> None:
    pages = dict.fromkeys(TICKERS, page(date(2025, 1, 30)))
    with serving(CalendarServer(pages)) as server:
        source: Callable[[], EarningsCalendar] = lambda: EarningsCalendar(  # noqa: E731
            evenings.calendar, base_url=server.url, budget=polite()
        )
        evenings.fetch("announcements", "2025-01-21", source())
        assert server.asked.total() == len(TICKERS)
        server.pages = {**pages, "T07": page(date(2025, 2, 5))}
        added = [evenings.fetch("announcements", day, source()).added for day in ("2025-01-22", "2025-01-23")]
        # half of those near their date on each of two evenings, and no row where nothing changed
        assert server.asked.total() == 2 * len(TICKERS)
        moved = pl.concat(added).sort("event_time")
        assert moved.select("subject", "day", "withdrawn").rows() == [
            ("T07", date(2025, 1, 30), True),
            ("T07", date(2025, 2, 5), False),
        ]
        seen = moved["session"][0]
        server.pages = {"T07": page(date(2025, 2, 5), "1.20")}
        happened = [evenings.fetch("announcements", day, source()).added for day in ("2025-02-06", "2025-02-07")]
    assert pl.concat(happened).select("subject", "reported", "known_at").rows() == [
        ("T07", True, datetime.fromisoformat("2025-02-05T22:00+00:00"))
    ]
    rows = read_side_input(evenings.store, "announcements").filter(pl.col("subject") == "T07")
    schedule = schedule_of(rows, evenings.calendar).select("day", "known_from", "known_until").rows()
    assert (date(2025, 1, 30), date(2025, 1, 21), seen) in schedule
    assert all(until is None or day != date(2025, 2, 5) or until > day for day, _, until in schedule)
    # it happened: it still stands long after its session
    assert any(day == date(2025, 2, 5) and until is None for day, _, until in schedule)


def test_a_report_that_is_put_off_is_withdrawn_and_the_rules_are_stored_once(evenings: Evenings) -> None:
    dates = ["2025-01-15", "2025-02-12", "2025-03-12", "2025-04-10"]
    with serving(FakeFred(releases={10: dates, 50: []})) as server:
        sources = ScheduleRules(evenings.calendar), FredReleases(
            evenings.calendar, Fred(KEY, base_url=server.url, budget=polite())
        )  # fmt: skip
        first = evenings.fetch("scheduled_events", "2025-02-18", *sources)
        assert first.failures == {}
        server.releases = {10: [*dates[:3], "2025-04-15"], 50: []}
        again = evenings.fetch("scheduled_events", "2025-02-19", *sources).added
    assert again.filter(pl.col("source") == "fred").sort("event_time").select("day", "withdrawn").rows() == [
        (date(2025, 3, 12), False),  # it was assumed, and is seen now
        (date(2025, 4, 10), True),
        (date(2025, 4, 15), False),
    ]
    assert not again["assumed"][0]
    # a day later the rules know at most one day more of each
    assert again.filter(pl.col("source") == "rule").height <= 1
    rows = read_side_input(evenings.store, "scheduled_events")
    standing = rows_by(rows, date(2025, 2, 18)).filter(pl.col("subject") == "cpi")
    assert sorted(standing["day"]) == [date(2025, 2, 12), date(2025, 3, 12), date(2025, 4, 10)]


def test_a_series_that_fails_alone_does_not_stop_the_others(evenings: Evenings) -> None:
    jobs = [("2024-12-01", "2025-01-10", "159.5"), ("2025-01-01", "2025-02-07", "159.6")]
    server = FakeFred({"PAYEMS": jobs, "UNRATE": jobs})
    server.fails = lambda _path, _count: RATE_LIMITED if server.asked[-1][1]["series_id"] == "UNRATE" else None
    with serving(server):
        source = FredSeries(Fred(KEY, base_url=server.url, budget=polite()), ["PAYEMS", "UNRATE"])
        first = evenings.fetch("macro", "2025-02-10", source)
        server.fails = lambda _path, _count: None
        second = evenings.fetch("macro", "2025-02-11", source)
    assert first.added["subject"].unique().to_list() == ["PAYEMS"]
    assert list(first.failures) == ["UNRATE"]
    assert second.added["subject"].unique().to_list() == ["UNRATE"]
    assert second.added.height == len(jobs)
