"""A small market of hours for tests: the simulated one, with two models that train in no time."""

from datetime import date
from pathlib import Path

import pytest

from stock_assets.model.bar_baselines import BarClassPrior, BarLinear
from stock_assets.model.bar_models import BAR_IN_SERVICE, BAR_MODELS, BarModelEntry
from stock_assets.settings import Settings, read_settings

START = date(2025, 6, 1)
#: 480 hours before the first cutoff, and a session in which the models are trained.
FIRST_SERVED = date(2025, 6, 22)


def hours(folder: Path) -> Settings:
    """The settings of the market."""
    return read_settings(
        interval="1h", exchange="24/7", start=START, tickers=("SIM01", "SIM02", "SIM20"), data_dir=folder
    )


def use_quick_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a linear model in service, with one naive model and one reference beside it."""
    entries = {
        name: BarModelEntry(name=name, role=role, title=name, train=model.fit, load=model.from_artifact)
        for name, role, model in (
            (BAR_IN_SERVICE, "champion", BarLinear),
            ("class_prior", "naive", BarClassPrior),
            ("linear", "reference", BarLinear),
        )
    }
    for name in set(BAR_MODELS) - set(entries):
        monkeypatch.delitem(BAR_MODELS, name)
    for name, entry in entries.items():
        monkeypatch.setitem(BAR_MODELS, name, entry)
