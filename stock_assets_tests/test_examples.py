"""Every example in a docstring runs and prints what it says."""

import doctest
import io
from importlib import import_module
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "stock_assets"
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

pytestmark = pytest.mark.xdist_group("demo")


def modules_with_examples() -> list[str]:
    files = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text()]
    return [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__") for path in files
    ]


@pytest.mark.usefixtures("demo")
@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_run(name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    if name == "stock_assets.client":  # its examples name no address
        monkeypatch.setattr("stock_assets.client.LOCAL", request.getfixturevalue("api"))
    examples = [test for test in doctest.DocTestFinder().find(import_module(name)) if test.examples]
    assert examples, f"{name} has >>> in no docstring"
    runner, said = doctest.DocTestRunner(optionflags=OPTIONS), io.StringIO()
    for example in examples:
        runner.run(example, out=said.write)
    assert runner.summarize(verbose=False).failed == 0, said.getvalue()
