"""The files of the image, without building it: lint, secrets, probes, and what is installed."""

import doctest
import importlib.util
import os
import re
import runpy
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pytest

from stock_assets.model.materialize.worker import ALIVE
from stock_assets_tests.deploy.tools import DEPLOY, tool
from stock_assets_tests.servers import listening

IMAGE = DEPLOY / "image"
WITH_SECRETS = IMAGE / "with-secrets"


def requirements_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("requirements", IMAGE / "requirements.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_hadolint_finds_nothing():
    checked = subprocess.run(
        [tool("hadolint"), "--no-color", "--failure-threshold", "style", str(IMAGE / "Dockerfile")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("script", ["image/with-secrets", "compose/make-secrets", "compose/initdb.sh", "compose/dump"])
def test_shellcheck_finds_nothing(script: str):
    checked = subprocess.run(
        [tool("shellcheck"), "--severity=style", str(DEPLOY / script)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
    assert (DEPLOY / script).stat().st_mode & stat.S_IXUSR


def test_the_last_stage_runs_as_a_user_by_number_and_has_no_compiler():
    last = (IMAGE / "Dockerfile").read_text().split("\nFROM ")[-1]
    assert re.search(r"^USER (\d+):(\d+)$", last, flags=re.MULTILINE)
    installed = set(re.findall(r"--no-install-recommends ([^\\]+)", last)[0].split())
    assert installed == {"libgomp1", "tini"}


# ---------------------------------------------------------------- requirements.py


def test_the_examples_of_the_requirements_hold(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(DEPLOY.parent)
    results = doctest.testmod(requirements_module(), optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL)
    assert results.attempted == 3
    assert not results.failed


def test_the_image_installs_what_the_package_and_its_extras_need():
    lines = requirements_module().requirements("team,cloud", DEPLOY.parent / "pyproject.toml")
    names = {re.split(r"[<>=\[]", line)[0] for line in lines}
    assert {"dagster", "torch", "dagster-postgres", "boto3", "dagster-k8s"} <= names
    assert "pytest" not in names
    pins = (DEPLOY.parent / "constraints.txt").read_text().lower().replace("_", "-")
    assert {name.lower().replace("_", "-") for name in names} <= {line.split("==")[0] for line in pins.splitlines()}


# ---------------------------------------------------------------- with-secrets


def with_secrets(folder: Path, command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "SECRETS_DIR": str(folder), **variables}
    return subprocess.run(
        [str(WITH_SECRETS), "sh", "-c", command], env=environment, capture_output=True, text=True, check=False
    )


def test_each_file_is_a_variable_and_what_is_set_stays(tmp_path: Path):
    (tmp_path / "STOCK_ASSETS_UI_TOKEN").write_text("a b$c`d\"e'f\n")
    (tmp_path / "STOCK_ASSETS_FRED_KEY").write_text("of the file")
    (tmp_path / "users.txt").write_text("no name of a variable")
    (tmp_path / "0$(touch hacked)").write_text("none either")
    ran = with_secrets(
        tmp_path, 'printf "%s|%s" "$STOCK_ASSETS_UI_TOKEN" "$STOCK_ASSETS_FRED_KEY"', STOCK_ASSETS_FRED_KEY="set"
    )
    assert (ran.stdout, ran.returncode) == ("a b$c`d\"e'f|set", 0), ran.stderr
    assert not (tmp_path / "hacked").exists()


def test_without_secrets_the_command_runs_and_its_exit_code_is_kept(tmp_path: Path):
    ran = with_secrets(tmp_path / "none", "exit 7")
    assert (ran.returncode, ran.stderr) == (7, "")


def test_a_secret_that_cannot_be_read_is_one_line():
    another_user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copy(WITH_SECRETS, folder / "with-secrets.sh")  # a clone may be closed to that user
        (folder / "TOKEN").write_text("secret")
        (folder / "TOKEN").chmod(0)
        refused = subprocess.run(
            [*another_user, "sh", str(folder / "with-secrets.sh"), "echo", "started"],
            env={"PATH": os.environ["PATH"], "SECRETS_DIR": name},
            capture_output=True,
            text=True,
            check=False,
        )
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.count("\n") == 1
    assert "TOKEN cannot be read by user" in refused.stderr


# ---------------------------------------------------------------- probe


def probe(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(IMAGE / "probe"), *arguments],
        env={"PATH": os.environ["PATH"], "PROBE_WITH_SECRETS": "once", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("status", "expected"), [(200, 0), (401, 1), (503, 1)])
def test_a_probe_asks_the_web_server_and_takes_200_alone(status: int, expected: int):
    with listening(status) as server:
        port = server.url.rpartition(":")[2]
        ran = probe("webserver", WEBSERVER_PORT=port, STOCK_ASSETS_UI_TOKEN="a token of the test")
        assert server.asked == ["GET /server_info"]
    assert ran.returncode == expected
    assert "a token of the test" not in ran.stderr
    if expected:
        assert ran.stderr.strip().endswith(f"/server_info answered {status}; expected 200")


def test_a_probe_of_a_server_that_is_gone_is_one_line():
    with listening() as server:
        port = server.url.rpartition(":")[2]
    ran = probe("api", STOCK_ASSETS_API_PORT=port)
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1
    assert "/livez does not answer: " in ran.stderr


def test_a_probe_of_a_worker_looks_when_it_was_seen_last(tmp_path: Path):
    data = {"STOCK_ASSETS_DATA_DIR": str(tmp_path)}
    assert "worker_alive is absent" in probe("worker", **data).stderr
    (tmp_path / ALIVE).touch()
    assert probe("worker", **data).returncode == 0
    os.utime(tmp_path / ALIVE, (1.7e9, 1.7e9))
    ran = probe("worker", **data)
    assert ran.returncode == 1
    assert "s ago; expected at most 120" in ran.stderr


@pytest.mark.parametrize("arguments", [(), ("web",), ("api", "daemon")])
def test_an_unknown_probe_names_those_that_there_are(arguments: tuple[str, ...]):
    ran = probe(*arguments)
    assert ran.returncode == 1
    assert "expected one of webserver, api, api-ready, mlflow, worker, daemon, code-server, fresh" in ran.stderr


def test_probes_that_are_commands_name_commands_of_dagster_and_ours():
    commands = runpy.run_path(str(IMAGE / "probe"))["COMMANDS"]
    for command in commands.values():
        asked = subprocess.run(
            [tool(command[0]), *[word for word in command[1:] if word.isascii() and not word.isdigit()][:2], "--help"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert asked.returncode == 0, asked.stderr
