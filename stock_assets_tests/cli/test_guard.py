"""Who may ask the web server what: no page of another origin, and nobody without the token where there is one."""

import asyncio
import base64
import sys
import types
from collections.abc import Iterable
from dataclasses import dataclass, field
from email.message import Message
from inspect import unwrap
from urllib.parse import quote, unquote

import click
import pytest
from dagster_webserver.webserver import DagsterWebserver
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from stock_assets.cli import guard
from stock_assets.cli.guard import Guard
from stock_assets.errors import PrivateApiError, SettingsError
from stock_assets.guard import HEADERS, POLICY, own_hosts
from stock_assets.private import dagster as borrowed
from stock_assets.settings import Settings

OWN, PORT, TOKEN = "127.0.0.1:3000", 3000, "correct horse"
JSON = ("content-type", "application/json")
EVIL = "http://evil.test"
BROWSER = ("accept", "text/html,application/xhtml+xml")


class Recorder(DagsterWebserver):
    """Dagster's own routes; what may change something is written down in `reached` instead of done."""

    # every instance that another test of this process makes puts the guard of the settings in front of the class
    create_asgi_app = unwrap(DagsterWebserver.create_asgi_app)

    def __init__(self, prefix: str = "") -> None:
        self.reached: list[str] = []
        super().__init__(None, prefix)  # pyright: ignore[reportArgumentType]

    def build_graphql_schema(self):  # the real one takes a second
        return None

    async def graphql_http_endpoint(self, request: Request):
        if request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
            return PlainTextResponse("GraphiQL")
        self.reached.append("graphql")
        return PlainTextResponse("done")

    async def graphql_ws_endpoint(self, websocket):
        self.reached.append("subscription")
        await websocket.close()

    async def report_asset_materialization_endpoint(self, request: Request):  # noqa: ARG002
        self.reached.append("report")
        return PlainTextResponse("done")

    report_asset_check_endpoint = report_asset_observation_endpoint = report_asset_materialization_endpoint

    def index_html_endpoint(self, request: Request):  # noqa: ARG002
        return PlainTextResponse("UI")


@dataclass
class Reply:
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: str = ""

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


class Client:
    """Asks an application as a socket would, header by header: no library corrects what is sent."""

    def __init__(self, token: str | None = None, names: tuple[str, ...] = (), prefix: str = "") -> None:
        self.server = Recorder(prefix)
        self.guard = Guard(self.server.create_asgi_app(), token, names)

    @property
    def reached(self) -> list[str]:
        return self.server.reached

    def ask(
        self,
        method: str,
        target: str,
        *headers: tuple[str, str],
        body: bytes = b"",
        hosts: Iterable[str] = (OWN,),
        server: tuple[str, int | None] | None = ("127.0.0.1", PORT),
        kind: str = "http",
    ) -> Reply:
        path, _, query = target.partition("?")
        scope = {
            "type": kind,
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "server": server,
            "client": ("127.0.0.1", 50000),
            "subprotocols": [],
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers]
            + [(b"host", host.encode("latin-1")) for host in hosts],
        }
        if kind == "websocket":
            del scope["method"]
        incoming = [{"type": "websocket.connect"}] if kind == "websocket" else [{"type": "http.request", "body": body}]
        reply = Reply()

        async def receive():
            return incoming.pop(0) if incoming else {"type": f"{kind}.disconnect"}

        async def send(message):
            if message["type"] == "http.response.start":
                reply.status = message["status"]
                reply.headers = [(name.decode(), value.decode()) for name, value in message["headers"]]
            elif message["type"] == "http.response.body":
                reply.body += message.get("body", b"").decode(errors="replace")

        asyncio.run(self.guard(scope, receive, send))
        return reply

    def get(self, target: str, *headers: tuple[str, str], **how) -> Reply:
        return self.ask("GET", target, *headers, **how)

    def post(self, target: str, *headers: tuple[str, str], **how) -> Reply:
        return self.ask("POST", target, *headers, **how)


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setattr(guard, "WRONG_TOKEN_SECONDS", 0)
    return Client(token=TOKEN)


# --- who asks


@pytest.mark.parametrize("host", [OWN, "localhost:3000", "LocalHost:3000", "[::1]:3000"])
def test_the_own_hosts_are_answered(client: Client, host: str):
    assert client.get("/", hosts=[host]).body == "UI"


