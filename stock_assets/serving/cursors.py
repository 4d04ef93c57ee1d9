"""Cursors: where the next page begins, of which publication, and for which question.

The server keeps nothing for a client. A cursor names the entry of the ledger that the first page was read from, so that
the pages of one walk are of one publication, however often another one comes into service meanwhile.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import NamedTuple

from stock_assets.serving.problems import Problem

FOREIGN = "the cursor is none that this server handed out for these parameters"


class Position(NamedTuple):
    """What a cursor says."""

    entry: str
    """of the ledger"""
    after: str
    """the key of the last row of the page before"""


def cursor_of(position: Position, question: str) -> str:
    """The cursor of `position`. `question` is what was asked, without the cursor.

    >>> position_of(cursor_of(Position("entry", "AAPL"), "a question"), "a question")
    Position(entry='entry', after='AAPL')
    """
    content = json.dumps([*position, _mark(position, question)], separators=(",", ":"))
    return urlsafe_b64encode(content.encode()).decode().rstrip("=")


def position_of(cursor: str, question: str) -> Position:
    """What `cursor` says. Raises Problem for one that belongs to another question."""
    try:
        entry, after, mark = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        position = Position(str(entry), str(after))
    except (ValueError, TypeError):
        raise Problem("foreign-cursor", FOREIGN) from None
    if mark != _mark(position, question):
        raise Problem("foreign-cursor", FOREIGN)
    return position


def _mark(position: Position, question: str) -> str:
    return sha256("\n".join((*position, question)).encode()).hexdigest()[:10]
