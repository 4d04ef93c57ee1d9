"""The S&P 500 through time: Wikipedia's two tables, rolled back, from a server or a copy; and files of intervals."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.errors import EmptySourceError, SettingsError, SourceError
from stock_assets.market.calendar import trading_calendar
from stock_assets.market.materialize.universe import offered_members
from stock_assets.market.membership import (
    FEWEST,
    FRESH,
    as_universe,
    changes_table,
    current_members,
    current_table,
    fetch_page,
    read_intervals,
    restricted,
    roll_back,
    sp500,
)
from stock_assets.market.sources.simulated import SimulatedSource
from stock_assets.market.sources.yahoo import YahooSource
from stock_assets.market.tables import UNIVERSE_SCHEMA
from stock_assets.settings import read_settings

CALENDAR = trading_calendar("XNYS", date(2015, 1, 1), date(2025, 6, 30))
DAYS = CALENDAR.sessions
NOW = datetime(2025, 6, 30, 22, tzinfo=UTC)
#: Members that nothing ever happened to: the page has to have some five hundred.
OTHERS = [f"OTH{i}" for i in range(FEWEST)]

Change = tuple[date, str, str]


def is_member(universe: pl.DataFrame, ticker: str, session: date) -> bool:
    """Whether `universe` (`UNIVERSE_SCHEMA`) holds `ticker` on `session`, its first and last one included."""
    stays = (
        (pl.col("ticker") == ticker)
        & (pl.col("from_session") <= session)
        & (pl.col("to_session").is_null() | (pl.col("to_session") >= session))
    )
    return not universe.filter(stays).is_empty()


def page(members: list[tuple[str, str]], changes: list[Change]) -> str:
    """The page as it stands there: `members` are (ticker, date added), `changes` newest first."""
    rows = "".join(
        f"""<tr><td><a rel="nofollow" class="external text" href="https://example.org/{ticker}">{ticker}</a></td>
<td><a href="/wiki/{ticker}" title="{ticker}">{ticker} Inc.</a></td><td>Health Care</td><td>Biotechnology</td>
<td><a href="/wiki/Town">Town, Ohio</a></td><td>{added}</td><td>0000066740</td><td>1902 (1929)</td></tr>"""
        for ticker, added in members
    )
    told = "".join(
        f"""<tr><td>{day:%B} {day.day}, {day.year}</td><td>{added}</td>
<td>{f'<a href="/wiki/{added}">{added} Inc.</a>' if added else ""}</td><td>{removed}</td>
<td>{f"{removed} Corp." if removed else ""}</td><td>Market capitalization change.<sup class="reference"><a
href="#cite_note-4"><span>&#91;</span>4<span>&#93;</span></a></sup></td></tr>"""
        for day, added, removed in changes
    )
    return f"""<!DOCTYPE html><html class="client-nojs" lang="en"><head><meta charset="UTF-8"/></head>
<body><div class="hatnote">For the index, see <a href="/wiki/S%26P_500">S&amp;P 500</a>.</div>
<table class="wikitable sortable" id="constituents"><tbody>
<tr><th><a href="/wiki/Ticker_symbol">Symbol</a></th><th>Security</th><th><a href="/wiki/GICS">GICS</a> Sector</th>
<th>GICS Sub-Industry</th><th>Headquarters Location</th><th>Date added</th><th><a href="/wiki/CIK">CIK</a></th>
<th>Founded</th></tr>
{rows}</tbody></table><h2>Selected changes</h2>
<table class="wikitable sortable" id="changes"><tbody>
<tr><th rowspan="2">Effective Date</th><th colspan="2">Added</th><th colspan="2">Removed</th>
<th rowspan="2">Reason<sup class="reference">[a]</sup></th></tr>
<tr><th>Ticker</th><th>Security</th><th>Ticker</th><th>Security</th></tr>
{told}</tbody></table></body></html>"""


