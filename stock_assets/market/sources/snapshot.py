"""Prices in files: Parquet or CSV, columns named as by Yahoo, pandas-datareader, Stooq or ourselves."""

import os
import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import ClassVar

import polars as pl

from stock_assets.errors import EmptySourceError, SourceError
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.market.context import SERIES, MarketContext, context_of, is_index
from stock_assets.market.resample import session_bars
from stock_assets.market.sources import Answer
from stock_assets.market.sources.answers import (
    BARS,
    PRICES,
    answer,
    check_request,
    check_sessions,
    check_values,
    some,
    with_history,
)
from stock_assets.market.sources.registry import register_source
from stock_assets.market.tables import UNIVERSE_SCHEMA
from stock_assets.settings import Settings
from stock_assets.tables import UTC_TIME

#: The names of each column in lower case, with everything but letters and digits removed.
_NAMES = {
    "ticker": ("ticker", "tickers", "symbol", "symbols"),
    "session": ("session", "date"),
    "at": ("ts", "timestamp", "datetime", "opentime"),
    "open": ("open",),
    "high": ("high",),
    "low": ("low",),
    "close": ("close",),
    "adj_close": ("adjclose", "adjustedclose"),
    "volume": ("volume", "vol"),
    "dividend": ("dividend", "dividends"),
    "split_ratio": ("splitratio", "splits", "split", "stocksplits", "stocksplit"),
    "sector": ("sector", "gicssector"),
}
_MEANING = {name: column for column, names in _NAMES.items() for name in names}
_REQUIRED = ("open", "high", "low", "close", "volume")

#: What a file's bars are read into: a sector is no part of a bar, and few files have one.
_BARS = pl.Schema({**BARS, "sector": pl.String})

_PARQUET, _CSV = (".parquet", ".pq"), (".csv", ".txt")

#: A date, perhaps with a time after it: yfinance writes 2020-01-02 00:00:00-05:00, Stooq 20200102.
_DATE = r"^\s*(\d{4}-\d{2}-\d{2}|\d{8})(?:[ T].*)?$"


