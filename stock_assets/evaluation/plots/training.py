"""Pictures of how models are trained and tuned, and of what their inputs are worth."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from stock_assets.evaluation.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def explained_variance(ratios: Sequence[float]) -> bytes:
    """The share of variance of each principal component and their running sum; `ratios` are fractions."""

    from matplotlib.ticker import MaxNLocator

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        number = np.arange(1, len(ratios) + 1)
        axes.bar(number, 100 * np.asarray(ratios), color=style.SERIES[0], label="each component")
        axes.plot(number, 100 * np.cumsum(ratios), color=style.SERIES[1], marker="o", markersize=4, label="running sum")
        axes.set_title(f"{len(ratios)} components explain {100 * sum(ratios):.1f} % of the variance")
        axes.set_xlabel("principal component")
        axes.set_ylabel("variance explained (%)")
        axes.set_xlim(0.4, len(ratios) + 0.6)
        axes.set_ylim(0, 104)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="center right")

    return style.picture(draw, 3.6)


def learning_curve(curves: pl.DataFrame, loss_name: str, skill_name: str) -> bytes:
    """Train and validation loss, and a skill, against the epoch, one colour per model year.

    `curves` has model_year, epoch, train_loss, validation_loss, skill (fraction or null); the names are their titles.
    """

    from matplotlib.ticker import MaxNLocator

    def draw(figure: "Figure") -> None:
        loss, hits = figure.subplots(1, 2)
        colours = style.colours(curves["model_year"])
        for year, rows in style.groups(curves.sort("epoch"), "model_year"):
            colour = colours[year]
            loss.plot(rows["epoch"], rows["validation_loss"], color=colour, marker="o", markersize=4, label=str(year))
            loss.plot(rows["epoch"], rows["train_loss"], color=colour, linestyle=":", linewidth=1.2)
            skill = rows["skill"].cast(pl.Float64)  # none where it is undefined, as across a single ticker
            hits.plot(rows["epoch"], 100 * skill, color=colour, marker="o", markersize=4)
        loss.set_title(f"{loss_name}: validation (line), training (dotted)")
        hits.set_title(f"{skill_name} (%)")
        for axes in (loss, hits):
            axes.set_xlabel("epoch; 0 is untrained")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        style.legend_below(figure)

    return style.picture(draw, 3.8)


def epochs(curves: pl.DataFrame) -> bytes:
    """Accuracy and RMSE on the validation labels against the epoch; a colour per model year, a line style per model.

    `curves` has model_year, model, epoch, accuracy (fraction) and rmse (of the classes -1, 0, 1).
    """
    from matplotlib.ticker import MaxNLocator

    def draw(figure: "Figure") -> None:
        hits, distance = figure.subplots(1, 2)
        colours, models = style.colours(curves["model_year"]), curves["model"].unique().sort().to_list()
        for (year, model), rows in curves.sort("epoch").partition_by("model_year", "model", as_dict=True).items():
            stroke = ("-", "--", ":", "-.")[models.index(model) % 4]
            line: Any = {"color": colours[year], "linestyle": stroke, "marker": "o", "markersize": 4}
            hits.plot(rows["epoch"], 100 * rows["accuracy"], **line, label=f"{model} {year}")
            distance.plot(rows["epoch"], rows["rmse"], **line)
        hits.set_title("Accuracy (%)")
        distance.set_title("RMSE of the predicted class")
        for axes in (hits, distance):
            axes.set_xlabel("epoch; 0 is untrained")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        style.legend_below(figure, 4)

    return style.picture(draw, 4.2)


def ablation(table: pl.DataFrame) -> bytes:
    """Accuracy and log-loss of each set of inputs, by test year; `table` is `study.ablation_table`."""

    def draw(figure: "Figure") -> None:
        right, loss = figure.subplots(1, 2)
        years = table["year"].drop_nulls().unique().sort().to_list()
        sets = table["inputs"].unique(maintain_order=True).to_list()
        for i, name in enumerate(sets):
            rows = table.filter((pl.col("inputs") == name) & pl.col("year").is_not_null()).sort("year")
            line: Any = {
                "color": style.SERIES[i % len(style.SERIES)],
                "marker": ("o", "s", "^")[i % 3],
                "markersize": 6,
            }
            right.plot(range(len(years)), 100 * rows["accuracy"], **line, label=name)
            loss.plot(range(len(years)), rows["log_loss"], **line)
        right.set_title("Accuracy (%)")
        loss.set_title("Log-loss (lower is better)")
        for axes in (right, loss):
            axes.set_xticks(range(len(years)), [str(year) for year in years])
            axes.margins(x=0.1)
        style.legend_below(figure)

    return style.picture(draw, 3.6)


def optimization_history(trials: pl.DataFrame, title: str) -> bytes:
    """The score of every trial in the order they began, the best so far, and that of the default configuration.

    `trials` has trial, state (complete, pruned or failed), value (lower is better; null but for complete ones) and
    is_default. Trials without a value are marks on the axis.
    """
    from matplotlib.ticker import MaxNLocator

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        rows = trials.sort("trial")
        completed_trials = rows.drop_nulls("value")
        axes.scatter(
            completed_trials["trial"],
            completed_trials["value"],
            color=style.SERIES[0],
            s=26,
            label="complete",
            zorder=3,
        )
        axes.step(
            completed_trials["trial"],
            completed_trials["value"].cum_min(),
            where="post",
            color=style.SERIES[1],
            label="best so far",
        )
        for state, colour, marker in (("pruned", style.COLOURS[0], "|"), ("fail", style.SERIES[3], "x")):
            without = rows.filter(pl.col("state") == state)["trial"]
            if len(without):
                at = [0.02] * len(without)
                axes.scatter(
                    without, at, color=colour, marker=marker, label=state, transform=axes.get_xaxis_transform()
                )
        for value in completed_trials.filter("is_default")["value"]:
            axes.axhline(value, color=style.SERIES[2], linestyle="--", linewidth=1.2, label="default configuration")
        axes.set_title(title)
        axes.set_xlabel("trial")
        axes.set_ylabel("log-loss of the\nvalidation periods")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        style.legend_below(figure)

    return style.picture(draw, 3.8)


def hyperparameter_importance(shares: Mapping[str, float], title: str) -> bytes:
    """How much of the scores' variance each hyperparameter explains; `shares` are fractions, of at least one."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        shares_in_order = sorted(shares.items(), key=lambda item: item[1])
        bars = axes.barh(
            [name for name, _ in shares_in_order], [100 * share for _, share in shares_in_order], color=style.SERIES[0]
        )
        axes.bar_label(bars, fmt="%.0f %%", padding=3, fontsize=9)
        axes.set_xlim(0, 112)
        axes.set_title(title)
        axes.set_xlabel("variance of the scores explained (%)")
        axes.grid(visible=False, axis="y")

    return style.picture(draw, 1.4 + 0.28 * len(shares))