MEMBERS = [
    *((name, "2001-01-01") for name in OTHERS),
    ("META", "2013-12-23"),
    ("BRK.B", "2010-02-16"),
    ("NEW", "2024-09-23"),
]
CHANGES = [
    (date(2024, 9, 23), "NEW", "OLD"),
    (date(2022, 3, 1), "", "GONE"),
    (date(2020, 5, 22), "OLD", "AGAIN"),
    (date(2017, 6, 19), "AGAIN", ""),
    (date(2016, 1, 4), "", "AGAIN"),
    (date(2013, 12, 23), "FB", "TER"),  # Meta's name then
]
HTML = page(MEMBERS, CHANGES)


def test_the_tables_are_read_as_they_stand():
    current, changes = current_table(HTML), changes_table(HTML)
    assert current.height == len(MEMBERS)
    assert current.row(by_predicate=pl.col("ticker") == "BRK.B") == (
        "BRK.B",
        "BRK.B Inc.",
        "Health Care",
        date(2010, 2, 16),
    )
    assert changes.select("day", pl.col("added", "removed").fill_null("")).reverse().rows() == CHANGES
    assert changes.row(-1) == (date(2024, 9, 23), "NEW", "NEW Inc.", "OLD", "OLD Corp.")


def test_changes_are_rolled_back_from_the_members_of_today():
    found = roll_back(current_table(HTML), changes_table(HTML))
    rows = found.intervals.filter(~pl.col("ticker").is_in(OTHERS)).select("ticker", "start", "end").rows()
    assert rows == [
        ("AGAIN", None, date(2016, 1, 4)),
        ("AGAIN", date(2017, 6, 19), date(2020, 5, 22)),
        ("BRK.B", date(2010, 2, 16), None),
        ("GONE", None, date(2022, 3, 1)),
        ("META", date(2013, 12, 23), None),
        ("NEW", date(2024, 9, 23), None),
        ("OLD", date(2020, 5, 22), date(2024, 9, 23)),
        ("TER", None, date(2013, 12, 23)),
    ]
    assert found.contradictions == ["2013-12-23: FB was added, and is no member after it"]
    names = dict(found.intervals.select("ticker", "name").iter_rows())
    assert (names["OLD"], names["GONE"], names["META"]) == ("OLD Corp.", "GONE Corp.", "META Inc.")


def test_one_who_was_removed_and_came_back_untold_has_two_memberships():
    current = current_table(page(MEMBERS, CHANGES[:1]))
    changes = changes_table(page(MEMBERS, [(date(2020, 6, 22), "", "META")]))
    found = roll_back(current, changes)
    meta = found.intervals.filter(pl.col("ticker") == "META").select("start", "end").rows()
    assert set(meta) == {(date(2013, 12, 23), date(2020, 6, 22)), (None, None)}
    assert found.contradictions == ["2020-06-22: META was removed, and is a member after it"]


@pytest.mark.parametrize(
    ("session", "members"),
    [
        (date(2015, 6, 1), {"AGAIN", "GONE"}),
        (date(2016, 1, 4), {"GONE"}),
        (date(2017, 6, 19), {"AGAIN", "GONE"}),
        (date(2020, 5, 22), {"OLD", "GONE"}),
        (date(2024, 9, 20), {"OLD"}),
        (date(2024, 9, 23), {"NEW"}),
    ],
)
def test_who_is_a_member_on_a_session(session, members):
    universe = as_universe(roll_back(current_table(HTML), changes_table(HTML)).intervals, CALENDAR)
    assert universe.schema == UNIVERSE_SCHEMA
    asked = ["AGAIN", "GONE", "OLD", "NEW", "TER"]
    assert {ticker for ticker in asked if is_member(universe, ticker, session)} == members
    assert "TER" not in universe["ticker"]  # left before the calendar begins
    assert universe["from_session"].min() == DAYS[0]


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[tuple[str, str]], list[Change], set[tuple[str, date | None, date | None]]]:
    """A page, made by playing memberships forward, and these memberships."""
    members: dict[str, date | None] = {f"M{i}": None for i in range(5)}
    changes, over = [], set()
    days = sorted(draw(st.sets(st.integers(1, 2000), max_size=12)))
    for n, offset in enumerate(days):
        day = date(2015, 1, 1) + timedelta(days=offset)
        removed = draw(st.sampled_from(sorted(members))) if members and draw(st.booleans()) else ""
        back = sorted({name for name, *_ in over} - set(members) - {removed})
        added = draw(st.sampled_from([f"N{n}", *back])) if draw(st.booleans()) or not removed else ""
        if removed:
            over.add((removed, members.pop(removed), day))
        if added:
            members[added] = day
        changes.append((day, added, removed))
    told = [(name, "") for name in OTHERS] + [(name, str(day or "")) for name, day in members.items()]
    return told, changes[::-1], over | {(name, day, None) for name, day in members.items()}


