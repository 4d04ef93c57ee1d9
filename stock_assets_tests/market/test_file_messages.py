"""Files that could mean two things, that lack something or that are no bars: what is said, which setting decides."""

import gzip
import io
import sys
import zipfile
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from stock_assets.errors import EmptySourceError, SettingsError, SourceError
from stock_assets.market.calendar import trading_calendar
from stock_assets.market.closing import close_where_old
from stock_assets.market.sources.forms import unpacking
from stock_assets.market.sources.forms.reading import Reading
from stock_assets.market.sources.forms.tickers import ticker_of
from stock_assets.market.sources.snapshot import SnapshotSource
from stock_assets.settings import Settings

CALENDAR = trading_calendar("XNYS", date(2018, 1, 2), date(2018, 12, 31))
BAR = "Date,Open,High,Low,Close,Volume\n2018-01-02,10,11,9,10,100\n2018-01-03,10,11,9,10.5,100\n"
LATER = datetime(2019, 1, 2, tzinfo=UTC)
BUGS = Path(__file__).parents[3] / "shared" / "bugs"


def source(folder: Path, **files: str | bytes) -> SnapshotSource:
    """Of files by name, where __ is a dot and ___ a slash."""
    for name, content in files.items():
        path = folder / name.replace("___", "/").replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return SnapshotSource(folder, CALENDAR)


def with_reading(made: SnapshotSource, **reading: object) -> SnapshotSource:
    return SnapshotSource(made.path, CALENDAR, reading=Reading(**reading))  # pyright: ignore[reportArgumentType]


class TestEveryFileIsReadOrNamed:
    def test_what_is_passed_over_is_noted_with_the_reason(self, tmp_path: Path):
        made = source(
            tmp_path,
            A__csv=BAR,
            B__csv__gz=gzip.compress(BAR.encode()),
            empty__csv="",
            header__csv="Date,Open,High,Low,Close,Volume\n",
            README__txt="Prices, as of today.",
            notes__md="# notes",
            companies__csv="Symbol,Security Name\nA,Agilent\nB,Barnes\n",
            _SUCCESS="",
            deep___x__json="{}",
            packed__zip=_zip({"C.csv": BAR, "about.pdf": "%PDF", "list.csv": "Symbol,Name\nC,Citi\n"}),
        )
        (tmp_path / ".DS_Store").touch()
        lines: list[str] = []
        made.say = lines.append

        assert made.universe()["ticker"].to_list() == ["A", "B", "C"]
        said = "\n".join(lines)
        everything = {path.name for path in tmp_path.rglob("*") if path.is_file()} | {"about.pdf", "list.csv"}
        read = {"A.csv", "B.csv.gz", "packed.zip"}
        assert not [name for name in everything - read if name not in said]
        assert not [
            name for name in everything if not any(name in file for files in made.notes().values() for file in files)
        ]
        assert "passed over, its name ends in .md: notes.md" in said
        assert "companies.csv has no column of prices" in said
        assert "empty.csv is empty" in said

    def test_notes_are_said_once(self, tmp_path: Path):
        made = source(tmp_path, A_data__csv=BAR)
        lines: list[str] = []
        made.say = lines.append
        made.universe()
        made.universe()
        assert lines == [f"{tmp_path}: the ticker is guessed from the name of the file: {tmp_path.name}/A_data.csv (A)"]

    def test_a_folder_of_nothing_but_other_files_is_an_error(self, tmp_path: Path):
        with pytest.raises(EmptySourceError, match=r"companies\.csv has no column of prices, .* found Symbol, Name"):
            source(tmp_path, companies__csv="Symbol,Name\nA,Agilent\n").universe()

    def test_a_table_of_prices_that_lacks_a_column_is_never_passed_over(self, tmp_path: Path):
        with pytest.raises(SourceError, match=r"B\.csv has no column volume; found .*STOCK_ASSETS_COLUMNS=volume=NAME"):
            source(tmp_path, A__csv=BAR, B__csv="Date,Open,High,Low,Close\n2018-01-02,1,2,1,2\n").universe()


