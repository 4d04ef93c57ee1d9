"""Who may ask the API what: no page of another origin, and where there are tokens none without one."""

import asyncio
import base64
import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from stock_assets import guard as ground
from stock_assets.serving import guard
from stock_assets.serving.guard import CLIENT, LARGEST_BODY, OPEN, SESSION, ApiGuard
from stock_assets.serving.limits import Limited, RateLimits
from stock_assets.serving.tokens import TokenFile, add_token
from stock_assets_tests.serving.wire import BROWSER, JSON, OWN, Wire

EVIL = "http://evil.test"
FORM = ("content-type", "application/x-www-form-urlencoded")


async def echo(request: Request) -> JSONResponse:
    body = await request.body()
    return JSONResponse(
        {"client": request.scope[CLIENT], "bytes": len(body)}, 404 if "missing" in request.url.path else 200
    )


def application() -> Starlette:
    return Starlette(routes=[Route("/{rest:path}", echo, methods=["GET", "POST", "HEAD"])])


@pytest.fixture
def wire() -> Wire:
    return Wire(ApiGuard(application()))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


@pytest.fixture
def token(file: Path) -> str:
    return add_token(file, "desk")


@pytest.fixture
def locked(file: Path, token: str, monkeypatch: pytest.MonkeyPatch) -> Wire:  # noqa: ARG001
    monkeypatch.setattr(ground, "WRONG_TOKEN_SECONDS", 0)
    return Wire(ApiGuard(application(), TokenFile(file)))


def bearer(token: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {token}")


# --- other origins


def test_the_own_host_is_answered(wire: Wire):
    for host in (OWN, "localhost:8000", "LOCALHOST:8000", "[::1]:8000"):
        assert wire.get("/v1/sessions", host=host).status == 200


@pytest.mark.parametrize(
    "host", [None, "", "evil.test", "evil.test:8000", "127.0.0.1", "127.0.0.1:3000", "localhost:8000.evil.test"]
)
def test_another_host_is_refused(wire: Wire, host: str | None):
    """DNS rebinding: the browser of a person sends the name of the foreign page."""
    for path in ("/v1/sessions", "/readyz", "/metrics", "/"):
        reply = wire.get(path, host=host)
        assert reply.status == 403
        assert reply.header("content-type") == "application/problem+json"


@pytest.mark.parametrize(
    "headers",
    [
        [("origin", EVIL)],
        [("origin", "null")],
        [("origin", "http://127.0.0.1:3000")],
        [("origin", f"http://{OWN}"), ("origin", EVIL)],
        [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")],
        [("sec-fetch-site", "same-site"), ("sec-fetch-mode", "cors")],
    ],
)
def test_a_page_of_another_origin_reads_nothing(wire: Wire, headers: list[tuple[str, str]]):
    for reply in (wire.get("/v1/sessions", *headers), wire.post("/v1/predictions:batch", JSON, *headers, body=b"{}")):
        assert reply.status == 403
        assert not [name for name, _ in reply.headers if name.startswith("access-control")]


def test_a_preflight_allows_nothing(wire: Wire):
    reply = wire.ask("OPTIONS", "/v1/sessions", ("origin", EVIL), ("access-control-request-method", "GET"))
    assert reply.status == 403
    same = wire.ask("OPTIONS", "/v1/sessions", ("access-control-request-method", "GET"))
    assert not [name for name, _ in reply.headers + same.headers if name.startswith("access-control")]


def test_a_name_of_the_settings_is_an_own_host():
    wire = Wire(ApiGuard(application(), names=("stocks.example",)))
    assert wire.get("/", host="stocks.example").status == 200
    assert wire.get("/", ("origin", "https://stocks.example"), host="stocks.example").status == 200
    assert wire.get("/", ("origin", EVIL), host="stocks.example").status == 403


def test_without_tokens_an_address_beyond_loopback_is_not_answered():
    wire = Wire(ApiGuard(application()), server=("192.0.2.7", 8000))
    reply = wire.get("/", host="192.0.2.7:8000")
    assert reply.status == 403
    assert "STOCK_ASSETS_API_TOKENS" in reply.json()["detail"]


def test_every_answer_carries_the_headers(wire: Wire):
    for reply in (wire.get("/"), wire.get("/", host="evil.test"), wire.get("/?token=a")):
        for name, value in ground.HEADERS.items():
            assert reply.header(name.lower()) == value


# --- what is sent


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_json_is_read(wire: Wire, kind: str):
    reply = wire.post("/v1/predictions:batch", ("content-type", kind), body=b"{}")
    assert reply.json()["bytes"] == 2


@pytest.mark.parametrize("kinds", [[], ["text/plain"], ["text/plain;application/json"], ["text/csv"], ["a", "b"]])
def test_another_type_is_refused_where_a_body_is_read(wire: Wire, kinds: list[str]):
    reply = wire.post("/v1/predictions:batch", *[("content-type", kind) for kind in kinds], body=b"{}")
    assert reply.status == 415
    assert "application/json" in reply.json()["detail"]


def test_a_protocol_has_further_types(wire: Wire):
    assert wire.post("/invocations", ("content-type", "text/csv"), body=b"ticker\nAAPL").status == 200
    refused = wire.post("/invocations", ("content-type", "text/plain"), body=b"ticker\nAAPL")
    assert refused.status == 415
    assert refused.json()["error_code"] == "BAD_REQUEST"


def test_a_body_is_bounded_and_arrives_whole(wire: Wire):
    parts = [b"a" * 1000] * 100
    assert wire.post("/v1/predictions:batch", JSON, body=parts).json()["bytes"] == 100_000
    longest = wire.post("/v1/predictions:batch", JSON, body=b"a" * LARGEST_BODY)
    assert longest.json()["bytes"] == LARGEST_BODY
    for reply in (
        wire.post("/v1/predictions:batch", JSON, body=[b"a" * 65536] * 17),
        wire.post("/v1/predictions:batch", JSON, ("content-length", str(LARGEST_BODY + 1)), body=b"{}"),
        wire.post("/v1/predictions:batch", JSON, ("content-length", "-1"), body=b"{}"),
    ):
        assert reply.status == 413
        assert reply.header("connection") == "close"


def test_a_body_that_does_not_come_is_not_waited_for(wire: Wire, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.01)

    async def half() -> Any:
        async def receive():
            await asyncio.sleep(60)

        sent = []

        async def send(message):
            sent.append(message)

        headers = [(b"host", OWN.encode()), (b"content-type", b"application/json"), (b"content-length", b"100")]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/predictions:batch",
            "query_string": b"",
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 1),
            "headers": headers,
        }
        await wire.app(scope, receive, send)
        return sent[0]["status"]

    assert asyncio.run(half()) == 408