@settings(derandomize=True, deadline=None, max_examples=8)
@given(history=histories())
def test_what_was_played_forward_is_rolled_back(history):
    members, changes, expected = history
    html = page(members, changes or [(date(2014, 1, 2), "", "TER")])
    found = roll_back(current_table(html), changes_table(html))
    rows = found.intervals.filter(pl.col("ticker").str.contains("^[MN]")).select("ticker", "start", "end").rows()
    assert set(rows) == expected
    assert found.contradictions == []


@pytest.mark.real_data
def test_the_real_index_comes_back_out_of_a_page_of_it(real_data):
    """A page of July 2025 whose changes go back to 2016, made of the real memberships."""
    since = date(2016, 1, 1)
    real = read_intervals(real_data("sp500_membership_intervals.parquet"))
    members = real.filter(pl.col("end").is_null()).select("ticker", pl.col("start").cast(pl.String)).rows()
    joined = [(start, ticker, "") for ticker, start in real.select("ticker", "start").rows() if start > since]
    left = [(end, "", ticker) for ticker, end in real.select("ticker", "end").drop_nulls().rows() if end > since]
    html = page(members, sorted([*joined, *left], key=lambda change: (change[0], change[1] == ""), reverse=True))
    found = as_universe(roll_back(current_table(html), changes_table(html)).intervals, CALENDAR)
    recent = trading_calendar("XNYS", since, date(2025, 6, 30))
    for day in (recent.sessions[0], *recent.sessions[5::250], recent.sessions[-1]):
        then = {t for t, a, b in real.select("ticker", "start", "end").rows() if a <= day and (b is None or day < b)}
        assert {t for t in found["ticker"].unique() if is_member(found, t, day)} == then
        assert 495 <= len(then) <= 510
    assert is_member(found, "AAL", date(2024, 9, 20))
    assert not is_member(found, "AAL", date(2024, 9, 23))
    assert is_member(found, "PLTR", date(2024, 9, 23))


@pytest.mark.parametrize(
    ("html", "message"),
    [
        ("<html><body>Sorry, too many requests</body></html>", "the page has no table"),
        ("<table><tr><th>Symbol</th></tr><tr><td>A</td></tr></table>", "no table with Symbol, Security and GICS"),
        (page(MEMBERS[:30], CHANGES), f"has 30 row\\(s\\), expected {FEWEST} or more"),
        (HTML.replace("September 23, 2024", "last autumn"), "the date 'last autumn', expected one as June 24, 2024"),
        (HTML.replace("Removed", "Sacked"), "no table of Date, Added and Removed"),
    ],
    ids=["no table", "another table", "few members", "no date", "no changes"],
)
def test_a_page_that_is_none_is_refused(html, message):
    with pytest.raises(SourceError, match=message):
        (current_table(html), changes_table(html))


@dataclass
class Site:
    """A server that says `html`, or `status`."""

    html: str = HTML
    status: int = 200
    url: str = ""
    agents: list[str] = field(default_factory=list)


