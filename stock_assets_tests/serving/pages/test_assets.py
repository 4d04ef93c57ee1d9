"""The vendored files are those of the pinned release."""

import hashlib
from importlib.resources import files

import pytest

#: uPlot 1.6.32, from the npm package `uplot`.
PINNED = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}


@pytest.mark.parametrize("name", PINNED)
def test_a_vendored_file_is_unchanged(name: str):
    content = files("stock_assets.serving.pages").joinpath("static", name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == PINNED[name]


def test_the_licence_is_beside_it():
    licence = files("stock_assets.serving.pages").joinpath("static", "uPlot.LICENSE").read_text()
    assert "MIT License" in licence
    assert "Leon Sorokin" in licence
