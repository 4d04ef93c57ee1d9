"""What a test may change for its whole process and has to restore: the next tests run in the same process."""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import pytest

from stock_assets.private.dagster import CONTROLLER, INTERVAL, MAKE_APPLICATION, SERVER_CLASS, WEB_SERVER

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGCHLD", "SIGPIPE")
#: Not those of uvicorn: every server of ours sets them for its process, from scratch.
LOGGERS = ("", "stock_assets", "py.warnings")
#: What pytest keeps in the environment, libraries when they are imported, and our storages for all that they start.
NOT_OF_TESTS = ("PYTEST_CURRENT_TEST", "KMP_", "TORCHINDUCTOR_", "MLFLOW_", "_RJEM_", "DAGSTER_EVENT_BATCH_SIZE")

State = dict[str, object]
BACKFILLS = "the interval of Dagster's backfills"


def _umask() -> object:
    """The mask of new files. Linux names it without setting it, which another thread could meet."""
    status = Path("/proc/self/status")
    if status.exists():
        return next((line for line in status.read_text().splitlines() if line.startswith("Umask")), None)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _handler(number: signal.Signals) -> object:
    """Dagster handles SIGTERM as SIGINT from the first run of a process on."""
    handler = signal.getsignal(number)
    return signal.SIG_DFL if handler is signal.default_int_handler and number == signal.SIGTERM else handler


def _handlers(logger: logging.Logger) -> list[logging.Handler]:
    """Without those with which pytest itself listens."""
    return [handler for handler in logger.handlers if not type(handler).__module__.startswith("_pytest")]


def _make_application() -> object:
    server = getattr(sys.modules.get(WEB_SERVER), SERVER_CLASS, None)
    return getattr(server, MAKE_APPLICATION, None)


def _wrapped() -> State:
    """What the package replaces in Dagster's own servers, which import these modules in processes of their own."""
    controller = sys.modules.get(CONTROLLER)
    return {
        "the guard of Dagster's web server": getattr(_make_application(), "wrapped_by_us", False),
        BACKFILLS: getattr(controller, INTERVAL, 30),
    }


def state() -> State:
    """What holds for the whole process, by name."""
    loggers = {name: logging.getLogger(name) for name in LOGGERS}
    return {
        **{f"environment {name}": value for name, value in os.environ.items() if not name.startswith(NOT_OF_TESTS)},
        **{name: _handler(getattr(signal, name)) for name in SIGNALS if hasattr(signal, name)},
        **{f"level of logger {name!r}": loggers[name].level for name in LOGGERS},
        **{f"handlers of logger {name!r}": _handlers(logger) for name, logger in loggers.items()},
        **_wrapped(),
        "umask": _umask(),
        "working directory": str(Path.cwd()),
        "level that logging disables": logging.root.manager.disable,
        "sys.path": tuple(sys.path),
        "sys.argv": tuple(sys.argv),
        "hooks of exceptions": (sys.excepthook, threading.excepthook),
        "timeout of sockets": socket.getdefaulttimeout(),
    }


def changes(before: State, after: State) -> list[str]:
    """What differs, one line each."""
    absent = object()
    return [
        f"{name}: {before.get(name, 'absent')!r} before, {after.get(name, 'absent')!r} after"
        for name in sorted({*before, *after})
        if before.get(name, absent) != after.get(name, absent)
    ]


def ours() -> State:
    """The modules of this repository that are loaded."""
    names = _our_names(len(sys.modules), next(reversed(sys.modules)))
    return {name: sys.modules[name] for name in names if name in sys.modules}


@lru_cache(maxsize=1)
def _our_names(_number: int, _newest: str) -> tuple[str, ...]:
    """Their names. Every test looks, and there are thousands of others, to which few tests add."""
    return tuple(name for name in sys.modules if "stock_assets" in name or "benchmarks" in name)


def replaced(before: State) -> list[str]:
    """Those of `ours` that were loaded `before` and are others now: their classes are, too."""
    return [
        f"module {name} was loaded anew, or is gone"
        for name, module in before.items()
        if sys.modules.get(name) is not module
    ]


@contextmanager
def restored() -> Iterator[None]:
    """Fails where the body has changed anything of `state`, and puts the environment back for the next tests."""
    environment, before, modules = dict(os.environ), state(), ours()
    yield
    left = [*changes(before, state()), *replaced(modules)]
    if left:
        os.environ.clear()
        os.environ.update(environment)
        pytest.fail("it leaves the process changed:\n" + "\n".join(left), pytrace=False)


@contextmanager
def as_in_a_process_of_its_own() -> Iterator[None]:
    """Puts back what a command or a server of ours sets for its process: signals, umask, environment, hooks."""
    environment, mask, hook = dict(os.environ), os.umask(0o022), sys.excepthook
    os.umask(mask)
    handlers = {name: signal.getsignal(getattr(signal, name)) for name in SIGNALS if hasattr(signal, name)}
    make, interval = _make_application(), _wrapped()[BACKFILLS]
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        os.umask(mask)
        sys.excepthook = hook
        for name, handler in handlers.items():
            signal.signal(getattr(signal, name), handler)
        _unwrap(make, interval)


def _unwrap(make: object, interval: object) -> None:
    """What the package replaces as it was before, also where the module was loaded since."""
    if CONTROLLER in sys.modules:
        setattr(sys.modules[CONTROLLER], INTERVAL, interval)
    if WEB_SERVER in sys.modules:
        now = _make_application()
        setattr(
            getattr(sys.modules[WEB_SERVER], SERVER_CLASS), MAKE_APPLICATION, make or getattr(now, "__wrapped__", now)
        )
