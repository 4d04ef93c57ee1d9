"""Economic series with their vintages, against a small FRED on this machine."""

import json
import logging
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.errors import SourceError
from stock_assets.market.calendar import trading_calendar
from stock_assets.market.sources.budget import Budget, Politeness
from stock_assets.side_inputs.as_of import new_versions, rows_by, with_session
from stock_assets.side_inputs.sources import fred as fred_module
from stock_assets.side_inputs.sources.fred import OBSERVATIONS, Fred, FredSeries, rows_of, spans
from stock_assets_tests.market.fake_time import FakeTime
from stock_assets_tests.market.vendor import (
    BROKEN,
    COME_BACK,
    DRIP,
    HTML,
    MALFORMED,
    RATE_LIMITED,
    TRUNCATED,
    UNAVAILABLE,
    Reply,
    serving,
)
from stock_assets_tests.side_inputs.fred_server import KEY, FakeFred, Version
from stock_assets_tests.waiting import HANG_SECONDS

CALENDAR = trading_calendar("XNYS", date(2019, 1, 1), date(2020, 12, 31))
FETCHED = datetime(2020, 6, 1, 22, tzinfo=UTC)
#: The first print of a month on the first Friday after it, and its revision a month later.
JOBS: list[Version] = [
    ("2020-01-01", "2020-02-07", "152.2"),
    ("2020-01-01", "2020-03-06", "152.3"),
    ("2020-02-01", "2020-03-06", "152.5"),
    ("2020-02-01", "2020-04-03", "152.6"),
    ("2020-03-01", "2020-04-03", "151.8"),
    ("2020-03-01", "2020-05-08", None),  # withdrawn
]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def fred_of(server: FakeFred, key: str = KEY, **politeness: float) -> Fred:
    time = FakeTime()
    options = {"per_second": 1000.0, "tries": 3, "timeout": HANG_SECONDS, "threads": 2, **politeness}
    return Fred(key, base_url=server.url, budget=Budget(Politeness(**options), clock=time.clock, sleep=time.sleep))


def fetched(server: FakeFred, *series: str, first: date = date(2020, 1, 2), last: date = date(2020, 6, 1), **options):
    return FredSeries(fred_of(server, **options), series).fetch((), first, last, fetched_at=FETCHED)


def test_first_prints_revisions_and_a_withdrawal_are_versions_with_their_moments() -> None:
    with serving(FakeFred({"PAYEMS": JOBS})) as server:
        answer = fetched(server, "PAYEMS")

    assert answer.failures == {}
    rows = answer.rows.select(pl.col("event_time").dt.date(), "known_at", "value").rows()
    half_past_eight = [datetime(2020, 2, 7, 13, 30, tzinfo=UTC), datetime(2020, 3, 6, 13, 30, tzinfo=UTC)]
    in_summer = [datetime(2020, 4, 3, 12, 30, tzinfo=UTC), datetime(2020, 5, 8, 12, 30, tzinfo=UTC)]
    assert rows == [
        (date(2020, 1, 1), half_past_eight[0], 152.2),
        (date(2020, 1, 1), half_past_eight[1], 152.3),
        (date(2020, 2, 1), half_past_eight[1], 152.5),
        (date(2020, 2, 1), in_summer[0], 152.6),
        (date(2020, 3, 1), in_summer[0], 151.8),
        (date(2020, 3, 1), in_summer[1], None),
    ]
    known = with_session(answer.rows, CALENDAR)
    standing = rows_by(known, date(2020, 3, 5)).sort("event_time")["value"].to_list()
    assert standing == [152.2]
    assert rows_by(known, date(2020, 3, 6)).sort("event_time")["value"].to_list() == [152.3, 152.5]
    assert rows_by(known, date(2020, 5, 8)).sort("event_time")["value"].to_list() == [152.3, 152.6, None]


def test_a_series_without_a_known_hour_is_known_at_the_end_of_the_day_and_never_after_it_was_fetched() -> None:
    spread: list[Version] = [("2020-05-28", "2020-05-29", "0.5"), ("2020-05-29", "2020-06-01", "0.6")]
    with serving(FakeFred({"T10Y2Y": [("2020-05-27", "2020-05-28", "."), *spread]})) as server:
        rows = fetched(server, "T10Y2Y").rows

    # one that was missing from the start has no row
    assert rows["value"].to_list() == [0.5, 0.6]
    assert rows["known_at"].to_list() == [datetime(2020, 5, 30, 4, tzinfo=UTC), FETCHED]
    assert with_session(rows, CALENDAR)["session"].to_list() == [date(2020, 6, 1), date(2020, 6, 2)]


def test_pages_and_stretches_of_vintages_give_the_same_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(FakeFred({"PAYEMS": JOBS})) as server:
        whole = fetched(server, "PAYEMS").rows
    monkeypatch.setitem(fred_module.spans.__kwdefaults__, "vintage_limit", 1)
    with serving(FakeFred({"PAYEMS": JOBS}, most_rows=2, most_vintages=1)) as server:
        parts = fetched(server, "PAYEMS").rows
    assert parts.equals(whole)


def test_an_evening_without_a_new_vintage_is_one_request_and_one_with_a_revision_adds_it() -> None:
    with serving(FakeFred({"PAYEMS": JOBS[:3]})) as server:
        stored = with_session(fetched(server, "PAYEMS").rows, CALENDAR)
        source = FredSeries(fred_of(server), ["PAYEMS"]).with_stored(stored)
        server.asked.clear()
        quiet = source.fetch((), date(2020, 4, 2), date(2020, 4, 2), fetched_at=FETCHED)
        assert [path for path, _ in server.asked] == ["series/vintagedates"]
        assert quiet.rows.is_empty()
        server.series = {"PAYEMS": JOBS[:5]}
        revised = source.fetch((), date(2020, 4, 3), date(2020, 4, 3), fetched_at=FETCHED)
    news = new_versions(stored.drop("session"), revised.rows)
    assert news.select(pl.col("event_time").dt.month(), "value").rows() == [(2, 152.6), (3, 151.8)]