@pytest.mark.parametrize("name", ["token", "access_token", "API_KEY", "apikey", "Authorization", "acc%65ss_token"])
def test_a_token_in_the_query_is_refused(wire: Wire, locked: Wire, token: str, name: str):
    for server in (wire, locked):
        reply = server.get(f"/v1/sessions?a=1&{name}={token}", bearer(token))
        assert reply.status == 400
        assert "Authorization" in reply.json()["detail"]
        assert token not in reply.body.decode()


# --- tokens


def test_without_a_token_nothing_but_the_probes_is_answered(locked: Wire, token: str):
    wrong = ("Bearer", "Bearer ", "Bearer wrong", f"Bearer {token}x", f"Token {token}", token, "Basic ?", "Basic w6Q=")
    for headers in ([], *([("authorization", value)] for value in wrong), [("cookie", f"{SESSION}={token}")]):
        for path in ("/v1/sessions", "/metrics", "/openapi.json", "/v2", "/ping/", "/livez/x", "/invocations"):
            reply = locked.get(path, *headers)
            assert reply.status == 401
            assert reply.header("www-authenticate") == 'Bearer realm="stock_assets"'
        for path in OPEN:
            assert locked.get(path, *headers).status == 200
    assert locked.get("/v2/models/rnn").json() == {"error": guard.no_token().detail}
    assert locked.get("/invocations").json()["error_code"] == "UNAUTHENTICATED"


def test_clients_send_the_token(locked: Wire, token: str):
    basic = base64.b64encode(f"anybody:{token}".encode()).decode()
    for value in (f"Bearer {token}", f"bearer  {token}", f"Basic {basic}"):
        reply = locked.get("/v1/sessions", ("authorization", value))
        assert (reply.status, reply.json()["client"]) == (200, "desk")
    assert locked.get("/v1/sessions", bearer(token), ("origin", EVIL)).status == 403


def test_beyond_loopback_the_token_opens(file: Path, token: str):
    wire = Wire(ApiGuard(application(), TokenFile(file)), server=("192.0.2.7", 8000))
    assert wire.get("/v1/sessions", bearer(token), host="192.0.2.7:8000").status == 200
    assert wire.get("/v1/sessions", host="192.0.2.7:8000").status == 401
    assert wire.get("/v1/sessions", bearer(token), host="evil.test").status == 403


def test_predictions_on_demand_need_their_scope(file: Path, locked: Wire, token: str):
    path = "/v1/models/rnn/versions/rnn-2025-12-31-0a0a0a0a:predict"
    reply = locked.post(path, JSON, bearer(token), body=b"{}")
    assert reply.status == 403
    assert 'scope="predict"' in (reply.header("www-authenticate") or "")
    both = add_token(file, "trader", ("read", "predict"))
    assert locked.post(path, JSON, bearer(both), body=b"{}").status == 200
    assert locked.get("/v1/sessions", bearer(both)).status == 200
    alone = add_token(file, "only", ("predict",))
    assert locked.get("/v1/sessions", bearer(alone)).status == 403


