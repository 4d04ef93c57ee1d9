"""One `dagster dev`, web server and daemon, that this process owns from start to end."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil

from stock_assets.cli.graphql import DagsterClient
from stock_assets.cli.home import OWNED_HOME, lock_home
from stock_assets.cli.interruptions import interruptions_held_back
from stock_assets.cli.profiles import instance_file
from stock_assets.errors import StockAssetsError
from stock_assets.files import make_folder, write_file
from stock_assets.lifecycle.evening import ASKED_BY, INTERRUPTED, MAKE_RUN
from stock_assets.settings import PROJECT_DIR, Settings
from stock_assets.settings_file import UI_URL, environment_for_child, settings_file

if TYPE_CHECKING:
    import dagster as dg

START_SECONDS = 180
#: What the server prints, in DAGSTER_HOME.
LOG = "dagster-dev.log"
#: So long `dagster dev` may take to end its servers, and then the runs to end; what is left is killed.
STOP_SECONDS = 10
#: The server's log begins anew when it has grown beyond so many bytes, and so many older parts of it stay; it is looked
#: at every so many seconds.
LOG_BYTES, LOGS_KEPT, ROTATE_SECONDS = 5_000_000, 3, 60
#: A ten-year backfill needs less than this.
FREE_BYTES = 1_000_000_000
#: Failed runs that a start looks at.
RECENT = 20


def web_client(settings: Settings, port: int) -> DagsterClient:
    """The client of the web server that this machine runs with `settings` on `port`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.ui_host, settings.ui_host)
    token = settings.ui_token.get_secret_value() if settings.ui_token else None
    return DagsterClient(f"http://{f'[{host}]' if ':' in host else host}:{port}", token)


