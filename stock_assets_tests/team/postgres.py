"""A Postgres server of the tests' own, in a folder that is removed."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from stock_assets_tests.waiting import until

#: The server refuses to run as root; Debian's package makes this user.
USER = "postgres"


def binaries() -> Path | None:
    """The folder of initdb and postgres, of the newest version that is installed; None without one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


@dataclass
class Server:
    """A server that listens on 127.0.0.1."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    def address(self, database: str = "postgres", host: str = "127.0.0.1") -> str:
        return f"postgresql+psycopg2://{USER}:secret@{host}:{self.port}/{database}"

    def connection(self, database: str = "postgres") -> "psycopg2.extensions.connection":
        """In autocommit mode; to be closed by who asked for it."""
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user=USER, password="secret", dbname=database, connect_timeout=5
        )
        connection.autocommit = True
        return connection

    def execute(self, statement: str, database: str = "postgres") -> list[tuple]:
        connection = self.connection(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def database(self, name: str) -> str:
        """The address of a new and empty database."""
        self.execute(f'CREATE DATABASE "{name}"')
        return self.address(name)

    def start(self) -> None:
        options = ["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "listen_addresses=*"]
        command = ["postgres", "-D", "data", "-p", str(self.port), "-k", str(self.folder), *options]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(_as_user(command), cwd=self.folder, stdout=log, stderr=log)
        until(self.answers)

    def answers(self) -> bool:
        try:
            self.connection().close()
        except psycopg2.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """As a power cut: the server and its children end at once."""
        assert self.process is not None
        subprocess.run(["pkill", "-KILL", "-P", str(self.process.pid)], check=False)
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)  # at once, without a checkpoint
            self.process.wait()


@contextmanager
def running_server() -> Iterator[Server]:
    """A new cluster, started; stopped and removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="team-postgres-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if os.geteuid() == 0:
            shutil.chown(folder, USER, USER)
        (folder / "password").write_text("secret")
        (folder / "password").chmod(0o644)
        initdb = ["initdb", "-D", "data", "-U", USER, "--auth=scram-sha-256", "--pwfile=password", "--no-sync"]
        subprocess.run(_as_user(initdb), cwd=folder, check=True, capture_output=True)
        with (folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 0.0.0.0/0 scram-sha-256\n")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            server = Server(folder, probe.getsockname()[1])
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _as_user(command: list[str]) -> list[str]:
    folder = binaries()
    assert folder is not None
    as_user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups"] if os.geteuid() == 0 else []
    return [*as_user, str(folder / command[0]), *command[1:]]
