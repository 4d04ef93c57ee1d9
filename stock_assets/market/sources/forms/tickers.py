"""Which ticker the rows of a file are of: its column says it, else its folder, else its name."""

import re
from pathlib import PurePosixPath
from urllib.parse import unquote

import polars as pl

from stock_assets.errors import SourceError
from stock_assets.market.sources.forms.columns import recognize
from stock_assets.market.sources.forms.listing import PACKED, TABLES, ZIP
from stock_assets.market.sources.forms.reading import Notes, Reading

#: Words of a file's name that are no ticker.
_NOISE = frozenset(
    # a list would take a line for each
    """
    historical-data
    data dataset daily day days d 1d 1day eod prices price stock stocks share shares equity history historical
    hist historicaldata historicalprices stockprice adjusted unadjusted adj raw full max compact all quotes
    quote adjsplit adjsplitdiv ohlcv dly ohlc bars bar candles klines table download downloaded export output file
    csv copy kopie time series timeseries from to nasdaq nyse amex bats arca binance kraken coinbase bitstamp yahoo
    stooq quandl alpaca polygon tiingo 1m 5m 15m 30m 60m 1h 4h 1min 5min 15min 30min 60min 1hour hourly minute 1y 2y
    3y 5y 10y 20y ytd
    """.split()  # noqa: SIM905
)
#: Years, months, dates, seconds since 1970, and the minutes of Kraken's bars.
_NUMBER = re.compile(r"(19|20)\d\d((0[1-9]|1[0-2])([0-3]\d)?)?|\d{10,}|[0-3]?\d|60|240|720|1440")
_TICKER = re.compile(r"[A-Z0-9^][A-Z0-9.^=/:_&-]{0,31}")
#: How Stooq names the download of one ticker: aapl_us_d.csv.
_STOOQ = re.compile(r"(.+)_(us|uk|de|pl|jp|hk|hu)_d(?:[ (_].*)?", re.IGNORECASE)
#: TradingView's, with the exchange: "NASDAQ_AAPL, 1D.csv".
_TRADING_VIEW = re.compile(r"[A-Za-z]+_([^, ]+), ?\d*[A-Za-z]*(?:[_ ].*)?")
#: Nasdaq Data Link's, with the data set, and MarketWatch's, with the exchange: WIKI-AAPL, STOCK_US_XNAS_AAPL.
_DATA_SET = re.compile(r"(?:WIKI|EOD|STOCK_US_X[A-Z]{3})[-_]([A-Z][A-Z0-9._]*)")
#: MetaTrader's with the minutes of its daily bars, and NinjaTrader's with the price: AAPL1440, AAPL.Last.
_MINUTES_OR_SIDE = re.compile(r"(?<=[A-Za-z])1440$|\.(Last|Bid|Ask)$")
_SEPARATORS = r"[\s_,()\[\]+]+|-(?=\d|[a-z]*$)|(?<=\d)-|--"
_GUESSED = "the ticker is guessed from the name of the file"
_NAMED = "the ticker is the name of the file"
_FOLDER = "the ticker is guessed from the name of the folder"


def with_ticker(
    table: pl.DataFrame, place: str, parts: tuple[str, ...], *, reading: Reading, notes: Notes
) -> pl.DataFrame:
    """`table` with a column `ticker`, text in capitals without Stooq's .US.

    `parts` are the folders of the file and its name. Raises SourceError where the folder contradicts the column, and
    where nothing says the ticker.
    """
    folders = dict(part.split("=", 1) for part in parts[:-1] if "=" in part)
    by_folder = next((unquote(value) for key, value in folders.items() if _names("ticker", key)), None)
    column = _column(table, place, notes)
    if column is not None:
        table = table.with_columns(ticker=_ticker_text(column))
        if by_folder and (others := table.filter(pl.col("ticker") != _upper(by_folder))["ticker"]).len():
            raise SourceError(f"{place} lies in a folder of {by_folder} and has rows of {others[0]}, expected one")
        return table
    ticker = by_folder or _of_name(place, parts, reading=reading, notes=notes)
    return table.with_columns(ticker=pl.lit(_upper(ticker)))


def session_of_folder(parts: tuple[str, ...]) -> str | None:
    """The day that a folder date=2020-01-02 states."""
    folders = dict(part.split("=", 1) for part in parts[:-1] if "=" in part)
    return next((unquote(value) for key, value in folders.items() if _names("session", key)), None)


