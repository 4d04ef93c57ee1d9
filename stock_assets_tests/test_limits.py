"""Files, functions and lists of parameters that a reader can take in; what is larger says why.

Ruff counts branches and statements beside this (C901, PLR0915 in pyproject.toml).
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "stock_assets"
FILES = sorted(PACKAGE.rglob("*.py"))
FILE_LINES, FUNCTION_LINES, PARAMETERS, POSITIONAL = 400, 60, 7, 3

#: Decorators of functions that Dagster and typer call.
FRAMEWORKS = ("dg.", "table_asset(", "model_asset(", "app.command(")

#: What is above a limit, and why: "file.py" or "file.py:function".
ALLOWED: dict[str, str] = dict.fromkeys(
    (
        "model/baselines/mlp.py:fit_mlp",
        "model/baselines/svm.py:fit_svm",
        "model/baselines/trees.py:fit_trees",
    ),
    "the hyperparameters of one fit, each keyword-only, with its default; the audit sets some of them bolder",
)

#: Names that leave open what they hold (CONTRIBUTING.md, Words). A field of a class keeps its name: others read it.
BARE = re.compile(
    "_*(asked|checked|chosen|done|found|given|gone|got|had|it|kept|known|made|offered|ours|read|said|seen|stored|taken"
    "|theirs|them|thing|told|wanted|what)"
)
#: Files that still have some of them: a rename takes a file out.
BARE_IN: frozenset[str] = frozenset()

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Every function and method below `tree`, with its qualified name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield f"{prefix}{node.name}", node
            yield from functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")
        else:
            yield from functions(node, prefix)


def length(function: Function) -> int:
    """Lines from the first decorator to the end, with those of functions that stand inside."""
    first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    return (function.end_lineno or first) - first + 1


def called_by_a_framework(function: Function) -> bool:
    """Whether Dagster or typer calls `function`, by the names of its parameters."""
    decorators = [ast.unparse(decorator) for decorator in function.decorator_list]
    return any(decorator.startswith(FRAMEWORKS) for decorator in decorators)


def too_large(path: Path) -> Iterator[tuple[str, str]]:
    """(name, what is above which limit) of a file and its functions."""
    name, text = path.relative_to(PACKAGE).as_posix(), path.read_text()
    if (lines := text.count("\n")) > FILE_LINES:
        yield name, f"{lines} lines, at most {FILE_LINES}"
    for function, node in functions(ast.parse(text)):
        if (lines := length(node)) > FUNCTION_LINES:
            yield f"{name}:{function}", f"{lines} lines, at most {FUNCTION_LINES}"
        positional = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args) if arg.arg not in ("self", "cls")]
        parameters = len(positional) + len(node.args.kwonlyargs)
        if len(positional) > POSITIONAL and not called_by_a_framework(node):
            yield f"{name}:{function}", f"{len(positional)} positional parameters, keyword-only beyond {POSITIONAL}"
        if parameters > PARAMETERS:
            yield f"{name}:{function}", f"{parameters} parameters, at most {PARAMETERS}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_what_a_reader_can_take_in(path: Path):
    above = {name: what for name, what in too_large(path) if name not in ALLOWED}
    assert not above, f"split it, or add it to ALLOWED with the reason: {above}"


def test_every_exception_is_still_one():
    above = {name for path in FILES for name, _ in too_large(path)}
    assert set(ALLOWED) <= above, f"within the limits by now: {sorted(set(ALLOWED) - above)}"


def test_the_limits_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    many_parameters = "class A:\n  def f(self, a, b, c, *, d, e, g, h, i): ...\n"
    many_parameters += "def positional(a, b, c, d): ...\n@dg.op(name='op')\ndef op(a, b, c, d): ...\n"
    long = "def outer():\n  def inner():\n" + "    x = 1\n" * 60
    (tmp_path / "large.py").write_text(many_parameters + long + "#\n" * 400)
    found = dict(too_large(tmp_path / "large.py"))
    assert set(found) == {
        "large.py",
        "large.py:A.f",
        "large.py:positional",
        "large.py:outer",
        "large.py:outer.inner",
    }
    assert found["large.py:A.f"] == "8 parameters, at most 7"


def bare_names(path: Path) -> Iterator[str]:
    """line: name of every variable and parameter of a file whose name is one of BARE."""
    tree = ast.parse(path.read_text())
    fields = {
        id(statement.target)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for statement in node.body
        if isinstance(statement, ast.AnnAssign)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in fields:
            name = node.id
        elif isinstance(node, ast.arg):
            name = node.arg
        else:
            continue
        if BARE.fullmatch(name):
            yield f"{node.lineno}: {name}"


def test_a_name_says_what_it_holds():
    bare = {path.relative_to(PACKAGE).as_posix(): list(bare_names(path)) for path in FILES}
    above = {name: names for name, names in bare.items() if names and name not in BARE_IN}
    assert not above, f"name the thing, such as stored_rows or missing_sessions: {above}"
    assert {name for name, names in bare.items() if names} >= BARE_IN, "some have none of them by now"


def test_bare_names_are_found(tmp_path: Path):
    text = "class A:\n  made: int\ndef f(known, *, _done=0):\n  for found in known:\n    stored_rows = said = found\n"
    (tmp_path / "bare.py").write_text(text)
    assert set(bare_names(tmp_path / "bare.py")) == {"3: known", "3: _done", "4: found", "5: said"}


def test_no_test_measures_seconds():
    """A busy machine takes many: a test proves an order or a count (`waiting.py`), and benchmarks measure."""
    measured = [
        f"{path.name}:{number}"
        for path in Path(__file__).parent.rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"\b(monotonic|perf_counter|time)\(\) - ", line)
    ]
    assert measured == []
