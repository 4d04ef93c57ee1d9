"""Answers of other computers, within bounds: as many bytes and seconds as an honest one takes, and no more."""

import json
import time
from typing import TYPE_CHECKING, Any

from stock_assets.errors import SourceError

if TYPE_CHECKING:
    from requests import Response


def body_within(answer: "Response", *, most_bytes: int, seconds: float) -> bytes:
    """The body of an answer that was asked for with `stream=True`.

    Raises SourceError once it has more than `most_bytes`, unpacked, or drips for longer than `seconds`.
    """
    deadline = time.monotonic() + seconds
    pieces, size = [], 0
    with answer:
        for piece in answer.iter_content(65_536):
            pieces.append(piece)
            size += len(piece)
            if size > most_bytes:
                raise SourceError(f"the answer has more than {most_bytes / 1e6:,.0f} MB, expected less")
            if time.monotonic() > deadline:
                raise SourceError(f"the answer was not whole after {seconds:g} s, expected it sooner")
    return b"".join(pieces)


def json_within(text: str | bytes) -> Any:
    """The JSON of `text`. Raises ValueError for anything else, also where it is nested too deeply to be read.

    >>> json_within("[" * 100_000)
    Traceback (most recent call last):
    ...
    ValueError: the JSON is nested too deeply
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
