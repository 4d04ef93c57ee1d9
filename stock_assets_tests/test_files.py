"""A file is the old one or the new one, whatever happens while it is written."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from stock_assets import files
from stock_assets.storage.warehouse import Warehouse


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path):
    path = tmp_path / "new" / "page [1].html"
    for content in (b"one", b"two"):
        files.write_file(path, content)
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "page.html"
    files.write_file(path, b"old")

    def fail(_descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        files.write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_removed_by_the_next_and_that_of_a_living_one_stays(tmp_path: Path):
    path = tmp_path / "page.html"
    script = (
        "import os, sys, signal\nfrom pathlib import Path\nfrom stock_assets import files\n"
        "files.sync = lambda _: None\n"
        "os.replace = None\n"
        "Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.write_file(Path(sys.argv[1]), b'half')\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    (leftover,) = tmp_path.iterdir()
    living = tmp_path / f"{files.TEMPORARY}{os.getppid()}-{path.name}"
    living.write_bytes(b"of a process that still writes")
    files.write_file(path, b"whole")
    assert not leftover.exists()
    assert sorted(tmp_path.iterdir()) == sorted([living, path])


def test_threads_that_write_the_same_file_at_once_share_no_half_of_it(tmp_path: Path):
    """Each is held between its last byte and its rename until all are there."""
    contents = {bytes([letter]) * 1000 for letter in b"abcdefgh"}
    together, path = threading.Barrier(len(contents)), tmp_path / "page.html"

    def sync_together(path: Path, content: bytes) -> None:
        write_synced(path, content)
        together.wait(30)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(len(contents)) as pool:
        write_synced = files.write_synced
        patch.setattr(files, "write_synced", sync_together)
        list(pool.map(partial(files.write_file, path), contents))
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def _open_umask():
    """That of most machines: everybody may read."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> str:
    return f"{path.stat().st_mode & 0o777:o}"


@pytest.mark.usefixtures("_open_umask")
def test_what_is_made_is_its_owners_alone(tmp_path: Path):
    tmp_path.chmod(0o755)
    files.write_file(tmp_path / "data" / "dagster" / "dagster.yaml", b"text")
    assert [mode(tmp_path / part) for part in ("data", "data/dagster", "data/dagster/dagster.yaml")] == [
        "700",
        "700",
        "600",
    ]
    files.make_folder(tmp_path / "data" / "dagster" / "a" / "b")
    assert mode(tmp_path / "data/dagster/a") == mode(tmp_path / "data/dagster/a/b") == "700"
    assert mode(tmp_path) == "755"  # what was there stays as it is
    assert files.open_to_others(tmp_path) == "755"
    assert files.open_to_others(tmp_path / "data") is None
    with Warehouse(tmp_path / "store" / "stock_assets.duckdb").connect(read_only=False):
        assert mode(tmp_path / "store") == "700"


def test_a_file_in_the_place_of_a_folder_is_an_error(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="file"):
            files.make_folder(folder)
