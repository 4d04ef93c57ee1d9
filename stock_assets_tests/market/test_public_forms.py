"""Four days of one share in the public forms of vendors, and files that leave a choice, which are one clear error."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from stock_assets.errors import SourceError
from stock_assets.market.calendar import trading_calendar
from stock_assets.market.sources.forms.reading import Reading
from stock_assets.market.sources.snapshot import SnapshotSource

CALENDAR = trading_calendar("XNYS", date(2019, 1, 2), date(2020, 12, 31))
DAYS = [date(2020, 1, 2), date(2020, 1, 3), date(2020, 1, 6), date(2020, 1, 7)]
BARS = [
    (74.06, 75.15, 73.80, 75.09, 135480400.0),
    (74.29, 75.14, 74.13, 74.36, 146322800.0),
    (73.45, 74.99, 73.19, 74.95, 118387200.0),
    (74.96, 75.22, 74.37, 74.60, 108872000.0),
]
US, US_SHORT = Reading(date_format="%m/%d/%Y"), Reading(date_format="%m/%d/%y")


def text(head: str | None, row: str, day: str = "%Y-%m-%d", *, newest_first: bool = False) -> str:
    """A file of the bars; a `row` has o, h, l, c, v, i and d, the day in the format `day`."""
    rows = [
        row.format(d=at.strftime(day).replace("{serial}", str((at - date(1899, 12, 30)).days)), o=o, h=h, l=low, c=c)
        .replace("VOLUME", f"{v:.0f}")
        .replace("THOUSANDS", f"{v:,.0f}")
        for at, (o, h, low, c, v) in zip(DAYS, BARS, strict=True)
    ]
    return "\n".join([*([head] if head else []), *(rows[::-1] if newest_first else rows), ""])


def bars_of(path: Path, reading: Reading | None = None) -> tuple[list[str], list[tuple]]:
    source = SnapshotSource(path, CALENDAR, reading=reading)
    tickers = source.universe()["ticker"].to_list()
    rows = source.fetch(tickers, DAYS[0], DAYS[-1], fetched_at=datetime(2030, 1, 1, tzinfo=UTC)).bars
    return tickers, rows.select("session", "open", "high", "low", "close", "volume").rows()


USUAL = "Date,Open,High,Low,Close,Volume"
ROW = "{d},{o},{h},{l},{c},VOLUME"
#: Name: the file, its content, what a person states about it, and the ticker.
FORMS: dict[str, tuple[str, str, Reading | None, str]] = {
    "Stooq in Polish": (
        "aapl_us_d.csv",
        text("Data,Otwarcie,Najwyzszy,Najnizszy,Zamkniecie,Wolumen", ROW),
        None,
        "AAPL",
    ),
    "Nasdaq Data Link": (
        "EOD-AAPL.csv",
        text(
            f"{USUAL},Dividend,Split,Adj_Open,Adj_High,Adj_Low,Adj_Close,Adj_Volume",
            ROW + ",0.0,1.0,{o},{h},{l},{c},VOLUME",
        ),
        None,
        "AAPL",
    ),
    "IEX": (
        "AAPL.csv",
        text("date,uOpen,uClose,close,high,low,open,symbol,volume,label", "{d},1,1,{c},{h},{l},{o},AAPL,VOLUME,x"),
        None,
        "AAPL",
    ),
    "EODHD with its number of rows": ("AAPL.US.csv", text(USUAL, ROW) + "2020\n", None, "AAPL"),
    "MetaTrader 5": (
        "AAPL_Daily.csv",
        text(
            "<DATE>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>",
            "{d}\t{o}\t{h}\t{l}\t{c}\t7\tVOLUME\t1",
            "%Y.%m.%d",
        ),
        None,
        "AAPL",
    ),
    "MetaTrader 4": ("AAPL1440.csv", text(None, "{d},00:00,{o},{h},{l},{c},VOLUME", "%Y.%m.%d"), None, "AAPL"),
    "NinjaTrader": ("AAPL.Last.txt", text(None, "{d};{o};{h};{l};{c};VOLUME", "%Y%m%d"), None, "AAPL"),
    "NinjaTrader with times": (
        "AAPL.Last.txt",
        text(None, "{d} 160000;{o};{h};{l};{c};VOLUME", "%Y%m%d"),
        None,
        "AAPL",
    ),
    "QuantQuote": ("table_aapl.csv", text(None, "{d},0,{o},{h},{l},{c},VOLUME", "%Y%m%d"), None, "AAPL"),
    "FirstRate": ("AAPL_full_1day_adjsplitdiv.txt", text(None, ROW), None, "AAPL"),
    "Kibot": ("AAPL.txt", text(None, ROW, "%m/%d/%Y"), US, "AAPL"),
    "no header, with tickers": ("all.csv", text(None, "AAPL," + ROW), None, "AAPL"),
    "no header, adjusted closes": ("AAPL.csv", text(None, "{d},{o},{h},{l},{c},{c},VOLUME"), None, "AAPL"),
    "no header, newest first": ("AAPL.csv", text(None, ROW, newest_first=True), None, "AAPL"),
    "Refinitiv": (
        "x.csv",
        text("Instrument,Date,Price Open,Price High,Price Low,Price Close,Volume", "AAPL.O,{d}T00:00:00Z" + ROW[3:]),
        None,
        "AAPL.O",
    ),
    "Refinitiv Tick History": (
        "x.csv",
        text(
            "#RIC,Domain,Date-Time,GMT Offset,Type,Open,High,Low,Last,Volume",
            "AAPL.O,Market Price,{d}T00:00:00.000000000Z,-5,Intraday 1Day,{o},{h},{l},{c},VOLUME",
        ),
        None,
        "AAPL.O",
    ),
    "Google Finance": ("AAPL.csv", text(USUAL, "{d} 16:00:00" + ROW[3:], "%-m/%-d/%Y"), US, "AAPL"),
    "Google Finance of old": ("AAPL.csv", text(USUAL, ROW, "%-d-%b-%y"), None, "AAPL"),
    "numbers of a spreadsheet": ("AAPL.csv", text(USUAL, ROW, "{serial}"), None, "AAPL"),
    "numbers of a spreadsheet at the close": ("AAPL.csv", text(USUAL, ROW, "{serial}.6666666667"), None, "AAPL"),
    "a comma at the end of each row": ("AAPL.csv", text(USUAL, ROW + ","), None, "AAPL"),
    "MarketWatch": (
        "STOCK_US_XNAS_AAPL.csv",
        text(USUAL, '{d},"{o}","{h}","{l}","{c}","THOUSANDS"', "%m/%d/%Y"),
        US,
        "AAPL",
    ),
    "Wall Street Journal": (
        "HistoricalPrices.csv",
        text("Date, Open, High, Low, Close, Volume", "{d}, {o}, {h}, {l}, {c}, VOLUME", "%m/%d/%y"),
        Reading(date_format="%m/%d/%y", ticker="AAPL"),
        "AAPL",
    ),
    "Barchart": (
        "aapl_daily_historical-data-01-08-2020.csv",
        text("Time,Open,High,Low,Last,Change,%Chg,Volume", "{d},{o},{h},{l},{c},0.1,0.1%,VOLUME", "%m/%d/%Y")
        + '"Downloaded from Barchart.com as of 01-08-2020 05:00am CST"\n',
        US,
        "AAPL",
    ),
    "copied from Yahoo": (
        "AAPL.csv",
        text("Date,Open,High,Low,Close*,Adj Close**,Volume", '"{d}",{o},{h},{l},{c},{c},"THOUSANDS"', "%b %d, %Y"),
        None,
        "AAPL",
    ),
    "when the file was written": ("AAPL.csv", text(f"{USUAL},timestamp", ROW + ",1578441600"), None, "AAPL"),
}


@pytest.mark.parametrize("name", FORMS)
def test_public_forms_hold_the_same_bars(tmp_path: Path, name: str):
    file, content, reading, ticker = FORMS[name]
    (tmp_path / file).write_text(content)
    tickers, rows = bars_of(tmp_path, reading)
    assert tickers == [ticker]
    assert rows == [(day, *bar) for day, bar in zip(DAYS, BARS, strict=True)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            text(None, "{d},{o},{h},{l},{c},VOLUME,{c}"),
            "figures leave open which column is which: STOCK_ASSETS_COLUMNS",
        ),
        (text(None, "{d},{o},{l},{h},{c},VOLUME"), "figures leave open"),
        (text(None, "{d} 00:00,740600,751500,738000,750900,VOLUME", "%Y%m%d"), "figures leave open"),  # LEAN
        (text(None, ROW, "%m/%d/%Y"), r"writes dates as '01/02/2020'.*set STOCK_ASSETS_DATE_FORMAT"),
        (text(USUAL, "{d} 16:00:00" + ROW[3:], "%m/%d/%Y"), "order of day and month is not certain.*DATE_FORMAT"),
        (
            text(USUAL, "7," + ROW),
            r"AAPL.csv, row 2: found 7 cells \(7, 2020-01-02, .*expected 6, as its columns are Date",
        ),
        (text(USUAL, "{d},{o},{h},{l},{c},THOUSANDS"), r"row 2: found 8 cells .*a number with commas needs quotes"),
        (text(USUAL, ROW, "4{serial}"), "a time: found '443832'"),
    ],
)
def test_a_file_that_leaves_a_choice_is_one_line(tmp_path: Path, content: str, message: str):
    (tmp_path / "AAPL.csv").write_text(content)
    with pytest.raises(SourceError, match=message) as caught:
        bars_of(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_row_of_a_long_file_with_too_many_cells_is_named(tmp_path: Path):
    rows = [f"{day},10,11,9,10,100" for day in CALENDAR.sessions[:60]]
    (tmp_path / "AAPL.csv").write_text("\n".join([USUAL, *rows, "2019-04-01,10,11,9,10,1,000"]))
    with pytest.raises(SourceError, match=r"AAPL.csv, row 62: found 7 cells \(2019-04-01, .*expected 6"):
        bars_of(tmp_path)
    (tmp_path / "AAPL.csv").write_text("\n".join([USUAL, *(f"{row}," for row in rows), "2019-04-01,10,11,9,10,1,000"]))
    with pytest.raises(SourceError, match=r"AAPL.csv, row 62: found 7 cells \(2019-04-01, .*expected 6"):
        bars_of(tmp_path)


def test_an_opening_and_a_close_in_each_other_s_place_are_not_read(tmp_path: Path):
    """High and low enclose both; only what follows on what shows that the fifth column is the opening."""
    rows, close = [], 100.0
    for i, day in enumerate(CALENDAR.sessions[:20]):
        opened, close = close * 1.001, close * (1.02 if i % 2 else 0.985)
        rows.append(f"{day},{close:.2f},{max(opened, close) + 1:.2f},{min(opened, close) - 1:.2f},{opened:.2f},100")
    (tmp_path / "AAPL.csv").write_text("\n".join(rows))
    with pytest.raises(SourceError, match="figures leave open"):
        bars_of(tmp_path)


def test_what_a_file_without_a_header_was_read_as_is_told(tmp_path: Path):
    (tmp_path / "AAPL.csv").write_text(text(None, ROW))
    source = SnapshotSource(tmp_path, CALENDAR)
    source.universe()
    kind = "a file without a header, read as date, open, high, low, close, volume"
    assert [path.rpartition("/")[2] for path in source.notes()[kind]] == ["AAPL.csv"]
