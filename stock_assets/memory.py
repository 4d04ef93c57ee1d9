"""How much memory the platform may take, and what follows from it."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ByteSize, Field

#: Bytes that the libraries alone need, several times over: less leaves nothing to work with.
SMALLEST = 1 << 30


@dataclass(frozen=True)
class Memory:
    """The memory of a process of the platform, in bytes, and how much of it rows may take.

    While rows are computed, several times as much as they take is in use: what a formula reads, what it makes, and the
    libraries themselves.

    >>> Memory(8 << 30) == Memory(), Memory().block >> 20
    (True, 128)
    """

    total: int = 8 << 30

    @property
    def duckdb(self) -> int:
        """What DuckDB may keep in memory; the rest of what it needs goes to the disk beside the store."""
        return self.total // 4

    @property
    def at_once(self) -> int:
        """The largest range of a table that is made at once; a larger one is made in blocks (`storage.ranges`)."""
        return self.total // 8

    @property
    def block(self) -> int:
        """The rows of a block."""
        return self.total // 64


DEFAULT_MEMORY = Memory()


def _enough(size: ByteSize) -> ByteSize:
    if size < SMALLEST:
        raise ValueError(f"{size.human_readable()} is less than the libraries need")
    return size


class MemorySettings(BaseModel):
    """The setting of this module."""

    memory: Annotated[ByteSize, AfterValidator(_enough)] = Field(
        default=ByteSize(Memory.total),
        description="how much memory a process of the platform may take, such as 8GiB, and at least 1GiB: a quarter is "
        "DuckDB's, and a range that takes more than an eighth is made in blocks, in files beside the store",
    )

    @property
    def memory_budget(self) -> Memory:
        return Memory(int(self.memory))
