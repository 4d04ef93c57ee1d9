"""Who may import whom, and what loading the graph may cost."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "stock_assets"
MODULES = sorted(PACKAGE.rglob("*.py"))
DOMAIN = ("market", "features", "model", "evaluation", "lifecycle")
LAZY = {"torch", "sklearn", "yfinance", "matplotlib", "duckdb", "mlflow", "curl_cffi", "lightgbm", "optuna"}
#: The homes of the libraries that they are about; nobody imports them while the graph is loaded.
TORCH_ROOMS = {
    f"model/{name}.py" for name in ("rnn", "descent", "inference", "training", "volatility", "deepar", "recipes")
}


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    """The modules that a file imports; those under `if TYPE_CHECKING` are never run and do not count."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)) or (
            top_level_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ):
            return
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_rooms_keep_to_themselves(path: Path):
    name = path.relative_to(PACKAGE).as_posix()
    room = name.split("/")[0]
    found, at_load = imports(path), imports(path, top_level_only=True)
    if room not in ("defs", "cli", "definitions.py") and name != "storage/event_log.py":
        assert "dagster" not in roots(found)
    if room != "storage":
        assert "duckdb" not in roots(found)
    if room != "defs" and name != "definitions.py":
        assert not {module for module in found if module.startswith("stock_assets.defs")}
    if room in DOMAIN:
        assert not {module for module in found if module.startswith(("stock_assets.storage", "stock_assets.cli"))}
    allowed = {"torch"} if name in TORCH_ROOMS else set()
    assert not (roots(at_load) & LAZY) - allowed


def test_loading_the_graph_leaves_the_heavy_libraries_alone():
    code = "import sys, stock_assets.definitions; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    modules = set(loaded.stdout.split())
    assert "stock_assets.defs.market" in modules
    assert not modules & LAZY