class SnapshotSource:
    """Bars that were downloaded once and lie in a file or a folder.

    A file needs date, open, high, low, close and volume; with dividends and splits it must also have the
    adjusted close. Without an adjusted close, close is one (Stooq). Without a ticker column the name of
    the file is the ticker; Stooq's `.US` is dropped. A column sector may say in each row what the ticker's
    is. A folder is read with all folders inside it. A file with a timestamp in place of the date holds bars of
    minutes (UTC where no zone is named), of which those of the calendar's sessions are made.
    """

    name: ClassVar[str] = "snapshot"

    def __init__(
        self,
        path: Path,
        calendar: TradingCalendar,
        *,
        tickers: tuple[str, ...] | None = None,
        end: date | None = None,
        series: tuple[str, ...] | None = None,
    ) -> None:
        """`tickers` None means all, `series` None those of SERIES that it holds; an index is no ticker.

        Rows before the calendar or after `end` and the calendar do not exist.
        """
        self.path, self.calendar, self.tickers, self.series = path, calendar, tickers, series
        self.start = calendar.sessions[0]
        self.end = min(end or calendar.sessions[-1], calendar.sessions[-1])

    def universe(self) -> pl.DataFrame:
        """Every ticker with the sessions of its first and last bar (`UNIVERSE_SCHEMA`), sorted by ticker.

        `to_session` is null for a ticker with a bar in the snapshot's last session; `name` is the ticker;
        `sector` the last one that its rows state, null where they state none.

        Raises SourceError when the snapshot is broken or lacks a configured ticker.
        """
        bars = self._bars()
        end = bars["session"].max()
        if self.tickers is not None:
            self._check_known(self.tickers, bars)
            bars = bars.filter(pl.col("ticker").is_in(self.tickers))
        to_session = pl.when(pl.col("session").max() < end).then(pl.col("session").max())
        return (
            bars.group_by("ticker")
            .agg(
                name=pl.col("ticker").first(),
                sector=pl.col("sector").drop_nulls().last(),
                from_session=pl.col("session").min(),
                to_session=to_session,
            )
            .sort("ticker")
            .match_to_schema(UNIVERSE_SCHEMA)
        )

    def fetch(self, tickers: Sequence[str], first: date, last: date, *, fetched_at: datetime) -> Answer:
        """The bars of `tickers` from `first` to `last`, as the snapshot holds them (`RAW_SCHEMA`).

        `later_splits` multiplies all later splits of the snapshot, those after `end` and `fetched_at` too:
        its prices are adjusted for them, and undoing that is all the column is for.

        Raises SourceError when the snapshot is broken, a ticker unknown or the range reversed, and
        EmptySourceError when no ticker has a bar in a range that has sessions.
        """
        check_request(first, last, fetched_at)
        bars = self._bars()
        self._check_known(tickers, bars)
        rows = answer(
            bars,
            calendar=self.calendar,
            tickers=tickers,
            first=first,
            last=last,
            source=self.name,
            fetched_at=fetched_at,
        )
        return Answer(rows)

    def context(self, first: date, last: date, fetched_at: datetime) -> MarketContext:
        """As `Source.context`; null volumes are none, and rows on days without a session are left out and counted."""
        check_request(first, last, fetched_at)
        bars = self._loaded()[1]
        if missing := sorted({*(self.series or ())} - {*bars["ticker"]}):
            raise SourceError(f"{self.path} has no series {', '.join(missing)}, which STOCK_ASSETS_CONTEXT names")
        return context_of(
            bars,
            self.calendar,
            first=first,
            last=min(last, self.end),
            source=self.name,
            fetched_at=fetched_at,
        )

    def _loaded(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        series = SERIES if self.series is None else self.series
        return _load(self.path, _files(self.path), self.calendar, tickers=self.tickers or (), series=series)

    def _bars(self) -> pl.DataFrame:
        bars = self._loaded()[0]
        within = bars.filter(pl.col("session").is_between(self.start, self.end))
        if within.is_empty():
            raise EmptySourceError(
                f"{self.path} has bars from {bars['session'].min()} to {bars['session'].max()}, "
                f"none from {self.start} to {self.end}"
            )
        return within

    def _check_known(self, tickers: Sequence[str], bars: pl.DataFrame) -> None:
        tickers_held = bars["ticker"].unique()
        unknown = sorted(set(tickers) - set(tickers_held))
        if unknown:
            raise SourceError(
                f"{self.path} has no bar of {some(unknown)} from {self.start} to {self.end}; "
                f"it has {some(tickers_held.sort().to_list())}"
            )


def _files(path: Path) -> tuple[tuple[Path, int, int], ...]:
    """The data files at `path` with modification time and size: their identity, by which a load is kept."""
    try:
        status = path.stat()
        if S_ISREG(status.st_mode):
            data_files = [(path, status)]
        elif S_ISDIR(status.st_mode):
            inside = sorted(Path(folder, name) for folder, _, names in _walk(path) for name in names)
            # hidden files are what editors and archives leave behind
            data = [p for p in inside if p.suffix.lower() in _PARQUET + _CSV and not p.name.startswith(".")]
            data_files = [(p, p.stat()) for p in data if p.is_file()]
        else:
            raise SourceError(f"{path} is neither a file nor a folder; expected Parquet, CSV or a folder")
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise SourceError(f"{path} cannot be read ({error}); expected Parquet, CSV or a folder") from error
    if not data_files:
        raise EmptySourceError(f"{path} holds no file named {', '.join(_PARQUET + _CSV)}")
    return tuple((p, s.st_mtime_ns, s.st_size) for p, s in data_files)


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    def refuse(error: OSError) -> None:  # by default os.walk passes over folders that it cannot read
        raise error

    return os.walk(folder, onerror=refuse)


# One snapshot per process is read and checked once, and again when a file has changed.
@lru_cache(maxsize=1)
def _load(
    path: Path,
    files: tuple[tuple[Path, int, int], ...],
    calendar: TradingCalendar,
    *,
    tickers: tuple[str, ...],
    series: tuple[str, ...],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """All bars of `files`, checked, sorted by ticker and session, with their history; and those of `series` as `BARS`.

    A fund among the series is a ticker too where `tickers` names it.
    """
    bars = pl.concat([_read(file, path, calendar, series=series) for file, _, _ in files], rechunk=True)
    among = pl.col("ticker").is_in(series)
    context = bars.filter(among).select(BARS.names())
    if context.height:
        bars = bars.filter(~among | (pl.col("ticker").is_in(tickers) & ~is_index(pl.col("ticker"))))
    if bars.is_empty():
        raise EmptySourceError(f"{path} holds nothing but indices and context series, expected bars of tickers")
    check_sessions(bars, calendar)
    return with_history(bars).drop("place"), context


def _read(file: Path, root: Path, calendar: TradingCalendar, *, series: tuple[str, ...]) -> pl.DataFrame:
    """One file as `_BARS`, its values checked; without the indices that are not among `series`."""
    place = str(file if file == root else file.relative_to(root.parent))
    if file.stat().st_size == 0:
        raise EmptySourceError(f"{place} is empty, expected bars")
    try:
        scan = _scan(file)
        ours = _our_names(scan.collect_schema().names(), place)
        table = scan.select(pl.col(theirs).alias(column) for column, theirs in ours.items()).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise SourceError(f"{place} cannot be read as {_kind(file)}: {reason}") from error
    if table.is_empty():
        raise EmptySourceError(f"{place} has no rows, expected bars")

    if "ticker" not in table.columns:
        table = table.with_columns(ticker=pl.lit(file.stem))
    of_minutes = "at" in table.columns
    if of_minutes:
        table = _of_sessions(table, calendar, place)
    if "dividend" in table.columns:
        actions = {"dividend": _action("dividend"), "split_ratio": _action("split_ratio").replace(0.0, 1.0)}
    else:
        actions = dict.fromkeys(("dividend", "split_ratio"), pl.lit(None, pl.Float64))
    bars = table.select(
        place=pl.lit(place),
        ticker=pl.col("ticker").cast(pl.String).str.strip_chars().str.to_uppercase().str.strip_suffix(".US"),
        session=_session(table.schema["session"]),
        **{column: _number(column) for column in (*PRICES, "volume") if column in table.columns},
        sector=_text("sector") if "sector" in table.columns else pl.lit(None, pl.String),
        **actions,
    )
    if "adj_close" not in bars.columns:
        bars = bars.with_columns(adj_close="close")
    bars = bars.match_to_schema(_BARS)
    file_values: dict[str, pl.Series] | None = None if of_minutes else table.to_dict()
    index = is_index(pl.col("ticker"))
    if bars.select(index.any()).item():
        # what is left out would shift the numbers of rows by which a message quotes the file
        bars, file_values = bars.filter(~index | pl.col("ticker").is_in(series)), None
        bars = bars.with_columns(volume=pl.when(index).then(pl.col("volume").fill_null(0.0)).otherwise("volume"))
    check_values(bars, file_values)
    return bars


def _of_sessions(table: pl.DataFrame, calendar: TradingCalendar, place: str) -> pl.DataFrame:
    """The bars of minutes in `table` as bars of sessions, with the sector, if it has one."""
    if actions := sorted({"adj_close", "dividend", "split_ratio"} & {*table.columns}):
        raise SourceError(f"{place} has a timestamp and {', '.join(actions)}; expected bars of minutes as traded")
    at = pl.col("at") if isinstance(table.schema["at"], pl.Datetime) else pl.col("at").str.to_datetime(strict=False)
    zone = getattr(table.schema["at"], "time_zone", None)
    at = (at.dt.replace_time_zone("UTC") if zone is None else at.dt.convert_time_zone("UTC")).cast(UTC_TIME)
    try:
        minutes = table.select("ticker", at.alias("at"), *map(_number, ("open", "high", "low", "close", "volume")))
    except pl.exceptions.PolarsError as error:
        raise SourceError(f"{place} has times that cannot be read: {str(error).splitlines()[0]}") from error
    bars = session_bars(minutes, calendar, place)
    if "sector" in table.columns:
        bars = bars.join(table.group_by("ticker").agg(pl.col("sector").drop_nulls().last()), on="ticker")
    return bars


def _kind(file: Path) -> str:
    return "Parquet" if file.suffix.lower() in _PARQUET else "CSV"


def _scan(file: Path) -> pl.LazyFrame:
    if file.suffix.lower() in _PARQUET:
        return pl.scan_parquet(file, glob=False, hive_partitioning=False)
    if file.suffix.lower() in _CSV:
        # everything as text, so that what is no number can be shown as it stands there
        return pl.scan_csv(file, infer_schema=False, glob=False)
    raise SourceError(f"{file} ends in {file.suffix!r}, expected {', '.join(_PARQUET + _CSV)} or a folder")


def _our_names(names: Sequence[str], place: str) -> dict[str, str]:
    """Our columns with the names they have in the file; SourceError where these do not add up."""
    ours: dict[str, str] = {}
    for name in names:
        column = _MEANING.get(re.sub(r"[^a-z0-9]", "", name.lower()))
        if column in ours:
            raise SourceError(f"{place} has two columns for {column}: {ours[column]!r} and {name!r}, expected one")
        if column is not None:
            ours[column] = name
    found = f"found {', '.join(names)}"
    ours.pop("session" if "at" in ours else "at", None)
    missing = [column for column in _REQUIRED if column not in ours]
    if not {"session", "at"} & ours.keys():
        missing.insert(0, "session")
    if missing:
        raise SourceError(f"{place} has no column {', '.join(missing)}; {found}")
    if ("dividend" in ours) != ("split_ratio" in ours):
        raise SourceError(f"{place} has dividends or splits alone, expected both or neither; {found}")
    if "dividend" in ours and "adj_close" not in ours:
        raise SourceError(
            f"{place} has dividends and splits but no column adj_close, so its close may be adjusted; "
            f"expected a download that is not (yfinance: auto_adjust=False); {found}"
        )
    return ours


def _session(kind: pl.DataType) -> pl.Expr:
    """The local trading date; null where it cannot be read."""
    column = pl.col("session")
    if kind == pl.Date:
        return column
    if isinstance(kind, pl.Datetime):
        return column.dt.date()
    digits = column.cast(pl.String).str.extract(_DATE).str.replace_all("-", "", literal=True)
    return digits.str.to_date("%Y%m%d", strict=False)


def _number(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Float64, strict=False)


def _text(column: str) -> pl.Expr:
    """Null where the cell is empty."""
    text = pl.col(column).cast(pl.String).str.strip_chars()
    return pl.when(text != "").then(text)


def _action(column: str) -> pl.Expr:
    """0 where the cell is empty; text becomes NaN, which the check of values refuses."""
    return pl.when(pl.col(column).is_null()).then(0.0).otherwise(_number(column).fill_null(float("nan")))


def _from_settings(settings: Settings, _: object) -> SnapshotSource:
    assert settings.snapshot is not None  # the settings refuse a snapshot source without a path
    return SnapshotSource(
        settings.snapshot,
        calendar_of(settings),
        tickers=settings.tickers,
        end=settings.end,
        series=settings.context,
    )


register_source("snapshot", _from_settings, "prices in files, Parquet or CSV")
