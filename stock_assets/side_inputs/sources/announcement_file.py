"""Announcements of a file of one's own: CSV or Parquet with the columns ticker, date and when, and perhaps known_at."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import polars as pl

from stock_assets.errors import SourceError
from stock_assets.escape import shortened
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.times import parse_moments
from stock_assets.side_inputs import SideAnswer
from stock_assets.side_inputs.announcing import announcement_rows, event_time
from stock_assets.side_inputs.tables import MOMENTS
from stock_assets.tickers import EXPECTED, is_ticker

#: The columns that a file has to have, and the one that it may have.
COLUMNS, KNOWN_AT = ("ticker", "date", "when"), "known_at"


class AnnouncementFile:
    """The announcements of `path`, all of which happen: coming ones are known `notice` days ahead where the file does
    not say since when they are, and not before they happened where that is 0."""

    name: ClassVar[str] = "file"

    def __init__(self, path: Path, calendar: TradingCalendar, notice: int) -> None:
        self._path, self._calendar, self._notice = path, calendar, notice

    def fetch(
        self,
        subjects: Sequence[str],
        first: date,  # noqa: ARG002
        last: date,  # noqa: ARG002
        *,
        fetched_at: datetime,
    ) -> SideAnswer:
        """The rows of `subjects` that were known at `fetched_at`, whatever `first` and `last` are. A coming date that
        the file does not hold any more is withdrawn. Raises SourceError that names the row of a wrong value."""
        dates = self._dates()
        foreign = dates.filter(~pl.col("ticker").is_in(list(subjects)))["ticker"].n_unique()
        dates = dates.join(pl.DataFrame({"ticker": list(subjects)}, {"ticker": pl.String}), on="ticker", how="semi")
        notes = [f"{self._path.name} has {foreign} ticker(s) that are not in the universe"] if foreign else []
        rows = announcement_rows(
            dates.filter(pl.col("known_at") <= fetched_at),
            self._calendar,
            origin="file",
            source=self.name,
            fetched_at=fetched_at,
        )
        return SideAnswer(rows, notes=notes, states_all_of=frozenset(dates["ticker"]))

    def _dates(self) -> pl.DataFrame:
        """ticker, day, moment, known_at, assumed of every row of the file."""
        cells = self._cells()
        dates = cells.select(
            ticker=pl.col("ticker"),
            day=_days(cells["date"]),
            moment=pl.col("when").str.to_lowercase().fill_null("unknown"),
        )
        is_spelled = pl.Series(
            [ticker is not None and is_ticker(ticker) for ticker in dates["ticker"]], dtype=pl.Boolean
        )
        self._refuse(cells["ticker"], ~is_spelled, f"expected a ticker: {EXPECTED}")
        self._refuse(cells["date"], dates["day"].is_null(), "expected a day as 2024-01-25")
        self._refuse(cells["when"], ~dates["moment"].is_in(MOMENTS), f"expected one of {', '.join(MOMENTS)}")
        moments = dates.group_by("ticker", "day").agg(pl.col("moment").n_unique()).filter(pl.col("moment") > 1)
        if moments.height:
            ticker, day, _ = moments.sort("ticker", "day").row(0)
            raise SourceError(f"{self._path} has {ticker} on {day} at different times of the day; expected one `when`")
        known_at = self._known_at(cells, dates)
        return dates.with_columns(known_at=known_at, assumed=pl.lit(KNOWN_AT not in cells.columns)).unique(
            maintain_order=True
        )

    def _known_at(self, cells: pl.DataFrame, dates: pl.DataFrame) -> pl.Series:
        if KNOWN_AT not in cells.columns:
            return self._happened_by(dates) - timedelta(days=self._notice)
        place = f"{self._path}, column {KNOWN_AT}"
        self._refuse(cells[KNOWN_AT], cells[KNOWN_AT].is_null(), "expected since when it was known")
        moments = parse_moments(cells[KNOWN_AT], zone=self._calendar.local_zone, place=place)
        # a day alone: some time on it, so at its end
        return moments.at + timedelta(days=1) if moments.dated else moments.at

    def _happened_by(self, dates: pl.DataFrame) -> pl.Series:
        """The moment at which each of `dates` has happened in any case: the open, the close or the end of its day."""
        opening, closing, noon = (
            event_time(dates["day"], pl.Series([moment]).new_from_index(0, dates.height), self._calendar)
            for moment in ("pre", "post", "unknown")
        )
        end_of_day = noon + timedelta(hours=12)
        return closing.zip_with(dates["moment"] == "during", end_of_day).zip_with(dates["moment"] != "pre", opening)

    def _cells(self) -> pl.DataFrame:
        """The columns of the file by our names, as text but for dates and times that are typed."""
        try:
            if self._path.suffix.lower() in (".parquet", ".pq"):
                frame = pl.read_parquet(self._path, glob=False)
            else:
                frame = pl.read_csv(self._path, infer_schema=False, glob=False)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise SourceError(f"{self._path} cannot be read: {shortened(str(error), 200)}") from error
        names = {name.strip().lower(): name for name in frame.columns}
        if missing := [name for name in COLUMNS if name not in names]:
            raise SourceError(
                f"{self._path} has the columns {shortened(', '.join(frame.columns), 200)} and no {missing[0]}; "
                f"expected {', '.join(COLUMNS)} and perhaps {KNOWN_AT}"
            )
        cells = frame.select(pl.col(names[name]).alias(name) for name in (*COLUMNS, KNOWN_AT) if name in names)
        texts = [name for name, dtype in cells.schema.items() if not dtype.is_temporal()]
        stripped_cells = (pl.col(name).cast(pl.String).str.strip_chars() for name in texts)
        return cells.with_columns(stripped_cells).with_columns(pl.col(texts).replace("", None))

    def _refuse(self, column: pl.Series, is_wrong: pl.Series, expected: str) -> None:
        """SourceError for the first row that is `is_wrong`."""
        rows = is_wrong.fill_null(value=True).arg_true()
        if len(rows):
            further_rows = f" ({len(rows)} such rows)" if len(rows) > 1 else ""
            value = shortened(repr(column[rows[0]]), 80)
            raise SourceError(
                f"{self._path}, row {rows[0] + 1}, column {column.name}: found {value}, {expected}{further_rows}"
            )


def _days(column: pl.Series) -> pl.Series:
    """The days of `column`; null for what is none, such as a date with the month first."""
    if column.dtype == pl.Date:
        return column
    if isinstance(column.dtype, pl.Datetime):
        return column.dt.date().set((column.dt.truncate("1d") != column).fill_null(value=False), None)
    return column.cast(pl.String).str.to_date("%Y-%m-%d", strict=False)
