"""From a file to frames: every column as it stands in the file, text where the file is text."""

import importlib.util
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import polars as pl

from stock_assets.errors import SourceError
from stock_assets.market.sources.forms import unpacking
from stock_assets.market.sources.forms.columns import may_be_of_a_bar
from stock_assets.market.sources.forms.header import MAX_COLUMNS, ROWS, find_header, unique
from stock_assets.market.sources.forms.listing import (
    ARROW,
    EXCEL,
    PACKED,
    PARQUET,
    TABLES,
    TEXT,
    ZIP,
    DataFile,
    ending,
    reason_to_pass_over,
)
from stock_assets.market.sources.forms.reading import NoBarsError, Notes, Reading
from stock_assets.market.sources.forms.text import fault_of_rows, read_text


class Sheet(NamedTuple):
    """One table, as it stands in its file."""

    place: str
    """the file, for a message"""
    parts: tuple[str, ...]
    """the folders and the name that may say what it is of; of a table sheet of several the name of the sheet"""
    names: tuple[str, ...]
    """of all columns; none where no row of the file names columns"""
    rows: pl.DataFrame
    """the columns that may be of a bar"""


def open_file(file: DataFile, root: Path, *, reading: Reading, notes: Notes) -> list[Sheet]:
    """The tables in `file`, which lies at or below `root`.

    Raises SourceError where it cannot be read, NoBarsError where it is empty.
    """
    place = str(file.path if file.path == root else file.path.relative_to(root.parent))
    parts = (file.path.name,) if file.path == root else file.path.relative_to(root).parts
    name = file.path.name
    if file.size == 0:
        raise NoBarsError(f"{place} is empty, expected bars")
    try:
        if name.lower().endswith(ZIP):
            return list(_members(file.path, place, parts, reading=reading, notes=notes))
        if file.path.suffix.lower() in PACKED:
            content, name = unpacking.unpacked(file.path, place), file.path.stem
            return list(_tables(content, name, place, parts=parts, reading=reading, notes=notes))
        return list(_tables(file.path, name, place, parts=parts, reading=reading, notes=notes))
    except (OSError, EOFError, pl.exceptions.PolarsError, zipfile.BadZipFile, *unpacking.DAMAGED) as error:
        packing = file.path.suffix.lower() if file.path.suffix.lower() in (*PACKED, ZIP) else None
        kind = packing or _KINDS.get(ending(name), "CSV")
        raise SourceError(f"{place} cannot be read as {kind}: {str(error).splitlines()[0]}") from error


_KINDS: dict[str, str] = {
    suffix: kind
    for kind, suffixes in (("Parquet", PARQUET), ("Feather", ARROW), ("Excel", EXCEL))
    for suffix in suffixes
}


def _members(path: Path, place: str, parts: tuple[str, ...], *, reading: Reading, notes: Notes) -> Iterator[Sheet]:
    """The tables of the files in a zip file; the file's own name counts where it holds one alone."""
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        tables = [member for member in members if not reason_to_pass_over(PurePosixPath(member.filename).name)]
        for member in members:
            if member not in tables:
                reason = reason_to_pass_over(PurePosixPath(member.filename).name)
                notes.add(f"passed over, {reason}", f"{place}/{member.filename}")
        for member in tables:
            inside = PurePosixPath(member.filename)
            if member.filename.lower().endswith((ZIP, *PACKED)):
                notes.add("passed over, packed twice", f"{place}/{member.filename}")
                continue
            content = unpacking.member(archive, member, f"{place}/{member.filename}")
            yield from _tables(
                content,
                inside.name,
                f"{place}/{member.filename}",
                parts=(*parts[:-1], *inside.parts),
                reading=reading,
                notes=notes,
            )


def _tables(
    source: Path | bytes, name: str, place: str, *, parts: tuple[str, ...], reading: Reading, notes: Notes
) -> Iterator[Sheet]:
    kind = ending(name)
    if kind in PARQUET:
        scan = pl.scan_parquet(_file(source), glob=False, hive_partitioning=False)
        yield _sheet(place, parts, scan, reading=reading)
    elif kind in ARROW:
        yield _sheet(place, parts, _arrow(source), reading=reading)
    elif kind in EXCEL:
        yield from _excel(source, place, parts, reading=reading)
    elif kind in TEXT:
        rows = read_text(source, place, reading=reading, notes=notes)
        try:
            yield _sheet(place, parts, rows, reading=reading)
        except pl.exceptions.PolarsError as error:
            raise fault_of_rows(source, place, reading) or error from error
    else:
        raise SourceError(f"{place} ends in {kind!r}, expected {', '.join(TABLES)} or a folder")


def _sheet(place: str, parts: tuple[str, ...], rows: pl.LazyFrame | None, *, reading: Reading) -> Sheet:
    """Raises SourceError for more columns than a file of prices has."""
    if rows is None:
        return Sheet(place, parts, (), pl.DataFrame())
    names = rows.collect_schema().names()
    if len(names) > MAX_COLUMNS:
        raise SourceError(f"{place} has {len(names)} columns, expected at most {MAX_COLUMNS}")
    return Sheet(place, parts, tuple(names), rows.select(may_be_of_a_bar(names, reading)).collect())


def _file(source: Path | bytes) -> Path | BytesIO:
    return source if isinstance(source, Path) else BytesIO(source)


def _arrow(source: Path | bytes) -> pl.LazyFrame:
    """A Feather file, or a stream of Arrow."""
    with source.open("rb") if isinstance(source, Path) else BytesIO(source) as file:
        head = file.read(6)
    if head == b"ARROW1":
        return pl.scan_ipc(_file(source), glob=False)
    return pl.read_ipc_stream(_file(source)).lazy()


def _excel(source: Path | bytes, place: str, parts: tuple[str, ...], *, reading: Reading) -> Iterator[Sheet]:
    """The sheets of a workbook, as text."""
    if importlib.util.find_spec("fastexcel") is None:
        raise SourceError(f"{place} is a workbook; reading it needs fastexcel: pip install 'stock_assets[excel]'")
    import fastexcel

    unpacking.check_workbook(source, place)
    try:
        book = fastexcel.read_excel(source if isinstance(source, bytes) else str(source))
        for name in book.sheet_names:
            rows = book.load_sheet(name, header_row=None, dtypes="string").to_polars()
            at, own = (f"{place}, sheet {name}", (*parts, name)) if len(book.sheet_names) > 1 else (place, parts)
            yield _sheet(at, own, _below_header(rows, at, reading), reading=reading)
    except fastexcel.FastExcelError as error:
        raise SourceError(f"{place} cannot be read as Excel: {str(error).splitlines()[0]}") from error


def _below_header(rows: pl.DataFrame, place: str, reading: Reading) -> pl.LazyFrame | None:
    head = [[(cell or "").strip() for cell in row] for row in rows.head(ROWS).iter_rows()]
    header = find_header(head, reading, place)
    if header is None:
        return None
    below = rows.slice(header.rows)
    below.columns = unique([*header.names, *[""] * (rows.width - len(header.names))])
    return below.lazy()
