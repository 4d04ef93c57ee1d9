"""One small market, written as the files of many vendors.

The market is a frame of ticker, session, open, high, low, close, volume: prices with two decimals, volumes that are
multiples of 10,000, so that each form can hold them exactly.
"""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
import polars as pl

from stock_assets.market.sources.forms.reading import Reading

PRICES = ["open", "high", "low", "close"]
NEW_YORK = ZoneInfo("America/New_York")
Write = Callable[[pl.DataFrame, Path], None]


@dataclass(frozen=True)
class VendorForm:
    """How a vendor writes the market into a folder."""

    name: str
    write: Write
    reading: Reading = field(default_factory=Reading)
    exchange: str = "XNYS"
    suffix: str = ""
    """what the vendor appends to a ticker"""


FORMS: list[VendorForm] = []


def form(
    name: str, *, reading: Reading | None = None, exchange: str = "XNYS", suffix: str = ""
) -> Callable[[Write], Write]:
    def register(write: Write) -> Write:
        FORMS.append(VendorForm(name, write, reading or Reading(), exchange, suffix))
        return write

    return register


def by_ticker(market: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    return [(rows["ticker"][0], rows.drop("ticker")) for rows in market.partition_by("ticker", maintain_order=True)]


def renamed(rows: pl.DataFrame, names: str, *, date_format: str = "%Y-%m-%d") -> pl.DataFrame:
    """`rows` with the date as text, under `names` "Date=session,Open=open,…", in that order."""
    texts = rows.with_columns(pl.col("session").dt.strftime(date_format))
    pairs = [pair.split("=") for pair in names.split(",")]
    return texts.select(pl.col(ours).alias(theirs) for theirs, ours in pairs)


USUAL = "Date=session,Open=open,High=high,Low=low,Close=close,Volume=volume"


def each_to_csv(market: pl.DataFrame, folder: Path, names: str, file: str, **options: object) -> None:
    """A CSV per ticker; `file` is its name with {} for the ticker."""
    date_format = str(options.pop("date_format", "%Y-%m-%d"))
    for ticker, rows in by_ticker(market):
        path = folder / file.format(ticker)
        path.parent.mkdir(parents=True, exist_ok=True)
        renamed(rows, names, date_format=date_format).write_csv(path, **options)  # pyright: ignore[reportArgumentType]


def thousands(column: str, mark: str = ",", decimal: str = ".", digits: int = 2) -> pl.Expr:
    def text(value: float) -> str:
        return f"{value:,.{digits}f}".replace(",", "\0").replace(".", decimal).replace("\0", mark)

    return pl.col(column).map_elements(text, pl.String)


def millions(column: str) -> pl.Expr:
    return pl.col(column).map_elements(lambda value: f"{value / 1e6:.2f}M", pl.String)


def moments(rows: pl.DataFrame, clock: time, zone: ZoneInfo | None = None) -> list[datetime]:
    zoned = [datetime.combine(day, clock, zone or UTC) for day in rows["session"]]
    return [moment.astimezone(UTC) for moment in zoned]


def with_epochs(rows: pl.DataFrame, clock: time, zone: ZoneInfo | None = None, unit: int = 1) -> pl.DataFrame:
    seconds = [int(moment.timestamp()) * unit for moment in moments(rows, clock, zone)]
    return rows.with_columns(epoch=pl.Series(seconds, dtype=pl.Int64))


def two_levels(market: pl.DataFrame, *, tickers_first: bool = False) -> pd.DataFrame:
    """As yfinance answers for several tickers: columns (Price, Ticker), the index Date."""
    rows = market.rename({name: name.title() for name in [*PRICES, "volume"]} | {"session": "Date"}).to_pandas()
    table = rows.pivot(index="Date", columns="ticker").sort_index()
    table.columns.names = ["Price", "Ticker"]
    table.index = pd.to_datetime(table.index)
    return table.swaplevel(axis=1).sort_index(axis=1) if tickers_first else table


# --- the ticker


@form("a column Name")
def name_column(market: pl.DataFrame, folder: Path) -> None:
    market.rename({"session": "date", "ticker": "Name"}).write_csv(folder / "all_stocks_5yr.csv")


@form("a column act_symbol")
def act_symbol(market: pl.DataFrame, folder: Path) -> None:
    market.rename({"session": "date", "ticker": "act_symbol"}).write_parquet(folder / "ohlcv.parquet")


@form("a column symbol, and the company beside it")
def symbol_and_name(market: pl.DataFrame, folder: Path) -> None:
    names = pl.col("ticker").replace({"AAPL": "Apple Inc.", "MSFT": "Microsoft Corporation"}).alias("Name")
    market.with_columns(names).rename({"session": "Date", "ticker": "symbol"}).write_csv(folder / "x.csv")


@form("a folder per ticker, as Hive and Spark write")
def hive(market: pl.DataFrame, folder: Path) -> None:
    for ticker, rows in by_ticker(market):
        (folder / f"ticker={ticker}").mkdir()
        rows.write_parquet(folder / f"ticker={ticker}" / "1c2f-part-0.parquet")
    (folder / "_SUCCESS").touch()


@form("a folder per day, as Hive and Spark write")
def hive_days(market: pl.DataFrame, folder: Path) -> None:
    for rows in market.partition_by("session"):
        day = folder / f"date={rows['session'][0]}"
        day.mkdir()
        rows.drop("session").write_parquet(day / "part-0.parquet")


@form("a file per ticker and year")
def per_year(market: pl.DataFrame, folder: Path) -> None:
    for ticker, rows in by_ticker(market):
        half = rows.height // 2
        renamed(rows[:half], USUAL).write_csv(folder / f"{ticker}_2019.csv")
        renamed(rows[half:], USUAL).write_csv(folder / f"{ticker}_2018.csv")  # as a vendor might name it


@form("a folder per ticker, a file per year")
def folder_per_ticker(market: pl.DataFrame, folder: Path) -> None:
    each_to_csv(market, folder, USUAL, "{}/2020.csv")


for pattern in ("{}_data", "{} (1)", "{}-daily", "daily_{}", "{}_2015-01-02_2020-12-31", "NASDAQ_{}, 1D", "{}.US"):

    def named(market: pl.DataFrame, folder: Path, file: str = pattern) -> None:
        each_to_csv(market, folder, USUAL, file + ".csv")

    form(f"a file named {pattern}.csv")(named)


# --- vendors


@form("Stooq, one ticker")
def stooq(market: pl.DataFrame, folder: Path) -> None:
    for ticker, rows in by_ticker(market):
        renamed(rows, USUAL).write_csv(folder / f"{ticker.lower()}_us_d.csv")


@form("Stooq, bulk")
def stooq_bulk(market: pl.DataFrame, folder: Path) -> None:
    for ticker, rows in by_ticker(market):
        head = rows.with_columns(ticker=pl.lit(f"{ticker}.US"), per=pl.lit("D"), time=pl.lit("000000"), oi=pl.lit(0))
        names = "<TICKER>=ticker,<PER>=per,<DATE>=session,<TIME>=time,<OPEN>=open,<HIGH>=high,<LOW>=low,<CLOSE>=close,"
        path = folder / "daily" / "us" / f"{ticker.lower()}.us.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        renamed(head, names + "<VOL>=volume,<OPENINT>=oi", date_format="%Y%m%d").write_csv(path)


@form("yfinance, one ticker, three header rows")
def yfinance_one(market: pl.DataFrame, folder: Path) -> None:
    for ticker, rows in by_ticker(market):
        two_levels(rows.with_columns(ticker=pl.lit(ticker))).to_csv(folder / f"{ticker}.csv")


@form("yfinance, several tickers, three header rows")
def yfinance_many(market: pl.DataFrame, folder: Path) -> None:
    two_levels(market).to_csv(folder / "download.csv")


@form("yfinance, group_by=ticker")
def yfinance_by_ticker(market: pl.DataFrame, folder: Path) -> None:
    two_levels(market, tickers_first=True).to_csv(folder / "download.csv")


@form("two header rows")
def two_headers(market: pl.DataFrame, folder: Path) -> None:
    table = two_levels(market).reset_index()
    table.columns = pd.MultiIndex.from_tuples([tuple(column) for column in table.columns])
    table.to_csv(folder / "download.csv", index=False)


@form("tuple names in Parquet")
def tuple_names(market: pl.DataFrame, folder: Path) -> None:
    table = two_levels(market)
    table.columns = [str(tuple(column)) for column in table.columns]
    table.reset_index().to_parquet(folder / "download.parquet")


@form("two levels of columns in Parquet, by pandas")
def pandas_levels(market: pl.DataFrame, folder: Path) -> None:
    two_levels(market).to_parquet(folder / "download.parquet")


@form("flat names of figure and ticker")
def flat_names(market: pl.DataFrame, folder: Path) -> None:
    table = two_levels(market)
    table.columns = [f"{figure}_{ticker}" for figure, ticker in table.columns]
    table.to_csv(folder / "download.csv")


@form("flat names of ticker and figure")
def flat_names_by_ticker(market: pl.DataFrame, folder: Path) -> None:
    table = two_levels(market)
    table.columns = [f"{ticker} {figure}" for figure, ticker in table.columns]
    table.to_csv(folder / "download.csv")


@form("pandas with a time zone")
def pandas_zone(market: pl.DataFrame, folder: Path) -> None:
    for ticker, rows in by_ticker(market):
        stamped = rows.with_columns(session=pl.format("{} 00:00:00-05:00", "session"))
        stamped.rename({"session": "Date"}).write_csv(folder / f"{ticker}.csv")


@form("Quandl WIKI")
def quandl(market: pl.DataFrame, folder: Path) -> None:
    nothing = {"Ex-Dividend": pl.lit(0.0), "Split Ratio": pl.lit(1.0)}
    for ticker, rows in by_ticker(market):
        adjusted = {f"Adj. {name}": name.lower() for name in ("Open", "High", "Low", "Close", "Volume")}
        renamed(rows, USUAL).with_columns(**nothing).hstack(rows.select(**adjusted)).write_csv(folder / f"{ticker}.csv")


@form("Quandl WIKI, bulk")
def quandl_bulk(market: pl.DataFrame, folder: Path) -> None:
    nothing = {"ex-dividend": pl.lit(0.0), "split_ratio": pl.lit(1.0), "adj_close": pl.col("close")}
    market.with_columns(**nothing).rename({"session": "date"}).write_csv(folder / "WIKI_PRICES.csv")


@form("zipline csvdir")
def csvdir(market: pl.DataFrame, folder: Path) -> None:
    (folder / "daily").mkdir()
    for ticker, rows in by_ticker(market):
        whole = rows.rename({"session": "date"}).with_columns(dividend=pl.lit(0.0), split=pl.lit(1.0))
        whole.write_csv(folder / "daily" / f"{ticker}.csv")


@form("Alpha Vantage")
def alpha_vantage(market: pl.DataFrame, folder: Path) -> None:
    names = "timestamp=session,open=open,high=high,low=low,close=close,volume=volume"
    each_to_csv(market.reverse(), folder, names, "daily_{}.csv")


@form("Alpha Vantage, numbered")
def alpha_vantage_numbered(market: pl.DataFrame, folder: Path) -> None:
    each_to_csv(
        market, folder, "date=session,1. open=open,2. high=high,3. low=low,4. close=close,5. volume=volume", "{}.csv"
    )


@form("Tiingo")
def tiingo(market: pl.DataFrame, folder: Path) -> None:
    extra = {"adjClose": pl.col("close"), "divCash": pl.lit(0.0), "splitFactor": pl.lit(1.0)}
    for ticker, rows in by_ticker(market):
        stamped = rows.with_columns(session=pl.format("{}T00:00:00.000Z", "session"), **extra)
        stamped.rename({"session": "date"}).write_csv(folder / f"{ticker}.csv")


@form("investing.com")
def investing(market: pl.DataFrame, folder: Path) -> None:
    for ticker, rows in by_ticker(market):
        text = rows.reverse().with_columns(
            *(thousands(name) for name in PRICES), millions("volume"), change=pl.lit("1.2%")
        )
        names = "Date=session,Price=close,Open=open,High=high,Low=low,Vol.=volume,Change %=change"
        table = renamed(text, names, date_format="%b %d, %Y")
        (folder / f"{ticker} Historical Data.csv").write_bytes(
            b"\xef\xbb\xbf" + table.write_csv(quote_style="always").encode()
        )


@form("investing.com, German", reading=Reading(date_format="%d.%m.%Y"))
def investing_german(market: pl.DataFrame, folder: Path) -> None:
    for ticker, rows in by_ticker(market):
        prices = (thousands(name, ".", ",") for name in PRICES)
        text = rows.reverse().with_columns(*prices, millions("volume").str.replace(".", ",", literal=True))
        names = "Datum=session,Zuletzt=close,Eröffn.=open,Hoch=high,Tief=low,Vol.=volume"
        renamed(text, names, date_format="%d.%m.%Y").write_csv(folder / f"{ticker}.csv", quote_style="always")


@form("Nasdaq.com")
def nasdaq(market: pl.DataFrame, folder: Path) -> None:
    for ticker, rows in by_ticker(market):
        text = rows.reverse().with_columns(pl.format("${}", thousands(name)).alias(name) for name in PRICES)
        names = "Date=session,Close/Last=close,Volume=volume,Open=open,High=high,Low=low"
        renamed(text, names, date_format="%m/%d/%Y").write_csv(folder / f"{ticker}.csv")


@form("TradingView")
def trading_view(market: pl.DataFrame, folder: Path) -> None:
    for ticker, rows in by_ticker(market):
        table = with_epochs(rows, time(9, 30), NEW_YORK)
        renamed(table, "time=epoch," + USUAL.split(",", 1)[1]).write_csv(folder / f"BATS_{ticker}, 1D_5f1e2.csv")


@form("TradingView, ISO times")
def trading_view_iso(market: pl.DataFrame, folder: Path) -> None:
    for ticker, rows in by_ticker(market):
        at = pl.Series([moment.isoformat() for moment in moments(rows, time(9, 30), NEW_YORK)])
        renamed(rows.with_columns(at=at), "time=at," + USUAL.split(",", 1)[1]).write_csv(
            folder / f"BATS_{ticker}, 1D.csv"
        )


@form("Alpaca")
def alpaca(market: pl.DataFrame, folder: Path) -> None:
    at = pl.Series([f"{moment:%Y-%m-%d %H:%M:%S}+00:00" for moment in moments(market, time(), NEW_YORK)])
    names = "symbol=ticker,timestamp=at,open=open,high=high,low=low,close=close,volume=volume"
    renamed(market.with_columns(at=at), names).with_columns(trade_count=1, vwap=1.0).write_csv(folder / "bars.csv")


@form("Alpaca and Polygon, single letters")
def letters(market: pl.DataFrame, folder: Path) -> None:
    for ticker, rows in by_ticker(market):
        table = with_epochs(rows, time(), NEW_YORK, 1000)
        names = "v=volume,vw=close,o=open,c=close,h=high,l=low,t=epoch,n=volume"
        renamed(table, names).write_csv(folder / f"{ticker}.csv")


@form("Polygon, grouped by day")
def grouped(market: pl.DataFrame, folder: Path) -> None:
    for rows in market.partition_by("session"):
        table = with_epochs(rows, time(16), NEW_YORK, 1000)
        names = "T=ticker,v=volume,vw=close,o=open,c=close,h=high,l=low,t=epoch,n=volume"
        renamed(table, names).write_csv(folder / f"{rows['session'][0]}.csv")


@form("Polygon flat files")
def flat_files(market: pl.DataFrame, folder: Path) -> None:
    for rows in market.partition_by("session"):
        table = with_epochs(rows, time(), NEW_YORK, 10**9)
        names = (
            "ticker=ticker,volume=volume,open=open,close=close,high=high,low=low,window_start=epoch,transactions=volume"
        )
        content = renamed(table, names).write_csv().encode()
        (folder / f"{rows['session'][0]}.csv.gz").write_bytes(gzip.compress(content))


@form("tushare", exchange="XSHG", suffix=".SZ")
def tushare(market: pl.DataFrame, folder: Path) -> None:
    table = market.reverse().with_columns(pl.col("ticker") + ".SZ", x=pl.lit(1.0))
    names = "ts_code=ticker,trade_date=session,open=open,high=high,low=low,close=close,change=x,vol=volume"
    renamed(table, names, date_format="%Y%m%d").write_csv(folder / "daily.csv")


@form("akshare", exchange="XSHG")
def akshare(market: pl.DataFrame, folder: Path) -> None:
    names = (
        "日期=session,股票代码=ticker,开盘=open,收盘=close,最高=high,最低=low,成交量=volume,成交额=volume,涨跌幅=open"
    )
    renamed(market, names).write_csv(folder / "hist.csv")


@form("akshare in GBK, the code in the name", exchange="XSHG")
def akshare_gbk(market: pl.DataFrame, folder: Path) -> None:
    names = "日期=session,开盘=open,收盘=close,最高=high,最低=low,成交量=volume"
    for ticker, rows in by_ticker(market):
        (folder / f"{ticker}.csv").write_bytes(renamed(rows, names).write_csv().encode("gbk"))


@form("Binance klines without a header", exchange="24/7")
def binance(market: pl.DataFrame, folder: Path) -> None:
    for ticker, rows in by_ticker(market):
        table = with_epochs(rows, time(), unit=1000).with_columns(
            end=pl.col("epoch") + 86_399_999, n=pl.lit(7), o=pl.lit("0")
        )
        names = "a=epoch,b=open,c=high,d=low,e=close,f=volume,g=end,h=volume,i=n,j=volume,k=volume,l=o"
        content = renamed(table, names).write_csv(include_header=False)
        with zipfile.ZipFile(folder / f"{ticker}-1d-2020-01.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{ticker}-1d-2020-01.csv", content)


@form("Binance klines in microseconds", exchange="24/7")
def binance_micro(market: pl.DataFrame, folder: Path) -> None:
    for ticker, rows in by_ticker(market):
        table = with_epochs(rows, time(), unit=10**6).with_columns(
            end=pl.col("epoch") + 86_399_999_999, n=pl.lit(7), o=pl.lit("0")
        )
        names = "a=epoch,b=open,c=high,d=low,e=close,f=volume,g=end,h=volume,i=n,j=volume,k=volume,l=o"
        renamed(table, names).write_csv(folder / f"{ticker}-1d-2025-01.csv", include_header=False)


@form("Kraken without a header", exchange="24/7")
def kraken(market: pl.DataFrame, folder: Path) -> None:
    for ticker, rows in by_ticker(market):
        table = with_epochs(rows, time()).with_columns(n=pl.lit(7))
        names = "a=epoch,b=open,c=high,d=low,e=close,f=volume,g=n"
        renamed(table, names).write_csv(folder / f"{ticker}_1440.csv", include_header=False)


@form("ccxt", exchange="24/7")
def ccxt(market: pl.DataFrame, folder: Path) -> None:
    for ticker, rows in by_ticker(market):
        table = with_epochs(rows, time(), unit=1000)
        renamed(table, "timestamp=epoch," + USUAL.split(",", 1)[1].lower()).write_csv(folder / f"{ticker}.csv")


@form("CryptoDataDownload", exchange="24/7", suffix="/USD")
def crypto_data_download(market: pl.DataFrame, folder: Path) -> None:
    for ticker, rows in by_ticker(market):
        table = with_epochs(rows.reverse(), time()).with_columns(symbol=pl.lit(f"{ticker}/USD"), usd=pl.lit(12.5))
        names = "unix=epoch,date=session,symbol=symbol,open=open,high=high,low=low,close=close,"
        names += f"Volume {ticker}=volume,Volume USD=usd"
        content = renamed(table, names, date_format="%Y-%m-%d 00:00:00").write_csv()
        (folder / f"Binance_{ticker}USD_d.csv").write_text("https://www.CryptoDataDownload.com\n" + content)


# --- encodings, separators, numbers


def of_bytes(name: str, encoded: Callable[[str], bytes], file: str = "{}.csv") -> None:
    def write(market: pl.DataFrame, folder: Path) -> None:
        for ticker, rows in by_ticker(market):
            (folder / file.format(ticker)).write_bytes(encoded(renamed(rows, USUAL).write_csv()))

    form(name)(write)


of_bytes("UTF-8 with a mark", lambda text: b"\xef\xbb\xbf" + text.encode())
of_bytes("UTF-16", lambda text: text.encode("utf-16"))
of_bytes("UTF-16, big", lambda text: b"\xfe\xff" + text.encode("utf-16-be"))
of_bytes("UTF-16 without a mark", lambda text: text.encode("utf-16-le"))
of_bytes("lines as Windows ends them", lambda text: text.replace("\n", "\r\n").encode())
of_bytes("gzip", lambda text: gzip.compress(text.encode()), "{}.csv.gz")
of_bytes("bzip2", lambda text: bz2.compress(text.encode()), "{}.csv.bz2")
of_bytes("xz", lambda text: lzma.compress(text.encode()), "{}.csv.xz")
of_bytes("comments above the header", lambda text: f"# prices\n# of a vendor\n\n{text}".encode())
of_bytes("spaces after commas", lambda text: text.replace(",", ", ").encode())
of_bytes("Excel's sep= above the header", lambda text: ("sep=;\n" + text.replace(",", ";")).encode())


@form("one zip file of all")
def zipped(market: pl.DataFrame, folder: Path) -> None:
    with zipfile.ZipFile(folder / "d_us_txt.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for ticker, rows in by_ticker(market):
            archive.writestr(f"data/daily/{ticker.lower()}.us.txt", renamed(rows, USUAL).write_csv())
        archive.writestr("data/readme.txt", "what this is")


@form("tabs")
def tabs(market: pl.DataFrame, folder: Path) -> None:
    each_to_csv(market, folder, USUAL, "{}.tsv", separator="\t")


@form("MetaTrader 5")
def metatrader(market: pl.DataFrame, folder: Path) -> None:
    names = "<DATE>=session,<OPEN>=open,<HIGH>=high,<LOW>=low,<CLOSE>=close,<TICKVOL>=open,<VOL>=volume,<SPREAD>=low"
    each_to_csv(market, folder, names, "{}_Daily.csv", separator="\t", date_format="%Y.%m.%d")


@form("semicolons and decimal commas")
def german(market: pl.DataFrame, folder: Path) -> None:
    for ticker, rows in by_ticker(market):
        text = rows.with_columns(*(thousands(name, "", ",") for name in PRICES), thousands("volume", ".", ",", 0))
        renamed(text, USUAL).write_csv(folder / f"{ticker}.csv", separator=";")


@form("German dates by a stated format", reading=Reading(date_format="%d.%m.%Y"))
def german_dates(market: pl.DataFrame, folder: Path) -> None:
    names = "Datum=session,Erster=open,Hoch=high,Tief=low,Schlusskurs=close,Volumen=volume"
    each_to_csv(market, folder, names, "{}.csv", separator=";", date_format="%d.%m.%Y")


@form("American dates by a stated format", reading=Reading(date_format="%m/%d/%y"))
def american_dates(market: pl.DataFrame, folder: Path) -> None:
    each_to_csv(market, folder, USUAL, "{}.csv", date_format="%m/%d/%y")


@form("thousands in quotes")
def quoted_thousands(market: pl.DataFrame, folder: Path) -> None:
    for ticker, rows in by_ticker(market):
        text = rows.with_columns(*(thousands(name) for name in PRICES), thousands("volume", digits=0))
        renamed(text, USUAL, date_format="%d-%b-%Y").write_csv(folder / f"{ticker}.csv")


@form("thousands with spaces")
def spaced_thousands(market: pl.DataFrame, folder: Path) -> None:
    for ticker, rows in by_ticker(market):
        text = rows.with_columns(
            *(thousands(name, "\xa0", ",") for name in PRICES), thousands("volume", "\u202f", ",", 0)
        )
        renamed(text, USUAL, date_format="%Y/%m/%d").write_csv(folder / f"{ticker}.csv", separator=";")


@form("no header, names by a setting", reading=Reading(columns=("date", "open", "high", "low", "close", "volume")))
def headerless(market: pl.DataFrame, folder: Path) -> None:
    each_to_csv(market, folder, USUAL, "{}.csv", include_header=False)


@form("names of their own, by a setting", reading=Reading(columns=("close=Ende", "date=Tag", "volume=Menge")))
def own_names(market: pl.DataFrame, folder: Path) -> None:
    each_to_csv(market, folder, "Tag=session,Open=open,High=high,Low=low,Ende=close,Menge=volume", "{}.csv")


@form("Feather")
def feather(market: pl.DataFrame, folder: Path) -> None:
    for ticker, rows in by_ticker(market):
        rows.rename({"session": "date"}).write_ipc(folder / f"{ticker}.feather")


@form("an Arrow stream, compressed")
def arrow_stream(market: pl.DataFrame, folder: Path) -> None:
    market.rename({"session": "date"}).write_ipc_stream(folder / "all.arrow", compression="zstd")


# --- workbooks


def workbook(sheets: dict[str, pl.DataFrame]) -> bytes:
    """A small .xlsx: numbers as numbers, dates as the days since 1899-12-30 in a format of dates, text inline."""
    parts = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/>'
        '<Override PartName="/xl/workbook.xml" '
        'ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/></Types>',
        "_rels/.rels": _relations({"rId1": ("officeDocument", "xl/workbook.xml")}),
        "xl/styles.xml": f'<styleSheet xmlns="{_SHEETS}"><cellXfs count="2"><xf numFmtId="0"/>'
        '<xf numFmtId="14"/></cellXfs></styleSheet>',
        "xl/workbook.xml": f'<workbook xmlns="{_SHEETS}" xmlns:r="{_OFFICE}"><sheets>'
        + "".join(f'<sheet name="{name}" sheetId="{i}" r:id="rId{i}"/>' for i, name in enumerate(sheets, 1))
        + "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": _relations(
            {f"rId{i}": ("worksheet", f"worksheets/sheet{i}.xml") for i in range(1, len(sheets) + 1)}
            | {"rIdS": ("styles", "styles.xml")}
        ),
    }
    for i, rows in enumerate(sheets.values(), 1):
        lines = [rows.columns, *rows.iter_rows()]
        body = "".join(f"<row>{''.join(map(_cell, line))}</row>" for line in lines)
        parts[f"xl/worksheets/sheet{i}.xml"] = f'<worksheet xmlns="{_SHEETS}"><sheetData>{body}</sheetData></worksheet>'
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, f'<?xml version="1.0" encoding="UTF-8"?>{text}')
    return content.getvalue()