def test_the_tokens_change_without_a_restart(file: Path, locked: Wire, token: str):
    added = add_token(file, "reports")
    assert locked.get("/v1/sessions", bearer(added)).json()["client"] == "reports"
    file.write_text("".join(line for line in file.read_text().splitlines(keepends=True) if not line.startswith("desk")))
    assert locked.get("/v1/sessions", bearer(token)).status == 401
    assert locked.get("/v1/sessions", bearer(added)).status == 200


def test_while_the_file_is_damaged_no_client_is_answered(
    file: Path, locked: Wire, token: str, caplog: pytest.LogCaptureFixture
):
    file.chmod(0o644)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            reply = locked.get("/v1/sessions", bearer(token))
            assert reply.status == 503
            assert str(file) not in reply.body.decode()
    assert locked.get("/livez").status == 200
    assert len(caplog.records) == 1
    assert f"chmod 600 {file}" in caplog.text
    file.chmod(0o600)
    assert locked.get("/v1/sessions", bearer(token)).status == 200


def test_a_person_logs_in_and_is_led_to_the_page(locked: Wire, token: str, file: Path):
    page = locked.get("/ticker/AAPL?model=rnn", BROWSER)
    assert page.status == 401
    assert b'<input type="password" name="token"' in page.body
    again = locked.post("/", FORM, body=b"token=wrong")
    assert (again.status, again.header("set-cookie")) == (401, None)
    reply = locked.post("/ticker/AAPL?model=rnn", FORM, body=f"token={quote(token)}".encode())
    assert (reply.status, reply.header("location")) == (303, "/ticker/AAPL?model=rnn")
    cookie = reply.header("set-cookie") or ""
    assert "; HttpOnly; SameSite=Strict" in cookie
    assert token not in cookie
    assert file.read_text().split("sha256:")[1][:64] not in cookie
    session = ("cookie", f"theme=dark; {cookie.partition(';')[0]}; other=")
    assert locked.get("/", BROWSER, session).json()["client"] == "desk"
    # the cookie of one process is worth nothing to another, nor after the token is gone
    assert Wire(ApiGuard(application(), TokenFile(file))).get("/", session).status == 401
    add_token(file, "reports")
    file.write_text("".join(line for line in file.read_text().splitlines(keepends=True) if not line.startswith("desk")))
    assert locked.get("/", session).status == 401


def test_a_foreign_page_cannot_log_a_person_in(locked: Wire, token: str):
    assert locked.post("/", FORM, ("origin", EVIL), body=f"token={token}".encode()).status == 403


def test_no_secret_is_logged(locked: Wire, token: str, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG):
        locked.get("/v1/sessions", bearer(token))
        locked.get(f"/v1/sessions?token={token}")
        locked.get("/v1/sessions", bearer("wrong-secret"))
        locked.post("/", FORM, body=b"token=wrong-secret")
    assert token not in caplog.text
    assert "wrong-secret" not in caplog.text
    assert "a wrong token from '127.0.0.1'" in caplog.text


# --- how often


def limited(per_minute: int, tokens: TokenFile | None = None) -> ApiGuard:
    return ApiGuard(Limited(application(), RateLimits(per_minute, lambda: 0.0), free=OPEN), tokens)


def test_a_client_is_told_when_the_next_request_is_answered():
    wire = Wire(limited(2))
    replies = [wire.get("/v1/sessions") for _ in range(3)]
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert [reply.header("ratelimit") for reply in replies] == [
        '"minute";r=1;t=30',
        '"minute";r=0;t=60',
        '"minute";r=0;t=60',
    ]
    assert {reply.header("ratelimit-policy") for reply in replies} == {'"minute";q=2;w=60'}
    assert replies[2].header("retry-after") == "30"
    assert replies[2].header("content-type") == "application/problem+json"
    assert wire.get("/livez").status == 200
    assert Wire(wire.app, client="127.0.0.2").get("/v1/sessions").status == 200


def test_refused_and_failed_requests_cost_nothing(file: Path, token: str):
    wire = Wire(limited(1, TokenFile(file)))
    for _ in range(3):
        assert wire.get("/missing", bearer(token)).status == 404
        assert wire.get("/v1/sessions").status == 401
        assert wire.get("/v1/sessions", bearer(token), host="evil.test").status == 403
    assert wire.get("/v1/sessions", bearer(token)).status == 200
    assert wire.get("/v1/sessions", bearer(token)).status == 429
    other = add_token(file, "reports")
    assert wire.get("/v1/sessions", bearer(other)).status == 200


def test_a_request_that_raises_costs_nothing():
    async def broken(_scope, _receive, _send):
        raise ZeroDivisionError

    limits = RateLimits(1, lambda: 0.0)
    wire = Wire(ApiGuard(Limited(broken, limits)))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            wire.get("/v1/sessions")
