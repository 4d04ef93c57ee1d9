"""Headlines and messages: RSS 2.0 and Atom feeds, and files. Which ticker a text is about is never guessed from it."""

import calendar as months
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote

import polars as pl

from stock_assets.addresses import redacted
from stock_assets.errors import SettingsError, SourceError, UnknownTickerError
from stock_assets.escape import shortened
from stock_assets.market.sources.asking import of_each
from stock_assets.market.sources.budget import Transient
from stock_assets.market.sources.replies import beginning
from stock_assets.settings import PREFIX
from stock_assets.side_inputs import SideAnswer
from stock_assets.side_inputs.sources.asking import Client
from stock_assets.side_inputs.sources.own_files import moments, read_table, texts
from stock_assets.side_inputs.tables import TEXTS
from stock_assets.side_inputs.tones import OF_KIND, Tones, words
from stock_assets.tables import UTC_TIME

#: The columns of `texts` without session, which follows from known_at.
ROWS = pl.Schema({name: dtype for name, dtype in TEXTS.schema.items() if name != "session"})
#: Longer titles are cut: some feeds put whole articles there.
LONGEST_TITLE = 500
#: What a feed's address holds in place of the ticker.
PLACEHOLDER = "{ticker}"
#: Columns of files by what they hold, the first that is there.
_COLUMNS = {
    "ticker": ("ticker", "symbol", "symbols"),
    "published": ("published", "published_at", "created_at", "date", "datetime", "time"),
    "title": ("title", "headline", "body", "text"),
    "name": ("name", "id", "url", "link"),
}


class Text(NamedTuple):
    """A text about a ticker."""

    ticker: str
    published: datetime
    known_at: datetime
    kind: str
    name: str
    title: str
    body: str | None = None
    """what is judged; the title where there is no more"""

    @property
    def judged(self) -> str:
        return self.title if self.body is None else self.body


class Feed(NamedTuple):
    """A feed of one ticker, or of every ticker where that is None and its name stands in the address."""

    ticker: str | None
    address: str


def feeds_of(setting: str) -> list[Feed]:
    """The feeds that the setting names: `TICKER=http(s)://…`, or addresses with {ticker} in them, separated by commas.

    Raises SettingsError for an address without a ticker.

    >>> feeds_of("https://example.com/rss?s={ticker}, AAPL=https://example.com/apple,news.xml")
    [Feed(ticker=None, address='https://example.com/rss?s={ticker}'), Feed(ticker='AAPL', address='https://example.com/apple,news.xml')]
    """
    feeds = []
    for part in re.split(r"\s*,\s*(?=(?:[A-Za-z0-9.^:_/&-]{1,32}=)?https?://)", setting.strip()):
        feed_match = re.fullmatch(r"(?:(?P<ticker>[A-Za-z0-9.^:_/&-]{1,32})=)?(?P<address>https?://\S+)", part)
        address = feed_match["address"] if feed_match else part
        if feed_match is None or (feed_match["ticker"] is None) == (PLACEHOLDER not in address):
            raise SettingsError(
                f"{PREFIX}TEXTS has the feed {redacted(address)}, of which no ticker is known; expected "
                f"TICKER=address, or {PLACEHOLDER} in the address"
            )
        feeds.append(Feed(feed_match["ticker"], address))
    return feeds


