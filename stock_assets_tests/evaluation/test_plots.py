import struct
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from io import BytesIO

import numpy as np
import polars as pl
import pytest

from stock_assets.evaluation import breakdowns, classes, metrics, plots, study
from stock_assets.market.calendar import trading_calendar
from stock_assets.side_inputs.lags import known_lags
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


LIMITS = {"input": 0.3, "prediction": 0.5}


def drift_figures(*kinds: str) -> pl.DataFrame:
    frames = [pl.DataFrame({"session": DAYS[2:60]}).with_columns(kind=pl.lit(k), drift=pl.lit(0.2)) for k in kinds]
    return pl.concat(frames)


def trials() -> pl.DataFrame:
    states = ["complete", "complete", "pruned", "complete", "fail", "pruned", "complete", "complete", "complete"]
    return pl.DataFrame(
        {
            "trial": range(9),
            "state": states,
            "value": [1.05 - i / 99 if state == "complete" else None for i, state in enumerate(states)],
            "is_default": [i == 0 for i in range(9)],
        }
    )


def chart(count: int = 130) -> pl.DataFrame:
    rows = bars(count)
    sessions = trading_calendar("XNYS", date(2018, 1, 2), date(2018, 12, 31)).sessions[:count]
    flat = pl.DataFrame(
        {
            "ticker": "AAA",
            "session": sessions,
            "close": rows["close"],
            "volume": rows["volume"],
            "split_ratio": 1.0,
            "total_return": rows["close"].pct_change(),
        }
    )
    return study.chart(flat, flat.head(count - 7).select("ticker", "session", label=pl.int_range(pl.len()) % 3 - 1))


def curves(*models: str) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"model_year": year, "model": model, "epoch": e, "accuracy": 0.4 + e / 100, "rmse": 1.1 - e / 50}
            for model in models
            for year in range(2014, 2020)
            for e in range(4)
        ]
    )


TICKERS = breakdowns.by_ticker(SCORED, "knowing")
SECTORS = pl.DataFrame({"ticker": TICKERS["ticker"], "sector": (["Energy", "Retail"] * 6)[: TICKERS.height]})
COMPARED = pl.DataFrame(
    {"inputs": ["a", "a", "a", "b", "b", "b"], "year": [2018, 2019, None] * 2}
    | {"accuracy": [0.4] * 6, "log_loss": [1.05, 1.04, 1.045, 1.02, 1.03, 1.025]}
)
CUTOFFS = [date(2018, 3, 29), date(2018, 6, 29)]

VALUES = pl.DataFrame(
    {"group": ["peers", "peers", "<b>$x$"], "way": ["left_out", "permuted", "added"], "difference": [-0.01, -0.3, None]}
    | {"low": [-0.02, -0.4, None], "high": [0.0, -0.2, None]}
).join(pl.DataFrame({"metric": ["log_loss", "accuracy", "rank_ic"]}), how="cross")


