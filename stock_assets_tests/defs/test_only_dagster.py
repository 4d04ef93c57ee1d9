"""`defs/` holds Dagster alone: every function has a Dagster name, and bodies of assets and sensors are short."""

import ast
from pathlib import Path

import pytest

DEFS = Path(__file__).parents[2] / "stock_assets" / "defs"
FILES = sorted(DEFS.glob("*.py"))
#: Lines of the body of an asset, a sensor, a schedule or a check, and of any function at the top of a file.
LONGEST_BODY, LONGEST_FACTORY = 15, 60
#: Decorators of what Dagster calls, ours and its own.
CALLED_BY_DAGSTER = {
    "table_asset", "tables_asset", "model_asset", "platform_sensor", "asset", "multi_asset", "sensor",
    "schedule", "asset_check", "run_failure_sensor", "run_status_sensor", "op",
}  # fmt: skip

Function = ast.FunctionDef | ast.AsyncFunctionDef


def dagster_names(tree: ast.Module) -> set[str]:
    """The names that a file imports from dagster, or for it from `private`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name for alias in node.names if alias.name.split(".")[0] == "dagster"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "") in ("dagster", "stock_assets.private.dagster"):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def called_by_dagster(function: Function) -> bool:
    """Whether one of its decorators makes it an asset, a sensor or the like."""
    found = [node.func if isinstance(node, ast.Call) else node for node in function.decorator_list]
    return any((getattr(node, "attr", None) or getattr(node, "id", None)) in CALLED_BY_DAGSTER for node in found)


def lines(function: Function) -> int:
    """The lines of its body, without the docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_function_at_the_top_of_a_file_names_dagster(path: Path):
    tree = ast.parse(path.read_text())
    names = dagster_names(tree)
    without = [
        node.name
        for node in tree.body
        if isinstance(node, Function)
        and not {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)} & names
    ]
    assert not without


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_dagster_calls_is_short(path: Path):
    found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, Function)]
    long = {node.name: lines(node) for node in found if called_by_dagster(node) and lines(node) > LONGEST_BODY}
    assert not long


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_function_at_the_top_of_a_file_is_long(path: Path):
    tree = ast.parse(path.read_text())
    whole = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in tree.body if isinstance(node, Function)}
    assert not {name: length for name, length in whole.items() if length > LONGEST_FACTORY}


def test_the_rules_see_a_function_without_dagster_and_a_long_body():
    tree = ast.parse("import dagster as dg\ndef pure(x):\n    '''dg'''\n    return x\ndef ours() -> dg.SkipReason: ...")
    assert dagster_names(tree) == {"dg"}
    pure = tree.body[1]
    assert isinstance(pure, Function)
    assert (lines(pure), called_by_dagster(pure)) == (1, False)
    (sensor,) = ast.parse("@dg.sensor(name='x')\ndef tick(c):\n    a = 1\n    return a").body
    assert isinstance(sensor, Function)
    assert (lines(sensor), called_by_dagster(sensor)) == (2, True)