def _names(column: str, name: str) -> bool:
    return column in recognize([name], Reading(), "").file_columns


def _column(table: pl.DataFrame, place: str, notes: Notes) -> pl.Expr | None:
    """The column that says the ticker; a column of names does where they look like tickers."""
    if "ticker" in table.columns and table["ticker"].null_count() < table.height:
        return pl.col("ticker")
    if "name" not in table.columns:
        return None
    names = table["name"].cast(pl.String).str.strip_chars().unique().drop_nulls().to_list()
    if names and all(_TICKER.fullmatch(name) and not name.isdigit() for name in names):
        notes.add("the ticker is the column of names", place)
        return pl.col("name")
    if len(names) > 1:
        raise SourceError(
            f"{place} has names of {len(names)} companies ({names[0]!r} is one) and no column of tickers; "
            "STOCK_ASSETS_COLUMNS=ticker=NAME says which column is it"
        )
    return None


def _ticker_text(column: pl.Expr) -> pl.Expr:
    text = column.cast(pl.String).str.strip_chars().str.strip_prefix("'").str.to_uppercase().str.strip_suffix(".US")
    return pl.when(text != "").then(text)


def _upper(text: str | None) -> str:
    return (text or "").strip().upper().removesuffix(".US")


def _of_name(place: str, parts: tuple[str, ...], *, reading: Reading, notes: Notes) -> str:
    """The ticker that the name of the file says, else that of its folder, else the only one of the settings."""
    stem = stem_of(parts[-1])
    if ticker := ticker_of(stem):
        notes.add(_NAMED if ticker == _upper(stem) else _GUESSED, f"{place} ({ticker})")
        return ticker
    for folder in reversed(parts[:-1]):
        if ticker := ticker_of(folder):
            notes.add(_FOLDER, f"{place} ({ticker})")
            return ticker
    if reading.ticker:
        notes.add("the ticker is that of STOCK_ASSETS_TICKERS", f"{place} ({reading.ticker})")
        return reading.ticker
    if stem.isdigit() and len(stem) in (4, 5, 6):  # a year, but there are tickers that look so
        notes.add(_NAMED, f"{place} ({stem})")
        return stem
    raise SourceError(
        f"{place} has no column of tickers, and its name states none; name it after its ticker, such as AAPL.csv, or "
        "set STOCK_ASSETS_TICKERS to the one ticker that it holds"
    )


def stem_of(name: str) -> str:
    """The name of a file without the endings that say what kind of file it is.

    >>> stem_of("BRK.B.csv.gz"), stem_of("aapl.us.txt")
    ('BRK.B', 'aapl.us')
    """
    path = PurePosixPath(name)
    while path.suffix.lower() in (*TABLES, *PACKED, ZIP):
        path = PurePosixPath(path.stem)
    return path.name


def ticker_of(stem: str) -> str | None:
    """The ticker that the name of a file or folder says, in capitals; None where it holds words and dates alone.

    >>> [ticker_of(name) for name in ("aapl_us_d", "AAPL (1)", "AAPL_data", "BRK-B", "NASDAQ_AAPL, 1D", "vod.uk")]
    ['AAPL', 'AAPL', 'AAPL', 'BRK-B', 'AAPL', 'VOD.UK']
    >>> [ticker_of(name) for name in ("AAPL_2015", "BTCUSDT-1d-2024-01", "daily_AAPL", "000001.SZ", "D", "prices")]
    ['AAPL', 'BTCUSDT', 'AAPL', '000001.SZ', 'D', None]
    """
    if stooq := _STOOQ.fullmatch(stem):
        return _upper(f"{stooq[1]}.{stooq[2]}")
    if trading_view := _TRADING_VIEW.fullmatch(stem):
        stem = trading_view[1]
    stem = _MINUTES_OR_SIDE.sub("", stem)
    if data_set := _DATA_SET.fullmatch(stem):
        return data_set[1]
    words = [word for word in re.split(_SEPARATORS, stem) if word]
    if len(words) == 1 and words[0].isalpha() and (words[0].isupper() or len(words[0]) <= 2):
        return _upper(words[0])  # D is Dominion Energy, ALL is Allstate
    name_words = [word for word in words if word.lower() not in _NOISE and not _NUMBER.fullmatch(word)]
    if name_words and len(name_words) == len(words):
        name_words = [stem]  # no word of it is one of ours
    return _upper("_".join(name_words)).removesuffix("_US") or None
