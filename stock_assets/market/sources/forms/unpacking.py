"""Packed files, with bounds: a file of some kilobytes may claim to hold terabytes."""

import bz2
import gzip
import lzma
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import IO

from stock_assets.errors import SourceError

#: An unpacked file may be so large, in bytes, and, beyond `_FREE`, so many times the packed one: prices pack tenfold.
MAX_BYTES = 4 * 2**30
MAX_RATIO = 250
_FREE = 64 * 2**20
_CHUNK = 2**20
#: What the libraries raise for a file that is damaged.
DAMAGED = (zlib.error, lzma.LZMAError, gzip.BadGzipFile)
_OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def unpacked(path: Path, place: str) -> bytes:
    """What a .gz, .bz2 or .xz file holds. Raises SourceError where that is too much."""
    with _OPENERS[path.suffix.lower()](path, "rb") as stream:
        return _bounded(stream, path.stat().st_size, place)  # pyright: ignore[reportArgumentType]: it is binary


def member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, place: str) -> bytes:
    """What a file of a zip file holds. Raises SourceError where that is too much, and for a password."""
    if info.flag_bits & 1:
        raise SourceError(f"{place} is locked with a password; expected a file that is not")
    with archive.open(info) as stream:
        return _bounded(stream, info.compress_size, place)


def check_workbook(source: Path | bytes, place: str) -> None:
    """Raises SourceError for a workbook that unpacks to too much; one that is no zip file (.xls) passes."""
    file = source if isinstance(source, Path) else BytesIO(source)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            sizes = [(info.file_size, info.compress_size) for info in archive.infolist()]
        _check(sum(size for size, _ in sizes), sum(packed_size for _, packed_size in sizes), place)


def _bounded(stream: IO[bytes], packed_size: int, place: str) -> bytes:
    content = bytearray()
    while chunk := stream.read(_CHUNK):
        content += chunk
        _check(len(content), packed_size, place)
    return bytes(content)


def _check(size: int, packed_size: int, place: str) -> None:
    if size > MAX_BYTES or (size > _FREE and size > MAX_RATIO * packed_size):
        raise SourceError(
            f"{place} has {packed_size:,} bytes and unpacks to more than {size - 1:,}; expected at most {MAX_BYTES:,} "
            f"and {MAX_RATIO} times as many. Unpack it by hand if it is right"
        )
