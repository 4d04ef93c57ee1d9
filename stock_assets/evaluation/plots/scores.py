"""Pictures of how good predictions were."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from stock_assets.escape import one_line
from stock_assets.evaluation.bootstrap import t_statistic
from stock_assets.evaluation.plots import style
from stock_assets.frames import CLASS_NAMES, CLASSES

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def confusion(table: pl.DataFrame, model: str) -> bytes:
    """The confusion matrix of one model of `metrics.confusion_table`: rows of the matrix sum to 100 %."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        of_model = table.filter(pl.col("model") == model).select("label", "predicted", "rows", "share")
        cells = {(label, guess): (rows, share) for label, guess, rows, share in of_model.iter_rows()}
        shares = np.array([[cells[a, b][1] or 0.0 for b in CLASSES] for a in CLASSES])
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=max(0.6, shares.max()), aspect="auto")
        for i, a in enumerate(CLASSES):
            for j, b in enumerate(CLASSES):
                rows, share = cells[a, b]
                axes.text(
                    j,
                    i,
                    f"{100 * (share or 0):.0f} %\n{rows:,}",
                    ha="center",
                    va="center",
                    color="white" if shares[i, j] > 0.45 else style.INK,
                )
        axes.set_xticks(range(3), [f"predicted {CLASS_NAMES[c]}" for c in CLASSES])
        axes.set_yticks(range(3), [f"was {CLASS_NAMES[c]}" for c in CLASSES])
        axes.set_title(f"{model}: share of each label, and rows")
        axes.grid(visible=False)

    return style.picture(draw, 3.6)


def calibration(table: pl.DataFrame, smallest: int = 50) -> bytes:
    """The observed share of each class against its forecast probability; one panel per class, one line per model.

    `table` is that of `metrics.calibration_table`; bins with fewer than `smallest` rows are left out.
    """

    def draw(figure: "Figure") -> None:
        large_bins = table.filter(pl.col("rows") >= smallest)
        panels = np.atleast_1d(figure.subplots(1, 3, sharex=True, sharey=True))
        colours = style.colours(table["model"])
        top = max([0.5, *large_bins["forecast"], *large_bins["observed"]]) + 0.05
        for axes, c in zip(panels, CLASSES, strict=True):
            axes.plot([0, top], [0, top], color=style.FAINT, linewidth=1.2)
            for model, rows in style.groups(large_bins.filter(pl.col("class") == c), "model"):
                axes.plot(
                    rows["forecast"],
                    rows["observed"],
                    color=colours[model],
                    marker="o",
                    markersize=4,
                    label=model,
                )
            axes.set_title(CLASS_NAMES[c])
            axes.set_xlabel("forecast probability")
            axes.set_xlim(0, top)
            axes.set_ylim(0, top)
            axes.set_aspect("equal")
        panels[0].set_ylabel("observed share")
        style.legend_below(figure)

    return style.picture(draw, 3.7)


def rank_ic_through_time(ic: pl.DataFrame, window: int = 63) -> bytes:
    """Running sum and `window`-session mean of the daily rank IC, one line per model with its t-statistic.

    `ic` is that of `metrics.daily_rank_ic`; sessions without a correlation are left out, and so are models
    without any.
    """

    def draw(figure: "Figure") -> None:
        total, mean = figure.subplots(2, 1, sharex=True)
        colours = style.colours(ic["model"])
        for model, rows in style.groups(ic.drop_nulls("rank_ic").sort("session"), "model"):
            colour, t = colours[model], t_statistic(rows["rank_ic"].to_numpy())
            name = model if t is None else f"{model} (t = {t:.1f})"
            total.plot(rows["session"], rows["rank_ic"].cum_sum(), color=colour, label=name)
            mean.plot(rows["session"], rows["rank_ic"].rolling_mean(window), color=colour, linewidth=1.2)
        total.set_title("Rank IC of the score against the next day's return, running sum")
        mean.set_title(f"… and its mean over {window} sessions")
        mean.axhline(0, color=style.INK, linewidth=0.8)
        total.axhline(0, color=style.INK, linewidth=0.8)
        style.legend_below(figure)

    return style.picture(draw, 5.0)


