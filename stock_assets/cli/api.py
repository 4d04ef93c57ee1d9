"""The API: `stock-assets serve`, and the child beside `dagster dev` that `make run` keeps alive."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Self

import requests
from rich.console import Console

from stock_assets.cli.home import holder_of, lock_file
from stock_assets.cli.server import ROTATE_SECONDS, require_free_port, rotate, stop
from stock_assets.escape import terminal
from stock_assets.files import make_folder
from stock_assets.settings import PROJECT_DIR, Settings
from stock_assets.settings_file import environment_for_child

#: What the API prints, in DAGSTER_HOME, and the lock of the process that keeps it alive.
LOG, LOCK = "api.log", "api.lock"
CHILD = (sys.executable, "-m", "stock_assets.serving.child")
#: An API that ends is started again after the first pause, then after twice as long each time, at most the last one;
#: one that ran for so long begins with the first again.
FIRST_PAUSE, LONGEST_PAUSE, STEADY_SECONDS = 1.0, 60.0, 60.0
#: So many ends in a row, none after STEADY_SECONDS, are an alert.
ENDS_IN_A_ROW = 3
#: Its key, and how long it waits for a store that is busy with an evening: its row follows.
ENDS_KEY, STORE_SECONDS = "api/ends", 1.0
#: How often the child is looked at.
LOOK_SECONDS = 0.5
#: Seconds that `livez` may take, on a machine that is busy with an evening.
ANSWER_SECONDS = 2.0


def serve(settings: Settings, out: Console) -> None:
    """Serves what is published until a person ends it.

    Raises StockAssetsError where nothing can listen there, and for a file of tokens that cannot be used.
    """
    from stock_assets.serving import server

    if not settings.published.is_dir():
        text = f"nothing is published in {settings.published} yet; the API says so until publication is materialized"
        out.print(terminal(text), highlight=False, soft_wrap=True)
    out.print(f"dashboard and API at {url_of(settings)}  (Ctrl-C ends it)", highlight=False, soft_wrap=True)
    with suppress(KeyboardInterrupt):
        server.serve(settings, settings.api_host, settings.api_port)
    out.print("stopped")


def url_of(settings: Settings) -> str:
    """Where this machine reaches the API."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.api_host, settings.api_host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.api_port}"


def require_free_api_port(settings: Settings) -> None:
    """Raises StockAssetsError when something listens on the port of the API already."""
    require_free_port(settings.api_host, settings.api_port, "API_HOST", other="make run API_PORT=8001")


def answers(url: str) -> bool:
    """Whether the API at `url` says that it lives."""
    session = requests.Session()
    session.trust_env = False  # a proxy of the environment cannot reach this machine
    with session, suppress(requests.RequestException):
        return session.get(f"{url}/livez", timeout=ANSWER_SECONDS, allow_redirects=False).ok
    return False


def expected_api(home: Path) -> str | None:
    """Where an API should answer, since a process keeps one alive for `home`; None without one."""
    return holder_of(home / LOCK)


class KeptAlive:
    """The API as a child: started on entering, again when it ends, and ended on leaving.

    A thread waits for it and takes no part in anything else: an API that does not come up costs the evening nothing.
    """

    def __init__(self, settings: Settings, out: Console, *, command: tuple[str, ...] = CHILD) -> None:
        self.url = url_of(settings)
        self._home, self._out, self._command = settings.dagster_home, out, command
        self._settings = settings
        self._ending = Event()
        self._thread = Thread(target=self._keep, name="api", daemon=True)

    @property
    def log(self) -> Path:
        return self._home / LOG

    def __enter__(self) -> Self:
        make_folder(self._home)
        self._lock = lock_file(self._home / LOCK, lambda url: f"another stock-assets run keeps the API at {url} alive")
        self._lock.truncate(0)
        self._lock.write(self.url)
        self._lock.flush()
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".previous.log"))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()
        self._lock.close()

    def _keep(self) -> None:
        pause, ends = FIRST_PAUSE, 0
        while not self._ending.is_set():
            start = time.monotonic()
            end = self._run()
            if self._ending.is_set():
                return
            if time.monotonic() - start > STEADY_SECONDS:
                pause, ends = FIRST_PAUSE, 0
            ends += 1
            if ends >= ENDS_IN_A_ROW:
                self._tell(f"the API {end}, {ends} times in a row; it is started again, see {self.log}")
            if pause == FIRST_PAUSE:  # one line, however often it ends again
                text = f"the API {end}; it is started again, after at most {LONGEST_PAUSE:g} s; see {self.log}"
                self._out.print(terminal(text), highlight=False, soft_wrap=True)
            self._ending.wait(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)

    def _run(self) -> str:
        """Starts the API and waits until it ends or is to end; how it ended."""
        try:
            with self.log.open("ab") as sink:
                process = subprocess.Popen(
                    self._command,
                    cwd=PROJECT_DIR,
                    env={**os.environ, **environment_for_child(PROJECT_DIR)},
                    stdin=subprocess.PIPE,  # the child ends when it is closed
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:  # of a full disk or a full table of processes: later there may be room
            return f"could not be started ({error})"
        try:
            start = last_look = time.monotonic()
            steady = False
            while process.poll() is None and not self._ending.wait(LOOK_SECONDS):
                if time.monotonic() - last_look > ROTATE_SECONDS:
                    last_look = time.monotonic()
                    self._rotate()
                if not steady and time.monotonic() - start > STEADY_SECONDS and answers(self.url):
                    steady = True
                    self._tell(None)
        finally:
            stop(process)
            if process.stdin is not None:
                process.stdin.close()
        return f"ended by itself with exit code {process.returncode}"

    def _tell(self, trouble: str | None) -> None:
        """An alert that the API keeps ending; its end where `trouble` is None."""
        from stock_assets.lifecycle.alerts import Alert
        from stock_assets.lifecycle.materialize.alerts import channels_of, raise_alarm, resolve
        from stock_assets.storage.warehouse import Warehouse

        store = Warehouse.of(self._settings).patient(STORE_SECONDS)
        now = datetime.now(UTC)
        try:
            if trouble is None:
                resolve(store, ENDS_KEY, now=now)
            else:
                alert = Alert(ENDS_KEY, "the API keeps ending", trouble, None, now)
                raise_alarm(store, channels_of(self._settings), alert, now=now)
        except Exception as error:  # an API that is not started again would be worse
            self._out.print(terminal(f"no alert about the API: {error}"), highlight=False, soft_wrap=True)

    def _rotate(self) -> None:
        try:
            rotate(self.log)
        except OSError as error:
            self._out.print(terminal(f"{self.log} cannot be kept short: {error}"), highlight=False, soft_wrap=True)