@pytest.mark.parametrize(
    "hosts",
    [
        ["evil.test:3000"],
        ["evil.test"],
        ["127.0.0.1"],
        ["127.0.0.1:3001"],
        ["127.0.0.1:3000.evil.test"],
        ["127.0.0.1:3000@evil.test"],
        ["evil.test@127.0.0.1:3000"],
        ["127.0.0.1.:3000"],
        ["localhost.:3000"],
        ["localhost.evil.test:3000"],
        ["0.0.0.0:3000"],
        ["[::]:3000"],
        ["::1:3000"],
        ["127.0.0.2:3000"],
        ["2130706433:3000"],
        ["127.1:3000"],
        [" 127.0.0.1:3000"],
        ["127.0.0.1:03000"],
        [""],
        [],
        [OWN, "evil.test:3000"],
        [OWN, OWN],
    ],
)
def test_another_host_is_refused(client: Client, hosts: list[str]):
    assert client.get("/", hosts=hosts).status == 403
    assert client.post("/graphql", JSON, hosts=hosts).status == 403
    client.ask("GET", "/graphql", ("origin", f"http://{OWN}"), hosts=hosts, kind="websocket")
    assert not client.reached


@given(st.text(st.characters(max_codepoint=255), max_size=30))
@example("evil.test")
def test_no_other_text_is_a_host(host: str):
    if host.lower() not in own_hosts("127.0.0.1", PORT):
        assert Client().get("/", hosts=[host]).status == 403


def test_further_names_are_answered_with_their_port():
    client = Client(names=("Stocks.example", "tunnel:8080", "[2001:db8::1]"))
    for host in ("stocks.example", "stocks.example:3000", "tunnel:8080", "[2001:db8::1]:3000"):
        assert client.get("/", hosts=[host]).status == 200, host
    for host in ("stocks.example:8080", "tunnel", "tunnel:3000", "evil.stocks.example", "stocks.example."):
        assert client.get("/", hosts=[host]).status == 403, host


def test_an_address_beyond_loopback_is_its_own_and_wants_a_token():
    headers = ("authorization", f"Bearer {TOKEN}")
    for address, host in (
        ("192.0.2.7", "192.0.2.7:3000"),
        ("::ffff:192.0.2.7", "192.0.2.7:3000"),
        ("2001:db8::7", "[2001:db8::7]:3000"),
    ):
        assert Client(token=TOKEN).get("/", headers, hosts=[host], server=(address, PORT)).status == 200
        assert Client().get("/", headers, hosts=[host], server=(address, PORT)).status == 403
    assert Client().get("/", server=None).status == 403
    assert Client().get("/", server=("/run/socket", None)).status == 403


