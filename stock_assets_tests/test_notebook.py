"""The example notebook runs from the first cell to the last on the simulated market."""

import json
from pathlib import Path

import polars as pl
import pytest

NOTEBOOK = Path(__file__).parent.parent / "examples" / "first_look.ipynb"
CELLS = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]

pytestmark = pytest.mark.xdist_group("demo")


@pytest.mark.usefixtures("demo")
def test_every_cell_runs(monkeypatch: pytest.MonkeyPatch):
    import matplotlib as mpl

    monkeypatch.setenv("MPLBACKEND", "Agg")
    mpl.use("Agg")
    namespace: dict[str, object] = {"__name__": "__main__"}
    for number, cell in enumerate(CELLS):
        exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}, cell {number}", "exec"), namespace)
    bars = namespace["bars"]
    assert isinstance(bars, pl.DataFrame)
    assert bars.height > 0


def test_it_is_stored_without_answers():
    assert CELLS
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in CELLS)