class FeedTexts:
    """Headlines of feeds, as they are at the time of the call."""

    name: ClassVar[str] = "feed"

    def __init__(
        self,
        feeds: Sequence[Feed],
        client: Client,
        tones: Tones,
        *,
        on_progress: Callable[[int, int], None] = lambda _count, _total: None,
    ) -> None:
        self.feeds, self.client, self.tones, self.on_progress = tuple(feeds), client, tones, on_progress

    def fetch(self, subjects: Sequence[str], first: date, last: date, *, fetched_at: datetime) -> SideAnswer:
        """As `SideSource.fetch`: what the feeds of `subjects` hold, known since it was published or last changed.

        An entry that states no date, or one after `fetched_at`, counts as known at `fetched_at` at the earliest: the
        first is left out, since every fetch would date it anew. Notes say how many.
        """
        del first, last  # a feed holds what it holds, and no more
        feeds = {
            ticker: [feed.address.replace(PLACEHOLDER, quote(ticker, safe="")) for feed in mine]
            for ticker in subjects
            if (mine := [feed for feed in self.feeds if feed.ticker in (None, ticker)])
        }
        undated_counts: dict[str, int] = {}

        def ask(ticker: str) -> list[Text]:
            fetched_texts: list[Text] = []
            for address in feeds[ticker]:
                entries = self.client.get(ticker, address, feed_entries)
                dated_texts = [text for entry in entries if (text := _text(entry, ticker, fetched_at))]
                undated_counts[ticker] = undated_counts.get(ticker, 0) + len(entries) - len(dated_texts)
                fetched_texts += dated_texts
            return fetched_texts

        answers, failures = of_each(tuple(feeds), ask, budget=self.client.budget, on_progress=self.on_progress)
        fetched_texts = [text for answer in answers.values() for text in answer]
        notes = [
            f"{count} entries of the feeds of {ticker} state no date"
            for ticker, count in sorted(undated_counts.items())
            if count
        ]
        return SideAnswer(
            text_rows(fetched_texts, self.tones, source=self.name, fetched_at=fetched_at), failures, notes
        )


def feed_entries(status: int, body: bytes) -> list[Any]:
    """The entries of a feed, RSS or Atom. Raises UnknownTickerError where there is no such feed, and Transient for an
    answer that is none."""
    import feedparser

    if status in (404, 410):
        raise UnknownTickerError(f"HTTP {status}: there is no such feed")
    if status != 200:
        raise Transient(f"HTTP {status}: {beginning(body[:400].decode(errors='replace'))}")
    feed = feedparser.parse(BytesIO(body), sanitize_html=True)
    if not feed.get("version") and not feed.entries:
        raise Transient(f"no feed but {beginning(body[:400].decode(errors='replace'))}")
    if feed.bozo and isinstance(feed.bozo_exception, Exception) and not feed.entries:
        raise Transient(f"a feed that cannot be read ({shortened(str(feed.bozo_exception), 80)})")
    return list(feed.entries)


def _text(entry: Any, ticker: str, fetched_at: datetime) -> Text | None:
    """What an entry says; None without a date, a title or a name."""
    # dict's own `in`: feedparser gives what was published as `updated` too, and warns
    date_fields = [
        name for name in ("published_parsed", "updated_parsed") if dict.__contains__(entry, name) and entry[name]
    ]
    name, title = entry.get("id") or entry.get("link"), " ".join(str(entry.get("title", "")).split())
    if not date_fields or not title:
        return None
    published_at, changed_at = (
        datetime.fromtimestamp(months.timegm(entry[name]), UTC) for name in (date_fields[0], date_fields[-1])
    )
    known_at = min(max(published_at, changed_at), fetched_at)
    return Text(ticker, published_at, known_at, "headline", str(name or title), title)


class TextFile:
    """Headlines or messages of a file of one's own."""

    name: ClassVar[str] = "file"

    def __init__(self, path: Path, tones: Tones) -> None:
        self.path, self.tones = path, tones

    def fetch(self, subjects: Sequence[str], first: date, last: date, *, fetched_at: datetime) -> SideAnswer:
        """As `SideSource.fetch`: the texts about `subjects` of the days from `first` to `last`, by their column of
        tickers, known when they were published, or at known_at where the file has it.

        A row may name several tickers, as messages do: a list, or separated by commas. Raises SourceError that names
        the file, the row and the column.
        """
        rows, has_known_at = _texts_of_file(self.path)
        chosen_texts = [
            text
            for text in rows
            if text.ticker in set(subjects) and first <= text.published.date() <= last and text.known_at <= fetched_at
        ]
        others = len({text.ticker for text in rows} - set(subjects))
        notes = [f"{self.path.name} has texts of {others} tickers that are none of the universe"] if others else []
        notes += (
            [] if has_known_at else [f"{self.path.name} has no column known_at: texts count as known when published"]
        )
        return SideAnswer(text_rows(chosen_texts, self.tones, source=self.name, fetched_at=fetched_at), notes=notes)


