"""The step that asks the sources of a side input: what is appended, what is withdrawn, and when nothing is written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import polars as pl
import pytest

from stock_assets.errors import SettingsError, SourceError
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.market.sources import Failure
from stock_assets.settings import Settings, read_settings
from stock_assets.side_inputs import SideAnswer, registry
from stock_assets.side_inputs.announcing import announcement_rows, with_replays
from stock_assets.side_inputs.as_of import rows_by
from stock_assets.side_inputs.materialize import fetch_side_input, read_side_input, side_inputs_as_of
from stock_assets.side_inputs.registry import SideInput
from stock_assets.side_inputs.tables import ANNOUNCEMENTS
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.tables import rows_of

TICKERS = ("AAA", "BBB", "CCC")


@dataclass
class Vendor:
    """A calendar of coming dates, as it is at the moment: (ticker, day, when)."""

    calendar: TradingCalendar
    dates: Sequence[tuple[str, str, str]] = ()
    failures: Mapping[str, Failure] = field(default_factory=dict)
    asked: list[tuple[Sequence[str], date, date]] = field(default_factory=list)
    ahead: timedelta = timedelta()
    name: ClassVar[str] = "vendor"

    def fetch(self, subjects: Sequence[str], first: date, last: date, *, fetched_at: datetime) -> SideAnswer:
        self.asked.append((subjects, first, last))
        dates = pl.DataFrame(
            [(ticker, date.fromisoformat(day), when) for ticker, day, when in self.dates],
            {"ticker": pl.String, "day": pl.Date, "moment": pl.String},
            orient="row",
        ).with_columns(known_at=pl.lit(fetched_at + self.ahead).cast(pl.Datetime("us", "UTC")))
        rows = announcement_rows(dates, self.calendar, origin="calendar", source=self.name, fetched_at=fetched_at)
        answered = frozenset(subjects) - frozenset(self.failures)
        return SideAnswer(rows, self.failures, notes=["a note"], states_all_of=answered)


@pytest.fixture
def market(tmp_path: Path) -> tuple[Settings, Warehouse]:
    settings = read_settings(source="yahoo", data_dir=tmp_path, start=date(2024, 1, 2), end=date(2025, 6, 30))
    store = Warehouse(settings.database)
    store.replace_table("universe", rows_of("universe", pl.DataFrame({"ticker": TICKERS})))
    return settings, store


@pytest.fixture
def vendor(market: tuple[Settings, Warehouse], monkeypatch: pytest.MonkeyPatch) -> Vendor:
    """It answers in the place of the sources of announcements."""
    vendor = Vendor(calendar_of(market[0]))
    entry = SideInput(
        table=ANNOUNCEMENTS,
        subjects="tickers",
        sources=lambda *_: [vendor],
        text="",
        missing=lambda _: None,
        follows=with_replays,
    )
    monkeypatch.setattr(registry, "_SIDE_INPUTS", {"announcements": entry})
    return vendor


@pytest.fixture
def evening(market: tuple[Settings, Warehouse]) -> Callable[[str], pl.DataFrame]:
    """Fetches on the evening of a session and returns what was appended."""
    settings, store = market

    def fetch(day: str, minutes: int = 30) -> pl.DataFrame:
        session = date.fromisoformat(day)
        now = calendar_of(settings).closes[session] + timedelta(minutes=minutes)
        return fetch_side_input(store, settings, "announcements", sessions=[session], now=now).added

    return fetch


def test_a_snapshot_of_an_evening_is_known_on_the_next_session_and_stored_once(market, vendor, evening):
    _, store = market
    vendor.dates = [("AAA", "2024-02-01", "post"), ("BBB", "2024-02-06", "pre")]
    added = evening("2024-01-05")
    assert added.select("subject", "session").rows() == [("AAA", date(2024, 1, 8)), ("BBB", date(2024, 1, 8))]
    assert vendor.asked == [(list(TICKERS), date(2024, 1, 2) - timedelta(days=732), date(2024, 1, 5))]
    before = store.read("announcements")
    assert evening("2024-01-05", minutes=40).is_empty()
    assert evening("2024-01-08").is_empty()
    assert store.read("announcements").equals(before)
    assert vendor.asked[-1][1:] == (date(2024, 1, 2) - timedelta(days=732), date(2024, 1, 8))
    evening("2024-03-08")
    assert vendor.asked[-1][1:] == (date(2024, 3, 1), date(2024, 3, 8))


def test_a_date_that_the_vendor_moves_or_drops_is_withdrawn_and_one_that_passed_is_not(market, vendor, evening):
    _, store = market
    vendor.dates = [("AAA", "2024-02-01", "post"), ("BBB", "2024-02-06", "pre"), ("CCC", "2024-01-09", "pre")]
    evening("2024-01-05")
    vendor.dates = [("AAA", "2024-02-08", "post"), ("BBB", "2024-02-06", "pre")]
    columns = ["subject", "day", "session", "withdrawn"]
    assert evening("2024-01-09").select(columns).sort("day").rows() == [
        ("AAA", date(2024, 2, 1), date(2024, 1, 10), True),
        ("AAA", date(2024, 2, 8), date(2024, 1, 10), False),
    ]
    assert evening("2024-01-10").is_empty()
    standing = rows_by(read_side_input(store, "announcements"), date(2024, 1, 10)).filter(~pl.col("withdrawn"))
    assert standing["day"].sort().to_list() == [date(2024, 1, 9), date(2024, 2, 6), date(2024, 2, 8)]
    # and there again
    vendor.dates = [("AAA", "2024-02-01", "post"), ("BBB", "2024-02-06", "pre")]
    assert evening("2024-01-11").height == 2


def test_a_subject_without_an_answer_keeps_its_dates_and_is_named(market, vendor, evening):
    settings, store = market
    vendor.dates = [(ticker, "2024-02-01", "post") for ticker in TICKERS]
    evening("2024-01-05")
    vendor.dates = [("AAA", "2024-02-01", "post")]
    vendor.failures = {"BBB": Failure("no such company", unknown=True), "CCC": Failure("HTTP 503")}
    now = datetime.fromisoformat("2024-01-08T22:00+00:00")
    with pytest.raises(SourceError, match=r"vendor: no answer for 1 of 2 tickers, 50\.0%.* CCC: HTTP 503"):
        fetch_side_input(store, settings, "announcements", sessions=[date(2024, 1, 8)], now=now)
    assert store.sessions("announcements") == {date(2024, 1, 8)}
    patient = settings.model_copy(update={"max_failed_share": 0.5})
    fetched = fetch_side_input(store, patient, "announcements", sessions=[date(2024, 1, 8)], now=now)
    assert fetched.failures == {"BBB": "vendor: no such company", "CCC": "vendor: HTTP 503"}
    assert fetched.added.is_empty()
    assert fetched.notes == ["a note"]
    assert fetched.rows.height == 3


def test_nothing_is_known_or_fetched_later_than_now(market, vendor, evening):
    _, store = market
    vendor.dates = [("AAA", "2024-02-01", "post")]
    vendor.ahead = timedelta(minutes=1)
    with pytest.raises(SourceError, match="announcements of the source vendor, AAA: found known_at 2024-01-05 21:31"):
        evening("2024-01-05")
    assert not store.sessions("announcements")
    vendor.ahead = timedelta()
    evening("2024-01-08")
    with pytest.raises(SourceError, match="announcements holds AAA of 2024-01-09 as fetched at 2024-01-08"):
        evening("2024-01-05")
    vendor.dates = [("<b>", "2024-02-01", "post")]
    with pytest.raises(SourceError, match="announcements of the source vendor: found the ticker"):
        evening("2024-01-09")


def test_a_range_of_sessions_holds_what_its_evenings_held(market, tmp_path):
    """Of a source that says since when everything is known, such as a file."""
    settings, store = market
    path = tmp_path / "dates.csv"
    lines = ["AAA,2024-01-25,post", "BBB,2024-01-30,pre", "AAA,2023-10-26,post", "CCC,2024-02-05,unknown"]
    path.write_text("\n".join(["ticker,date,when", *lines]))
    settings = settings.model_copy(update={"announcements": path})
    calendar = calendar_of(settings)
    days = calendar.sessions[:16]
    for day in days:
        now = calendar.closes[day] + timedelta(hours=1)
        fetch_side_input(store, settings, "announcements", sessions=[day], now=now)
    once = Warehouse(tmp_path / "once.duckdb")
    once.replace_table("universe", store.read("universe"))
    fetch_side_input(once, settings, "announcements", sessions=days, now=calendar.closes[days[-1]] + timedelta(hours=1))
    columns = [name for name in ANNOUNCEMENTS.names if name != "fetched_at"]
    day_by_day, range_of_days = (
        read_side_input(each, "announcements").select(columns).sort("subject", "event_time", "origin")
        for each in (store, once)
    )
    assert day_by_day.equals(range_of_days)
    assert day_by_day.height == 8
    last = read_side_input(store, "announcements", days[-3])
    assert set(last["session"]) <= set(days[-3:])


def test_the_table_as_of_a_moment_holds_what_had_been_fetched_by_then(market, vendor, evening):
    _, store = market
    vendor.dates = [("AAA", "2024-02-01", "post")]
    evening("2024-01-05")
    vendor.dates = [("AAA", "2024-02-08", "post")]
    evening("2024-01-09")
    then = side_inputs_as_of(store, datetime.fromisoformat("2024-01-06T00:00+00:00"))["announcements"]
    assert then.select("day", "withdrawn").rows() == [(date(2024, 2, 1), False)]
    now = side_inputs_as_of(store, datetime.fromisoformat("2024-01-10T00:00+00:00"))["announcements"]
    assert now.select("day", "withdrawn").sort("day").rows() == [(date(2024, 2, 1), True), (date(2024, 2, 8), False)]


def test_a_side_input_without_a_source_is_refused_with_the_setting(market):
    settings, store = market
    with pytest.raises(SettingsError, match="announcements has no source: STOCK_ASSETS_ANNOUNCEMENTS names no file"):
        fetch_side_input(
            store,
            settings.model_copy(update={"source": "snapshot"}),
            "announcements",
            sessions=[date(2024, 1, 5)],
            now=datetime.fromisoformat("2024-01-06T00:00+00:00"),
        )


def test_the_first_fetch_asks_for_the_history_whichever_session_it_is_of(market, vendor, evening):
    settings, _ = market
    vendor.dates = [("AAA", "2024-09-05", "post")]
    evening("2024-08-08")
    assert vendor.asked[-1][1:] == (calendar_of(settings).sessions[0] - timedelta(days=732), date(2024, 8, 8))
    evening("2024-08-09")
    assert vendor.asked[-1][1:] == (date(2024, 8, 2), date(2024, 8, 9))
