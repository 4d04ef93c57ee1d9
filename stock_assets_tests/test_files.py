"""A file is the old one or the new one, whatever happens while it is written."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stock_assets import files


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
        "files.sync_folder = lambda _: None\n"
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
