"""What stands between the network and the API: no page of another origin, and where there are tokens no stranger.

A request gets through

- to a Host that is the server's own, from no other Origin than that (`stock_assets.guard`),
- without a token in its query, where proxies, logs and histories keep it,
- where `api_tokens` is set, with one of them: `Authorization: Bearer`, the password of `Authorization: Basic`, or the
  cookie that a browser gets from the login page; the probes in OPEN ask for none,
- with the scope that the token has: `predict` for predictions on demand, `read` for everything else,
- by POST with a body of the type that its route reads, whole within BODY_SECONDS and LARGEST_BODY.

There are no CORS headers: no page of another origin reads an answer.
"""

import asyncio
import hmac
import logging
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from stock_assets import guard
from stock_assets.errors import SettingsError
from stock_assets.guard import FORM, content_type, cookies, foreign, hardened, offered_tokens
from stock_assets.serving.problems import Problem, quoted
from stock_assets.serving.protocols.forms import INVOCATIONS
from stock_assets.serving.tokens import Token, TokenFile, holder_of

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Answered without a token: what asks them is a supervisor, and they hold no prediction.
OPEN = frozenset({"/livez", "/readyz", "/ping", "/v2/health/live", "/v2/health/ready"})
#: Parameters of a query that clients of other servers put a token into.
SECRET_PARAMETERS = frozenset(
    {"token", "access_token", "auth_token", "api_key", "apikey", "api-key", "authorization", "bearer", "password"}
)
#: Predictions on demand.
PREDICT = "/v1/predict"
LARGEST_BODY = 1_048_576
"""bytes"""
BODY_SECONDS = 10.0
SESSION = "stock_assets_api"
#: Where the name of the client stands in an ASGI scope, for what comes after the guard.
CLIENT = "stock_assets.client"
ASK = "A token of this server, as <code>stock-assets token NAME</code> printed it:"
ASK_AGAIN = "That is not a token of this server. Once more:"
_log = logging.getLogger("stock_assets.serving")


@dataclass
class ApiGuard:
    """The ASGI application `app`, for those alone who may ask it."""

    app: "ASGIApp"
    tokens: TokenFile | None = None
    """no client is asked for a token when None, and then the server answers on loopback alone"""
    names: tuple[str, ...] = ()
    """`name` or `name:port` under which browsers reach the server, besides its own address"""
    session_key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    """proves the cookies of this process: a new one ends every login"""
    _told: str = field(default="", init=False)

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        from starlette.datastructures import Headers

        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008, "reason": "no WebSocket is served"})
        headers = Headers(scope=scope)
        send = hardened(send)
        if problem := self.foreign(scope, headers) or secret_in_query(scope):
            return await refuse(scope, send, problem)
        client: str | None = (scope.get("client") or ("an unknown address", 0))[0]
        if self.tokens is not None and scope["path"] not in OPEN:
            client = await self.admitted(scope, receive, send, headers=headers, file=self.tokens)
        if client is None:
            return None
        scope[CLIENT] = client
        expected = types_of_post(scope["path"]) if scope["method"] == "POST" else None
        if expected is None:
            return await self.app(scope, receive, send)
        if content_type(headers) not in expected:
            types = " or ".join(sorted(filter(None, expected)))
            detail = f"the Content-Type of this POST is {quoted(headers.get('content-type'))}; expected {types}"
            return await refuse(scope, send, Problem("unsupported-media-type", detail))
        body = await body_of(headers, receive)
        if isinstance(body, Problem):
            return await refuse(scope, send, body)
        return await self.app(scope, replayed(body, receive), send)

    async def admitted(
        self, scope: "Scope", receive: "Receive", send: "Send", *, headers: "Headers", file: TokenFile
    ) -> str | None:
        """The name of the token that the request holds; None where it was answered here."""
        try:
            tokens = file.tokens()
        except SettingsError as error:
            await self.closed(scope, send, error)
            return None
        if scope["method"] == "POST" and content_type(headers) == FORM:
            await self.log_in(scope, receive, send, tokens=tokens)
            return None
        token = self.holder(headers, tokens)
        if token is None:
            if scope["method"] in ("GET", "HEAD") and "text/html" in headers.get("accept", ""):
                await guard.ask_for_token(send, ASK)
            else:
                await refuse(scope, send, no_token())
            return None
        if (right := right_for(scope)) not in token.scopes:
            challenge = f'{REALM}, error="insufficient_scope", scope="{right}"'
            detail = f"this token lacks the scope {right}, which this request needs"
            await refuse(scope, send, Problem("missing-scope", detail, headers={"WWW-Authenticate": challenge}))
            return None
        return token.name

    def foreign(self, scope: "Scope", headers: "Headers") -> Problem | None:
        asks = self.tokens is not None
        refusal = foreign(scope, headers, self.names, asks_for_token=asks, token_setting="API_TOKENS")
        return refusal and Problem("foreign-request", refusal.text)

    async def closed(self, scope: "Scope", send: "Send", error: SettingsError) -> None:
        """Answers while the file of tokens is damaged: who may ask is not known then."""
        if str(error) != self._told:
            self._told = str(error)
            _log.error("no client is answered: %s", error)
        detail = "the server's file of tokens cannot be used; its log says why, and what to do"
        await refuse(scope, send, Problem("not-ready", detail, headers={"Retry-After": "10"}))

    def holder(self, headers: "Headers", tokens: tuple[Token, ...]) -> Token | None:
        """The token that the request holds, in a header or by the cookie of a login."""
        for offer in offered_tokens(headers):
            if token := holder_of(offer, tokens):
                return token
        by_name = {token.name: token for token in tokens}
        for cookie in cookies(headers, SESSION):
            token = by_name.get(cookie.rpartition(".")[0])
            if token and guard.is_token(cookie, self.cookie_of(token)):
                return token
        return None

    def cookie_of(self, token: Token) -> str:
        """What the cookie of a login holds: it ends with its token and with the process, and tells neither."""
        proof = hmac.new(self.session_key, token.name.encode() + token.digest, "sha256").hexdigest()
        return f"{token.name}.{proof}"

    async def log_in(self, scope: "Scope", receive: "Receive", send: "Send", *, tokens: tuple[Token, ...]) -> None:
        """Answers the form of the login page: with a cookie and the page that was asked for, or the form again."""
        offer = await guard.token_of_form(receive)
        token = None if offer is None else holder_of(offer, tokens)
        if token is None:
            client = (scope.get("client") or ("an unknown address", 0))[0]
            _log.warning("a wrong token from %r", client)
            await asyncio.sleep(guard.WRONG_TOKEN_SECONDS)
            return await guard.ask_for_token(send, ASK_AGAIN)
        return await guard.welcome(scope, send, f"{SESSION}={self.cookie_of(token)}")