@pytest.mark.parametrize(
    "headers",
    [
        [("origin", EVIL)],
        [("origin", "null")],
        [("origin", "")],
        [("origin", f"http://{OWN}.evil.test")],
        [("origin", "http://localhost:3000")],
        [("origin", "http://127.0.0.1:8888")],
        [("origin", f"file://{OWN}")],
        [("origin", f"http://{OWN}"), ("origin", EVIL)],
        [("origin", f"http://{OWN}, {EVIL}")],
        [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")],
        [("sec-fetch-site", "same-site"), ("sec-fetch-mode", "cors")],
        [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
        [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
        [("sec-fetch-site", "anything")],
    ],
)
def test_a_page_of_another_origin_reads_and_orders_nothing(client: Client, headers: list[tuple[str, str]]):
    for target in ("/", "/graphql", "/server_info", "/logs/a/b.out", "/graphql?query={version}"):
        assert client.get(target, BROWSER, *headers).status == 403
    assert client.post("/graphql", JSON, *headers).status == 403
    assert client.post("/report_asset_materialization/a", JSON, *headers).status == 403
    client.ask("GET", "/graphql", *headers, kind="websocket")
    assert not client.reached


def test_a_link_from_elsewhere_opens_the_page(client: Client):
    link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")]
    assert client.get("/assets/labels", BROWSER, *link).body == "UI"
    assert client.post("/graphql", JSON, *link).status == 403


# --- what is asked


OWN_PAGE = [("origin", f"http://{OWN}"), ("sec-fetch-site", "same-origin")]


@pytest.mark.parametrize("headers", [[], OWN_PAGE])
def test_json_by_post_is_answered(client: Client, headers: list[tuple[str, str]]):
    for kind in ("application/json", "application/json; charset=utf-8", "Application/JSON ;charset=utf-8"):
        assert client.post("/graphql", ("content-type", kind), *headers, body=b"{}").status == 200
    assert client.post("/report_asset_materialization/a", JSON, *headers, body=b"{}").status == 200
    assert client.reached == ["graphql"] * 3 + ["report"]


MUTATION = quote("mutation{launchRun}")


@pytest.mark.parametrize(
    "target",
    [
        f"/graphql?query={MUTATION}",
        f"/graphql/?query={MUTATION}",
        f"//graphql?query={MUTATION}",
        f"/%67raphql?query={MUTATION}",
        f"/graphql%0A?query={MUTATION}",
        f"/x/../graphql?query={MUTATION}",
        "/graphql?operationName=a&extensions=%7B%22persistedQuery%22%3A1%7D",
        "/graphql",
    ],
)
def test_graphql_is_not_answered_to_get(client: Client, target: str):
    for method in ("GET", "HEAD"):
        assert client.ask(method, target, ("accept", "image/*")).status == 405
        assert client.ask(method, target, ("x-http-method-override", "POST"), JSON).status == 405
    assert client.get(target, BROWSER).status == 200  # a page, and nothing runs
    assert not client.reached


@given(
    before=st.sampled_from(["/", "//", "/./", "/prefix/", "/a/../"]),
    path=st.lists(
        st.sampled_from([*"graphqlGRAPHQL", "%67", "%2f", "%00", "graphql", "/", "\n", "%0a", ".", ";", " "])
    ),
    prefix=st.sampled_from(["", "/prefix"]),
)
@example("/", ["graphql", "%0a"], "")
@example("/prefix/", ["graphql"], "/prefix")
def test_no_spelling_of_a_path_makes_get_run_graphql(before: str, path: list[str], prefix: str):
    client = Client(prefix=prefix)
    target = before + "".join(path)
    client.get(f"{target}?query={MUTATION}")
    client.ask("HEAD", f"{target}?query={MUTATION}")
    client.post(f"{target}?query={MUTATION}", ("content-type", "text/plain"))
    assert not client.reached


@pytest.mark.parametrize("path", ["/graphql", "/report_asset_materialization/a", "/report_asset_check/a", "/"])
@pytest.mark.parametrize(
    "kinds",
    [
        [],
        [""],
        ["text/plain"],
        ["text/plain;application/json"],
        ["text/plain; charset=application/json"],
        ["application/jsonp"],
        ["application/json, text/plain"],
        ["application/graphql"],
        ["application/x-www-form-urlencoded"],
        ["multipart/form-data; boundary=application/json"],
        ["application/json", "text/plain"],
        ["text/plain", "application/json"],
    ],
)
def test_a_post_of_another_type_is_refused(client: Client, path: str, kinds: list[str]):
    headers = [("content-type", kind) for kind in kinds]
    assert client.post(f"{path}?query={MUTATION}", *headers, body=b'{"query":"mutation{a}"}').status == 415
    assert not client.reached


@given(st.text(st.characters(max_codepoint=126, min_codepoint=32), max_size=40).map(lambda text: text.strip()))
@example("text/plain;application/json")
@example("application/json ; charset=utf-8")
def test_only_what_a_mail_reader_takes_for_json_gets_through(kind: str):
    message = Message()
    message["content-type"] = kind
    client = Client()
    client.post("/graphql", ("content-type", kind))
    assert not client.reached or message.get_content_type() == "application/json"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY", "get"])
def test_other_methods_are_refused(client: Client, method: str):
    assert client.ask(method, f"/graphql?query={MUTATION}", JSON).status == 405
    assert not client.reached


def test_a_preflight_allows_nothing(client: Client):
    preflight = [("origin", EVIL), ("access-control-request-method", "POST")]
    reply = client.ask("OPTIONS", "/graphql", *preflight)
    assert reply.status == 403
    assert not [name for name, _ in reply.headers if name.startswith("access-control")]


def test_subscriptions_come_from_the_own_pages_alone(client: Client):
    client.ask("GET", "/graphql", kind="websocket")  # every browser names its origin
    assert not client.reached
    for host in (OWN, "localhost:3000"):
        client.ask("GET", "/graphql", ("origin", f"http://{host}"), hosts=[host], kind="websocket")
    assert client.reached == ["subscription"] * 2


def test_every_answer_carries_the_headers(client: Client):
    for reply in (client.get("/"), client.get("/", hosts=["evil.test"]), client.post("/graphql")):
        for name, value in HEADERS.items():
            assert reply.header(name.lower()) == [value]
        assert POLICY in reply.header("content-security-policy")


# --- the token


def test_without_the_token_nothing_is_answered(locked: Client):
    wrong = ("Bearer", "Bearer ", "Bearer wrong", f"bearer {TOKEN}x", f"Token {TOKEN}", TOKEN, "Basic ?", "Basic w6Q=")
    for given_headers in (
        [],
        *([("authorization", value)] for value in wrong),
        [("cookie", f"{guard.SESSION}={TOKEN}")],
    ):
        assert locked.get("/server_info", *given_headers).status == 401
        assert locked.post("/graphql", JSON, *given_headers).status == 401
        locked.ask("GET", "/graphql", ("origin", f"http://{OWN}"), *given_headers, kind="websocket")
    assert not locked.reached


def test_clients_send_the_token(locked: Client):
    basic = base64.b64encode(f"anybody:{TOKEN}".encode()).decode()
    for value in (f"Bearer {TOKEN}", f"bearer  {TOKEN}", f"Basic {basic}"):
        assert locked.post("/graphql", JSON, ("authorization", value)).status == 200
    assert locked.post("/graphql", JSON, ("authorization", f"Bearer {TOKEN}"), ("origin", EVIL)).status == 403
    assert locked.post("/graphql", ("authorization", f"Bearer {TOKEN}")).status == 415


FORM = ("content-type", "application/x-www-form-urlencoded")


def log_in(locked: Client, target: str, token: str, *headers: tuple[str, str]) -> Reply:
    return locked.post(target, FORM, *headers, body=f"token={quote(token)}".encode())


def test_a_person_logs_in_and_is_led_to_the_page(locked: Client):
    page = locked.get("/runs?q=1", BROWSER)
    assert page.status == 401
    assert '<input type="password" name="token"' in page.body
    assert "UI" not in page.body.replace("STOCK_ASSETS_UI_TOKEN", "")
    again = log_in(locked, "/runs", "wrong", *OWN_PAGE)
    assert again.status == 401
    assert not again.header("set-cookie")
    reply = log_in(locked, "/runs?q=1&r=a%20b", TOKEN, *OWN_PAGE)
    assert (reply.status, reply.header("location")) == (303, ["/runs?q=1&r=a%20b"])
    (cookie,) = reply.header("set-cookie")
    assert "; HttpOnly; SameSite=Strict" in cookie
    assert TOKEN not in cookie
    session = ("cookie", f'theme={{"dark":1}}; {cookie.partition(";")[0]}; other=')
    assert locked.get("/", BROWSER, session).body == "UI"
    assert locked.post("/graphql", JSON, session, *OWN_PAGE).status == 200
    locked.ask("GET", "/graphql", session, ("origin", f"http://{OWN}"), kind="websocket")
    assert locked.reached == ["graphql", "subscription"]
    assert Client(token="another token").get("/", session).status == 401  # a new token ends every session


def test_a_login_leads_nowhere_else(locked: Client):
    for target in ("//evil.test/a", "/%5C%5Cevil.test", "//%0d%0aset-cookie:a=b"):
        (location,) = log_in(locked, target, TOKEN).header("location")
        assert location[0] == "/"
        assert location[1] not in "/\\"
        assert location.isprintable()


def test_a_foreign_page_cannot_log_a_person_in(locked: Client):
    assert log_in(locked, "/", TOKEN, ("origin", EVIL)).status == 403


@pytest.mark.parametrize("body", [b"", b"token=", b"other=1", b"token=a&token=correct+horse", b"token=" + b"a" * 5000])
def test_anything_else_in_the_form_is_no_login(locked: Client, body: bytes):
    assert locked.post("/", FORM, body=body).status == 401


# --- where it stands


def test_a_server_bound_beyond_loopback_does_not_start_without_a_token():
    app, open_to_all = Recorder().create_asgi_app(), click.Command("dagster-webserver")
    for host in ("0.0.0.0", "::", "192.0.2.7", "stocks.example", ""):
        with click.Context(open_to_all) as context:
            context.params["host"] = host
            with pytest.raises(SettingsError, match="STOCK_ASSETS_UI_TOKEN"):
                guard.guarded(app, Settings())
            with_token = guard.guarded(app, Settings.model_validate({"ui_token": TOKEN}))
            assert isinstance(with_token, Guard)
    for host in ("127.0.0.1", "localhost", "::1"):
        with click.Context(open_to_all) as context:
            context.params["host"] = host
            assert isinstance(guard.guarded(app, Settings()), Guard)


def test_the_web_server_of_this_process_is_wrapped_once(monkeypatch: pytest.MonkeyPatch):
    class DagsterWebserver:
        def create_asgi_app(self, **options: object):
            return ["app", options]

    monkeypatch.delitem(sys.modules, borrowed.WEB_SERVER, raising=False)
    borrowed.wrap_web_server(lambda app: pytest.fail(f"there is no web server: {app}"))
    module = types.ModuleType("webserver")
    monkeypatch.setitem(sys.modules, borrowed.WEB_SERVER, module)
    with pytest.raises(PrivateApiError, match=r"has no dagster_webserver\.webserver\.DagsterWebserver"):
        borrowed.wrap_web_server(lambda app: app)
    vars(module)["DagsterWebserver"] = DagsterWebserver
    for _ in range(2):
        borrowed.wrap_web_server(lambda app: ["guarded", *app])
    assert DagsterWebserver().create_asgi_app(lifespan=1) == ["guarded", "app", {"lifespan": 1}]
