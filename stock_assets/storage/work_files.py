"""What the units of a batch read, as Parquet beside the artifacts: each file under the digest of its content."""

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import polars as pl

from stock_assets.errors import DamagedFileError
from stock_assets.objects import Place, delete, found_below, put_if_absent
from stock_assets.storage.panels import mapped

#: The folder of all batches below the artifacts.
FOLDER = "work"
#: Rows of one file: what is held in memory besides the frame.
ROWS = 1_000_000


def batch_folder(artifacts: Place, batch: int) -> Place:
    """Where the files of a batch are."""
    return artifacts / FOLDER / str(batch)


def put_frame(folder: Place, frame: pl.DataFrame) -> list[str]:
    """The names of the files that hold `frame`, one for an empty one. Raises DamagedFileError, BucketError."""
    names = []
    for start in range(0, max(frame.height, 1), ROWS):
        content = io.BytesIO()
        frame.slice(start, ROWS).write_parquet(content, compression="zstd")
        names.append(put_content(folder, content.getvalue()))
    return names


def put_content(folder: Place, content: bytes) -> str:
    """The name of the file that holds `content`. Raises as `put_frame`."""
    name = hashlib.sha256(content).hexdigest()
    put_if_absent(folder / name, content)
    return name


def read_frame(folder: Place, names: Sequence[str], scratch: Path) -> pl.DataFrame:
    """The frame of `put_frame`, in a file in the folder of `scratch` that is mapped into memory and has no name. Raises
    as `read_content`."""
    return mapped(scratch, _parts(folder, names))


def _parts(folder: Place, names: Iterable[str]) -> Iterator[pl.DataFrame]:
    for name in names:
        yield pl.read_parquet(io.BytesIO(read_content(folder, name)))


def read_content(folder: Place, name: str) -> bytes:
    """The content of a file. Raises DamagedFileError for one that is absent or altered, BucketError."""
    try:
        content = (folder / name).read_bytes()
    except FileNotFoundError:
        raise DamagedFileError(
            f"{folder / name} is absent: the batch was removed, or the artifacts of this host are not those of the "
            "others; expected one bucket or shared folder in STOCK_ASSETS_ARTIFACTS"
        ) from None
    if hashlib.sha256(content).hexdigest() != name:
        raise DamagedFileError(f"{folder / name} was altered or cut short: its digest is not its name")
    return content


def remove_batch(artifacts: Place, batch: int) -> None:
    """Removes the files of a batch. Raises BucketError, OSError."""
    folder = batch_folder(artifacts, batch)
    for file in list(found_below(folder)):
        delete(file.place)
    if isinstance(folder, Path) and folder.is_dir():
        folder.rmdir()
