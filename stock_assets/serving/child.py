"""The API as the child of another process: it ends with it, however that ends.

    python -m stock_assets.serving.child < a pipe that the parent holds open

A parent that is killed can end nobody, but its end of the pipe is closed for it.
"""

import os
import signal
import sys
import threading

from stock_assets.errors import StockAssetsError
from stock_assets.serving.server import serve
from stock_assets.settings import read_settings


def main() -> None:
    """Serves what the settings say, until told to end or the parent is gone; an error is one line and exit code 2."""
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    try:
        settings = read_settings()
        serve(settings, settings.api_host, settings.api_port)
    except StockAssetsError as error:
        print(f"stock-assets: {error}", file=sys.stderr)
        sys.exit(2)


def _end_with_the_parent() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # uvicorn answers what it has begun


if __name__ == "__main__":
    main()
