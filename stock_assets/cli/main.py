"""The entry point `stock-assets`. It imports the commands itself, so that a Ctrl-C meanwhile is one line too."""

import os
import signal
import sys
from typing import NoReturn

#: What a Ctrl-C ends with, as a shell counts: 128 and the number of the signal.
INTERRUPTED = 128 + signal.SIGINT


def main() -> None:
    """The command line; an error that a person can act on is one line and exit code 2, a Ctrl-C one and 130."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:  # as that of a command in the background
        signal.signal(signal.SIGINT, _end)  # whichever library it meets, none is to make another error of it
    from stock_assets.cli.commands import command_line

    signal.signal(signal.SIGINT, before)
    try:
        command_line()
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        print("stock-assets: interrupted", file=sys.stderr)  # Typer makes an exit of it, without a word
        sys.exit(INTERRUPTED)


def _end(_number: int, _frame: object) -> NoReturn:
    os.write(2, b"stock-assets: interrupted\n")
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
