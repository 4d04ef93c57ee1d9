"""Numbers as people and vendors write them: $1,234.50, 1.234,50, 1.23M."""

from collections.abc import Mapping, Sequence

import polars as pl

from stock_assets.errors import SourceError
from stock_assets.market.sources.forms.reading import Reading

#: Around and within a number, and no part of it; the last are the spaces that separate thousands.
_SIGNS = r"[$€£¥₹'’+\s\u{a0}\u{202f}\u{2009}]"
_NOTHING = ("", "-", "–", "—", "--", "null", "none", "n/a", "na", "nan", "#n/a", "n/d")
_SUFFIXES = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12, "万": 1e4, "亿": 1e8}
_SUFFIX = r"(?i)([kmbt万亿])$"
#: What shows which sign begins the decimals: a thousand has three digits after its sign.
_POINT = r",\d{3}\.|,\d{2,3},\d{3}|^-?\d+\.(\d{1,2}|\d{4,})$|^-?(0|\d{4,})\.\d+$"
_COMMA = r"\.\d{3},|\.\d{3}\.\d{3}|^-?\d+,(\d{1,2}|\d{4,})$|^-?(0|\d{4,}),\d+$"
_WITH_POINT = r"^-?(\d+|\d{1,3}(,\d{2,3})*,\d{3})(\.\d*)?$|^-?\.\d+$"
_WITH_COMMA = r"^-?(\d+|\d{1,3}(\.\d{3})+)(,\d*)?$"


def as_numbers(table: pl.DataFrame, names: Sequence[str], place: str, *, reading: Reading) -> dict[str, pl.Series]:
    """The columns `names` of `table` as Float64; null where a cell is empty or holds no number.

    Raises SourceError, which names the setting, where a comma could begin the decimals or separate thousands.
    """
    plain = {name: table[name].cast(pl.Float64, strict=False) for name in names if table.schema[name] != pl.String}
    texts = {name: table[name].str.strip_chars() for name in names if name not in plain}
    plain_numbers = {name: text.cast(pl.Float64, strict=False) for name, text in texts.items()}
    if reading.decimal != "," and all(_all_read(texts[name], numbers) for name, numbers in plain_numbers.items()):
        return {name: (plain | plain_numbers)[name] for name in names}
    cores = {name: text.str.to_lowercase().str.replace_all(_SIGNS, "") for name, text in texts.items()}
    decimal = reading.decimal or _decimal(cores, texts, place)
    cleaned_numbers = {name: _numbers_of_text(core, decimal) for name, core in cores.items()}
    # what the plain reading takes and this one does not, such as 1e5 and nan, is no number with signs
    return {
        name: plain[name]
        if name in plain
        else cleaned_numbers[name]
        if decimal == ","
        else cleaned_numbers[name].zip_with(cleaned_numbers[name].is_not_null(), plain_numbers[name])
        for name in names
    }


def _all_read(text: pl.Series, numbers: pl.Series) -> bool:
    return numbers.null_count() == text.null_count()


def _decimal(cores: Mapping[str, pl.Series], texts: Mapping[str, pl.Series], place: str) -> str:
    """The sign before the decimals by which all numbers of a file can be read."""
    bare = pl.concat([core.str.replace(_SUFFIX, "").alias("number") for core in cores.values()])
    point, comma = bare.str.contains(_POINT), bare.str.contains(_COMMA)
    whole = pl.concat([text.alias("number") for text in texts.values()])
    advice = "STOCK_ASSETS_DECIMAL=. or , says which sign begins the decimals"
    if point.any() and comma.any():
        examples = whole.filter(point.fill_null(value=False))[0], whole.filter(comma.fill_null(value=False))[0]
        raise SourceError(
            f"{place} writes numbers as {examples[0]!r} and as {examples[1]!r}, expected one way; {advice}"
        )
    if point.any() or comma.any():
        return "." if point.any() else ","
    either = bare.str.contains(r"^-?\d{1,3},\d{3}$").fill_null(value=False)
    if either.any():
        raise SourceError(f"{place} has the number {whole.filter(either)[0]!r}, whose comma could be either; {advice}")
    return "."


def _numbers_of_text(core: pl.Series, decimal: str) -> pl.Series:
    """Float64 of text without currency and spaces; null for what is no number."""
    rows = core.set(core.is_in(_NOTHING), None).alias("text").to_frame()
    suffix = pl.col("text").str.extract(_SUFFIX, 1)
    factor = suffix.replace_strict(_SUFFIXES, default=1.0, return_dtype=pl.Float64).fill_null(1.0)
    bare = pl.col("text").str.replace(_SUFFIX, "")
    groups = "," if decimal == "." else "."
    number = bare.str.replace_all(groups, "", literal=True).str.replace(decimal, ".", literal=True)
    valid = bare.str.contains(_WITH_POINT if decimal == "." else _WITH_COMMA)
    return rows.select(pl.when(valid).then(number).cast(pl.Float64, strict=False) * factor).to_series()
