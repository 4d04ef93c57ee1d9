"""How many requests a client of the API may make: a bucket of tokens per client, in memory.

A bucket holds as many as a client may make in a minute and fills evenly. A refused or failed request costs nothing, and
a batch costs one. Every answer states what is left (draft-ietf-httpapi-ratelimit-headers).
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor
from typing import TYPE_CHECKING

from stock_assets.serving.guard import CLIENT, refuse
from stock_assets.serving.problems import Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Seconds in which an empty bucket fills.
WINDOW = 60
#: Buckets that are kept; of more clients, the one that was seen longest ago begins with a full one.
MOST_CLIENTS = 1024


@dataclass
class _Bucket:
    level: float
    at: float


@dataclass(frozen=True)
class Quota:
    """What a client has left after a request."""

    allowed: bool
    limit: int
    """requests a minute"""
    remaining: int
    full_in: int
    """seconds until nothing of the bucket is used"""
    next_in: int
    """seconds until another request is allowed; 0 where one is"""

    def headers(self) -> list[tuple[bytes, bytes]]:
        """RateLimit, RateLimit-Policy and, where the request is not allowed, Retry-After.

        >>> Quota(allowed=False, limit=60, remaining=0, full_in=60, next_in=1).headers()[0]
        (b'ratelimit', b'"minute";r=0;t=60')
        """
        pairs = [
            (b"ratelimit", f'"minute";r={self.remaining};t={self.full_in}'.encode()),
            (b"ratelimit-policy", f'"minute";q={self.limit};w={WINDOW}'.encode()),
        ]
        return pairs if self.allowed else [*pairs, (b"retry-after", str(self.next_in).encode())]


class RateLimits:
    """The buckets of all clients, each of `per_minute` requests (1 or more)."""

    def __init__(
        self, per_minute: int, clock: Callable[[], float] = time.monotonic, client_limit: int = MOST_CLIENTS
    ) -> None:
        self.per_minute, self._clock, self._most = per_minute, clock, client_limit
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, client: str) -> Quota:
        """One request of `client`, where it has one left."""
        bucket = self._filled(client)
        is_allowed = bucket.level >= 1
        if is_allowed:
            bucket.level -= 1
        return self._quota(bucket, is_allowed=is_allowed)

    def give_back(self, client: str) -> Quota:
        """Takes back what `take` took, for a request that failed."""
        bucket = self._filled(client)
        bucket.level = min(float(self.per_minute), bucket.level + 1)
        return self._quota(bucket, is_allowed=True)

    def _filled(self, client: str) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.get(client)
        if bucket is None:
            bucket = self._buckets[client] = _Bucket(float(self.per_minute), now)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(client)
        bucket.level = min(float(self.per_minute), bucket.level + max(0.0, now - bucket.at) * self.per_minute / WINDOW)
        bucket.at = now
        return bucket

    def _quota(self, bucket: _Bucket, *, is_allowed: bool) -> Quota:
        per_second = self.per_minute / WINDOW
        return Quota(
            is_allowed,
            self.per_minute,
            floor(bucket.level),
            ceil((self.per_minute - bucket.level) / per_second),
            0 if bucket.level >= 1 else max(1, ceil((1 - bucket.level) / per_second)),
        )


@dataclass(frozen=True)
class Limited:
    """The ASGI application `app`, for each client as often as `limits` allow; `free` are paths that cost nothing."""

    app: "ASGIApp"
    limits: RateLimits
    free: frozenset[str] = frozenset()

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != "http" or scope["path"] in self.free:
            return await self.app(scope, receive, send)
        client = scope[CLIENT]
        quota = self.limits.take(client)
        if not quota.allowed:
            text = f"more than {quota.limit} requests a minute; the next one is answered in {quota.next_in} s"
            headers = {name.decode(): value.decode() for name, value in quota.headers()}
            return await refuse(scope, send, Problem("too-many-requests", text, headers=headers))
        has_answer = False

        async def with_headers(message: "Message") -> None:
            nonlocal has_answer
            if message["type"] == "http.response.start":
                has_answer = True
                remaining_quota = self.limits.give_back(client) if message["status"] >= 400 else quota
                message = {**message, "headers": [*message.get("headers", ()), *remaining_quota.headers()]}
            await send(message)

        try:
            return await self.app(scope, receive, with_headers)
        finally:
            if not has_answer:  # it failed, or the client went away
                self.limits.give_back(client)
