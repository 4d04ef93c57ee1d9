"""Rows of a file that are no bars: held out and listed, up to a share; beyond it the file is another than expected."""

from collections.abc import Mapping, Sequence

import polars as pl

from stock_assets.errors import SourceError
from stock_assets.frames import KEYS
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.findings import finding, no_findings
from stock_assets.market.repair import impossible

#: So many rows without a price, and days without a session, are held out in any case; beyond that a share of all.
FEW_ROWS, SHARE_OF_ROWS = 10, 0.10
FEW_DAYS, SHARE_OF_DAYS = 3, 0.01
#: So many offenders are named in an error.
NAMED = 20
#: What people and programs write where a number is missing.
MISSING_CELLS = ("", "null", "nan", "none", "n/a", "na", "nil", "-", "--", ".")


def is_missing(cell: object) -> bool:
    """Whether a cell of a file states that there is no number.

    >>> is_missing(" null "), is_missing(None), is_missing("12,5")
    (True, True, False)
    """
    return cell is None or str(cell).strip().lower() in MISSING_CELLS


def usable_rows(bars: pl.DataFrame, calendar: TradingCalendar, path: object) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows of `bars` (`answers.BARS`, perhaps with more columns) of sessions of `calendar`, one for each ticker and
    session, and the findings about the others.

    A row with an impossible price stays: `repair.priced` holds it out. A ticker that never has a volume has none.
    Raises SourceError, which names the offenders, where there are too many.
    """
    never = (pl.col("volume").is_null() | pl.col("volume").is_nan()).all().over("ticker")
    bars = bars.with_columns(volume=pl.when(never).then(0.0).otherwise("volume"))
    bars, rows_on_closed_days = _on_sessions(bars, calendar, path)
    rows = bars.height
    bars, repeated_rows = _once(bars)
    faults = impossible()
    unpriced = bars.select(*KEYS, *(flag.alias(name) for name, flag in faults.items())).filter(
        pl.any_horizontal(*faults)
    )
    held_out = [f"{ticker} {day}: {fault}" for ticker, day, fault in _faults_by_row(bars, unpriced, faults)]
    held_out += [f"{row[0]} {row[1]}: a second row of this session" for row in repeated_rows.select(KEYS).iter_rows()]
    if len(held_out) > max(FEW_ROWS, SHARE_OF_ROWS * rows):
        raise SourceError(
            f"{path}: {len(held_out)} of {rows} rows are no bars, more than {SHARE_OF_ROWS:.0%}; "
            "expected one row per ticker and session, with finite prices above 0 and a volume not below 0. "
            f"{_first_offenders(held_out)}"
        )
    return bars, pl.concat([rows_on_closed_days, repeated_rows])


def _on_sessions(bars: pl.DataFrame, calendar: TradingCalendar, path: object) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Without the rows on days on which the exchange was closed; days beyond the calendar pass."""
    within = pl.col("session").is_between(calendar.sessions[0], calendar.sessions[-1])
    sessions = pl.Series(calendar.sessions, dtype=pl.Date)
    on_closed_day = within & ~pl.col("session").is_in(sessions.implode())
    days = bars.lazy().filter(on_closed_day).select(pl.col("session").unique().sort()).collect()["session"].to_list()
    if not days:
        return bars, no_findings()
    all_days = bars.lazy().select(pl.col("session").n_unique()).collect().item()
    if len(days) > max(FEW_DAYS, SHARE_OF_DAYS * all_days):
        raise SourceError(
            f"{path} has rows on {len(days)} of {all_days} days on which {calendar.name} was closed: "
            f"{_first_offenders([f'{day:%A} {day}' for day in days])}. Expected sessions of {calendar.name}; another "
            "exchange is set by STOCK_ASSETS_EXCHANGE, and sessions that its calendar lacks by "
            "STOCK_ASSETS_EXTRA_SESSIONS"
        )
    rows = bars.filter(on_closed_day).unique(KEYS, keep="first", maintain_order=True)
    findings = rows.select(*finding("no_session", "session", figure=pl.col("close"), repaired=False))
    return bars.filter(~on_closed_day), findings


def _once(bars: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One row per ticker and session: of the same row twice the first, of different ones none."""
    # ticker by ticker: a tenth of what looking for the same pair costs
    if not bars.group_by("ticker").agg(twice=pl.col("session").n_unique() < pl.len())["twice"].any():
        return bars, no_findings()
    twice = bars.filter(pl.struct(*KEYS).is_duplicated())
    figures = [name for name in bars.columns if name not in ("place", "sector")]
    kinds = twice.unique(figures).group_by(KEYS).agg(different=pl.len() > 1)
    ends = twice.group_by(KEYS).agg(first=pl.col("close").first(), last=pl.col("close").last()).join(kinds, on=KEYS)
    findings = pl.concat(
        ends.filter(pl.col("different") == different)
        .sort(KEYS)
        .select(*finding("repeated", "close", figure=pl.col("last"), expected=pl.col("first"), repaired=not different))
        for different in (False, True)
    )
    different = kinds.filter("different").select(KEYS)
    unique_bars = bars.unique(KEYS, keep="first", maintain_order=True).join(different, on=KEYS, how="anti")
    return unique_bars, findings


def _faults_by_row(
    bars: pl.DataFrame, unpriced: pl.DataFrame, faults: Mapping[str, pl.Expr]
) -> list[tuple[str, object, str]]:
    """(ticker, session, which figure it is and what stands there) of each of the `unpriced` rows, of their first."""
    rows = bars.join(unpriced.select(KEYS), on=KEYS, how="semi").select(*KEYS, *faults)
    return [
        (row["ticker"], row["session"], f"{name} {'is missing' if row[name] is None else row[name]}")
        for row, flags in zip(rows.iter_rows(named=True), unpriced.iter_rows(named=True), strict=True)
        for name in [next(name for name in faults if flags[name])]
    ]


def _first_offenders(offenders: Sequence[str]) -> str:
    total = f"; … ({len(offenders)} in all)" if len(offenders) > NAMED else ""
    return "; ".join(offenders[:NAMED]) + total