class TestTickers:
    @pytest.mark.parametrize(
        ("stem", "ticker"),
        [
            *(
                ("AAPL", "AAPL"),
                ("aapl.us", "AAPL"),
                ("aapl_us_d", "AAPL"),
                ("AAPL (1)", "AAPL"),
                ("AAPL_data", "AAPL"),
            ),
            *(
                ("vod_uk_d", "VOD.UK"),
                ("^spx_d", "^SPX"),
                ("BRK-B", "BRK-B"),
                ("brk.b", "BRK.B"),
                ("BTC-USD", "BTC-USD"),
            ),
            *(("AAPL_2015", "AAPL"), ("AAPL-2015-01-01-2020-12-31", "AAPL"), ("AAPL_20150101_20201231", "AAPL")),
            *(("daily_adjusted_AAPL", "AAPL"), ("AAPL Historical Data", "AAPL"), ("BTCUSDT-1d-2024-01", "BTCUSDT")),
            *(
                ("NASDAQ_DLY_AAPL, 1D", "AAPL"),
                ("XBTUSD_1440", "XBTUSD"),
                ("000001.SZ", "000001.SZ"),
                ("sh600000", "SH600000"),
            ),
            *(("ALL", "ALL"), ("D", "D"), ("DAY", "DAY"), ("0700.HK", "0700.HK"), ("AAPL_US", "AAPL")),
            *(
                ("HistoricalData_1577836800", None),
                ("prices", None),
                ("data", None),
                ("2015", None),
                ("stock_prices", None),
            ),
        ],
    )
    def test_a_name_says_the_ticker_or_nothing(self, stem: str, ticker: str | None):
        assert ticker_of(stem) == ticker

    def test_a_file_that_says_no_ticker_needs_the_setting(self, tmp_path: Path):
        made = source(tmp_path, HistoricalData_1577836800__csv=BAR)
        with pytest.raises(
            SourceError, match=r"no column of tickers, and its name states none; .*STOCK_ASSETS_TICKERS"
        ):
            made.universe()
        assert with_reading(made, ticker="AAPL").universe()["ticker"].to_list() == ["AAPL"]

    def test_a_folder_that_contradicts_its_file_is_an_error(self, tmp_path: Path):
        frame = pl.read_csv(io.StringIO(BAR)).with_columns(Ticker=pl.lit("MSFT"))
        (tmp_path / "ticker=AAPL").mkdir()
        frame.write_parquet(tmp_path / "ticker=AAPL" / "part.parquet")
        with pytest.raises(SourceError, match="lies in a folder of AAPL and has rows of MSFT"):
            source(tmp_path).universe()

    def test_names_of_companies_are_no_tickers(self, tmp_path: Path):
        made = source(tmp_path, AAPL__csv=BAR.replace("Volume", "Volume,Name").replace("100\n", "100,Apple Inc.\n"))
        assert made.universe()["ticker"].to_list() == ["AAPL"]
        rows = (
            "Date,Open,High,Low,Close,Volume,Name\n2018-01-02,1,2,1,2,5,Apple Inc.\n2018-01-02,1,2,1,2,5,Agilent Inc.\n"
        )
        with pytest.raises(SourceError, match=r"names of 2 companies .* STOCK_ASSETS_COLUMNS=ticker=NAME"):
            source(tmp_path, all__csv=rows).universe()

    @pytest.mark.parametrize("spelt", ["BRK.B", "BRK-B", "BRK_B", "BRK/B"])
    def test_a_share_class_is_found_in_every_spelling(self, tmp_path: Path, spelt: str):
        path = source(tmp_path, BRK__B__csv=BAR, MSFT__csv=BAR).path
        chosen = SnapshotSource(path, CALENDAR, tickers=(spelt,))
        assert chosen.universe()["ticker"].to_list() == ["BRK.B"]

    @pytest.mark.parametrize(
        ("folder", "tickers"),
        [
            ("name_column", ["AAPL"]),
            ("long_name_column", ["AAPL", "MSFT"]),
            ("yfinance_three_headers", ["AAPL"]),
            ("alpha_vantage", ["AAPL"]),
        ],
    )
    def test_the_files_of_reported_bugs(self, folder: str, tickers: list[str]):
        if not (BUGS / folder).is_dir():
            pytest.skip("no folder of reported bugs beside the clone")
        made = SnapshotSource(BUGS / folder, CALENDAR)
        assert made.universe()["ticker"].to_list() == tickers
        rows = made.fetch(tickers, date(2018, 1, 2), date(2018, 1, 2), fetched_at=LATER).bars
        assert rows.select("open", "high", "low", "close", "volume").row(0) == (10, 11, 9, 10, 100)


