"""One company, two tickers: the bars of the old name are the history of the new one.

A vendor serves the whole history under the new ticker. A store that was filled evening by evening holds the days
before the change under the old one.
"""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import NamedTuple

import polars as pl


class Rename(NamedTuple):
    old: str
    new: str
    session: date
    """the first session under the new ticker"""


#: Changes of the ticker alone, of members of the S&P 500. Add yours here.
RENAMES = (
    Rename("HCP", "PEAK", date(2019, 11, 5)),
    Rename("TMK", "GL", date(2019, 8, 8)),
    Rename("BHGE", "BKR", date(2019, 10, 18)),
    Rename("SYMC", "NLOK", date(2019, 11, 5)),
    Rename("CBS", "VIAC", date(2019, 12, 5)),
    Rename("BBT", "TFC", date(2019, 12, 9)),
    Rename("JEC", "J", date(2019, 12, 10)),
    Rename("UTX", "RTX", date(2020, 4, 3)),
    Rename("CTL", "LUMN", date(2020, 9, 18)),
    Rename("LB", "BBWI", date(2021, 8, 3)),
    Rename("VIAC", "PARA", date(2022, 2, 17)),
    Rename("BLL", "BALL", date(2022, 5, 10)),
    Rename("FB", "META", date(2022, 6, 9)),
    Rename("ANTM", "ELV", date(2022, 6, 28)),
    Rename("NLOK", "GEN", date(2022, 11, 8)),
    Rename("PKI", "RVTY", date(2023, 5, 16)),
    Rename("FISV", "FI", date(2023, 6, 7)),
    Rename("ABC", "COR", date(2023, 8, 30)),
    Rename("CDAY", "DAY", date(2024, 2, 1)),
    Rename("PEAK", "DOC", date(2024, 3, 4)),
    Rename("FLT", "CPAY", date(2024, 3, 25)),
)


def continued(raw: pl.DataFrame, universe: pl.DataFrame, renames: Sequence[Rename] = RENAMES) -> pl.DataFrame:
    """`raw` (`RAW_SCHEMA`) with the rows of an old ticker, before the change, under its newest name.

    Only where `universe` (`UNIVERSE_SCHEMA`) holds the new name and not the old one: a snapshot taken before the
    change keeps its own. Where the vendor has answered under the new name, its rows under the old one are left out.
    """
    rows, renamed_rows = _by_name(raw, universe, renames)
    return (
        raw
        if renamed_rows is None
        else pl.concat([rows, renamed_rows.join(rows, on=["ticker", "session"], how="anti")])
    )


def all_under_newest_name(
    raw: pl.DataFrame, universe: pl.DataFrame, renames: Sequence[Rename] = RENAMES
) -> pl.DataFrame:
    """As `continued`, with the rows of the old name also where there are some of the new one: every version of a bar.

    Of two versions that were fetched at the same moment that of the new name counts.
    """
    rows, renamed_rows = _by_name(raw, universe, renames)
    keys = ["ticker", "session", "fetched_at"]
    return raw if renamed_rows is None else pl.concat([rows, renamed_rows.join(rows, on=keys, how="anti")])


def companies(tickers: Iterable[str], renames: Sequence[Rename] = RENAMES) -> list[list[str]]:
    """`tickers` in the order of their newest names, those of one company together.

    >>> companies(["A", "FB", "META"])
    [['A'], ['FB', 'META']]
    """
    names = {rename.old: newest(rename, renames) for rename in renames}
    groups: dict[str, list[str]] = {}
    for ticker in sorted(tickers, key=lambda ticker: (names.get(ticker, ticker), ticker)):
        groups.setdefault(names.get(ticker, ticker), []).append(ticker)
    return list(groups.values())


def _by_name(
    raw: pl.DataFrame, universe: pl.DataFrame, renames: Sequence[Rename]
) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """(the rows that keep their ticker, those of old tickers under their newest; None where there are none)"""
    listed_tickers = set(universe["ticker"])
    names = {rename.old: (newest(rename, renames), rename.session) for rename in renames}
    due_renames = {
        old: (new, until) for old, (new, until) in names.items() if new in listed_tickers and old not in listed_tickers
    }
    due_renames = (
        {old: name for old, name in due_renames.items() if old in set(raw["ticker"].unique())} if due_renames else {}
    )
    if not due_renames:
        return raw, None
    table = pl.DataFrame(
        [(old, new, until) for old, (new, until) in due_renames.items()],
        schema={"ticker": pl.String, "new": pl.String, "until": pl.Date},
        orient="row",
    )
    rows = raw.join(table, on="ticker", how="left", maintain_order="left")
    before = (pl.col("session") < pl.col("until")).fill_null(value=False)
    renamed_rows = rows.filter(before).with_columns(ticker="new").select(raw.columns)
    return rows.filter(~before).select(raw.columns), renamed_rows


def newest(rename: Rename, renames: Sequence[Rename] = RENAMES) -> str:
    """The ticker that the company has after `rename` and all renames since."""
    later = [other for other in renames if other.old == rename.new and other.session > rename.session]
    return newest(min(later, key=lambda other: other.session), renames) if later else rename.new
