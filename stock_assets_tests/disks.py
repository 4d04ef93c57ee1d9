"""Disks that are really full: small ones in memory, which only root can mount."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Disk:
    """A disk of its own that is mounted at `folder`."""

    folder: Path

    def leave(self, free: int) -> None:
        """Makes it so small or large that so many bytes are free."""
        size = shutil.disk_usage(self.folder).used + free
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Disk]:
    """A disk of that size; the test is skipped where this user cannot mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    mounts = os.geteuid() == 0 and shutil.which("mount")
    if not mounts or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this user cannot mount a small disk")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