def lags(side_input: str) -> pl.DataFrame:
    at = datetime(2024, 5, 2, tzinfo=UTC)
    known = [at + timedelta(days=days) for days in (-40, -10, 0, 2, 45)]
    return known_lags({side_input: pl.DataFrame({"event_time": [at] * len(known), "known_at": known})})


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
    "calibration": lambda: plots.calibration(classes.calibration_table(SCORED)),
    "calibration without a full bin": lambda: plots.calibration(classes.calibration_table(SCORED), smallest=10**9),
    "rank IC": lambda: plots.rank_ic_through_time(metrics.daily_rank_ic(SCORED)),
    "reaction moves": lambda: plots.reaction_moves(pl.Series([0.01, -0.04, 0.08, -0.5]), 0.009),
    "one reaction": lambda: plots.reaction_moves(pl.Series([0.0]), 0.0),
    "lags of side inputs": lambda: plots.known_lags(pl.concat([lags("announcements"), lags("texts")])),
    "lags of one side input": lambda: plots.known_lags(lags("macro")),
    "values of inputs": lambda: plots.input_values(VALUES),
    "values of one input, with a name of somebody else": lambda: plots.input_values(
        VALUES[-3:].with_columns(difference=0.01, low=0.0, high=0.02)
    ),
    "lag sweep": lambda: plots.lag_sweep(
        pl.DataFrame({"lag": [1, 6, 7], "honest": [False, False, True], "accuracy": [0.74, 0.45, None]})
    ),
    "optimization history": lambda: plots.optimization_history(trials(), "9 trials"),
    "optimization history of one trial": lambda: plots.optimization_history(trials()[:1], "1 trial"),
    "importance": lambda: plots.hyperparameter_importance({"hidden": 0.7, "layers": 0.3}, "What it hangs on"),
    "labels per pair of thresholds": lambda: plots.label_distribution(
        pl.DataFrame({"thresholds": ["+2.5%", "+2.7%"], "label": [0, 0], "rows": [30, 30]}), by="thresholds"
    ),
    "tickers": lambda: plots.accuracy_by_ticker({"knowing": TICKERS, "prior": breakdowns.by_ticker(SCORED, "prior")}),
    "one ticker": lambda: plots.accuracy_by_ticker({"knowing": TICKERS.head(1)}),
    "sectors": lambda: plots.accuracy_by_sector(
        TICKERS.join(SECTORS, on="ticker"), breakdowns.by_sector(SCORED, "knowing", SECTORS)
    ),
    "price and volume": lambda: plots.price_and_volume(chart(), CUTOFFS, "AAA"),
    "Bollinger bands": lambda: plots.bollinger(chart(), "AAA"),
    "RSI and momentum": lambda: plots.rsi_and_momentum(chart(), "AAA"),
    "RSI of a history too short for it": lambda: plots.rsi_and_momentum(chart(40), "AAA"),
    "epochs": lambda: plots.epochs(curves("rnn_classifier")),
    "epochs of two networks": lambda: plots.epochs(curves("rnn_classifier", "deepar")),
    "ablation": lambda: plots.ablation(COMPARED),
    "drift": lambda: plots.drift_through_time(drift_figures("input", "prediction"), LIMITS, [DAYS[1], DAYS[30]]),
    "drift of inputs alone": lambda: plots.drift_through_time(drift_figures("input"), LIMITS, [DAYS[0]]),
    "confusion": lambda: plots.confusion(classes.confusion_table(SCORED), "prior"),
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


def test_both_edges_of_a_rising_candle_are_drawn():
    from matplotlib.image import imread

    count = 120
    prices = {"open": 10.0, "high": 20.0, "low": 10.0, "close": 20.0, "volume": 1.0}
    rows = pl.DataFrame({"session": DAYS[:count]}).with_columns(pl.lit(value).alias(n) for n, value in prices.items())
    pixels = imread(BytesIO(plots.candlestick(rows, "AAA")))[..., :3].mean(axis=-1)
    across = 1 - pixels[200, 90:]  # through all bodies, right of the axis
    dark = np.flatnonzero(across > 0.05)
    edges = [across[edge].sum() for edge in np.split(dark, np.flatnonzero(np.diff(dark) > 1) + 1)]
    assert len(edges) == pytest.approx(2 * count, abs=6)
    assert min(edges[1:-1]) > 0.5 * max(edges[1:-1])


def test_labels_colour_the_momentum():
    rows = chart()
    other = rows.with_columns(label=-pl.col("label"))
    assert plots.rsi_and_momentum(rows, "AAA") != plots.rsi_and_momentum(other, "AAA")


def test_a_dozen_models_are_told_by_name_and_the_pictures_stay_small():
    thirteen = pl.concat(
        SCORED.filter(pl.col("model") == "knowing").with_columns(model=pl.lit(f"m{i}")) for i in range(13)
    )
    assert len(plots.rank_ic_through_time(metrics.daily_rank_ic(thirteen))) < 250_000
    assert all(len(draw()) < 120_000 for draw in (PICTURES["tickers"], PICTURES["Bollinger bands"], PICTURES["epochs"]))


def test_importing_the_plots_loads_no_matplotlib_and_drawing_no_pyplot():
    script = """
import sys
from stock_assets.evaluation import plots
assert "matplotlib" not in sys.modules
plots.explained_variance([0.6, 0.4])
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
