"""What stands between the network and Dagster's web server, in the process that listens.

Dagster runs mutations by GET and by a POST of any content type, answers under any Host and to a WebSocket of any
Origin, and asks nobody who he is: any page that is open in the browser could launch runs. The guard lets through

- requests to a Host that is the server's own, from no other Origin than that,
- GET and HEAD, which change nothing then: GraphQL is answered to POST alone,
- POST with a body of `application/json`, which a foreign page cannot send,
- where `ui_token` is set, clients that hold it: a cookie from the login page, `Authorization: Bearer` or the password
  of `Authorization: Basic`.

`guard_web_servers` puts it in front of every web server that works on the project's instance.
"""

import asyncio
import hashlib
import hmac
import logging
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote

from stock_assets.errors import SettingsError
from stock_assets.private.dagster import wrap_web_server
from stock_assets.settings import PREFIX, Settings, settings
from stock_assets.settings_file import is_loopback

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Names of the loopback addresses that no DNS server can point elsewhere.
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
#: Seconds before a wrong token is answered.
WRONG_TOKEN_SECONDS = 1.0
#: A login sends less than this, in bytes.
LONGEST_LOGIN = 4096
JSON, FORM = "application/json", "application/x-www-form-urlencoded"

#: Sent with every answer. Dagster's own Content-Security-Policy stays and holds beside this one.
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
}
POLICY = "frame-ancestors 'self'"
LOGIN_POLICY = f"default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; {POLICY}"

