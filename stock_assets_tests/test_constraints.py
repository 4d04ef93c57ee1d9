"""The pins of constraints.txt install on every Python that pyproject.toml admits."""

import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)


@pytest.mark.parametrize("name", PINS)
def test_a_pin_installs_on_the_oldest_python(name):
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    try:
        needed = metadata(name).get("Requires-Python", "")
    except PackageNotFoundError:
        pytest.skip(f"{name} is of an extra that is not installed here")
    assert SpecifierSet(needed).contains(f"{oldest}.0"), f"{name} {PINS[name]} needs Python {needed}"
