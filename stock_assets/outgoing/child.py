"""The process of one outgoing call: reads an order as JSON, prints the answer, and is ended by the kernel in time.

Started as a script and without this package, so that it starts quickly and a broken setting cannot stop it.
"""

import contextlib
import importlib
import io
import json
import resource
import signal
import sys
from typing import Any, BinaryIO

#: Address space of this process, bytes: a server that floods ends it, not the machine.
MEMORY = 512 << 20
PIECE = 1 << 16


class TooLong(Exception):
    """The answer has more bytes than were asked for."""


def http(order: dict[str, Any], stream: BinaryIO) -> None:
    """Prints the status as JSON, then the body on the next line."""
    import requests

    follow = order["most_bytes"] > 0
    with requests.request(
        order["method"],
        order["url"],
        json=order["message"],
        headers=order["headers"],
        timeout=order["seconds"],
        allow_redirects=follow,
        stream=True,  # nothing is read that was not asked for
    ) as answer:
        body = bytearray()
        for piece in answer.iter_content(PIECE) if follow else ():
            body += piece
            if len(body) > order["most_bytes"]:
                raise TooLong
        stream.write(json.dumps({"status": answer.status_code}).encode() + b"\n" + body)


def apprise(order: dict[str, Any], stream: BinaryIO) -> None:
    """Prints whether the service took the message, null where the address is none that apprise knows."""
    import logging

    logging.disable()  # its log holds whole addresses
    from apprise import Apprise, NotifyFormat, NotifyType

    service, is_delivered = Apprise(), None
    if service.add(order["url"]):
        is_delivered = bool(
            service.notify(
                title=order["title"],
                body=order["text"],
                notify_type=NotifyType.FAILURE,
                body_format=NotifyFormat.TEXT,
            )
        )
    stream.write(json.dumps({"taken": is_delivered}).encode() + b"\n")


def main() -> int:
    order = json.loads(sys.stdin.buffer.read())
    with contextlib.suppress(ValueError, OSError):  # a system without this limit, or with a lower one
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    importlib.import_module({"http": "requests", "apprise": "apprise"}[order["kind"]])  # no part of the call's time
    # no handler: the kernel ends the process, also while it is inside a name look-up or a handshake
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, order["seconds"])
    answer = io.BytesIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            {"http": http, "apprise": apprise}[order["kind"]](order, answer)
    except BaseException as error:
        print(type(error).__name__)
        return 1
    sys.stdout.buffer.write(answer.getvalue())
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
