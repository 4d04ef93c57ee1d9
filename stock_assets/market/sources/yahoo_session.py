"""The HTTP session that yahoo's sources hand to yfinance: at the pace of a budget, and with failures as exceptions."""

import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from stock_assets.market.sources.budget import Budget, Transient
from stock_assets.market.sources.replies import MOST_BYTES, TOO_LARGE

#: Judges an answer by the options of its request: nothing where it holds what was asked for, else an exception.
Judge = Callable[[Any, Mapping[str, Any]], None]


def polite_session(budget: Budget, base_url: str | None, *, place: str, judge: Judge) -> Any:
    """The HTTP session of yfinance: each request waits for its turn, and goes to `base_url` where there is one.

    yfinance meets every failure (429 and 404 included) with another cookie, another crumb and the same request again:
    four requests where one was too many. So of what it asks below the path `place`, an answer that `judge` lets pass
    goes through, and a first 401, for which a new crumb is the cure; everything else is an exception. A page elsewhere
    that the request was sent on to, such as the one that asks for consent, is left to yfinance.
    """
    from curl_cffi import CurlECode, CurlOpt
    from curl_cffi.requests import Session
    from curl_cffi.requests.exceptions import RequestException

    base = None if base_url is None else urlsplit(base_url)

    class Polite(Session):
        renewed = threading.local()
        """`crumb`: whether a new one was asked for in this try"""
        biscuit: Any = None
        """the answer that brought the cookie"""

        def request(self, method: Any, url: str, **options: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
            parts = urlsplit(url)
            brings_cookie = parts.path in ("", "/")
            if brings_cookie and self.biscuit is not None and self.cookies:
                return self.biscuit  # yfinance asks for the cookie before every request where it cannot keep it on disk
            budget.take()
            if base is not None:
                url = parts._replace(scheme=base.scheme, netloc=base.netloc).geturl()
            asked_for = parts.path.startswith(place)
            try:
                response = super().request(method, url, **{**options, "timeout": budget.politeness.timeout})
            except RequestException as error:
                if asked_for and error.code == CurlECode.FILESIZE_EXCEEDED:
                    raise Transient(TOO_LARGE) from error
                if asked_for:
                    raise Transient(f"no answer ({type(error).__name__}, curl {error.code})") from error
                raise  # yfinance goes on without its cookie
            if brings_cookie:
                self.biscuit = response
            if urlsplit(str(response.url)).path.startswith(place):
                if response.status_code in (401, 403) and not self.renewed.crumb:
                    self.renewed.crumb = True
                else:
                    if len(response.content) > MOST_BYTES:
                        raise Transient(TOO_LARGE)
                    judge(response, options)
            return response

    bounds = {CurlOpt.MAXFILESIZE_LARGE: MOST_BYTES}  # while it arrives; what it unpacks to is looked at afterwards
    return Polite(impersonate="chrome", curl_options=bounds) if base is None else Polite(curl_options=bounds)
