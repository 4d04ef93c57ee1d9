"""The proxy's own file, run by a real Caddy in front of a server of ours: TLS, the login, and the token."""

import ssl
import subprocess
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from stock_assets_tests.deploy.tools import DEPLOY, free_port, tool
from stock_assets_tests.waiting import HANG_SECONDS, until

Headers = dict[str, str]


@pytest.fixture
def asked() -> Iterator[tuple[int, list[Headers]]]:
    """The port of a server behind the proxy, and the headers of each request that came through."""
    headers: list[Headers] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers.append(dict(self.headers))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_address[1], headers
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def proxy(tmp_path: Path, asked: tuple[int, list[Headers]]) -> Iterator[int]:
    """The port on which Caddy answers for localhost (Dagster) and 127.0.0.1 (the API)."""
    caddy, port, plain = tool("caddy"), free_port(), free_port()
    hashed = subprocess.run(
        [caddy, "hash-password", "--plaintext", "a password"], capture_output=True, text=True, check=True
    ).stdout.strip()
    (tmp_path / "proxy_users").write_text(f"ada {hashed}\n")
    text = (DEPLOY / "compose" / "Caddyfile").read_text().replace("/run/secrets", str(tmp_path))
    text = text.replace("admin off", f"admin off\nauto_https disable_redirects\nskip_install_trust\nhttp_port {plain}")
    text = text.replace(":3000", f":{asked[0]}").replace(":8000", f":{asked[0]}")
    (tmp_path / "Caddyfile").write_text(text)
    environment = {"UI_NAME": f"https://localhost:{port}", "API_NAME": f"https://127.0.0.1:{port}", "TLS": "internal"}
    environment |= {"UI_HOST": "127.0.0.1", "API_HOST": "127.0.0.1", "STOCK_ASSETS_UI_TOKEN": "the token"}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [caddy, "run", "--config", str(tmp_path / "Caddyfile"), "--adapter", "caddyfile"],
            env={**environment, "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)},
            stdout=log,
            stderr=log,
        )
    try:
        until(lambda: process.poll() is not None or _answers(port))
        assert process.poll() is None, (tmp_path / "log").read_text()
        yield port
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        status(f"https://localhost:{port}/")
    except OSError:
        return False
    return True


def status(url: str, **headers: str) -> int:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), context=context, timeout=HANG_SECONDS
        ) as got:
            assert got.headers["Strict-Transport-Security"]
            return got.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def basic(user: str, password: str) -> str:
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def test_dagster_is_for_those_who_log_in_and_gets_its_own_token(proxy: int, asked: tuple[int, list[Headers]]):
    url = f"https://localhost:{proxy}/runs"
    assert status(url) == 401
    assert status(url, Authorization=basic("ada", "another password")) == 401
    assert status(url, Authorization="Bearer the token") == 401
    assert not asked[1]
    assert status(url, Authorization=basic("ada", "a password")) == 200
    (headers,) = asked[1]
    assert headers["Authorization"] == "Bearer the token"
    # the guard compares it with STOCK_ASSETS_UI_NAMES
    assert headers["Host"] == f"localhost:{proxy}"


def test_the_api_gets_the_tokens_of_its_own_clients(proxy: int, asked: tuple[int, list[Headers]]):
    assert status(f"https://127.0.0.1:{proxy}/v1/models", Authorization="Bearer of a client") == 200
    assert asked[1][-1]["Authorization"] == "Bearer of a client"