def _texts_of_file(path: Path) -> tuple[list[Text], bool]:
    """Every text of the file, and whether it says since when each was known."""
    table = read_table(path, required_columns=())
    columns = {
        field: next((name for name in names if name in table.columns), None) for field, names in _COLUMNS.items()
    }
    if missing := [field for field in ("ticker", "published", "title") if columns[field] is None]:
        raise SourceError(
            f"{path} lacks a column of {' and '.join(missing)}; found {shortened(', '.join(table.columns))}, expected "
            f"{'; '.join(' or '.join(_COLUMNS[field]) for field in missing)}"
        )
    column_of = {field: name for field, name in columns.items() if name is not None}
    publication_moments = moments(table, column_of["published"], path)
    known_moments = moments(table, "known_at", path) if "known_at" in table.columns else publication_moments
    titles, names = (
        texts(table, column_of["title"]),
        texts(table, column_of["name"]) if "name" in column_of else [None] * table.height,
    )
    kinds = texts(table, "kind") if "kind" in table.columns else [None] * table.height
    usual = "message" if column_of["title"] in ("body", "text") else "headline"
    rows: list[Text] = []
    for row, (tickers, at, since, title, name, kind) in enumerate(
        zip(
            _tickers(table[column_of["ticker"]]), publication_moments, known_moments, titles, names, kinds, strict=True
        ),
        1,
    ):
        if at is None or since is None or title is None or (kind or usual) not in OF_KIND:
            raise SourceError(
                f"{path}, row {row}: found published {at}, known_at {since}, title {shortened(str(title), 40)!r} and "
                f"kind {shortened(str(kind), 20)!r}, expected times, a text and one of {', '.join(OF_KIND)}"
            )
        rows += [Text(ticker, at, since, kind or usual, name or title, title) for ticker in tickers]
    return rows, "known_at" in table.columns


def _tickers(column: pl.Series) -> list[list[str]]:
    """The tickers of each row: text with commas, or a list of texts or of objects with a `symbol`."""
    if isinstance(column.dtype, pl.List):
        if isinstance(column.dtype.inner, pl.Struct):
            column = column.list.eval(pl.element().struct.field("symbol"))
        return [[str(ticker) for ticker in cell if ticker] for cell in column.fill_null([]).to_list()]
    cells = column.cast(pl.String).fill_null("").to_list()
    return [[ticker.strip() for ticker in cell.split(",") if ticker.strip()] for cell in cells]


def text_rows(all_texts: Sequence[Text], tones: Tones, *, source: str, fetched_at: datetime) -> pl.DataFrame:
    """`all_texts` as rows of `texts` (`ROWS`), each (ticker, kind, name) of one moment once, with its tone."""
    unique = list(
        {(text.ticker, text.published, text.kind, text.name, text.known_at): text for text in all_texts}.values()
    )
    tone_of: dict[tuple[str, str], float] = {}
    for kind in sorted({text.kind for text in unique}):
        texts_of_kind = sorted({text.judged for text in unique if text.kind == kind})
        tone_of |= dict(zip(((kind, text) for text in texts_of_kind), tones.of(kind, texts_of_kind), strict=True))
    frame = pl.DataFrame(
        [
            (
                text.ticker, text.published, text.known_at, text.kind, text.name,
                shortened(text.title, LONGEST_TITLE), words(text.judged), tone_of[text.kind, text.judged],
                tones.method(text.kind),
            )
            for text in unique
        ],
        {
            "subject": pl.String, "event_time": UTC_TIME, "known_at": UTC_TIME, "kind": pl.String, "name": pl.String,
            "title": pl.String, "words": pl.Int64, "tone": pl.Float64, "method": pl.String,
        },
        orient="row",
    )  # fmt: skip
    rows = frame.with_columns(fetched_at=pl.lit(fetched_at).cast(UTC_TIME), source=pl.lit(source))
    return rows.select(pl.col(name).cast(kind) for name, kind in ROWS.items()).sort("known_at", "subject", "name")
