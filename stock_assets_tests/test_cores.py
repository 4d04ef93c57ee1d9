"""How many cores a process may use, in a container too."""

import os
from pathlib import Path

import pytest

from stock_assets.cores import usable_cores


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of sixteen cores, of which this process may run on eight."""
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("limit", "cores"),
    [("max 100000", 8), ("200000 100000", 2), ("250000 100000", 2), ("50000 100000", 1), ("3200000 100000", 8)],
)
def test_a_container_of_control_groups_2_grants_what_it_says(limit: str, cores: int, tmp_path: Path):
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert usable_cores(tmp_path, tmp_path / "own") == cores


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("300000", 3)])
def test_so_does_one_of_control_groups_1(quota: str, cores: int, tmp_path: Path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(tmp_path, tmp_path / "own") == cores


@pytest.mark.usefixtures("machine")
def test_without_a_limit_the_process_s_own_cores_count(tmp_path: Path):
    assert usable_cores(tmp_path, tmp_path / "own") == 8


def test_where_no_process_is_bound_to_cores_all_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert usable_cores(tmp_path, tmp_path / "own") == 4


@pytest.mark.usefixtures("machine")
def test_a_group_inside_others_has_the_smallest_quota_of_all(tmp_path: Path):
    """A service, a pod or a login is a group inside others, and only the outermost is at the root of the tree."""
    groups = {"": "max 100000", "pods": "600000 100000", "pods/one": "300000 100000", "pods/one/inner": "max 100000"}
    for group, limit in groups.items():
        (tmp_path / "tree" / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / group / "cpu.max").write_text(limit)
    (tmp_path / "own").write_text("0::/pods/one/inner\n")
    assert usable_cores(tmp_path / "tree", tmp_path / "own") == 3


@pytest.mark.usefixtures("machine")
def test_so_has_one_of_control_groups_1(tmp_path: Path):
    inner = tmp_path / "tree" / "cpu" / "docker" / "abc"
    inner.mkdir(parents=True)
    (inner / "cpu.cfs_quota_us").write_text("200000")
    (inner / "cpu.cfs_period_us").write_text("100000")
    (tmp_path / "own").write_text("5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n")
    assert usable_cores(tmp_path / "tree", tmp_path / "own") == 2


def test_the_store_computes_on_as_many_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from stock_assets.storage import attached, queries
    from stock_assets.storage.attached import attached as opened
    from stock_assets.storage.queries import Limits
    from stock_assets.storage.warehouse import Warehouse

    threads = "SELECT current_setting('threads') AS threads"
    for module in (attached, queries):
        monkeypatch.setattr(module, "usable_cores", lambda: 3)
    monkeypatch.setattr(attached, "_ENGINES", {})
    monkeypatch.setattr(attached, "_FILES", {})
    path = tmp_path / "store.duckdb"
    with opened(path, read_only=False, wait=0) as (connection, _):
        assert connection.execute(threads).fetchall() == [(3,)]
    attached._stop()
    with Warehouse(path).answer(threads, Limits()) as answer:
        assert answer.frame().item() == 3


def test_nothing_else_counts_the_cores_of_the_machine():
    package = Path(__file__).parent.parent / "stock_assets"
    counting = {file.name for file in package.rglob("*.py") if "cpu_count" in file.read_text()}
    assert counting == {"cores.py"}
