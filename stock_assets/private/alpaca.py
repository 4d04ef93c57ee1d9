"""What is borrowed from the inside of alpaca-py: its session, which waits for ever, and its own repetition of requests.

alpaca-py sends a request again by itself after 429 and 504, an order too, after a wait that cannot be set; and no
argument of it sets a timeout (alpacahq/alpaca-py#415). `trading_client` bounds every wait and has each request made
once. Importing this file checks that every borrowed name is there.
"""

import warnings
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from stock_assets.errors import PrivateApiError, SettingsError

if TYPE_CHECKING:
    from alpaca.trading.client import TradingClient
    from requests import PreparedRequest, Response

#: The version that all this was tried on; constraints.txt pins it.
TRIED_WITH = "0.44.0"
#: Attributes of a client that are borrowed, and what they are needed for.
BORROWED = {
    "_session": "the session of requests, which gets an adapter with timeouts",
    "_retry": "how often a request is sent again: never, as a second order is not for a library to send",
}

try:
    with warnings.catch_warnings():
        # its import brings the old half of websockets along, which nothing here uses
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"websockets|alpaca")
        warnings.filterwarnings("ignore", message=r"websockets\.legacy", category=DeprecationWarning)
        from alpaca.common.exceptions import APIError
        from alpaca.data.historical.corporate_actions import CorporateActionsClient
        from alpaca.data.requests import CorporateActionsRequest
        from alpaca.trading.client import TradingClient
        from alpaca.trading.enums import OrderSide, TimeInForce
        from alpaca.trading.requests import GetCalendarRequest, GetOrdersRequest, MarketOrderRequest
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "alpaca":
        raise
    raise SettingsError(
        "trading through Alpaca needs alpaca-py, which is not installed; expected the extra alpaca: "
        "pip install 'stock_assets[alpaca]'"
    ) from error

__all__ = [
    "APIError",
    "CorporateActionsClient",
    "CorporateActionsRequest",
    "GetCalendarRequest",
    "GetOrdersRequest",
    "MarketOrderRequest",
    "OrderSide",
    "TimeInForce",
    "actions_client",
    "trading_client",
]


def trading_client(key: str, secret: str, *, url: str, timeout: tuple[float, float]) -> TradingClient:
    """A client of `url` that gives answers as they came, sends each request once and waits no longer than `timeout`.

    `timeout` are the seconds to connect and between two bytes. Raises PrivateApiError where alpaca-py has changed.
    """
    return _bounded(TradingClient(key, secret, raw_data=True, url_override=url), url, timeout)


def actions_client(key: str, secret: str, *, url: str, timeout: tuple[float, float]) -> CorporateActionsClient:
    """The same for what Alpaca's data say of corporate actions."""
    return _bounded(CorporateActionsClient(key, secret, raw_data=True, url_override=url), url, timeout)


def _bounded(client: Any, url: str, timeout: tuple[float, float]) -> Any:
    from requests.adapters import HTTPAdapter

    class Bounded(HTTPAdapter):
        def send(self, request: "PreparedRequest", *args: Any, **kwargs: Any) -> "Response":
            return super().send(request, *args, **{**kwargs, "timeout": timeout})

    if missing := [f"{name} ({purpose})" for name, purpose in BORROWED.items() if not hasattr(client, name)]:
        raise PrivateApiError(
            f"alpaca-py {version('alpaca-py')} has no {type(client).__name__}.{'; '.join(missing)}; expected that of "
            f"{TRIED_WITH}: pip install alpaca-py=={TRIED_WITH}"
        )
    client._session.mount("https://", Bounded(max_retries=0))
    client._session.mount("http://", Bounded(max_retries=0))
    # what is not encrypted, on loopback alone, goes through no proxy of this machine
    client._session.trust_env = url.startswith("https://")
    client._retry = 0
    return client