LOGIN_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>stock_assets</title>
<style>body {{ font: 16px sans-serif; margin: 20vh auto; width: 24em }} input, button {{ font: inherit }}</style>
<form method="post"><h1>stock_assets</h1><p>{text}</p>
<p><input type="password" name="token" autocomplete="current-password" aria-label="token" required autofocus>
<button>Log in</button></p></form></html>
"""
ASK = "The token of this server, as STOCK_ASSETS_UI_TOKEN has it:"
ASK_AGAIN = "That is not the token of this server. Once more:"


@dataclass(frozen=True)
class Refusal:
    """Why a request goes no further."""

    status: int
    text: str


@dataclass(frozen=True)
class Guard:
    """The ASGI application `app`, for those alone who may ask it."""

    app: "ASGIApp"
    token: str | None = None
    """whoever asks must hold it; nobody is asked for one when None, and then the server answers on loopback alone"""
    names: tuple[str, ...] = ()
    """`name` or `name:port` under which browsers reach the server, besides its own address"""

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        from starlette.datastructures import Headers

        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        if scope["type"] == "websocket":
            refusal = self.foreign(scope, headers) or self.unknown(headers)
            if refusal is not None:  # before it is accepted: the client gets a 403
                return await send({"type": "websocket.close", "code": 1008, "reason": refusal.text})
            return await self.app(scope, receive, send)
        send = hardened(send)
        if refusal := self.foreign(scope, headers):
            return await answer(send, refusal.status, refusal.text)
        if self.token and scope["method"] == "POST" and content_type(headers) == FORM:
            return await self.log_in(scope, receive, send)
        if refusal := self.unknown(headers):
            if scope["method"] in ("GET", "HEAD") and "text/html" in headers.get("accept", ""):
                return await ask_for_token(send, ASK)
            return await answer(send, refusal.status, refusal.text)
        if refusal := changes_without_json(scope, headers):
            return await answer(send, refusal.status, refusal.text)
        return await self.app(scope, receive, send)

    def foreign(self, scope: "Scope", headers: "Headers") -> Refusal | None:
        """Refuses another Host or Origin than the server's own, and any beyond loopback where there is no token."""
        address, port = scope.get("server") or ("", None)
        if not self.token and not is_loopback(address):
            return Refusal(403, f"this server answers on loopback alone until {PREFIX}UI_TOKEN is set")
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in own_hosts(address, port, self.names):
            return Refusal(
                403,
                f"the Host of this request, {', '.join(hosts) or 'none'}, is not the server's own; a further name of "
                f"it goes into {PREFIX}UI_NAMES",
            )
        own = {f"{scheme}://{hosts[0].lower()}" for scheme in ("http", "https")}
        origins = headers.getlist("origin")
        # every browser sends it with a WebSocket
        missing = scope["type"] == "websocket" and not origins
        if missing or len(origins) > 1 or not {origin.lower() for origin in origins} <= own:
            return Refusal(403, f"the Origin of this request, {', '.join(origins) or 'none'}, is not the server's own")
        if not {*headers.getlist("sec-fetch-site")} <= {"same-origin", "none"} and not is_navigation(scope, headers):
            return Refusal(403, "this request comes from a page of another origin")
        return None

    def unknown(self, headers: "Headers") -> Refusal | None:
        """Refuses who does not hold the token, where there is one."""
        if self.token is None or any(is_token(offer, self.token) for offer in offered_tokens(headers)):
            return None
        if any(is_token(value, session_of(self.token)) for value in session_cookies(headers)):
            return None
        return Refusal(401, f"this server wants the token of {PREFIX}UI_TOKEN, as Authorization: Bearer TOKEN")

    async def log_in(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answers the form of the login page: with a cookie and the page that was asked for, or the form again."""
        form = parse_qs((await body_of(receive)).decode(errors="replace"), keep_blank_values=True)
        assert self.token is not None
        if len(form.get("token", ())) != 1 or not is_token(form["token"][0], self.token):
            client = (scope.get("client") or ("an unknown address", 0))[0]
            logging.getLogger("dagster-webserver").warning(f"a wrong token from {client!r}")
            await asyncio.sleep(WRONG_TOKEN_SECONDS)
            return await ask_for_token(send, ASK_AGAIN)
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        cookie = f"{SESSION}={session_of(self.token)}; Path=/; HttpOnly; SameSite=Strict{secure}"
        # one slash: `//elsewhere` would be another server
        target = "/" + quote(scope["path"].lstrip("/\\"))
        if query := scope.get("query_string", b""):
            target += "?" + quote(query.decode("latin-1"), safe="%&=+/?:@!$'()*,;~-._[]")
        return await answer(send, 303, "", headers=[("Location", target), ("Set-Cookie", cookie)])


SESSION = "stock_assets_ui"


def own_hosts(address: str, port: int | None, names: Iterable[str] = ()) -> set[str]:
    """What the header Host may be of a server on `address` and `port`.

    >>> sorted(own_hosts("127.0.0.1", 3000))
    ['127.0.0.1:3000', '[::1]:3000', 'localhost:3000']
    >>> sorted(own_hosts("127.0.0.1", 3000, ["stocks.example"]) - own_hosts("127.0.0.1", 3000))
    ['stocks.example', 'stocks.example:3000']
    """
    own = {*LOOPBACK, _literal(address)} - {""}
    hosts = {f"{host}:{port}" for host in own} | (own if port in (80, 443) else set())
    for name in map(str.lower, names):
        hosts |= {name} if ":" in name.rpartition("]")[2] else {name, f"{name}:{port}"}
    return hosts


def _literal(address: str) -> str:
    """An address as it stands in a URL; nothing for the path of a socket."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(ip, IPv6Address):
        return str(ip.ipv4_mapped) if ip.ipv4_mapped else f"[{ip}]"
    return str(ip)


def is_navigation(scope: "Scope", headers: "Headers") -> bool:
    """Whether a person follows a link to a page of ours, which another page never gets to see."""
    expected = {"sec-fetch-mode": ["navigate"], "sec-fetch-dest": ["document"]}
    return scope.get("method") == "GET" and all(headers.getlist(name) == value for name, value in expected.items())


def changes_without_json(scope: "Scope", headers: "Headers") -> Refusal | None:
    """Refuses what may change something and is no JSON POST.

    Dagster answers GraphQL to GET as well, mutations included, unless the client wants HTML: then it is a page.
    """
    method = scope["method"]
    if method in ("GET", "HEAD"):
        # "/graphql\n" and "/prefix/graphql" reach it too
        is_graphql = scope["path"].rstrip("/ \t\r\n").endswith("/graphql")
        if is_graphql and "text/html" not in headers.get("accept", ""):
            return Refusal(405, "GraphQL is answered to POST alone")
        return None
    if method != "POST":
        return Refusal(405, "only GET, HEAD and POST are answered")
    if content_type(headers) != JSON:
        return Refusal(415, f"a POST is answered with the Content-Type {JSON} alone")
    return None


def content_type(headers: "Headers") -> str | None:
    """The media type without its parameters: `text/plain; application/json` is text/plain. None where not one alone."""
    types = headers.getlist("content-type")
    return types[0].partition(";")[0].strip().lower() if len(types) == 1 else None


def is_token(offer: str, token: str) -> bool:
    """Whether the two are equal, in a time that does not tell how much of them is."""
    return hmac.compare_digest(offer.encode(errors="replace"), token.encode())


def session_of(token: str) -> str:
    """What the cookie holds: it proves the token, ends with it, and does not tell it."""
    return hmac.new(token.encode(), b"stock_assets ui session", hashlib.sha256).hexdigest()


def offered_tokens(headers: "Headers") -> list[str]:
    """The token of `Authorization: Bearer`, or the password of `Basic`, which http://:TOKEN@host stands for."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer":
        return [value]
    if scheme.lower() != "basic":
        return []
    try:
        return [b64decode(value, validate=True).decode().partition(":")[2]]
    except ValueError:  # neither Base64 nor UTF-8
        return []


def session_cookies(headers: "Headers") -> list[str]:
    """The cookies of the login page. Other servers of this machine may have set further ones, of any form."""
    from starlette.requests import cookie_parser

    return [cookie for header in headers.getlist("cookie") if (cookie := cookie_parser(header).get(SESSION))]


def hardened(send: "Send") -> "Send":
    """`send` with HEADERS and POLICY on every answer."""

    async def with_headers(message: "Message") -> None:
        if message["type"] == "http.response.start":
            from starlette.datastructures import MutableHeaders

            headers = MutableHeaders(raw=list(message.get("headers", ())))
            for name, value in HEADERS.items():
                headers[name] = value
            headers.append("Content-Security-Policy", POLICY)
            message = {**message, "headers": headers.raw}
        await send(message)

    return with_headers


async def body_of(receive: "Receive") -> bytes:
    """The body of a login; what is longer than LONGEST_LOGIN is no login, and empty here."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > LONGEST_LOGIN:
            return b""
    return body


async def ask_for_token(send: "Send", text: str) -> None:
    page = LOGIN_PAGE.format(text=text)
    headers = [("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", LOGIN_POLICY)]
    await answer(send, 401, page, headers=headers)


async def answer(send: "Send", status: int, text: str, *, headers: Iterable[tuple[str, str]] = ()) -> None:
    body = text.encode()
    given = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store", "Content-Length": str(len(body))}
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in {**given, **dict(headers)}.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def guarded(app: "ASGIApp", config: Settings) -> "ASGIApp":
    """`app` behind the guard of `config`.

    Raises SettingsError where the command that starts the server binds it beyond loopback without a token.
    """
    import click

    context = click.get_current_context(silent=True)
    host = context.params.get("host") if context else None
    token = config.ui_token.get_secret_value() if config.ui_token else None
    if host is not None and not is_loopback(host) and token is None:
        raise SettingsError(
            f"the web server is to listen on {host!r}, where others reach it; expected an address of loopback, such as "
            f"127.0.0.1, or a token in {PREFIX}UI_TOKEN"
        )
    return Guard(app, token, config.ui_names)


def guard_web_servers() -> None:
    """Has every web server of this process answer through the guard; without effect where it is none.

    Raises PrivateApiError where Dagster's web server is made in another way.
    """
    wrap_web_server(lambda app: guarded(app, settings()))
