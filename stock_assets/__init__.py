"""Daily prices to honest stock predictions.

    import stock_assets

    p = stock_assets.open()
    p.bars("AAPL", start="2019-01-02")

`open()` gives the market of the settings, the one that `make run` fills. Tables are polars frames; `.to_pandas()` on
one makes it a pandas frame. docs/api.md lists everything.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stock_assets.logs import escape_log_records

if TYPE_CHECKING:
    from stock_assets.client import Client
    from stock_assets.errors import ApiError, StockAssetsError
    from stock_assets.platform import Materialization, Platform, open
    from stock_assets.views import AsOf, Market

    __version__: str

#: The public names.
__all__ = [
    "ApiError",
    "AsOf",
    "Client",
    "Market",
    "Materialization",
    "Platform",
    "StockAssetsError",
    "__version__",
    "open",
]

_HOMES = {
    "ApiError": "errors",
    "AsOf": "views",
    "Client": "client",
    "Market": "views",
    "Materialization": "platform",
    "Platform": "platform",
    "StockAssetsError": "errors",
    "open": "platform",
}


escape_log_records()


def __getattr__(name: str) -> Any:
    """A public name, looked up at its first use: importing a room must not bring all of them along."""
    if name == "__version__":
        return import_module("importlib.metadata").version("stock_assets")
    if name in _HOMES:
        return getattr(import_module(f"stock_assets.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
