"""Files of text: their encoding, the sign between their columns, and the rows below the header."""

import codecs
import csv
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import polars as pl

from stock_assets.errors import SourceError
from stock_assets.escape import shortened
from stock_assets.market.sources.forms.columns import score
from stock_assets.market.sources.forms.header import SEPARATORS, Header, find_header, split, unique
from stock_assets.market.sources.forms.reading import NoBarsError, Notes, Reading

#: So much of a file is looked at, in bytes: the header of 5,000 tickers has a third of a megabyte.
HEAD = 4 * 2**20
_FIRST_LOOK = 2**16
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
#: Tried where a file is no UTF-8: Chinese vendors write the first, older tables of Europe the second.
_OTHERS = ("gb18030", "cp1252")


def read_text(source: Path | bytes, place: str, *, reading: Reading, notes: Notes) -> pl.LazyFrame:
    """The rows of a file of text below its header, every cell as text; no row where none names
    columns of prices.

    The encoding is UTF-8, or UTF-16 with a mark; another counts where the header is understood by it, and is noted.
    Raises SourceError where the file cannot be decoded, NoBarsError for white space alone.
    """
    head = _head(source)
    encoding = _encoding_of_mark(head)
    if encoding is None and _is_utf8(source, head):
        text = head.decode("utf-8", "ignore")
    else:
        content = source.read_bytes() if isinstance(source, Path) else source
        whole_text = _decoded(content, encoding, place, reading=reading, notes=notes)
        text, source = whole_text[:HEAD], whole_text.encode()
    if not text.strip():
        raise NoBarsError(f"{place} is empty, expected bars")
    separator, header = _layout(text, place, reading)
    if header is None:  # for the message: what its first row holds
        first = next(row for row in split(text, separator) if any(row))
        return pl.LazyFrame(schema=dict.fromkeys(unique(first), pl.String))
    names = header.names
    if long := _long(split(text, separator)[header.rows :], len(names)):
        if any(long[1][len(names) :]):
            raise _too_long(place, header.rows + long[0], long[1], names=names)
        names = unique([*names, *[""] * (len(long[1]) - len(names))])  # a sign at the end of each row
    if header.guess:
        notes.add(f"a file without a header, read as {header.guess}", place)
    rows = pl.scan_csv(
        source,
        has_header=False,
        skip_lines=header.rows,
        separator=separator,
        # everything as text, so that what is no number can be shown as it stands there
        schema=dict.fromkeys(names, pl.String),
        glob=False,
    )
    if names != header.names:  # what later rows have there would be lost without a word
        later = rows.select(names[len(header.names) :]).filter(pl.any_horizontal(pl.all().str.strip_chars() != ""))
        if later.head(1).collect().height and (error := fault_of_rows(source, place, reading)):
            raise error
    return rows


def _long(rows: Iterable[Sequence[str]], width: int) -> tuple[int, Sequence[str]] | None:
    """Number and cells of the first of `rows` with more than `width` of them, one that is not empty if there is any."""
    long = [(number, row) for number, row in enumerate(rows, start=1) if len(row) > width]
    return next(((number, row) for number, row in long if any(row[width:])), max(long, key=_cells, default=None))


def _cells(row: tuple[int, Sequence[str]]) -> int:
    return len(row[1])


def _too_long(place: str, number: int, row: Sequence[str], *, names: Sequence[str]) -> SourceError:
    return SourceError(
        f"{place}, row {number}: found {len(row)} cells ({shortened(', '.join(row), 80)}), expected {len(names)}, as "
        f"its columns are {', '.join(names[:8])}; a number with commas needs quotes"
    )


def fault_of_rows(source: Path | bytes, place: str, reading: Reading) -> SourceError | None:
    """What is wrong with a file of UTF-8 whose rows could not be read below its header; None for other faults."""
    text = (source.read_bytes() if isinstance(source, Path) else source).decode("utf-8-sig", "replace")
    separator, header = _layout(text[:HEAD], place, reading)
    if header is None:
        return None
    rows = csv.reader(text.splitlines(keepends=True), delimiter=separator)
    long = _long(islice(rows, header.rows, None), len(header.names))
    return _too_long(place, header.rows + long[0], long[1], names=header.names) if long else None


def _head(source: Path | bytes) -> bytes:
    """The first rows: more than a first look only where the rows are long."""
    if isinstance(source, bytes):
        return source[:HEAD]
    with source.open("rb") as file:
        head = file.read(_FIRST_LOOK)
        return head if head.count(b"\n") > 10 else head + file.read(HEAD - _FIRST_LOOK)


def _encoding_of_mark(head: bytes) -> str | None:
    """The encoding that the first bytes name; in UTF-16 without a mark every second byte of a number is zero."""
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding
    odd, even = head[1:400:2].count(0), head[:400:2].count(0)
    if max(odd, even) > len(head[:400]) // 4:
        return "utf-16-le" if odd > even else "utf-16-be"
    return None


def _is_utf8(source: Path | bytes, head: bytes) -> bool:
    """Whether all of `source`, which begins with `head`, is UTF-8; it is read piece by piece."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        if isinstance(source, bytes):
            return bool(source.isascii() or source.decode("utf-8"))
        with source.open("rb") as file:
            while chunk := file.read(HEAD):
                if not chunk.isascii() or decoder.getstate()[0]:
                    decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return bool(head)


def _decoded(content: bytes, encoding: str | None, place: str, *, reading: Reading, notes: Notes) -> str:
    if encoding is not None:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError as error:
            raise SourceError(f"{place} begins as {encoding} and cannot be read as such: {error}") from error
    for other in _OTHERS:
        try:
            text = content.decode(other)
        except UnicodeDecodeError:
            continue
        if _layout(text[:HEAD], place, reading)[1] is not None:
            notes.add(f"no UTF-8, read as {other}", place)
            return text
    raise SourceError(f"{place} cannot be read as CSV: it is neither UTF-8 nor UTF-16; save it as UTF-8")


def _layout(text: str, place: str, reading: Reading) -> tuple[str, Header | None]:
    """The separator by which most of our columns are found, and the header."""
    candidates: list[tuple[int, int, str, Header]] = []
    errors = []
    for separator in SEPARATORS:
        if separator not in text:
            continue
        try:
            header = find_header(split(text, separator), reading, place)
        except SourceError as error:
            errors.append(error)
        except csv.Error as error:
            raise SourceError(f"{place} cannot be read as CSV: {error}") from error
        else:
            if header is not None:
                candidates.append((score(header.names, reading), len(header.names), separator, header))
    if candidates:
        *_, separator, header = max(candidates, key=lambda candidate: candidate[:2])
        return separator, header
    if errors:
        raise errors[0]
    return ",", None
