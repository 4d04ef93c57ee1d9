"""Pictures of how good predictions of bars within the session were, day by day."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from stock_assets.evaluation.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def daily_gain(gains: pl.DataFrame, naive: str) -> bytes:
    """What the best naive model, `naive`, loses more than each other model on each day.

    `gains` has model, session and gain (nats), sorted by both.
    """

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        sessions = gains["session"].unique().sort()
        colours, models = style.colours(gains["model"]), gains["model"].unique().sort().to_list()
        width = 0.8 / max(len(models), 1)
        for i, (model, rows) in enumerate(style.groups(gains, "model")):
            at = sessions.search_sorted(rows["session"]).to_numpy() + (i - (len(models) - 1) / 2) * width
            axes.bar(at, rows["gain"], width, color=colours[model], label=model)
        axes.axhline(0, color=style.INK, linewidth=0.8)
        step = max(1, len(sessions) // 10)
        tick_places = np.arange(0, len(sessions), step)
        axes.set_xticks(tick_places, [f"{sessions[int(i)]:%d %b}" for i in tick_places])
        axes.set_ylabel("nats")
        axes.set_title(f"Log-loss gained over {naive}, by day (above 0 is better)")
        style.legend_below(figure, side="left")

    return style.picture(draw, 3.6)


def earned(days: pl.DataFrame, models: Sequence[str]) -> bytes:
    """The running sum of what acting on the scores of `models` earned, gross and net.

    `days` is that of `bar_scores.by_day`. Two panels, since costs are larger than what is earned by far.
    """

    def draw(figure: "Figure") -> None:
        panels = figure.subplots(1, 2, sharex=True)
        own = days.filter(pl.col("model").is_in(list(models)))
        colours = style.colours(own["model"])
        for axes, column, title in zip(panels, ("gross", "net"), ("before costs", "after costs"), strict=True):
            for model, rows in style.groups(own, "model"):
                axes.plot(rows["session"], 100 * rows[column].cum_sum(), color=colours[model], marker="o", label=model)
            axes.axhline(0, color=style.INK, linewidth=0.8)
            axes.set_title(title)
            style.dates(axes)
        panels[0].set_ylabel("% of the capital, running sum")
        style.legend_below(figure, side="left")

    return style.picture(draw, 3.6)