REALM = 'Bearer realm="stock_assets"'


def no_token() -> Problem:
    detail = "this server asks for a token, as Authorization: Bearer TOKEN; stock-assets token NAME makes one"
    return Problem("no-token", detail, headers={"WWW-Authenticate": REALM})


def secret_in_query(scope: "Scope") -> Problem | None:
    """Refuses a token in the query, also on a server that asks for none: a client learns it before it matters."""
    query = scope.get("query_string", b"")
    if not query:
        return None
    names = {name.lower() for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True)}
    if not (hidden := names & SECRET_PARAMETERS):
        return None
    detail = f"a query ends up in logs; send Authorization: Bearer TOKEN in place of {min(hidden)}"
    return Problem("token-in-query", detail)


async def refuse(scope: "Scope", send: "Send", problem: Problem) -> None:
    """Answers with `problem` instead of what was asked for."""
    await problem.response(scope["path"])(scope, _nothing, send)


async def _nothing() -> "Message":
    return {"type": "http.disconnect"}


#: The media types that routes read by POST; None for clients that name none.
_JSON = frozenset({"application/json"})
_OF_INVOCATIONS = frozenset({"application/json", "text/csv"})
_OF_INFER = frozenset({"application/json", "application/octet-stream", None})


def types_of_post(path: str) -> frozenset[str | None] | None:
    """The media types that the route of `path` reads; None where no route of this path reads a body."""
    if path == INVOCATIONS:
        return _OF_INVOCATIONS
    if path.startswith("/v2/models/") and path.endswith("/infer"):
        return _OF_INFER
    return _JSON if path == PREDICT or path.endswith((":batch", ":predict")) else None


def right_for(scope: "Scope") -> str:
    """The scope that a request needs."""
    return "predict" if scope["path"] == PREDICT or scope["path"].endswith(":predict") else "read"


async def body_of(headers: "Headers", receive: "Receive") -> bytes | Problem:
    """The whole body of a request, or why it is not read. The connection ends then: the rest is never looked at."""
    closing = {"Connection": "close"}
    too_large = Problem("body-too-large", f"the body is larger than {LARGEST_BODY:,} bytes", headers=closing)
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > LARGEST_BODY:
        return too_large
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return Problem("unreadable-request", "the client went away before the end of the body")
                part = message.get("body", b"")
                size += len(part)
                if size > LARGEST_BODY:
                    return too_large
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        return Problem("slow-body", f"the body did not arrive within {BODY_SECONDS:g} seconds", headers=closing)


def replayed(body: bytes, receive: "Receive") -> "Receive":
    """A `receive` that returns `body` first, and afterwards what `receive` does."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> "Message":
        return waiting.pop() if waiting else await receive()

    return again
