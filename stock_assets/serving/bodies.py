"""Answers that are ready to send, kept by what was asked of which publication, up to a number of bytes."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

#: Bytes of all bodies together.
MOST_BYTES = 3_000_000


class Body(NamedTuple):
    """An answer and its headers."""

    content: bytes
    media_type: str
    tag: str
    headers: dict[str, str]


class Bodies:
    """The bodies that were asked for last. Used from the event loop alone."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most, self._bytes = most_bytes, 0
        self._bodies: OrderedDict[Hashable, Body] = OrderedDict()

    def get(self, key: Hashable) -> Body | None:
        body = self._bodies.get(key)
        if body is not None:
            self._bodies.move_to_end(key)
        return body

    def put(self, key: Hashable, body: Body) -> None:
        if key in self._bodies or len(body.content) > self._most // 4:
            return
        self._bodies[key] = body
        self._bytes += len(body.content)
        while self._bytes > self._most:
            self._bytes -= len(self._bodies.popitem(last=False)[1].content)