_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_SHEETS = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def _relations(targets: dict[str, tuple[str, str]]) -> str:
    rows = "".join(
        f'<Relationship Id="{i}" Type="{_OFFICE}/{kind}" Target="{to}"/>' for i, (kind, to) in targets.items()
    )
    return f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{rows}</Relationships>'


def _cell(value: object) -> str:
    if isinstance(value, date):
        return f'<c s="1"><v>{(value - date(1899, 12, 30)) // timedelta(days=1)}</v></c>'
    if isinstance(value, int | float):
        return f"<c><v>{value!r}</v></c>"
    return f'<c t="inlineStr"><is><t>{value}</t></is></c>'


@form("Excel, one table")
def excel(market: pl.DataFrame, folder: Path) -> None:
    (folder / "prices.xlsx").write_bytes(workbook({"Sheet1": market.rename({"session": "Date", "ticker": "Ticker"})}))


@form("Excel, a sheet per ticker")
def excel_sheets(market: pl.DataFrame, folder: Path) -> None:
    sheets = {ticker: rows.rename({"session": "Date"}) for ticker, rows in by_ticker(market)}
    notes = pl.DataFrame({"about": ["made by hand"]})
    (folder / "prices.xlsx").write_bytes(workbook({**sheets, "notes": notes}))
