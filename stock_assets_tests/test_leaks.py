"""The guard that every test runs under fails one that leaves its process changed."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest

from stock_assets.private import dagster as borrowed
from stock_assets_tests.leaks import as_in_a_process_of_its_own, restored


def wrap_the_web_server() -> None:
    borrowed.wrap_web_server(lambda application: application)


def load_a_module_anew() -> None:
    sys.modules["stock_assets.errors"] = ModuleType("stock_assets.errors")


@pytest.mark.parametrize(
    ("leave", "named"),
    [
        (lambda: os.environ.update(LEFT="1"), "environment LEFT: 'absent' before, '1' after"),
        (lambda: os.environ.pop("STOCK_ASSETS_CONFIG"), "environment STOCK_ASSETS_CONFIG: 'off' before"),
        (lambda: os.umask(0o013), "umask"),
        (lambda: os.chdir("/"), "working directory"),
        (lambda: signal.signal(signal.SIGINT, signal.SIG_IGN), "SIGINT"),
        (lambda: logging.getLogger().setLevel(logging.CRITICAL), "level of logger ''"),
        (lambda: logging.getLogger().addHandler(logging.NullHandler()), "handlers of logger ''"),
        (lambda: sys.path.append("/left"), "sys.path"),
        (wrap_the_web_server, "the guard of Dagster's web server: False before, True after"),
        (load_a_module_anew, "module stock_assets.errors was loaded anew"),
    ],
)
def test_what_a_test_leaves_behind_fails_it(leave: Callable[[], object], named: str, monkeypatch: pytest.MonkeyPatch):
    import dagster_webserver.webserver  # noqa: F401 - what is wrapped

    root = logging.getLogger()
    level, folder, handlers = root.level, Path.cwd(), list(root.handlers)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "stock_assets.errors", sys.modules["stock_assets.errors"])
    fails = pytest.raises(pytest.fail.Exception, match="leaves the process")
    with as_in_a_process_of_its_own(), fails as failure, restored():
        leave()
    os.chdir(folder)
    root.setLevel(level)
    root.handlers[:] = handlers
    assert named in str(failure.value)
    assert str(failure.value).count("\n") == 1, "that and nothing else"


def test_a_test_that_restores_what_it_changes_passes(tmp_path: Path):
    with restored(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEFT", "1")
        patch.chdir(tmp_path)


def test_no_property_fails_because_the_machine_is_busy():
    assert hypothesis.settings().deadline is None
    assert hypothesis.HealthCheck.too_slow in hypothesis.settings().suppress_health_check
