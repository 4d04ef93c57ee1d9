"""What a web server of this package asks of every request before it looks at it: its own Host, no foreign Origin.

Any page that is open in a browser of this machine can send requests to a server on loopback, and DNS rebinding lets it
read the answers. `stock_assets.cli.guard` puts these checks in front of Dagster's web server and
`stock_assets.serving.guard` in front of the API; both show the same page to a browser that has to log in.
"""

import hmac
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote

from stock_assets.settings_file import PREFIX, is_loopback

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.types import Message, Receive, Scope, Send

#: Names of the loopback addresses that no DNS server can point elsewhere.
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
#: Seconds before a wrong token of the login page is answered.
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


@dataclass(frozen=True)
class Refusal:
    """Why a request goes no further."""

    status: int
    text: str


def foreign(
    scope: "Scope", headers: "Headers", names: Iterable[str], *, asks_for_token: bool, token_setting: str
) -> Refusal | None:
    """Refuses another Host or Origin than the server's own, and any beyond loopback where no token is asked for.

    `names` are further names of the server, as `name` or `name:port`; `token_setting` is the setting that names its
    tokens.
    """
    address, port = scope.get("server") or ("", None)
    if not asks_for_token and not is_loopback(address):
        return Refusal(403, f"this server answers on loopback alone until {PREFIX}{token_setting} is set")
    hosts = headers.getlist("host")
    if len(hosts) != 1 or hosts[0].lower() not in _own_hosts(address, port, tuple(names)):
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


def own_hosts(address: str, port: int | None, names: Iterable[str] = ()) -> set[str]:
    """What the header Host may be of a server on `address` and `port`.

    >>> sorted(own_hosts("127.0.0.1", 3000))
    ['127.0.0.1:3000', '[::1]:3000', 'localhost:3000']
    >>> sorted(own_hosts("127.0.0.1", 3000, ["stocks.example"]) - own_hosts("127.0.0.1", 3000))
    ['stocks.example', 'stocks.example:3000']
    """
    return {*_own_hosts(address, port, tuple(names))}


@lru_cache(maxsize=64)  # asked for with every request
def _own_hosts(address: str, port: int | None, names: tuple[str, ...]) -> frozenset[str]:
    own = {*LOOPBACK, _literal(address)} - {""}
    hosts = {f"{host}:{port}" for host in own} | (own if port in (80, 443) else set())
    for name in map(str.lower, names):
        hosts |= {name} if ":" in name.rpartition("]")[2] else {name, f"{name}:{port}"}
    return frozenset(hosts)


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


def content_type(headers: "Headers") -> str | None:
    """The media type without its parameters: `text/plain; application/json` is text/plain. None where not one alone."""
    types = headers.getlist("content-type")
    return types[0].partition(";")[0].strip().lower() if len(types) == 1 else None


def is_token(offer: str, token: str) -> bool:
    """Whether the two are equal, in a time that does not tell how much of them is."""
    return hmac.compare_digest(offer.encode(errors="replace"), token.encode())


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


def cookies(headers: "Headers", name: str) -> list[str]:
    """The cookies of this name. Other servers of this machine may have set further ones, of any form."""
    from starlette.requests import cookie_parser

    return [cookie for header in headers.getlist("cookie") if (cookie := cookie_parser(header).get(name))]


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
    body, has_more = b"", True
    while has_more:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        body += message.get("body", b"")
        has_more = message.get("more_body", False)
        if len(body) > LONGEST_LOGIN:
            return b""
    return body


async def token_of_form(receive: "Receive") -> str | None:
    """The token that the login page sends; None for anything else in the form."""
    form = parse_qs((await body_of(receive)).decode(errors="replace"), keep_blank_values=True)
    return form["token"][0] if len(form.get("token", ())) == 1 else None


async def ask_for_token(send: "Send", text: str) -> None:
    """Answers with the login page; `text` stands over its field, as HTML."""
    page = LOGIN_PAGE.format(text=text)
    headers = [("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", LOGIN_POLICY)]
    await answer(send, 401, page, headers=headers)


async def welcome(scope: "Scope", send: "Send", cookie: str) -> None:
    """Answers a login with `cookie`, as name=value, and leads to the page that was asked for."""
    secure = "; Secure" if scope.get("scheme") == "https" else ""
    # one slash: `//elsewhere` would be another server
    target = "/" + quote(scope["path"].lstrip("/\\"))
    if query := scope.get("query_string", b""):
        target += "?" + quote(query.decode("latin-1"), safe="%&=+/?:@!$'()*,;~-._[]")
    headers = [("Location", target), ("Set-Cookie", f"{cookie}; Path=/; HttpOnly; SameSite=Strict{secure}")]
    await answer(send, 303, "", headers=headers)


async def answer(send: "Send", status: int, text: str, *, headers: Iterable[tuple[str, str]] = ()) -> None:
    body = text.encode()
    own_headers = {
        "Content-Type": "text/plain; charset=utf-8",
        "Cache-Control": "no-store",
        "Content-Length": str(len(body)),
    }
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in {**own_headers, **dict(headers)}.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
