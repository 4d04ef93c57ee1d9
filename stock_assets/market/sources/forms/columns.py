"""Which column of a file is which of ours."""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from stock_assets.errors import SourceError
from stock_assets.market.sources.forms.reading import COLUMNS, Reading
from stock_assets.market.sources.forms.vendors import FORMS, Form

PRICE_COLUMNS = ("open", "high", "low", "close")
#: The figures of a bar.
FIGURES = (*PRICE_COLUMNS, "adj_close", "volume", "dividend", "split_ratio")
_REQUIRED = (*PRICE_COLUMNS, "volume")
_SHOWN = 12
#: What stands above an index that pandas wrote without a name.
_NAMELESS = {"column1", "unnamed0", "index", "indexlevel0"}
#: Of two volumes of a pair, the one in these is turnover.
_MONEY = {"usd", "usdt", "usdc", "busd", "tusd", "eur", "gbp", "jpy", "krw", "currency", "quote"}


def simplified(name: str) -> str:
    """Lower case without accents, signs, spaces and the number that Alpha Vantage puts before a name.

    >>> simplified("5. Adjusted Close"), simplified("<DATE>"), simplified("Eröffn."), simplified("日期")
    ('adjustedclose', 'date', 'eroffn', '日期')
    """
    text = unicodedata.normalize("NFKD", re.sub(r"^\s*\d+\.\s+", "", name)).lower().replace("ł", "l")
    return unicodedata.normalize("NFKC", "".join(letter for letter in text if _counts(letter)))


def _counts(letter: str) -> bool:
    # the marks that are a part of a Japanese letter are no accents
    return letter.isalnum() or letter in "\u3099\u309a"


def _common() -> dict[str, tuple[str, int]]:
    """Our column and the rank of each simplified name; the first row that has a name counts."""
    ranks: dict[str, tuple[str, int]] = {}
    for rank, form in enumerate(form for form in FORMS if not form.tells):
        for column, spellings in form.names.items():
            for place, name in enumerate(spellings.split("|")):
                ranks.setdefault(simplified(name), (column, 100 * rank + place))
    for column in COLUMNS:
        ranks.setdefault(simplified(column), (column, 0))
    return ranks


_COMMON = _common()


class Columns(NamedTuple):
    """The columns of a file that are ours."""

    file_columns: dict[str, str]
    """the name in the file by our name"""
    form: Form | None
    """the vendor's form, where the names give one away"""
    passed_over: tuple[str, ...] = ()
    """names that mean a column of ours which another name means too"""


def recognize(names: Sequence[str], reading: Reading, place: str) -> Columns:
    """Our columns among `names`. Raises SourceError where two names say the same and nothing decides between them."""
    file_columns = {column: name for column, name in reading.pairs.items() if name in names}
    names_by_stripped = {name.strip(): name for name in reversed(names)}
    form = next((form for form in FORMS if form.tells and {*form.tells} <= names_by_stripped.keys()), None)
    for column, options in form.names.items() if form else ():
        if name := next(
            (names_by_stripped[option] for option in options.split("|") if option in names_by_stripped), None
        ):
            file_columns.setdefault(column, name)
    candidates: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        column, rank = _COMMON.get(simplified(name), ("", 0))
        if column and name not in file_columns.values():
            candidates.setdefault(column, []).append((rank, name))
    passed_over = []
    for column, ranked_names in candidates.items():
        (rank, name), *others = sorted(ranked_names, key=lambda ranked_name: ranked_name[0])
        if column not in file_columns and others and others[0][0] == rank:
            raise SourceError(
                f"{place} has two columns for {column}: {name!r} and {others[0][1]!r}, expected one; "
                f"STOCK_ASSETS_COLUMNS={column}={name} decides"
            )
        passed_over += [other for _, other in (others if column not in file_columns else ranked_names)]
        file_columns.setdefault(column, name)
    if not {"session", "at"} & file_columns.keys():
        if "clock" in file_columns:
            file_columns["session"] = file_columns.pop("clock")
        elif names and simplified(names[0]) in _NAMELESS:
            file_columns["session"] = names[0]
    if "volume" not in file_columns and len(volumes := _volumes(names)) == 1:
        file_columns["volume"] = volumes[0]
    return Columns(file_columns, form, tuple(passed_over))


def _volumes(names: Sequence[str]) -> list[str]:
    """Of "Volume BTC" and "Volume USD" the first, which counts what is traded; the second is money."""
    volumes = {name: simplified(name).removeprefix("volume") for name in names if simplified(name).startswith("volume")}
    return [name for name, unit in volumes.items() if unit not in _MONEY] or list(volumes)


def score(names: Sequence[str], reading: Reading) -> int:
    """How many of the columns that every bar has are among `names`; what two names say counts once."""
    try:
        file_columns = recognize(names, reading, "").file_columns
    except SourceError:
        return len(PRICE_COLUMNS)  # it is a header, and the fault is reported when it is read
    return sum(column in file_columns for column in _REQUIRED) + bool({"session", "at"} & file_columns.keys())


def may_be_of_a_bar(names: Sequence[str], reading: Reading) -> list[str]:
    """Those of `names` that are columns of ours; all where they do not name a bar, as those of a wide file."""
    if score(names, reading) <= len(PRICE_COLUMNS):
        return list(names)
    file_columns = recognize(names, reading, "").file_columns.values()
    return [name for name in names if name in file_columns]


def is_table_of_prices(columns: Columns) -> bool:
    """Whether a file holds prices at all: a list of companies beside them has none."""
    return bool({*PRICE_COLUMNS, "adj_close"} & columns.file_columns.keys())


def first_names(names: Sequence[str]) -> str:
    """The first names of a file, for a message."""
    return f"found {', '.join(names[:_SHOWN]) or 'none'}{', …' if len(names) > _SHOWN else ''}"


def check_columns(columns: Columns, names: Sequence[str], place: str) -> None:
    """Raises SourceError where a column of a bar is missing, and where the others do not add up."""
    file_columns = columns.file_columns
    shown_names = first_names(names)
    missing = [column for column in _REQUIRED if column not in file_columns]
    if not {"session", "at"} & file_columns.keys():
        missing.insert(0, "session")
    if missing == ["volume"] and (volumes := _volumes(names)):
        raise SourceError(
            f"{place} has the columns {', '.join(volumes)}; STOCK_ASSETS_COLUMNS=volume={volumes[0]} decides which of "
            "them is the volume"
        )
    if missing:
        raise SourceError(
            f"{place} has no column {', '.join(missing)}; {shown_names}; if another of them is it, "
            f"STOCK_ASSETS_COLUMNS={missing[0]}=NAME says so"
        )
    if ("dividend" in file_columns) != ("split_ratio" in file_columns):
        has, lacks = ("dividends", "splits") if "dividend" in file_columns else ("splits", "dividends")
        raise SourceError(f"{place} has {has} alone and no column of {lacks}, expected both or neither; {shown_names}")
