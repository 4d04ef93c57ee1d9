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
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stock_assets.errors import SettingsError
from stock_assets.guard import (
    FORM,
    JSON,
    WRONG_TOKEN_SECONDS,
    Refusal,
    answer,
    ask_for_token,
    content_type,
    cookies,
    foreign,
    hardened,
    is_token,
    offered_tokens,
    token_of_form,
    welcome,
)
from stock_assets.private.dagster import wrap_web_server
from stock_assets.settings import PREFIX, Settings, settings
from stock_assets.settings_file import is_loopback

if TYPE_CHECKING:
    import click
    from starlette.datastructures import Headers
    from starlette.types import ASGIApp, Receive, Scope, Send

#: `dagster dev`, which `dg dev` starts as well, and the web server alone, by the names that click has of them.
SERVER_COMMANDS = ("dev", "dagster-webserver")

ASK = "The token of this server, as STOCK_ASSETS_UI_TOKEN has it:"
ASK_AGAIN = "That is not the token of this server. Once more:"


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
        return foreign(scope, headers, self.names, asks_for_token=self.token is not None, token_setting="UI_TOKEN")

    def unknown(self, headers: "Headers") -> Refusal | None:
        """Refuses who does not hold the token, where there is one."""
        if self.token is None or any(is_token(offer, self.token) for offer in offered_tokens(headers)):
            return None
        if any(is_token(value, session_of(self.token)) for value in cookies(headers, SESSION)):
            return None
        return Refusal(401, f"this server wants the token of {PREFIX}UI_TOKEN, as Authorization: Bearer TOKEN")

    async def log_in(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answers the form of the login page: with a cookie and the page that was asked for, or the form again."""
        assert self.token is not None
        offer = await token_of_form(receive)
        if offer is None or not is_token(offer, self.token):
            client = (scope.get("client") or ("an unknown address", 0))[0]
            logging.getLogger("dagster-webserver").warning(f"a wrong token from {client!r}")
            await asyncio.sleep(WRONG_TOKEN_SECONDS)
            return await ask_for_token(send, ASK_AGAIN)
        return await welcome(scope, send, f"{SESSION}={session_of(self.token)}")


SESSION = "stock_assets_ui"


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


def session_of(token: str) -> str:
    """What the cookie holds: it proves the token, ends with it, and does not tell it."""
    return hmac.new(token.encode(), b"stock_assets ui session", hashlib.sha256).hexdigest()


def guarded(app: "ASGIApp", config: Settings) -> "ASGIApp":
    """`app` behind the guard of `config`. Raises SettingsError as `require_token_beyond_loopback`."""
    require_token_beyond_loopback(config)
    return Guard(app, config.ui_token.get_secret_value() if config.ui_token else None, config.ui_names)


def server_command() -> "click.Context | None":
    """The command of Dagster that starts a web server, if this process is one; the code servers' have a host too."""
    import click

    context = click.get_current_context(silent=True)
    return context if context and context.command.name in SERVER_COMMANDS else None


def require_token_beyond_loopback(config: Settings) -> None:
    """Raises SettingsError where the command of this process binds a web server beyond loopback without a token."""
    command = server_command()
    host = command.params.get("host") if command else None
    if host is not None and not is_loopback(host) and config.ui_token is None:
        raise SettingsError(
            f"the web server is to listen on {host!r}, where others reach it; expected an address of loopback, such as "
            f"127.0.0.1, or a token in {PREFIX}UI_TOKEN"
        )


def guard_web_servers() -> None:
    """Has every web server of this process answer through the guard; without effect where it is none.

    Raises PrivateApiError where Dagster's web server is made in another way.
    """
    wrap_web_server(lambda app: guarded(app, settings()))
