"""The bars of one file, checked: the steps of this package in their order."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from stock_assets.errors import SourceError
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.context import is_index
from stock_assets.market.intervals import Interval
from stock_assets.market.sources.answers import BARS, PRICES, check_values
from stock_assets.market.sources.forms import days
from stock_assets.market.sources.forms.actions import with_actions
from stock_assets.market.sources.forms.columns import Columns, check_columns, first_names, is_table_of_prices, recognize
from stock_assets.market.sources.forms.listing import DataFile
from stock_assets.market.sources.forms.minutes import by_bar, by_day
from stock_assets.market.sources.forms.numbers import as_numbers
from stock_assets.market.sources.forms.opening import Sheet, open_file
from stock_assets.market.sources.forms.reading import NoBarsError, Notes, Reading
from stock_assets.market.sources.forms.tickers import session_of_folder, with_ticker
from stock_assets.market.sources.forms.wide import to_rows
from stock_assets.market.sources.row_checks import is_missing
from stock_assets.tickers import require_tickers

#: What a file's bars are read into: a sector is no part of a bar, and few files have one.
FILE_BARS = pl.Schema({**BARS, "sector": pl.String})


class SnapshotReader:
    """Reads the files of one snapshot, and notes what it guesses and passes over."""

    def __init__(
        self,
        root: Path,
        calendar: TradingCalendar,
        series: tuple[str, ...],
        *,
        reading: Reading,
        interval: Interval | None = None,
    ) -> None:
        """`root` is the snapshot's path; of the indices only those among `series` are kept.

        With an `interval` the tables are bars of it (ticker, session, bar_end, open, high, low, close, volume).
        """
        self.interval = interval
        self.root, self.calendar, self.series, self.reading = root, calendar, series, reading
        self.notes = Notes()
        #: Findings about bars of minutes (`QUARANTINE_SCHEMA` without seen_at), a frame per file.
        self.held_out: list[pl.DataFrame] = []
        #: Tickers with dividends and splits in the file and no adjusted close.
        self.without_adjusted: set[str] = set()

    def bars(self, file: DataFile) -> Iterator[pl.DataFrame]:
        """The tables of one file as `FILE_BARS`, their values checked.

        Raises NoBarsError where none of them holds a bar, SourceError where the file cannot be read.
        """
        tables = 0
        empty: list[NoBarsError] = []
        for sheet in open_file(file, self.root, reading=self.reading, notes=self.notes):
            try:
                bars = self._bars(sheet)
            except NoBarsError as error:
                empty.append(error)
                continue
            tables += 1
            yield bars
        if empty and not tables:
            raise empty[0]
        for error in empty:  # sheets of a workbook, files in a zip file
            self.notes.add("passed over", str(error))

    def _bars(self, sheet: Sheet) -> pl.DataFrame:
        place, reading = sheet.place, self.reading
        rows = to_rows(sheet.rows, reading, place)
        is_wide = rows is not sheet.rows
        names = rows.columns if is_wide else sheet.names
        columns = recognize(names, reading, place)
        if not is_table_of_prices(columns):
            raise NoBarsError(f"{place} has no column of prices, expected bars; {first_names(sheet.names)}")
        day = session_of_folder(sheet.parts)
        if day and not {"session", "at"} & columns.file_columns.keys():
            rows = rows.with_columns(pl.lit(day).alias("session of the folder"))
            columns.file_columns["session"] = "session of the folder"
        check_columns(columns, names, place)
        table = rows.select(pl.col(file_column).alias(column) for column, file_column in columns.file_columns.items())
        table = self._without_footer(table, place)
        if table.is_empty():
            raise NoBarsError(f"{place} has no rows, expected bars")
        if columns.passed_over:
            others = ", ".join(columns.passed_over)
            self.notes.add("columns passed over, since another one means the same", f"{place} ({others})")
        table = with_ticker(table, place, sheet.parts, reading=reading, notes=self.notes)
        return self._file_bars(table, columns, place, cells=None if is_wide else table)

    def _without_footer(self, table: pl.DataFrame, place: str) -> pl.DataFrame:
        """`table` without a last row that is a sentence about the file, or the number of its rows."""
        last = table.tail(1).row(0, named=True) if table.height else {}
        sentence = last.get("session")
        others = [cell for name, cell in last.items() if name != "session" and cell not in (None, "")]
        if isinstance(sentence, str) and not others and re.match(r"[A-Za-z]+ [A-Za-z]+ |\d{1,7}$", sentence):
            self.notes.add("a last row that is no bar", f"{place} ({sentence})")
            return table.head(-1)
        return table

    def _file_bars(
        self, table: pl.DataFrame, columns: Columns, place: str, *, cells: pl.DataFrame | None
    ) -> pl.DataFrame:
        """`table`, whose columns are ours and as the file has them, as `FILE_BARS`; `cells` are for messages."""
        reading = self.reading
        date_format = reading.date_format or (columns.form.date_format if columns.form else None)
        if date_format != reading.date_format and columns.form:
            self.notes.add(f"dates are read as {date_format}, as {columns.form.vendor} writes them", place)
        figures = [name for name in (*PRICES, "volume") if name in table.columns]
        numbers = as_numbers(table, figures, place, reading=reading)
        texts = table.select(figures)
        table = table.with_columns(**numbers)
        if self.interval is not None:
            _refuse_text(texts, numbers, place)
            return self._of_interval(table, self.interval, place, date_format=date_format)
        table, session_bars = by_day(table, self.calendar, place, date_format=date_format, time_zone=reading.time_zone)
        if session_bars is not None:
            cells = None
            _refuse_text(texts, numbers, place)
            if (held_out := session_bars.held_out).height:
                first = "{session} of {ticker}: {reason}".format(**held_out.row(0, named=True))
                self.notes.add(
                    "sessions that minutes do not make are held out", f"{place} ({held_out.height}, {first})"
                )
            self.held_out.append(session_bars.findings)
        session = days.sessions(table["session"], date_format, place)
        sector = _text("sector") if "sector" in table.columns else pl.lit(None, pl.String)
        table = table.with_columns(session=session, place=pl.lit(place), sector=sector)
        bars = with_actions(table, place, reading)
        if "adj_close" not in table.columns and bars["dividend"].null_count() < bars.height:
            self.without_adjusted.update(bars["ticker"].drop_nulls())
        bars = bars.match_to_schema(FILE_BARS, extra_columns="ignore")
        index = is_index(pl.col("ticker"))
        if bars.select(index.any()).item():
            # what is left out would shift the numbers of rows by which a message quotes the file
            bars, cells = bars.filter(~index | pl.col("ticker").is_in(self.series)), None
            bars = bars.with_columns(volume=pl.when(index).then(pl.col("volume").fill_null(0.0)).otherwise("volume"))
        check_values(bars, cells.to_dict() if cells is not None else None)
        return bars

    def _of_interval(
        self, table: pl.DataFrame, interval: Interval, place: str, *, date_format: str | None
    ) -> pl.DataFrame:
        interval_bars = by_bar(
            table, self.calendar, interval, place=place, date_format=date_format, time_zone=self.reading.time_zone
        )
        if (held_out := interval_bars.held_out).height:
            first = "{bar_end} of {ticker}: {reason}".format(**held_out.row(0, named=True))
            self.notes.add("bars that rows do not make are held out", f"{place} ({held_out.height}, {first})")
        require_tickers(interval_bars.bars["ticker"].unique(), place)
        return interval_bars.bars


def _refuse_text(texts: pl.DataFrame, numbers: Mapping[str, pl.Series], place: str) -> None:
    """Raises SourceError for the first cell of `texts` that is neither a number nor says that there is none."""
    for column in texts.select(pl.col(pl.String)):
        unread_rows = (numbers[column.name].is_null() & column.is_not_null()).arg_true()
        for row, text in zip(unread_rows, column.gather(unread_rows), strict=True):
            if not is_missing(text):
                raise SourceError(f"{place}, row {row + 1}, column {column.name}: found {text!r}, expected a number")


def _text(column: str) -> pl.Expr:
    """Null where the cell is empty."""
    text = pl.col(column).cast(pl.String).str.strip_chars()
    return pl.when(text != "").then(text)
