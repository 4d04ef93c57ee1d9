"""How the vendors of side inputs are asked: at the pace of a budget, within bounds."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, TypeVar

from stock_assets.addresses import HIDDEN
from stock_assets.market.sources.budget import Budget, Transient
from stock_assets.market.sources.replies import MOST_BYTES, TOO_LARGE, require_service

T = TypeVar("T")
#: What an answer (status, body) says. It raises Transient for one that may be another when asked again.
Read = Callable[[int, bytes], T]


class Client:
    """GET requests to one vendor. Safe to share among threads.

    Addresses may hold a key: no error shows one.
    """

    def __init__(self, budget: Budget, *, secret: str | None = None, agent: str = "stock_assets") -> None:
        """`secret` is not shown where an answer repeats it; `agent` is who we say we are."""
        self.budget, self._secret, self._agent = budget, secret, agent

    def get(self, subject: str, url: str, parse: Read[T], *, params: Mapping[str, str | int] | None = None) -> T:
        """What `parse` makes of the answer, asked for again while that is Transient.

        Raises Exhausted, GivenUp and whatever else `parse` raises.
        """
        return self.budget.patiently(subject, lambda: self._ask(url, parse, params))

    def _ask(self, url: str, parse: Read[T], params: Mapping[str, str | int] | None) -> T:
        from curl_cffi import CurlECode
        from curl_cffi.requests.exceptions import RequestException

        self.budget.take()
        try:
            # `timeout` is that of the whole answer, a slow drip included
            answer = self._session.get(url, params=params, timeout=self.budget.politeness.timeout)
        except RequestException as error:
            # not chained: its text holds the address
            if error.code == CurlECode.FILESIZE_EXCEEDED:
                raise Transient(TOO_LARGE) from None
            raise Transient(f"no answer ({type(error).__name__}, curl {error.code})") from None
        if len(answer.content) > MOST_BYTES:
            raise Transient(TOO_LARGE)
        text = answer.text if self._secret is None else answer.text.replace(self._secret, HIDDEN)
        require_service(answer.status_code, text, retry_after=answer.headers.get("Retry-After"), now=datetime.now(UTC))
        return parse(answer.status_code, answer.content)

    @cached_property
    def _session(self) -> Any:
        from curl_cffi import CurlOpt
        from curl_cffi.requests import Session

        return Session(headers={"User-Agent": self._agent}, curl_options={CurlOpt.MAXFILESIZE_LARGE: MOST_BYTES})
