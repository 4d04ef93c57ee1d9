"""A `dagster dev` that a person starts by hand works on the same runs as `make run`'s."""

import os
import re
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from stock_assets.cli import home
from stock_assets.cli.server import prepare_home
from stock_assets.definitions import misplaced_instance
from stock_assets.errors import StockAssetsError
from stock_assets.settings import PROJECT_DIR, read_settings
from stock_assets_tests.waiting import HANG_SECONDS

#: What `dagster dev` and `dg dev` do first: an instance, of DAGSTER_HOME or in a temporary folder.
BY_HAND = """
import sys
import dagster as dg
from dagster._cli.utils import get_possibly_temporary_instance_for_cli

with get_possibly_temporary_instance_for_cli("dagster dev") as instance:
    instance.report_runless_asset_event(dg.AssetMaterialization("made_by_hand"))
    print(instance.get_ref().storage.base_dir, flush=True)
    print(instance.compute_log_manager._base_dir, flush=True)
    sys.stdin.read(1)
"""


def by_hand(data_dir: Path, **variables: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("DAGSTER_HOME", home.OWNED_HOME)}
    return subprocess.Popen(
        [sys.executable, "-c", BY_HAND],
        cwd=PROJECT_DIR,
        env={**kept, "STOCK_ASSETS_DATA_DIR": str(data_dir), "DAGSTER_IS_DEV_CLI": "1", **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_server_started_by_hand_has_the_home_of_make_run_to_itself(tmp_path: Path):
    first = by_hand(tmp_path)
    assert first.stdout is not None
    try:
        assert first.stdout.readline().strip() == str(tmp_path / "dagster")
        assert first.stdout.readline().strip() == str(tmp_path / "dagster" / "storage")
        with pytest.raises(StockAssetsError, match=rf"another .* works on .*process {first.pid}\)"):
            home.lock_home(tmp_path / "dagster")
        _, complaint = by_hand(tmp_path).communicate("x", timeout=HANG_SECONDS)
        assert f"is process {first.pid}); stop it" in complaint.splitlines()[-1]
        child, complaint = by_hand(tmp_path, **{home.OWNED_HOME: str(tmp_path / "dagster")}).communicate(
            "x", timeout=HANG_SECONDS
        )
        assert child.startswith(str(tmp_path / "dagster")), complaint
    finally:
        first.communicate("x", timeout=HANG_SECONDS)
    with home.lock_home(tmp_path / "dagster"):
        pass


def test_make_run_finds_what_was_made_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _, complaint = by_hand(tmp_path).communicate("x", timeout=HANG_SECONDS)
    own = prepare_home(read_settings(data_dir=tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", str(own))
    with dg.DagsterInstance.get() as instance:
        assert instance.get_latest_materialization_event(dg.AssetKey("made_by_hand")) is not None, complaint


@pytest.mark.parametrize(
    ("dagster_home", "said"),
    [
        ("/elsewhere", "DAGSTER_HOME is /elsewhere, and `make run`"),
        (None, "temporary.*start in the folder of the project"),
    ],
)
def test_an_instance_elsewhere_is_one_line_with_the_way_out(monkeypatch, tmp_path, dagster_home, said):
    monkeypatch.setenv("DAGSTER_IS_DEV_CLI", "1")
    monkeypatch.setenv("STOCK_ASSETS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    config = read_settings()
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    if dagster_home:
        monkeypatch.setenv("DAGSTER_HOME", dagster_home)
    note = misplaced_instance(config)
    assert note is not None
    assert re.search(said, note)
    assert "\n" not in note
    monkeypatch.setenv("DAGSTER_HOME", str(config.dagster_home))
    assert misplaced_instance(config) is None
    monkeypatch.delenv("DAGSTER_HOME")
    monkeypatch.chdir(PROJECT_DIR)
    assert misplaced_instance(config) is None
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_IS_DEV_CLI")
    assert misplaced_instance(config) is None


DAEMON = """
import sys
sys.argv = ["/bin/dagster-daemon", "run"]
from pathlib import Path
from stock_assets.cli.home import own_daemon
home = Path(HOME)
own_daemon(home)
own_daemon(home)  # its other instances
print("owns", flush=True)
sys.stdin.read()
"""


def test_one_daemon_at_a_time_works_on_a_home(tmp_path: Path):
    code = DAEMON.replace("HOME", repr(str(tmp_path)))
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "owns\n"
        second = subprocess.run(command, input="", capture_output=True, text=True, check=False)
        assert f"another dagster-daemon works on {tmp_path} (process {first.pid})" in second.stderr
        home.own_daemon(tmp_path)  # this process is no daemon, and may look
        first.kill()
    third = subprocess.run(command, input="", capture_output=True, text=True, check=True)
    assert third.stdout == "owns\n", "a daemon that was killed holds nothing"


def test_what_a_server_and_its_children_write_is_its_users_alone(tmp_path: Path):
    before = os.umask(0o022)
    try:
        home.ProjectStorage(str(tmp_path / "dagster"))
        assert os.umask(0o022) == 0o077
    finally:
        os.umask(before)
    readable = [path for path in (tmp_path / "dagster").rglob("*") if path.stat().st_mode & 0o077]
    assert not readable
