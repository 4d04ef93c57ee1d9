"""Every command of the built image, against a Postgres of this machine: it starts and answers its probe, with a
read-only root and as a user without rights. `make image` builds what STOCK_ASSETS_IMAGE names."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from stock_assets_tests.deploy.containers import UID, Image, unpacked
from stock_assets_tests.deploy.tools import DEPLOY, free_port, tool
from stock_assets_tests.team.postgres import Server
from stock_assets_tests.waiting import until

pytestmark = [
    pytest.mark.deploy,
    pytest.mark.skipif("TESTED_IMAGE" not in os.environ, reason="names no image: make image, then this"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root unpacks an image with its owners"),
]
TOKEN = "a token of the test"
PASSWORDS = {"DAGSTER_PASSWORD": "of dagster", "MLFLOW_PASSWORD": "of mlflow", "BACKUP_PASSWORD": "of backups"}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory, postgres: Server) -> Path:
    """/run/secrets of the containers, and the databases that it names."""
    folder = tmp_path_factory.mktemp("secrets")
    subprocess.run(
        [tool("psql"), "--no-psqlrc", "--quiet", "--file", str(DEPLOY / "postgres" / "roles.sql")],
        env={
            **PASSWORDS,
            "PATH": os.environ["PATH"],
            "PGHOST": "127.0.0.1",
            "PGPORT": str(postgres.port),
            "PGUSER": "postgres",
            "PGPASSWORD": "secret",
        },
        check=True,
        capture_output=True,
    )
    for name, database in (("STOCK_ASSETS_DAGSTER", "dagster"), ("MLFLOW_BACKEND_STORE_URI", "mlflow")):
        login = f"stock_assets_{database}:of%20{database}@127.0.0.1:{postgres.port}/{database}"
        (folder / name).write_text(f"postgresql+psycopg2://{login}")
    (folder / "STOCK_ASSETS_UI_TOKEN").write_text(TOKEN)
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o444)
    return folder


@pytest.fixture(scope="module")
def ports() -> dict[str, str]:
    names = ("CODE_SERVER_PORT", "WEBSERVER_PORT", "STOCK_ASSETS_API_PORT", "MLFLOW_PORT")
    return {name: str(free_port()) for name in names}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, secrets: Path, ports: dict[str, str]) -> Iterator[Image]:
    folder = tmp_path_factory.mktemp("containers")
    folder.chmod(0o755)
    workspace = folder / "workspace.yaml"
    text = (DEPLOY / "compose" / "workspace.yaml").read_text()
    workspace.write_text(text.replace("port: 4000", f"port: {ports['CODE_SERVER_PORT']}"))
    files = {
        "/var/lib/dagster/dagster.yaml": DEPLOY / "compose" / "dagster.yaml",
        "/etc/workspace.yaml": workspace,
        "/run/secrets": secrets,
    }
    with unpacked(os.environ["TESTED_IMAGE"], folder, files) as found:
        for target, source in files.items():
            place = found.root / target.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                place.mkdir(exist_ok=True)
            elif not target.startswith("/var/lib"):
                place.touch()
        yield found


def healthy(image: Image, name: str, process: "subprocess.Popen[bytes]", probe: str, **environment: str) -> None:
    """Waits until the probe of a container says yes; fails with the log of one that ended."""

    def answers() -> bool:
        assert process.poll() is None, image.log(name)
        return image.run(name, "probe", probe, **environment).returncode == 0

    until(answers, seconds=600, pause=1.0)


def test_the_root_is_read_only_and_its_user_has_no_rights(image: Image):
    ran = image.run("shell", "sh", "-c", "id -u; touch /opt/x /etc/x /usr/x; command -v gcc cc c++ make")
    assert ran.stdout == f"{UID}\n"
    assert ran.stderr.count("Read-only file system") == 3
    allowed = "touch /tmp/x /var/lib/stock_assets/x /var/lib/dagster/x && grep ^CapEff /proc/self/status"
    written = image.run("shell", "sh", "-c", allowed)
    assert written.stdout.split() == ["CapEff:", "0000000000000000"], written.stderr


def test_the_package_is_the_one_of_this_tree_with_its_pins(image: Image):
    listed = image.run("shell", "python", "-m", "pip", "list", "--format=freeze").stdout.lower().splitlines()
    pins = (DEPLOY.parent / "constraints.txt").read_text().lower().splitlines()
    installed = dict(line.split("==") for line in listed if "==" in line)
    pinned = dict(line.split("==") for line in pins if "==" in line)
    wrong = {
        name: version
        for name, version in installed.items()
        if name in pinned and version.partition("+")[0] != pinned[name]
    }
    assert not wrong
    assert "stock_assets" in installed or "stock-assets" in installed
    assert not {"pytest", "ruff", "hypothesis"} & set(installed)


def test_every_command_starts_and_answers_its_probe(image: Image, ports: dict[str, str]):
    code_port, web_port = ports["CODE_SERVER_PORT"], ports["WEBSERVER_PORT"]
    common = {**ports, "CODE_SERVER_HOST": "127.0.0.1"}
    grpc = ["dagster", "api", "grpc", "--host", "127.0.0.1", "--port", code_port, "-m", "stock_assets.definitions"]
    web = ["dagster-webserver", "--host", "0.0.0.0", "--port", web_port, "--workspace", "/etc/workspace.yaml"]
    mlflow = ["mlflow", "server", "--port", ports["MLFLOW_PORT"], "--workers", "1", "--artifacts-destination", "/tmp/m"]
    with image.running("code", *grpc, **common) as code:
        healthy(image, "code", code, "code-server", **common)
        with image.running("daemon", "dagster-daemon", "run", "--workspace", "/etc/workspace.yaml", **common) as daemon:
            healthy(image, "daemon", daemon, "daemon", **common)
            with image.running("web", *web, **common) as server:
                healthy(image, "web", server, "webserver", **common)
                _asset_is_made(f"http://127.0.0.1:{web_port}")
        with image.running("mlflow", *mlflow, **common) as tracking:
            healthy(image, "mlflow", tracking, "mlflow", **common)
        made = image.run("api", "stock-assets", "token", "test")
        assert made.returncode == 0, made.stderr
        tokens = {"STOCK_ASSETS_API_TOKENS": "/var/lib/stock_assets/api_tokens", "STOCK_ASSETS_API_HOST": "0.0.0.0"}
        with image.running("api", "stock-assets", "serve", **common, **tokens) as api:
            healthy(image, "api", api, "api", **common)
            # nothing is published yet: alive, and not ready
            assert "answered 503" in image.run("api", "probe", "api-ready", **common).stderr
        fresh = image.run("code", "probe", "fresh", **common)
        assert fresh.returncode in (0, 1), fresh.stderr
        assert "predictions:" in fresh.stdout
    assert image.run("code", "probe", "code-server", **common).returncode != 0


def _asset_is_made(url: str) -> None:
    """Launches a run over the web server: its guard, the code server, the store and Postgres take part."""
    asked = {"query": "{ serverInfo: version }"}
    assert requests.post(f"{url}/graphql", json=asked, timeout=60).status_code == 401
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {TOKEN}"
    assert session.post(f"{url}/graphql", json={"query": "{ version }"}, timeout=60).json()["data"]["version"]
    launch = """mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
        __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
    selector = {
        "repositoryLocationName": "stock_assets",
        "repositoryName": "__repository__",
        "jobName": "__ASSET_JOB",
        "assetSelection": [{"path": ["universe"]}],
        "assetCheckSelection": [],
    }
    params = {"params": {"selector": selector, "runConfigData": {}, "mode": "default"}}
    answer = session.post(f"{url}/graphql", json={"query": launch, "variables": params}, timeout=120).json()
    run = answer["data"]["launchRun"]["run"]["runId"]
    status = """query ($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"""

    def ended() -> str | None:
        asked = session.post(f"{url}/graphql", json={"query": status, "variables": {"run": run}}, timeout=60).json()
        now = asked["data"]["runOrError"]["status"]
        return now if now in ("SUCCESS", "FAILURE", "CANCELED") else None

    until(ended, seconds=600, pause=1.0)
    assert ended() == "SUCCESS"
