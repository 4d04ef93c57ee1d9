"""Calls to servers of others, each bounded in time and memory, whatever the other side does.

A call runs in a process of its own (`child.py`), which is killed when its time is over. No timeout of a library does
that: they bound the wait for the next byte, and a server that sends one byte a second, a name that does not resolve or
a handshake that hangs takes as long as it likes. Addresses are secrets: they go through a pipe, never on a command
line, and no error shows more than the host.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stock_assets.addresses import redacted
from stock_assets.errors import OutgoingError

CHILD = Path(__file__).with_name("child.py")
#: Seconds that a busy machine may take to start the process, on top of those of the call.
START_SECONDS = 10.0


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    body: bytes
    """empty where no byte of it was asked for"""


def call(
    method: str,
    url: str,
    *,
    message: object = None,
    headers: Mapping[str, str] | None = None,
    seconds: float = 5.0,
    most_bytes: int = 0,
) -> Answer:
    """The answer of `url` to one request, with `message` as JSON where there is one.

    Redirects are followed only where a body is asked for: with `most_bytes` of 0 none is read. Raises OutgoingError,
    which names the host and the kind of the trouble, where there is no answer within `seconds` or it is longer than
    `most_bytes`.
    """
    request = {
        "url": url,
        "method": method,
        "message": message,
        "headers": dict(headers or {}),
        "most_bytes": most_bytes,
    }
    head, _, body = _in_child("http", request, seconds, address=redacted(url)).partition(b"\n")
    return Answer(json.loads(head)["status"], body)


def notify(url: str, title: str, text: str, *, seconds: float = 15.0) -> bool | None:
    """Whether the service behind an apprise address took a message; None where apprise does not know the address.

    Raises OutgoingError as `call`.
    """
    request = {"url": url, "title": title, "text": text}
    address = f"{url.partition('://')[0]}://"
    return json.loads(_in_child("apprise", request, seconds, address=address).partition(b"\n")[0])["taken"]


def _in_child(kind: str, request: Mapping[str, Any], seconds: float, *, address: str) -> bytes:
    """What the process prints. Raises OutgoingError where it does not end well, or not in time."""
    order = json.dumps({"kind": kind, "seconds": seconds, **request}).encode()
    # -P: the folder of the script is no place to import from
    command = [sys.executable, "-P", "-W", "ignore", str(CHILD)]
    try:
        process = subprocess.run(
            command, input=order, capture_output=True, timeout=seconds + START_SECONDS, check=False
        )
    except (subprocess.TimeoutExpired, OSError) as error:
        # not chained: it holds what was sent
        raise OutgoingError(f"{address} did not answer ({type(error).__name__})") from None
    if process.returncode == -signal.SIGALRM:
        raise OutgoingError(f"{address} did not answer in {seconds:g} s")
    if process.returncode:
        # its last word is the name of an exception; the rest of what it says may hold the address
        word = (process.stdout.split() or [b"no reason"])[-1].decode("ascii", "replace")
        raise OutgoingError(f"{address} did not answer ({word if word.isidentifier() else process.returncode})")
    return process.stdout
