"""The public names: that they are there, documented, typed, listed, and light to import."""

import inspect
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import stock_assets
from stock_assets import views
from stock_assets.client import Client
from stock_assets.platform import Platform
from stock_assets.settings import PROJECT_DIR

API_PAGE = PROJECT_DIR / "docs" / "api.md"
METHODS = {
    f"{kind.__name__}.{name}": getattr(kind, name)
    for kind in (views.Market, Platform, views.AsOf, Client)
    for name in vars(kind)
    if not name.startswith("_") and (callable(getattr(kind, name)) or isinstance(vars(kind)[name], property))
}


def test_every_public_name_is_there():
    assert stock_assets.__version__ == version("stock_assets")
    for name in stock_assets.__all__:
        assert getattr(stock_assets, name) is not None
    assert set(dir(stock_assets)) == set(stock_assets.__all__)
    with pytest.raises(AttributeError, match="'stock_assets' has no attribute 'opne'"):
        stock_assets.opne  # noqa: B018


def test_the_package_is_typed():
    assert Path(stock_assets.__file__).with_name("py.typed").exists()


@pytest.mark.parametrize("name", METHODS)
def test_every_public_method_is_documented_with_an_example_and_typed(name: str):
    method = METHODS[name]
    text = inspect.getdoc(method)
    assert text, name
    function = method.fget if isinstance(method, property) else method
    assert "return" in inspect.get_annotations(function)
    own = [kind for kind in (views.Market, Platform, Client) if kind.__name__ == name.split(".")[0]]
    if own and name not in ("Platform.store", "Platform.query", "Client.card"):
        assert ">>> " in text, f"{name} has no example"


def test_the_page_lists_every_public_name():
    page = API_PAGE.read_text()
    for name in stock_assets.__all__:
        assert f"`{name}" in page or f"stock_assets.{name}" in page, name
    for name in METHODS:
        assert f"`{name.split('.')[1]}" in page, name


def test_importing_the_package_is_light():
    code = "import sys, stock_assets; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"dagster", "torch", "polars", "pydantic", "duckdb", "pandas"} & set(loaded)


def test_opening_a_market_needs_no_dagster_and_no_torch(tmp_path: Path):
    code = "import sys, stock_assets; stock_assets.open(sys.argv[1]); print(*sys.modules)"
    arguments = [sys.executable, "-c", code, str(tmp_path)]
    loaded = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.split()
    assert not {"dagster", "torch", "sklearn", "mlflow", "matplotlib"} & set(loaded)