class TestTwoMeanings:
    @pytest.mark.parametrize(
        ("dates", "said", "date_format"),
        [
            (
                ("02/01/2018", "03/01/2018"),
                r"day and month could be either: set STOCK_ASSETS_DATE_FORMAT to %d/%m/%Y or",
                "%d/%m/%Y",
            ),
            (("01/02/2018", "01/16/2018"), "its other dates fit %m/%d/%Y alone", "%m/%d/%Y"),
            (("2.1.2018", "16.1.2018"), "its other dates fit %d.%m.%Y alone", "%d.%m.%Y"),
            (("02-01-18", "03-01-18"), "to %d-%m-%y or %m-%d-%y", "%d-%m-%y"),
        ],
    )
    def test_dates(self, tmp_path: Path, dates: tuple[str, str], said: str, date_format: str):
        content = BAR.replace("2018-01-02", dates[0]).replace("2018-01-03", dates[1])
        made = source(tmp_path, A__csv=content)
        with pytest.raises(SourceError, match=said):
            made.universe()
        assert with_reading(made, date_format=date_format).universe()["from_session"].to_list() == [date(2018, 1, 2)]
        with pytest.raises(SourceError, match="STOCK_ASSETS_DATE_FORMAT=%Y does not read"):
            with_reading(made, date_format="%Y").universe()

    def test_a_comma(self, tmp_path: Path):
        made = source(
            tmp_path, A__csv='Date,Open,High,Low,Close,Volume\n2018-01-02,"1,234","1,240","1,230","1,235",7\n'
        )
        with pytest.raises(SourceError, match=r"the number '1,234', whose comma could be either; STOCK_ASSETS_DECIMAL"):
            made.universe()
        for decimal, opened in ((".", 1234.0), (",", 1.234)):
            rows = with_reading(made, decimal=decimal).fetch(
                ["A"], date(2018, 1, 2), date(2018, 1, 2), fetched_at=LATER
            )
            assert rows.bars["open"].to_list() == [opened]

    def test_numbers_in_two_ways(self, tmp_path: Path):
        made = source(tmp_path, A__csv="Date;Open;High;Low;Close;Volume\n2018-01-02;10,5;11.25;9;10;100\n")
        with pytest.raises(
            SourceError, match=r"writes numbers as '11.25' and as '10,5', expected one way; STOCK_ASSETS_DEC"
        ):
            made.universe()

    def test_thousands_with_points_are_read_where_the_prices_have_commas(self, tmp_path: Path):
        made = source(tmp_path, A__csv="Date;Open;High;Low;Close;Volume\n2018-01-02;10,5;11,25;9,1;10;1.234\n")
        rows = made.fetch(["A"], date(2018, 1, 2), date(2018, 1, 2), fetched_at=LATER).bars
        assert rows.select("open", "close", "volume").row(0) == (10.5, 10, 1234)

    def test_a_file_without_a_header(self, tmp_path: Path):
        made = source(tmp_path, A__csv="2018-01-02,10,9,11,10,100\n2018-01-03,10,9,11,10,100\n")
        with pytest.raises(SourceError, match="no row with the names of its columns; it begins with 2018-01-02, 10, 9"):
            made.universe()

    def test_two_volumes(self, tmp_path: Path):
        made = source(tmp_path, A__csv="Date,Open,High,Low,Close,Volume ETH,Volume BTC\n2018-01-02,10,11,9,10,100,5\n")
        with pytest.raises(
            SourceError, match="the columns Volume ETH, Volume BTC; STOCK_ASSETS_COLUMNS=volume=Volume ETH"
        ):
            made.universe()
        assert with_reading(made, columns=("volume=Volume BTC",)).universe().height == 1

    def test_dividends_without_an_adjusted_close(self, tmp_path: Path):
        rows = "date,open,high,low,close,volume,dividend,split\n2018-01-02,100,100,100,100,5,0,1\n"
        made = source(tmp_path, A__csv=rows + "2018-01-03,50,50,50,50,5,1,2\n2018-01-04,51,51,51,51,5,0,1\n")
        with pytest.raises(
            SourceError, match=r"dividend 1, split 2.*STOCK_ASSETS_PRICES says what the close is: as_traded"
        ):
            made.universe()

        def read(prices: str) -> pl.DataFrame:
            chosen = with_reading(made, prices=prices)
            return chosen.fetch(["A"], date(2018, 1, 2), date(2018, 1, 4), fetched_at=LATER).bars

        # one share of 100 became two of 50 - 1 = 49 and a dividend of 1 each: (100 / 2 - 1) / 100
        assert read("as_traded")["adj_close"].to_list() == pytest.approx([49, 50, 51])
        assert read("split_adjusted")["adj_close"].to_list() == pytest.approx([99, 50, 51])
        adjusted = read("adjusted")
        assert (adjusted["adj_close"].to_list(), adjusted["dividend"].null_count()) == ([100, 50, 51], 3)


