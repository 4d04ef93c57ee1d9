"""The project's own Dagster instance, which `make run`, `dagster dev` and `dg dev` share.

Without DAGSTER_HOME, `dagster dev` makes an instance in a temporary folder that is removed when it ends. dagster.yaml
names the classes of this file, which put runs, events and logs where `make run` has them all the same:

    storage:
      custom: {module: stock_assets.cli.home, class: ProjectStorage, config: {}}
    compute_logs: {module: stock_assets.cli.home, class: ProjectComputeLogs, config: {}}
"""

import fcntl
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TextIO

from dagster import Field, StringSource

from stock_assets.cli.guard import guard_web_servers, require_token_beyond_loopback, server_command
from stock_assets.errors import StockAssetsError
from stock_assets.files import PRIVATE, make_folder
from stock_assets.private.dagster import (
    IS_DEV_SERVER,
    ConfigurableClassData,
    DagsterStorage,
    LocalComputeLogManager,
    filter_partitions_at_once,
)
from stock_assets.settings import settings
from stock_assets.storage.event_log import BatchingSqliteStorage

#: The home that the server of this process, or of the process that started it, has locked.
OWNED_HOME = "STOCKASSETS_OWNED_HOME"

#: The locks of this process, which hold until it ends.
_LOCKS: list[TextIO] = []
#: The homes that the daemon of this process has locked.
_DAEMONS: dict[Path, TextIO] = {}


def project_home() -> Path:
    """DAGSTER_HOME where it is set, else the folder next to the store of the settings."""
    home = os.environ.get("DAGSTER_HOME")
    return Path(home) if home else settings().dagster_home


def lock_home(home: Path) -> TextIO:
    """The locked file that names the process whose `home` this is; the lock goes when the file is closed.

    Raises StockAssetsError where another process holds it: two daemons on one instance launch everything twice.
    """
    return lock_file(home / "owner.lock", lambda owner: _owned(home, owner))


def require_no_owner(home: Path) -> None:
    """Raises StockAssetsError, as `lock_home`, where a server works on `home`."""
    if owner := owner_of(home):
        raise StockAssetsError(_owned(home, owner))


def _owned(home: Path, owner: str) -> str:
    return (
        f"another stock-assets run works on {home.parent} (its dagster dev is process {owner}); stop it, or set "
        "STOCK_ASSETS_DATA_DIR to another folder"
    )


def lock_file(path: Path, complaint: Callable[[str], str]) -> TextIO:
    """The locked file at `path`. Raises StockAssetsError with the `complaint` about the process that has written its id
    there, where that holds the lock."""
    make_folder(path.parent)
    lock = path.open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        owner = lock.read().strip()
        lock.close()
        raise StockAssetsError(complaint(owner)) from error
    return lock


def _write_own_id(lock: TextIO) -> None:
    """Names this process in a file that it has locked."""
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()


def owner_of(home: Path) -> str | None:
    """The process id of the server that works on `home`; None without one."""
    return holder_of(home / "owner.lock")


def holder_of(path: Path) -> str | None:
    """What the process that holds the lock at `path` has written there; None where none holds it."""
    try:
        lock = path.open()
    except FileNotFoundError:
        return None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return lock.read().strip() or "unknown"
    return None


def own_home(home: Path) -> None:
    """Locks `home` for a `dagster dev` that a person starts by hand. Raises StockAssetsError as `lock_home`, and where
    the store holds another market.

    A server of `make run` holds the lock already, and so do the processes that a locked server starts.
    """
    if not os.environ.get(IS_DEV_SERVER) or os.environ.get(OWNED_HOME) == str(home):
        return
    from stock_assets.market.materialize.one_source import require_stored_market

    lock = lock_home(home)
    require_stored_market(settings())
    _write_own_id(lock)
    _LOCKS.append(lock)
    # Dagster has just logged that a temporary folder is the storage
    logging.getLogger("dagster").info(f"Runs, events and logs are kept in {home}, as those of `make run` are.")
    os.environ[OWNED_HOME] = str(home)


def own_daemon(home: Path) -> None:
    """Locks `home` for the daemon that this process is, if it is one, until it ends.

    Each looks what is under way before it launches, and two that look at the same moment would both launch it. Raises
    StockAssetsError where another daemon works on this home.
    """
    if not is_daemon(sys.argv) or home in _DAEMONS:
        return
    lock = lock_file(
        home / "daemon.lock",
        lambda owner: (
            f"another dagster-daemon works on {home} (process {owner}), and two would launch the same work twice; stop "
            "it, or set DAGSTER_HOME to another folder"
        ),
    )
    _write_own_id(lock)
    _DAEMONS[home] = lock


def is_daemon(arguments: Sequence[str]) -> bool:
    """Whether a command line is that of a daemon that runs.

    >>> is_daemon(["/bin/dagster-daemon", "run"]), is_daemon(["/bin/dagster-daemon", "liveness-check"])
    (True, False)
    >>> is_daemon(["/lib/dagster/_daemon/__main__.py", "run"]), is_daemon(["/bin/dagster", "dev"])
    (True, False)
    """
    program = Path(arguments[0]) if arguments else Path()
    return arguments[1:2] == ["run"] and "_daemon" in (program.parent.name, f"_{program.name.partition('-')[2]}")


@contextmanager
def one_line() -> Iterator[None]:
    """An error of ours is one line on the terminal of who starts a server by hand, and no traceback."""
    import click

    try:
        yield
    except StockAssetsError as error:
        if server_command():
            raise click.ClickException(str(error)) from error
        raise


def prepare_process(home: Path) -> None:
    """What every process does before it opens the storage of `home`: private files, the locks of `home`, the guard, a
    quick look-up of sessions.

    Raises StockAssetsError where another server or daemon works on it, and SettingsError for a web server beyond
    loopback without a token.
    """
    # what this process makes, and all that it starts, is its user's alone
    os.umask(PRIVATE)
    with one_line():
        # the web server, which `dagster dev` starts later, would wait for the end of its parent before it told
        require_token_beyond_loopback(settings())
        own_home(home)
    own_daemon(home)
    guard_web_servers()
    filter_partitions_at_once()


class ProjectStorage(BatchingSqliteStorage):
    """The batching storage in `project_home()`, or in `base_dir` where dagster.yaml has one; the database of the
    setting `dagster` where that is an address."""

    def __init__(self, base_dir: str | None = None, inst_data: ConfigurableClassData | None = None) -> None:
        folder = Path(base_dir) if base_dir else project_home()
        prepare_process(folder)
        super().__init__(str(folder), inst_data)

    @classmethod
    def config_type(cls) -> dict[str, Field]:
        return {"base_dir": Field(StringSource, is_required=False, description="a folder; the project's when unset")}

    @classmethod
    def from_config_value(  # pyright: ignore[reportIncompatibleMethodOverride] - Dagster asks for any storage
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> DagsterStorage:
        address = settings().dagster_postgres
        if address is None or config_value.get("base_dir"):
            return cls(inst_data=inst_data, **config_value)
        from stock_assets.cli.team_home import TeamStorage

        return TeamStorage(address, inst_data=inst_data)


class ProjectComputeLogs(LocalComputeLogManager):
    """What the steps print, in `project_home()`."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(str(project_home() / "storage"), inst_data=inst_data)

    @classmethod
    def config_type(cls) -> dict[str, Field]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        return cls(inst_data=inst_data, **config_value)