@contextmanager
def served() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.agents.append(self.headers["User-Agent"])
            body = site.html.encode()
            self.send_response(site.status)
            self.send_header("Content-Type", "text/html; charset=UTF-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        site.url = f"http://127.0.0.1:{server.server_address[1]}/wiki/List"
        yield site
        server.shutdown()


def test_the_page_is_kept_and_asked_for_again_once_it_is_old(tmp_path: Path):
    cache = tmp_path / "cache" / "sp500.html"
    with served() as site:
        first, warning = sp500(CALENDAR, cache, NOW, url=site.url)
        assert warning is None
        assert_frame_equal(sp500(CALENDAR, cache, NOW + FRESH / 2, url=site.url)[0], first)
        assert len(site.agents) == 1
        assert "stock_assets" in site.agents[0]
        sp500(CALENDAR, cache, NOW + FRESH, url=site.url)
        assert len(site.agents) == 2
        # a copy from the future is no fresh one
        sp500(CALENDAR, cache, NOW, url=site.url)
        assert len(site.agents) == 3
        assert [file.name for file in cache.parent.iterdir()] == ["sp500.html"]


@pytest.mark.parametrize(
    ("status", "html"),
    [(429, HTML), (503, HTML), (200, "<html>Are you a robot?</html>")],
    ids=["limited", "broken", "robot"],
)
def test_an_old_copy_serves_with_a_warning_while_the_site_does_not(tmp_path: Path, status: int, html: str):
    cache = tmp_path / "sp500.html"
    with served() as site:
        first, _ = sp500(CALENDAR, cache, NOW, url=site.url)
        kept = cache.read_text()
        site.status, site.html = status, html
        again, warning = sp500(CALENDAR, cache, NOW + timedelta(days=3), url=site.url)
        assert_frame_equal(again, first)
        assert warning is not None
        assert warning.endswith("; the copy of 2025-06-30 22:00 UTC is 3 day(s) old")
        assert cache.read_text() == kept
        with pytest.raises(SourceError, match=r"cannot be used .*and there is no copy in"):
            sp500(CALENDAR, tmp_path / "none.html", NOW, url=site.url)
        with pytest.raises(SourceError, match="there is no copy"):  # a copy of another address is none
            fetch_page(f"{site.url}?other", cache, NOW, check=current_table)
    gone = sp500(CALENDAR, cache, NOW + timedelta(hours=13), url=site.url)[1]
    assert gone is not None
    assert "is 13 hour(s) old" in gone


def test_a_site_that_floods_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("stock_assets.market.membership.PAGE_BYTES", 1000)
    with served() as site, pytest.raises(SourceError, match=r"did not answer \(TooLong\)"):
        sp500(CALENDAR, tmp_path / "p.html", NOW, url=site.url)


def test_todays_members_are_spelt_as_yahoo_does(tmp_path: Path):
    with served() as site:
        today, warning = current_members(CALENDAR, tmp_path / "p.html", NOW, url=site.url)
    assert warning is None
    assert set(today["ticker"]) == {*OTHERS, "META", "BRK-B", "NEW"}
    assert today.schema == UNIVERSE_SCHEMA
    assert today.row(by_predicate=pl.col("ticker") == "NEW")[3:] == (date(2024, 9, 23), None)


def test_a_file_of_intervals_is_read_in_both_manners(tmp_path: Path):
    left = tmp_path / "left.csv"
    left.write_text("ticker,start_date,end_date\naal,2015-03-23,2024-09-23\nPLTR,2024-09-23,\n")
    last = tmp_path / "last.csv"
    last.write_text("Ticker,From session,To session,Sector\nAAL,2015-03-23,2024-09-22,Air\nPLTR,2024-09-23,,\n")
    first, second = read_intervals(left), read_intervals(last)
    assert_frame_equal(first.drop("sector"), second.drop("sector"))
    assert second["sector"].to_list() == ["Air", None]
    universe = as_universe(first, CALENDAR)
    assert universe.select("ticker", "from_session", "to_session").rows() == [
        ("AAL", date(2015, 3, 23), date(2024, 9, 20)),
        ("PLTR", date(2024, 9, 23), None),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ticker,since\nA,2015-01-01\n", "has the columns ticker, since; expected ticker, start_date and end_date"),
        (
            "ticker,start_date,end_date\nA,2015-01-01,2014-01-01\n",
            "ticker A: found the interval 2015-01-01 to 2014-01-01",
        ),
        ("ticker,start_date,end_date\nA,2015-01-01,soon\n", "ticker A: found the interval 2015-01-01 to soon"),
        ("ticker,start_date,end_date\nA,,\n", "ticker A: found the interval None"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str, message: str):
    path = tmp_path / "members.csv"
    path.write_text(text)
    with pytest.raises(SourceError, match=message):
        read_intervals(path)
    path.write_text("ticker,start_date,end_date\n")
    with pytest.raises(EmptySourceError):
        read_intervals(path)
    (tmp_path / "no.parquet").write_text("no")
    with pytest.raises(SourceError, match="cannot be read as Parquet or CSV"):
        read_intervals(tmp_path / "no.parquet")


def universe_of(*rows: tuple[str, str, str | None, date, date | None]) -> pl.DataFrame:
    return pl.DataFrame(rows, UNIVERSE_SCHEMA, orient="row")


def test_a_universe_is_restricted_to_what_both_hold():
    offered = universe_of(
        ("A", "A", None, DAYS[0], DAYS[50]),
        ("BRK-B", "Berkshire", "Finance", DAYS[10], None),
        ("Z", "Z", None, DAYS[0], None),
    )
    members = universe_of(
        ("A", "Alpha", "Health", DAYS[5], None),
        ("A", "Alpha", "Health", DAYS[0], DAYS[2]),
        ("BRK.B", "Other", "Other", DAYS[0], DAYS[20]),
        ("Y", "Y", None, DAYS[0], None),
    )
    assert restricted(offered, members).rows() == [
        ("A", "Alpha", "Health", DAYS[0], DAYS[2]),
        ("A", "Alpha", "Health", DAYS[5], DAYS[50]),
        ("BRK-B", "Berkshire", "Finance", DAYS[10], DAYS[20]),
    ]


def test_the_setting_restricts_any_source_and_defines_yahoos(tmp_path: Path):
    path = tmp_path / "members.csv"
    path.write_text("ticker,start_date,end_date\nSIM01,2016-01-04,2017-01-03\nBRK.B,2016-01-04,\n")
    config = read_settings(start=DAYS[0], end=DAYS[-1], data_dir=tmp_path, membership=str(path))
    kept, counts, *_ = offered_members(config, SimulatedSource(CALENDAR), NOW)
    assert kept.select("ticker", "from_session", "to_session").rows() == [
        ("SIM01", date(2016, 1, 4), date(2016, 12, 30))
    ]
    assert counts == {"members": 2, "members_without_prices": 1, "never_members": 59}
    asks = read_settings(source="yahoo", start=DAYS[0], end=DAYS[-1], data_dir=tmp_path, membership=str(path))
    assert offered_members(asks, YahooSource(CALENDAR, None), NOW).rows["ticker"].to_list() == ["BRK-B", "SIM01"]
    path.write_text("ticker,start_date,end_date\nBRK.B,2016-01-04,\n")
    with pytest.raises(SourceError, match=r"none of the 60 ticker\(s\) that simulated offers was a member"):
        offered_members(config, SimulatedSource(CALENDAR), NOW)
    with pytest.raises(SettingsError, match=r"STOCK_ASSETS_MEMBERSHIP='nowhere\.csv' is wrong"):
        read_settings(membership="nowhere.csv")
