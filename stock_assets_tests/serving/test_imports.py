"""The API starts quickly and in little memory, because it loads neither the store nor a model."""

import subprocess
import sys

HEAVY = ("duckdb", "torch", "mlflow", "dagster", "sklearn", "pandas", "matplotlib", "scipy", "yfinance", "pyarrow")
ROOMS = ("storage", "market", "features", "model", "evaluation", "lifecycle", "defs", "definitions")


def test_the_application_loads_neither_the_store_nor_a_model():
    code = "import sys, stock_assets.serving.app; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    modules = set(loaded.stdout.split())
    assert "stock_assets.serving.routes.predictions" in modules
    assert not modules & {*HEAVY, *(f"stock_assets.{room}" for room in ROOMS)}
