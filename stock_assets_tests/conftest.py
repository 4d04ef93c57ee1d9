"""What every test may ask for."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

# a settings file of the person who runs the tests is none of theirs
os.environ["STOCK_ASSETS_CONFIG"] = "off"

REAL_DATA = Path(os.environ.get("REAL_DATA_DIR", Path(__file__).parent.parent.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """The path of a file of real prices; the test is skipped where the folder is not beside the clone."""

    def path_of(name: str) -> Path:
        path = REAL_DATA / name
        if not path.exists():
            pytest.skip(f"no {name} in the folder of real data (REAL_DATA_DIR)")
        return path

    return path_of
