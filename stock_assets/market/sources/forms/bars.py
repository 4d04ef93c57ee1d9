"""The bars of one file, checked: the steps of this package in their order."""

from pathlib import Path

import polars as pl

from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.context import is_index
from stock_assets.market.sources.answers import BARS, PRICES, check_values
from stock_assets.market.sources.forms import days
from stock_assets.market.sources.forms.listing import DataFile
from stock_assets.market.sources.forms.minutes import of_sessions
from stock_assets.market.sources.forms.opening import open_table

#: What a file's bars are read into: a sector is no part of a bar, and few files have one.
FILE_BARS = pl.Schema({**BARS, "sector": pl.String})


def read_bars(file: DataFile, root: Path, calendar: TradingCalendar, *, series: tuple[str, ...]) -> pl.DataFrame:
    """One file as `FILE_BARS`, its values checked; without the indices that are not among `series`."""
    place = str(file.path if file.path == root else file.path.relative_to(root.parent))
    table = open_table(file, place)
    if "ticker" not in table.columns:
        table = table.with_columns(ticker=pl.lit(file.path.stem))
    of_minutes = "at" in table.columns
    if of_minutes:
        table = of_sessions(table, calendar, place)
    bars = _typed(table, place)
    file_values: dict[str, pl.Series] | None = None if of_minutes else table.to_dict()
    index = is_index(pl.col("ticker"))
    if bars.select(index.any()).item():
        # what is left out would shift the numbers of rows by which a message quotes the file
        bars, file_values = bars.filter(~index | pl.col("ticker").is_in(series)), None
        bars = bars.with_columns(volume=pl.when(index).then(pl.col("volume").fill_null(0.0)).otherwise("volume"))
    check_values(bars, file_values)
    return bars


def _typed(table: pl.DataFrame, place: str) -> pl.DataFrame:
    """`table` as `FILE_BARS`; null where a cell cannot be read."""
    if "dividend" in table.columns:
        actions = {"dividend": _action("dividend"), "split_ratio": _action("split_ratio").replace(0.0, 1.0)}
    else:
        actions = dict.fromkeys(("dividend", "split_ratio"), pl.lit(None, pl.Float64))
    bars = table.select(
        place=pl.lit(place),
        ticker=pl.col("ticker").cast(pl.String).str.strip_chars().str.to_uppercase().str.strip_suffix(".US"),
        session=days.session(table.schema["session"]),
        **{column: _number(column) for column in (*PRICES, "volume") if column in table.columns},
        sector=_text("sector") if "sector" in table.columns else pl.lit(None, pl.String),
        **actions,
    )
    if "adj_close" not in bars.columns:
        bars = bars.with_columns(adj_close="close")
    return bars.match_to_schema(FILE_BARS)


def _number(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Float64, strict=False)


def _text(column: str) -> pl.Expr:
    """Null where the cell is empty."""
    text = pl.col(column).cast(pl.String).str.strip_chars()
    return pl.when(text != "").then(text)


def _action(column: str) -> pl.Expr:
    """0 where the cell is empty; text becomes NaN, which the check of values refuses."""
    return pl.when(pl.col(column).is_null()).then(0.0).otherwise(_number(column).fill_null(float("nan")))
