"""`stock-assets query`: the answer to a SELECT, on the terminal, in a pipe or in a file."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from stock_assets.errors import QueryError, StockAssetsError
from stock_assets.files import aside, remove_leftovers, sync
from stock_assets.storage.queries import Answer

if TYPE_CHECKING:
    import polars as pl

#: Rows of a table that are shown where no limit is given, and seconds that a query may take.
SHOWN_ROWS, SECONDS = 200, 300.0


class Format(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def write_answer(answer: Answer, form: Format, *, limit: int | None, output: Path | None, out: Console) -> None:
    """Writes `answer` to the file `output`, whole or not at all, or to the terminal or pipe of `out`.

    Raises QueryError for Parquet without a file, and StockAssetsError where the file cannot be written.
    """
    if form is Format.PARQUET and output is None:
        raise QueryError("Parquet is no text; expected a file: --output FILE")
    if output is None:
        _write(answer, form, limit, file=None, out=out)
        return
    with _whole_file(output) as file:
        _write(answer, form, limit, file=file, out=out)


def _write(answer: Answer, form: Format, limit: int | None, *, file: IO[bytes] | None, out: Console) -> None:
    if form is Format.PARQUET:
        assert file is not None
        _write_parquet(answer, limit, file)
    elif form is Format.TABLE:
        console = out if file is None else Console(file=_Encoded(file), width=80)  # pyright: ignore[reportArgumentType]
        _show(answer, limit or SHOWN_ROWS, console)
    else:
        write = out.file.write if file is None else _Encoded(file).write
        for text in _csv(answer, limit) if form is Format.CSV else _json(answer, limit):
            write(text)
        if file is None:
            out.file.flush()


class _Encoded:
    """A file of bytes to which text is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def write(self, text: str) -> int:
        return self.file.write(text.encode())

    def flush(self) -> None:
        self.file.flush()


# ---------------------------------------------------------------- tables


def _show(answer: Answer, limit: int, out: Console) -> None:
    """A table where it fits or is read by a program; a block of lines per row on a narrow terminal."""
    rows = answer.texts(limit + 1)
    shown_rows = rows.head(limit)
    cells = [
        [printable(name) for name in answer.columns],
        *([_cell(value) for value in row] for row in shown_rows.rows()),
    ]
    width = sum(max(cell_len(line[i]) for line in cells) + 3 for i in range(len(answer.columns))) + 1
    if width <= out.width or not out.is_terminal:
        table = Table(*map(escape, cells[0]))
        for row in cells[1:]:
            table.add_row(*map(escape, row))
        wide = max(width + 2 * len(answer.columns), out.width)
        Console(file=out.file, width=wide, force_terminal=out.is_terminal).print(table)
    else:
        longest = max(map(len, cells[0]))
        for number, row in enumerate(cells[1:], 1):
            out.rule(f"row {number}", align="left", style="dim")
            for name, value in zip(cells[0], row, strict=True):
                out.print(Text(f"{name:{longest}}  {value}"), soft_wrap=True)
    if rows.height > limit:
        out.print(_how_many(answer, limit), highlight=False)


def _how_many(answer: Answer, limit: int) -> str:
    return f"{limit} of {answer.height()} rows shown"


def _cell(value: str | None) -> str:
    return "" if value is None else {"true": "True", "false": "False"}.get(value, printable(value))


def printable(text: str) -> str:
    r"""The text on one line and without characters that steer a terminal.

    >>> printable("a\x1b[31m")
    'a\\x1b[31m'
    """
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", lambda c: ascii(c[0])[1:-1], text)


# ---------------------------------------------------------------- csv, json, parquet


def _csv(answer: Answer, limit: int | None) -> Iterator[str]:
    for number, piece in enumerate(answer.pieces("text", limit)):
        frame = _frame(piece)
        if number == 0 or frame.height:
            yield frame.write_csv(include_header=number == 0)


def _json(answer: Answer, limit: int | None) -> Iterator[str]:
    """An array of one object per row; what JSON has no number for, such as NaN, is null."""
    import json

    names = [json.dumps(name) for name in answer.columns]
    before = "["
    for piece in answer.pieces("json", limit):
        for row in _frame(piece).rows():
            cells = (f"{name}: {_valid(cell)}" for name, cell in zip(names, row, strict=True))
            yield f"{before}\n{{{', '.join(cells)}}}"
            before = ","
    yield "[]\n" if before == "[" else "\n]\n"


def _valid(cell: str | None) -> str:
    """The JSON of a cell, with null for the numbers inside it that JSON does not have."""
    import json

    if cell is None:
        return "null"
    if not re.search(r"nan|inf", cell, re.IGNORECASE):
        return cell
    try:
        return json.dumps(json.loads(cell, parse_constant=lambda _: None), ensure_ascii=False)
    except ValueError:
        return json.dumps(cell, ensure_ascii=False)


def _write_parquet(answer: Answer, limit: int | None, file: IO[bytes]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    writer = None
    try:
        for piece in answer.pieces("frame", limit):
            writer = writer or parquet.ParquetWriter(file, piece.schema)
            writer.write_table(piece)
    except pa.ArrowException as error:
        raise QueryError(f"the answer does not fit into Parquet: {str(error).splitlines()[0]}") from error
    finally:
        if writer:
            writer.close()


def _frame(piece: Any) -> "pl.DataFrame":
    import polars as pl

    frame = pl.from_arrow(piece)
    assert isinstance(frame, pl.DataFrame)
    return frame


@contextmanager
def _whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes its name once it is whole. Raises StockAssetsError where it cannot be written."""
    temporary = aside(path)
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise StockAssetsError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
        remove_leftovers(path)


def hide_closed_pipe() -> None:
    """Nobody reads the output any more, as after `| head`: the rest is for nobody, and no error."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