def require_free_port(host: str, port: int, setting: str = "UI_HOST", *, other: str = "make run PORT=3001") -> None:
    """Raises StockAssetsError when something listens on the port already; `other` is the way to another one."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise StockAssetsError(
            f"STOCK_ASSETS_{setting}={host} is no address of this machine: {error.strerror}"
        ) from error
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise StockAssetsError(f"STOCK_ASSETS_{setting}={host} is no address of this machine") from error
            raise StockAssetsError(
                f"port {port} is busy: another program listens on it; stop it, or choose another: {other}"
            ) from error


def require_space(folder: Path) -> None:
    """Makes the folder. Raises StockAssetsError when it cannot be written or its disk is nearly full."""
    try:
        make_folder(folder)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise StockAssetsError(f"the data folder {folder} cannot be made: {error.strerror}") from error
    if free < FREE_BYTES:
        raise StockAssetsError(
            f"the disk of {folder} is full: {free / 1e6:.0f} MB free, {FREE_BYTES / 1e6:.0f} MB needed; make room, or "
            "set STOCK_ASSETS_DATA_DIR to another disk"
        )
    if not os.access(folder, os.W_OK):
        raise StockAssetsError(f"the data folder {folder} cannot be written; expected a folder of your own")


def prepare_home(settings: Settings, instance: str | None = None) -> Path:
    """DAGSTER_HOME with the dagster.yaml of the profile in it, or the text of another `instance`."""
    home = settings.dagster_home
    make_folder(home)
    configuration = instance or instance_file(settings, settings_file(PROJECT_DIR)).read_text()
    target = home / "dagster.yaml"
    if not target.exists() or target.read_text() != configuration:
        write_file(target, configuration.encode())
    return home


def settle_interrupted_runs(home: Path, database: str | None = None) -> None:
    """Ends as failed what was under way when an earlier server was killed, and frees its places in the pools.

    Nothing else does at once: the daemon waits for the processes of those runs, and they are gone. Raises
    StockAssetsError where the daemon of another host works on `database`, whose runs go on.
    """
    if database is not None:
        from stock_assets.cli.daemon_lock import lock_database

        lock_database(database).close()
    elif not (home / "history").exists():
        return
    import dagster as dg

    os.environ["DAGSTER_HOME"] = str(home)
    with dg.DagsterInstance.get() as instance:
        settle_interrupted(instance)


def settle_interrupted(instance: "dg.DagsterInstance") -> None:
    """Ends as failed what was under way when an earlier server ended, and frees its places in the pools; called before
    a server starts.

    Runs that had the time to end themselves are marked as well: nobody is alerted of a Ctrl-C, and they are tried again
    at once. What an earlier `make run` asked for and never began is cancelled: the new one asks for what is missing.
    """
    import dagster as dg

    waiting = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]
    for run in instance.get_runs(dg.RunsFilter(statuses=waiting, tags={ASKED_BY: MAKE_RUN})):
        instance.report_run_canceled(run, "the server that was to begin this run ended")
    statuses = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    for run in instance.get_runs(dg.RunsFilter(statuses=statuses)):
        instance.add_run_tags(run.run_id, {INTERRUPTED: "true"})
        instance.report_run_failed(run, "the server was killed while this run was under way")
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]), limit=RECENT):
        if INTERRUPTED not in run.tags and told_to_end(instance, run):
            instance.add_run_tags(run.run_id, {INTERRUPTED: "true"})
    for run_id in instance.event_log_storage.get_concurrency_run_ids():
        instance.event_log_storage.free_concurrency_slots_for_run(run_id)


def told_to_end(instance: "dg.DagsterInstance", run: "dg.DagsterRun") -> bool:
    """Whether a failed run ended because its process was told to, as every process is when a server ends."""
    import dagster as dg

    failures = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE).records
    events = [record.event_log_entry.get_dagster_event() for record in failures]
    # what the daemon reports of a run that vanished states no reason
    reasons = [getattr(getattr(event.event_specific_data, "failure_reason", None), "name", None) for event in events]
    return bool(reasons) and reasons[-1] == "UNEXPECTED_TERMINATION"


@contextmanager
def dagster_dev(
    settings: Settings, port: int, instance: str | None = None
) -> Iterator[tuple[DagsterClient, subprocess.Popen[bytes]]]:
    """A running `dagster dev` behind the guard; every process of it is gone on leaving.

    It ends by itself when its daemon or its web server dies. What it logged before stays in one `.previous` file.

    Raises StockAssetsError for a busy port or data folder, a full disk, or a server that does not come up.
    """
    require_free_port(settings.ui_host, port)
    require_space(settings.data_dir)
    home = prepare_home(settings, instance)
    log = home / LOG
    with lock_home(home) as lock:
        with interruptions_held_back():
            settle_interrupted_runs(home, settings.dagster_postgres)
        if log.exists():
            log.replace(log.with_suffix(".previous.log"))
        with log.open("ab") as sink:  # appending, so that the server goes on at the end after `rotate`
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "dagster",
                    "dev",
                    "-w",
                    str(PROJECT_DIR / "workspace.yaml"),
                    "-h",
                    settings.ui_host,
                    "-p",
                    str(port),
                ],
                cwd=PROJECT_DIR,
                env={
                    **os.environ,
                    **environment_for_child(PROJECT_DIR),
                    "DAGSTER_HOME": str(home),
                    OWNED_HOME: str(home),
                    UI_URL: web_client(settings, port).url,
                },
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # should this process be killed, its server goes on and must still be seen to own the folder
                pass_fds=(lock.fileno(),),
            )
        loading = True
        try:
            lock.truncate(0)
            lock.write(str(process.pid))
            lock.flush()
            client = web_client(settings, port)
            wait_until_ready(client, process, log)
            loading = False
            yield client, process
        finally:
            stop(process, loading=loading)


def wait(process: subprocess.Popen[bytes], log: Path) -> int:
    """The exit code of the server, once it has ended; meanwhile its log is kept within bounds."""
    while True:
        try:
            return process.wait(ROTATE_SECONDS)
        except subprocess.TimeoutExpired:
            rotate(log)


def rotate(log: Path, max_bytes: int = LOG_BYTES, log_count: int = LOGS_KEPT) -> None:
    """Begins the log anew once it has more than `max_bytes` bytes; the newest `log_count` parts stay beside it,
    `.1.log` last.

    It is copied and cut, because the server goes on writing to the same file.
    """
    try:
        if log.stat().st_size <= max_bytes:
            return
    except FileNotFoundError:
        return
    parts = [log.with_suffix(f".{number}.log") for number in range(1, log_count + 1)]
    for older, newer in reversed(list(pairwise(parts))):
        if older.exists():
            older.replace(newer)
    shutil.copyfile(log, parts[0])
    os.truncate(log, 0)


def wait_until_ready(client: DagsterClient, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise StockAssetsError(
                f"dagster dev ended with exit code {process.returncode}; the end of {log.name}:\n{tail}"
            )
        if listens(client.url) and client.is_ready():
            client.require_guard()
            return
        time.sleep(0.3)
    raise StockAssetsError(f"dagster dev was not ready after {START_SECONDS} s; see {log}")


def listens(url: str) -> bool:
    """Whether something accepts connections at `url`."""
    parts = urlsplit(url)
    with suppress(OSError), socket.create_connection((parts.hostname, parts.port), timeout=5):
        return True
    return False


def stop(process: subprocess.Popen[bytes], *, loading: bool = False) -> None:
    """Ends the process and all that it started: politely, then for certain.

    `dagster dev` ends its web server and its daemon itself. Runs are told next, so that they roll back and say why they
    ended. Code servers keep nothing and are killed after all that asks them; while they are `loading` the assets,
    `dagster dev` has nothing to end and is killed with them. Told to end then, either would log a traceback.
    """
    family: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):  # it ended by itself
        leader = psutil.Process(process.pid)
        family = [leader, *leader.children(recursive=True)]
    code_servers = [member for member in family[1:] if _serves_code(member)]
    if loading:
        _each(psutil.Process.kill, [*family[:1], *code_servers])
    _each(psutil.Process.terminate, family[:1])
    still_running(family[:1], STOP_SECONDS)
    others = [member for member in family[1:] if member not in code_servers]
    _each(psutil.Process.terminate, others)
    still_running(others, STOP_SECONDS)
    _each(psutil.Process.kill, still_running(family, 0))
    with suppress(ProcessLookupError):  # a process that was started while we listed is still in the group
        os.killpg(process.pid, signal.SIGKILL)
    still_running(family, STOP_SECONDS)
    process.wait()


def _each(act: Callable[[psutil.Process], None], members: Sequence[psutil.Process]) -> None:
    for member in members:
        with suppress(psutil.NoSuchProcess):  # gone between the listing and the signal
            act(member)


def _serves_code(member: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return not {"grpc", "code-server"}.isdisjoint(member.cmdline())
    return False


def still_running(family: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those of `family` that did not end within so many seconds.

    A zombie has ended: in a container there may be no process that collects the orphans.
    """
    deadline = time.monotonic() + seconds
    while True:
        running = []
        for member in family:
            with suppress(psutil.NoSuchProcess):
                if member.status() != psutil.STATUS_ZOMBIE:
                    running.append(member)
        if not running or time.monotonic() > deadline:
            return running
        time.sleep(0.05)