def growth(paths: pl.DataFrame, market: str) -> bytes:
    """What 1 has grown to, one line per portfolio; `paths` is that of `benchmark.growth`, `market` a series' name."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        names = [name for name in paths.columns if name != "session"]
        colours = style.colours(pl.Series(names))
        for name in names:
            look: Any = {"color": style.INK, "linestyle": "--"} if name == "market" else {"color": colours[name]}
            axes.plot(paths["session"], paths[name], label=market if name == "market" else name, **look)
        axes.set_yscale("log")
        axes.set_title("What 1 has grown to")
        style.dates(axes)
        style.legend_below(figure, side="left")

    return style.picture(draw, 3.7)


def accuracy_by_ticker(tickers: Mapping[str, pl.DataFrame]) -> bytes:
    """How many tickers are predicted how well: one outline per model, with its median.

    `tickers` maps each model to its `breakdowns.by_ticker`.
    """

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        accuracies = {model: 100 * table["accuracy"].to_numpy() for model, table in tickers.items()}
        pooled_accuracies = np.concatenate(list(accuracies.values()))
        edges = np.linspace(pooled_accuracies.min() - 0.5, pooled_accuracies.max() + 0.5, 41)
        for i, (model, values) in enumerate(accuracies.items()):
            median = float(np.median(values))
            colour = style.SERIES[i % len(style.SERIES)]
            axes.hist(values, edges, histtype="stepfilled", color=colour, alpha=0.25)
            axes.hist(values, edges, histtype="step", color=colour, label=f"{model}, half above {median:.1f} %")
            axes.axvline(median, color=colour, linestyle="--", linewidth=1.2)
        axes.set_xlabel("accuracy of a ticker (%)")
        axes.set_ylabel("tickers")
        axes.set_title("Accuracy per ticker")
        style.legend_below(figure)

    return style.picture(draw, 3.6)


def accuracy_by_sector(tickers: pl.DataFrame, sectors: pl.DataFrame) -> bytes:
    """Each ticker's accuracy as a dot in the row of its sector, and the sector's own as a bar.

    `tickers` has sector and accuracy, `sectors` is `breakdowns.by_sector`.
    """

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for i, (sector, accuracy) in enumerate(sectors.select("sector", "accuracy").iter_rows()):
            dots = 100 * tickers.filter(pl.col("sector") == sector)["accuracy"].sort().to_numpy()
            # side by side instead of on top of each other, in an order without a meaning
            spread = (np.arange(len(dots)) * 0.618 % 1 - 0.5) * 0.5
            axes.scatter(dots, i + spread, s=12, color=style.SERIES[0], alpha=0.5, linewidth=0)
            axes.vlines(100 * accuracy, i - 0.36, i + 0.36, color=style.SERIES[1], linewidth=2.4)
        axes.set_yticks(range(sectors.height), [*map(one_line, sectors["sector"])])
        axes.set_ylim(sectors.height - 0.4, -0.6)
        axes.set_xlabel("accuracy (%); a dot is a ticker, the bar its sector")
        axes.set_title("Accuracy per sector")

    return style.picture(draw, 1.4 + 0.34 * sectors.height)


def lag_sweep(sweep: pl.DataFrame) -> bytes:
    """Accuracy of copying the label of so many rows ago, and where it stops to be cheating.

    `sweep` is that of `leakage.lag_sweep`: lag, honest, accuracy; lags without one are left out.
    """

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for honest, text, colour in (
            (False, "not known by then", style.COLOURS[-1]),
            (True, "known by then", style.COLOURS[1]),
        ):
            rows = sweep.drop_nulls("accuracy").filter(pl.col("honest") == honest)
            bars = axes.bar(rows["lag"], 100 * rows["accuracy"], color=colour, label=text)
            axes.bar_label(bars, fmt="%.1f", fontsize=9)
        axes.set_xticks(sweep["lag"].to_list())
        axes.set_xlabel("rows ago")
        axes.set_ylabel("accuracy (%)")
        axes.margins(y=0.12)  # room for the figures on the bars
        axes.set_title("Copying the label of some rows ago")
        style.legend_below(figure)

    return style.picture(draw, 3.6)
