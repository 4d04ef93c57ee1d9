import struct
import subprocess
import sys
from datetime import date

import numpy as np
import polars as pl
import pytest

from stock_assets.evaluation import metrics, plots
from stock_assets.market.calendar import trading_calendar
from stock_assets_tests.evaluation.test_metrics import LABELS, PREDICTIONS

DAYS = trading_calendar("XNYS", date(2018, 1, 2), date(2018, 12, 31)).sessions
SCORED = metrics.scored_rows(PREDICTIONS, LABELS)


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", png[16:24])


def bars(count: int) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(rng.normal(scale=0.015, size=count)))
    opened = close * (1 + rng.normal(scale=0.005, size=count))
    return pl.DataFrame(
        {
            "session": DAYS[:count],
            "open": opened,
            "high": np.maximum(opened, close) * 1.005,
            "low": np.minimum(opened, close) * 0.995,
            "close": close,
            "volume": rng.uniform(1e6, 9e6, size=count),
        }
    )


def with_bands_and_labels(rows: pl.DataFrame) -> pl.DataFrame:
    spread = 2 * pl.col("close").rolling_std(25)
    return rows.with_columns(ma_25=pl.col("close").rolling_mean(25)).with_columns(
        bb_upper_25=pl.col("ma_25") + spread,
        bb_lower_25=pl.col("ma_25") - spread,
        label=pl.when(pl.int_range(pl.len()) < rows.height - 7).then(pl.int_range(pl.len()) % 3 - 1),
    )


def learning_curves() -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"model_year": year, "epoch": e, "train_loss": 1.1, "validation_loss": 1.0 + e / 9, "skill": 0.4}
            for year in range(2014, 2023)
            for e in range(3)
        ]
    )


PICTURES = {
    "candlestick": lambda: plots.candlestick(with_bands_and_labels(bars(120)), "AAA"),
    "candlestick without bands or labels": lambda: plots.candlestick(bars(30), "AAA"),
    "candlestick of one frozen bar": lambda: plots.candlestick(
        bars(1).with_columns(pl.lit(5.0).alias(c) for c in ("open", "high", "low", "close")), "AAA"
    ),
    "explained variance": lambda: plots.explained_variance([0.5, 0.3, 0.15]),
    "one component": lambda: plots.explained_variance([0.97]),
    "labels": lambda: plots.label_distribution(pl.DataFrame({"label": [-1, 0, 1], "rows": [30, 20, 50]})),
    "labels per year": lambda: plots.label_distribution(
        pl.DataFrame({"year": [2018, 2018, 2019], "label": [-1, 1, 0], "rows": [30, 20, 50]})
    ),
    "learning curve": lambda: plots.learning_curve(learning_curves(), "log-loss", "accuracy"),
    "calibration": lambda: plots.calibration(metrics.calibration_table(SCORED)),
    "calibration without a full bin": lambda: plots.calibration(metrics.calibration_table(SCORED), smallest=10**9),
    "rank IC": lambda: plots.rank_ic_through_time(metrics.daily_rank_ic(SCORED)),
    "lag sweep": lambda: plots.lag_sweep(
        pl.DataFrame({"lag": [1, 6, 7], "honest": [False, False, True], "accuracy": [0.74, 0.45, None]})
    ),
    "confusion": lambda: plots.confusion(metrics.confusion_table(SCORED), "prior"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_900_pixels_wide_and_leaves_nothing_behind(name: str):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    width, height = size_of(PICTURES[name]())
    assert width == 900
    assert 150 < height < 700
    assert dict(mpl.rcParams) == before


def test_the_same_picture_is_the_same_bytes():
    assert PICTURES["calibration"]() == PICTURES["calibration"]()


def test_labels_show_in_the_candlestick():
    rows = with_bands_and_labels(bars(60))
    assert plots.candlestick(rows, "AAA") != plots.candlestick(rows.with_columns(label=-pl.col("label")), "AAA")


def test_importing_the_plots_loads_no_matplotlib_and_drawing_no_pyplot():
    script = """
import sys
from stock_assets.evaluation import plots
assert "matplotlib" not in sys.modules
plots.explained_variance([0.6, 0.4])
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
