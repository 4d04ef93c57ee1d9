"""A large file as blocks of one size, each named by its digest: a later copy of the file links those it shares.

DuckDB writes its file in blocks of 256 KiB and fills the last of them in parts; SQLite changes pages of 4 KiB here and
there. Smaller blocks share more, and there are more of them to link.
"""

import hashlib
import os
from pathlib import Path
from typing import IO

from stock_assets.files import make_folder

#: Bytes of a block; the last one of a file may be shorter.
BLOCK = 65_536


def split(content: IO[bytes], folder: Path, earlier: Path | None) -> tuple[list[str], int, str, int]:
    """Puts the blocks of `content` into `folder`, as links to those in the folder `earlier` where they are the same.

    Returns their names in order, the size and the SHA-256 of the whole, and how many bytes are no links. A block in
    `earlier` that no longer is what its name says is written anew.
    """
    make_folder(folder)
    names, size, new_bytes, whole = [], 0, 0, hashlib.sha256()
    while block := content.read(BLOCK):
        name = hashlib.sha256(block).hexdigest()
        names.append(name)
        size += len(block)
        whole.update(block)
        if (folder / name).exists():
            continue
        if earlier is not None and _holds(earlier / name, block):
            os.link(earlier / name, folder / name)
        else:
            write_block(folder / name, block)
            new_bytes += len(block)
    return names, size, whole.hexdigest(), new_bytes


def write_block(file: Path, block: bytes) -> None:
    """Writes a block for its owner alone."""
    file.write_bytes(block)
    file.chmod(0o600)


def _holds(file: Path, block: bytes) -> bool:
    try:
        return file.read_bytes() == block
    except FileNotFoundError:
        return False
