"""Processes of a built image as an engine would run them, without one: the image's own files as a read-only root, user
10001 without rights, writable where deploy/ says. buildah unpacks the image and bubblewrap makes the namespaces."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stock_assets_tests.deploy.tools import tool

UID = 10001
#: As any engine starts the image: its user, no right of root, and none to be had.
AS_USER = (
    *("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--no-new-privs"),
    *("--inh-caps=-all", "--bounding-set=-all"),
)
WRITABLE = {"data": "/var/lib/stock_assets", "dagster": "/var/lib/dagster", "tmp": "/tmp"}


@dataclass
class Image:
    """An image that is unpacked at `root`."""

    root: Path
    config: Mapping[str, Any]
    folder: Path
    """of what the containers write; `data` is shared by all, as a volume is"""
    files: Mapping[str, Path] = field(default_factory=dict)
    """what is mounted read-only: a path of the container, and the file or folder of this machine"""

    def command(self, name: str, words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
        """The command line that runs `words` through the image's entry point in the container `name`."""
        own = dict(each.split("=", 1) for each in self.config["Env"]) | dict(environment)
        line = [tool("bwrap"), "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--clearenv"]
        line += [word for right in ("SETUID", "SETGID", "SETPCAP") for word in ("--cap-add", f"CAP_{right}")]
        line += ["--ro-bind", str(self.root), "/", "--dev", "/dev", "--proc", "/proc"]
        line += ["--perms", "1777", "--tmpfs", "/dev/shm"]
        for kind, target in WRITABLE.items():
            folder = self.folder / (kind if kind == "data" else f"{name}-{kind}")
            folder.mkdir(exist_ok=True, parents=True)
            subprocess.run(["chown", f"{UID}:{UID}", str(folder)], check=True)
            line += ["--bind", str(folder), target]
        for target, source in self.files.items():
            line += ["--ro-bind", str(source), target]
        for variable, value in own.items():
            line += ["--setenv", variable, value]
        return [*line, "--chdir", self.config["WorkingDir"], "--", *AS_USER, *self.config["Entrypoint"], *words]

    def run(self, name: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command in the container `name`, to its end."""
        return subprocess.run(self.command(name, words, environment), capture_output=True, text=True, check=False)

    @contextmanager
    def running(self, name: str, *words: str, **environment: str) -> "Iterator[subprocess.Popen[bytes]]":
        """A server in the container `name`; ended on leaving. What it prints is in `folder/NAME.log`."""
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(self.command(name, words, environment), stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            process.wait()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")


@contextmanager
def unpacked(name: str, folder: Path, files: Mapping[str, Path]) -> Iterator[Image]:
    """The image `name` of buildah's own storage."""
    buildah = tool("buildah")

    def ask(*words: str) -> str:
        return subprocess.run([buildah, *words], capture_output=True, text=True, check=True).stdout.strip()

    config = json.loads(ask("inspect", "--type", "image", name))["OCIv1"]["config"]
    container = ask("from", "--pull-never", name)
    try:
        yield Image(Path(ask("mount", container)), config, folder, files)
    finally:
        ask("rm", container)
