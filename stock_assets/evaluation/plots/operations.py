"""Pictures of how the running platform does: live skill and drift."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import polars as pl

from stock_assets.evaluation.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def drift_through_time(drift: pl.DataFrame, limits: Mapping[str, float], cutoffs: Sequence[date]) -> bytes:
    """One line per kind of `drift` (session, kind, drift), dashed where its limit is, and the `cutoffs` of the models.

    A kind without a row shows its limit alone.
    """

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for (kind, limit), colour in zip(limits.items(), style.SERIES, strict=False):
            rows = drift.filter(pl.col("kind") == kind).sort("session")
            axes.plot(rows["session"], rows["drift"], color=colour, label=f"{kind} drift")
            axes.axhline(limit, color=colour, linestyle="--", linewidth=1.0, label=f"limit {limit:g}")
        for i, cutoff in enumerate(cutoffs):
            label = "cutoff of a model" if i == 0 else None
            axes.axvline(cutoff, color=style.INK, linestyle=":", linewidth=1.0, label=label)  # pyright: ignore[reportArgumentType]
        axes.set_title("How far the last month lies from what the serving model learned from")
        axes.set_ylabel("Kolmogorov-Smirnov distance")
        axes.set_ylim(0, 1)
        style.legend_below(figure)

    return style.picture(draw, 4.0)


def live_skill(skill: pl.DataFrame) -> bytes:
    """Log-loss through time and the running gain over the naive baseline, one line per model.

    `skill` is that of `operations.live_skill`: session, model, log_loss, gain.
    """

    def draw(figure: "Figure") -> None:
        loss, gain = figure.subplots(2, 1, sharex=True)
        colours = style.colours(skill["model"])
        is_single_session = skill["session"].n_unique() == 1  # a line needs two
        for model, rows in style.groups(skill.sort("session"), "model"):
            naive = model == "naive"
            look: Any = {"color": style.INK if naive else colours[model], "linestyle": "--" if naive else "-"}
            if model == "ensemble":  # which may be rnn alone
                look |= {"linestyle": ":", "linewidth": 2.6, "zorder": 3}
            look |= {"marker": "o"} if is_single_session else {}
            loss.plot(rows["session"], rows["log_loss"], label=model, **look)
            if not naive:
                gain.plot(rows["session"], rows["gain"], **look)
        loss.set_title("Log-loss, rolling mean")
        gain.set_title("Gain over the naive baseline, running sum")
        gain.axhline(0, color=style.INK, linewidth=0.8)
        style.dates(gain)
        style.legend_below(figure, side="left")

    return style.picture(draw, 5.0)


def drift(table: pl.DataFrame) -> bytes:
    """The largest PSI and KS of all columns of a session through time, one line per kind.

    `table` has session, kind, column, psi, ks.
    """
    worst = table.group_by("session", "kind").agg(pl.col("psi", "ks").max()).sort("session")

    def draw(figure: "Figure") -> None:
        panels = figure.subplots(2, 1, sharex=True)
        colours = style.colours(worst["kind"])
        names = (("psi", "Population stability index"), ("ks", "Kolmogorov-Smirnov statistic"))
        for axes, (column, name) in zip(panels, names, strict=True):
            for kind, rows in style.groups(worst, "kind"):
                axes.plot(rows["session"], rows[column], color=colours[kind], marker="o", markersize=3, label=kind)
            axes.set_title(f"{name}, largest of all columns")
            axes.set_ylim(bottom=0)
        style.dates(panels[-1])
        style.legend_below(figure, side="left")

    return style.picture(draw, 5.0)
