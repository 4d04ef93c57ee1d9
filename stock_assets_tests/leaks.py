"""What a test may change for its whole process and has to restore: the next tests run in the same process."""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stock_assets.private.dagster import CONTROLLER, INTERVAL, MAKE_APPLICATION, SERVER_CLASS, WEB_SERVER

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGCHLD", "SIGPIPE")
#: Of uvicorn's loggers the handlers alone: a server of ours sets their levels, and every server the same.
LOGGERS = ("", "stock_assets", "py.warnings")
UVICORN = ("uvicorn", "uvicorn.error", "uvicorn.access")
#: What pytest keeps in the environment, libraries when they are imported, and our storages for all that they start.
NOT_OF_TESTS = ("PYTEST_CURRENT_TEST", "KMP_", "TORCHINDUCTOR_", "MLFLOW_", "DAGSTER_EVENT_BATCH_SIZE")

State = dict[str, object]


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
        "the interval of Dagster's backfills": getattr(controller, INTERVAL, 30),
    }


def state() -> State:
    """What holds for the whole process, by name."""
    loggers = {name: logging.getLogger(name) for name in (*LOGGERS, *UVICORN)}
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


def replaced(before: dict[str, object]) -> list[str]:
    """The modules of this repository that were loaded `before` and are others now: their classes are, too."""
    ours = ("stock_assets", "benchmarks")
    return [
        f"module {name} was loaded anew, or is gone"
        for name, module in before.items()
        if name.startswith(ours) and sys.modules.get(name) is not module
    ]


@contextmanager
def restored() -> Iterator[None]:
    """Fails where the body has changed anything of `state`, and puts the environment back for the next tests."""
    environment, before, modules = dict(os.environ), state(), dict(sys.modules)
    yield
    left = [*changes(before, state()), *replaced(modules)]
    if left:
        os.environ.clear()
        os.environ.update(environment)
        pytest.fail("it leaves the process changed:\n" + "\n".join(left), pytrace=False)


@contextmanager
def as_in_a_process_of_its_own() -> Iterator[None]:
    """Puts back what a command or a server of ours sets for its process: signals, umask, environment, hooks."""
    environment, mask = dict(os.environ), os.umask(0o022)
    os.umask(mask)
    handlers = {name: signal.getsignal(getattr(signal, name)) for name in SIGNALS if hasattr(signal, name)}
    controller, hook = sys.modules.get(CONTROLLER), sys.excepthook
    interval, make = getattr(controller, INTERVAL, None), _make_application()
    yield
    os.environ.clear()
    os.environ.update(environment)
    os.umask(mask)
    for name, handler in handlers.items():
        signal.signal(getattr(signal, name), handler)
    sys.excepthook = hook
    if controller is not None:
        setattr(controller, INTERVAL, interval)
    if make is not None:
        setattr(getattr(sys.modules[WEB_SERVER], SERVER_CLASS), MAKE_APPLICATION, make)
