"""Whether everything that was ever published can be read, and is what the store says: a line per problem."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from stock_assets.errors import MissingTableError, PublicationError, StockAssetsError
from stock_assets.files import first_line
from stock_assets.objects import Place
from stock_assets.publication.layout import (
    FOLDER,
    KINDS,
    LEDGER,
    POINTER,
    Entry,
    Kind,
    digest_of,
    parse_entry,
    path_of,
)
from stock_assets.publication.ledger import entry_files, files_of, read_pointer
from stock_assets.storage.warehouse import Warehouse

_RESTORE = "restore it from a backup: stock-assets restore DIR"


def problems_of(data: Path, publication_folder: Place | None = None) -> Iterator[str]:
    """What is wrong with the publication in a data folder or in a backup of one: the digest of every file that the
    pointer or an entry of the ledger names, the entries that lead to the pointer, and the rows of the table
    `publication`. `publication_folder` is where it is, in the data folder when None."""
    folder = publication_folder or data / FOLDER
    try:
        pointer = read_pointer(folder)
    except PublicationError as error:
        yield first_line(error)
        pointer = None
    entries = {}
    for path in entry_files(folder):
        try:
            entries[path.name.removesuffix(".json")] = parse_entry(path, path.read_bytes())
        except (OSError, PublicationError) as error:
            yield f"{first_line(error)}; {_RESTORE}"
    if pointer is None and entries and not (folder / POINTER).exists():
        yield f"{folder / POINTER} is gone, though {len(entries)} entries of the ledger are there; publish again"
    named_files = pointer.files if pointer else files_of([])
    now: set[tuple[Kind, str, str]] = {
        (kind, key, digest) for kind in KINDS for key, digest in named_files[kind].items()
    }
    yield from _chain_problems(folder, entries, pointer.entry if pointer else None)
    for kind, key, digest in sorted(now | _ever_named(entries)):
        advice = "publish again: materialize publication" if (kind, key, digest) in now else _RESTORE
        yield from _file_problems(folder / path_of(kind, key, digest), digest, advice)
    yield from _row_problems(data, folder, named_files["predictions"])


def _ever_named(entries: dict[str, Entry]) -> set[tuple[Kind, str, str]]:
    return {
        (kind, key, digest) for entry in entries.values() for kind in KINDS for key, digest in entry.files[kind].items()
    }


def _chain_problems(folder: Place, entries: dict[str, Entry], newest: str | None) -> Iterator[str]:
    while newest is not None:
        if newest not in entries:
            yield f"{folder / LEDGER / newest}.json is gone, and what was said before it is not known; {_RESTORE}"
            return
        newest = entries[newest].previous


def _file_problems(file: Place, digest: str, advice: str) -> Iterator[str]:
    try:
        actual = digest_of(file.read_bytes())
    except OSError as error:
        yield f"{file} cannot be read: {error.strerror}; {advice}"
        return
    if actual != digest:
        yield f"{file} is damaged: its digest is {actual}; {advice}"


def _row_problems(data: Path, folder: Place, published_files: Mapping[str, str]) -> Iterator[str]:
    try:
        rows = Warehouse(data / "stock_assets.duckdb").read("publication", columns=["session", "digest"])
    except MissingTableError:
        return
    except StockAssetsError:  # `storage.verification` names what is wrong with the store
        return
    files = pl.DataFrame(
        {"session": list(published_files), "file": list(published_files.values())},
        {"session": pl.String, "file": pl.String},
    )
    differing = (
        rows.with_columns(pl.col("session").cast(pl.String))
        .join(files, on="session", how="left")
        .filter(pl.col("file").is_null() | (pl.col("file") != pl.col("digest")))
    )
    if differing.height:
        first = differing["session"].min()
        yield (
            f"{folder}: the table publication names {differing.height} session(s), the first {first}, that "
            f"{POINTER} lacks or names otherwise; materialize publication again for them"
        )