@pytest.mark.parametrize(
    "failure",
    [RATE_LIMITED, COME_BACK, BROKEN, UNAVAILABLE, MALFORMED, TRUNCATED, HTML, Reply(423, '{"error_code":423}')],
)
def test_what_fails_once_is_asked_for_again(failure: Reply) -> None:
    fails = lambda _path, count: failure if count == 1 else None  # noqa: E731
    with serving(FakeFred({"PAYEMS": JOBS}, fails=fails)) as server:
        answer = fetched(server, "PAYEMS")
    assert answer.failures == {}
    assert answer.rows.height == len(JOBS)
    assert len(server.asked) == 3


def test_what_fails_for_good_fails_alone_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    server = FakeFred({"PAYEMS": JOBS, "UNRATE": JOBS})
    server.fails = lambda path, _count: (
        Reply(200, f"<html>{KEY} is down</html>")
        if path == "series/observations" and server.asked[-1][1]["series_id"] == "UNRATE"
        else None
    )
    with caplog.at_level(logging.DEBUG), serving(server):
        answer = fetched(server, "PAYEMS", "UNRATE", "GONE", threads=1)
    assert answer.rows["subject"].unique().to_list() == ["PAYEMS"]
    assert answer.failures["GONE"].unknown
    assert answer.failures["GONE"].reason == "FRED says 'Bad Request.  The series does not exist.'"
    assert "no JSON but '<html>(hidden) is down</html>' (3 tries)" in answer.failures["UNRATE"].reason
    assert not answer.failures["UNRATE"].unknown
    assert KEY not in caplog.text


def test_without_any_answer_the_source_has_none() -> None:
    """A drip is bounded as a whole."""
    with (
        serving(FakeFred({"PAYEMS": JOBS}, fails=lambda _path, _count: DRIP)) as server,
        pytest.raises(SourceError, match=r"no answer of any series; PAYEMS: no answer \(Timeout, curl 28\)"),
    ):
        fetched(server, "PAYEMS", timeout=0.1, tries=1)


def test_a_key_that_fred_does_not_take_ends_the_fetch_and_is_not_shown() -> None:
    with (
        serving(FakeFred({"PAYEMS": JOBS})) as server,
        pytest.raises(SourceError, match=r"api_key is not registered.*STOCK_ASSETS_FRED_KEY") as error,
    ):
        fetched(server, "PAYEMS", key="an-old-secret")
    chain = []
    link: BaseException | None = error.value
    while link is not None:
        chain.append(str(link))
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    assert "an-old-secret" not in "".join(chain)


def test_figures_that_are_none_are_named() -> None:
    with serving(FakeFred({"PAYEMS": [("2020-01-01", "2020-02-07", "n/a")], "UNRATE": JOBS})) as server:
        answer = fetched(server, "PAYEMS", "UNRATE")
    assert answer.failures["PAYEMS"].reason == "FRED: found the figure 'n/a', expected a number or a point"


def stood(versions: list[Version], day: str, on: date) -> float | None:
    """The figure of `day` that stood on a day, by a plain search."""
    value = None
    for of, vintage, figure in sorted(versions, key=lambda version: version[1]):
        if of == day and date.fromisoformat(vintage) <= on:
            value = None if figure in (None, ".") else float(figure)
    return value


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_stretch_of_vintages_holds_what_stood_on_every_day(data: st.DataObject) -> None:
    start = date(2020, 1, 1)
    offsets = st.integers(0, 40)
    versions: list[Version] = []
    for month in ("2019-11-01", "2019-12-01"):
        vintages = data.draw(st.lists(offsets, max_size=5, unique=True))
        figures = st.sampled_from(["1.0", "2.0", ".", None])
        versions += [(month, str(start + timedelta(days=after)), data.draw(figures)) for after in vintages]
    server, until = FakeFred({"X": versions}), start + timedelta(days=50)
    vintages = sorted({date.fromisoformat(vintage) for _, vintage, _ in versions})
    parts = [OBSERVATIONS.to_frame()]
    for span in spans(start - timedelta(days=5), until, vintages, vintage_limit=data.draw(st.integers(1, 4))):
        query = f"series_id=X&realtime_start={span.first}&realtime_end={span.last}&api_key={KEY}&limit=1000&offset=0"
        reply = server.reply(f"/series/observations?{query}", "")
        held = pl.DataFrame(json.loads(reply.body)["observations"], schema=dict.fromkeys(
            ("realtime_start", "realtime_end", "date", "value"), pl.String
        ))  # fmt: skip
        parts.append(
            held.select(
                begins=pl.col("realtime_start").str.to_date(),
                ends=pl.col("realtime_end").str.to_date(),
                day=pl.col("date").str.to_date(),
                value=pl.col("value").cast(pl.Float64, strict=False),
            )
        )
    rows = rows_of("X", pl.concat(parts), until=until, fetched_at=datetime(2021, 1, 1, tzinfo=UTC))
    known = rows.sort("known_at").select(pl.col("event_time").dt.date().cast(pl.String), "known_at", "value").rows()
    for on in (start + timedelta(days=after) for after in range(51)):
        end_of_day = datetime.combine(on + timedelta(days=1), datetime.min.time(), UTC) + timedelta(hours=5)
        for month in ("2019-11-01", "2019-12-01"):
            values = [value for of, moment, value in known if of == month and moment <= end_of_day]
            assert (values[-1] if values else None) == stood(versions, month, on)