class TestBounds:
    @pytest.mark.parametrize("name", ["bomb.csv.gz", "bomb.zip", "bomb.xlsx"])
    def test_a_file_that_unpacks_to_far_more_is_refused(
        self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(unpacking, "_FREE", 2**20)
        content = BAR.encode() + b" " * (4 * 2**20)
        packed = gzip.compress(content) if name.endswith(".gz") else _zip({"A.csv": content})
        (tmp_path / name).write_bytes(packed)
        with pytest.raises(SourceError, match=r"bomb.* has [\d,]+ bytes and unpacks to more than"):
            source(tmp_path).universe()

    def test_a_file_of_very_many_columns_is_refused(self, tmp_path: Path):
        with pytest.raises(SourceError, match="has 50006 columns, expected at most 50000"):
            source(tmp_path, A__csv=BAR.replace("Volume", "Volume" + ",x" * 50_000)).universe()

    @pytest.mark.parametrize("name", ["A.csv.gz", "A.csv.bz2", "A.csv.xz", "A.zip", "A.feather", "A.xlsx"])
    def test_a_damaged_file_is_one_line(self, tmp_path: Path, name: str):
        (tmp_path / name).write_bytes(b"\x1f\x8b no such thing" * 9)
        with pytest.raises(SourceError, match=rf"{name} cannot be read as"):
            source(tmp_path).universe()

    def test_a_workbook_without_its_reader_says_what_to_install(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(sys.modules, "fastexcel", None)
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        (tmp_path / "A.xlsx").write_bytes(b"PK")
        with pytest.raises(SourceError, match=r"reading it needs fastexcel: pip install 'stock_assets\[excel\]'"):
            source(tmp_path).universe()


class TestSpans:
    """An END after the last bar, a START before the first."""

    def settings(self, path: Path, **values: object) -> Settings:
        return Settings(source="snapshot", snapshot=path, **values)  # pyright: ignore[reportArgumentType]

    def test_an_end_after_the_last_bar_and_a_start_before_the_first_are_named(self, tmp_path: Path):
        made = source(tmp_path, A__csv=BAR)
        settings = self.settings(made.path, start=date(2017, 1, 3), end=date(2018, 1, 4), first_model_year=2018)
        ends = SnapshotSource(made.path, trading_calendar("XNYS", date(2017, 1, 3), date(2018, 1, 4)))
        with pytest.raises(SettingsError, match=r"STOCK_ASSETS_END=2018-01-04; set STOCK_ASSETS_END=2018-01-03"):
            close_where_old(settings, ends, LATER)
        begins = SnapshotSource(made.path, trading_calendar("XNYS", date(2017, 1, 3), date(2018, 1, 3)))
        with pytest.raises(
            SettingsError, match=r"begin on 2018-01-02, 251 sessions after .* set STOCK_ASSETS_START=2018-01-02"
        ):
            close_where_old(settings.model_copy(update={"end": date(2018, 1, 3)}), begins, LATER)

    def test_a_fetch_after_the_last_bar_names_the_setting(self, tmp_path: Path):
        made = source(tmp_path, A__csv=BAR)
        with pytest.raises(EmptySourceError, match="its bars end on 2018-01-03: set STOCK_ASSETS_END=2018-01-03"):
            made.fetch(["A"], date(2018, 1, 4), date(2018, 1, 5), fetched_at=LATER)


def _zip(files: dict[str, str | bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()
