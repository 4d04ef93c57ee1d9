"""The picture of what inputs are worth."""

from math import ceil, log10
from typing import TYPE_CHECKING, Any

import polars as pl

from stock_assets.escape import one_line
from stock_assets.evaluation.input_value import COMPARED, JUDGED_BY
from stock_assets.evaluation.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Inches of a group and its ways.
_ROW = 0.42
#: So many times as much as usual does not fit on a straight scale.
_MANY = 12
#: Colour, shape and place within the row of each way: none is both left out and added.
_LOOKS = {
    "left_out": (style.SERIES[0], "o", -0.11),
    "permuted": (style.SERIES[1], "s", 0.11),
    "added": (style.SERIES[2], "D", 0.0),
}


def input_values(table: pl.DataFrame) -> bytes:
    """What each group of inputs is worth, with its interval: a row per group, a mark per way, a panel per score.

    `table` is rows of `input_value` of one model, at least one of them measured. The most helpful group is on top.
    """
    rows = table.drop_nulls("difference")
    retrained = pl.col("way") != "permuted"
    loss = pl.col("difference").filter(pl.col("metric") == JUDGED_BY)
    best = pl.coalesce(loss.filter(retrained.filter(pl.col("metric") == JUDGED_BY)).min(), loss.min()).over("group")
    groups = rows.sort(best, "group")["group"].unique(maintain_order=True).to_list()
    ways = [way for way in _LOOKS if way in rows["way"].unique().to_list()]

    def draw(figure: "Figure") -> None:
        panels = figure.subplots(1, len(COMPARED), sharey=True)
        for axes, (metric, title) in zip(panels, COMPARED.items(), strict=True):
            of_metric = rows.filter(pl.col("metric") == metric)
            _scale(axes, of_metric)
            for way in ways:
                marks = of_metric.filter(pl.col("way") == way)
                colour, shape, offset = _LOOKS[way]
                place = [groups.index(group) + offset for group in marks["group"]]
                axes.hlines(place, marks["low"], marks["high"], color=colour, linewidth=1.4)
                look: Any = {"color": colour, "marker": shape, "markersize": 4.5, "linestyle": "none"}
                axes.plot(marks["difference"], place, label=way.replace("_", " "), **look)
            axes.axvline(0, color=style.INK, linewidth=0.8)
            axes.set_title(f"{title}\n{'left' if metric == JUDGED_BY else 'right'} of 0: it helps", fontsize=10)
            axes.tick_params(axis="x", labelsize=8.5)
        panels[0].set_yticks(range(len(groups)), [one_line(group) for group in groups])
        panels[0].set_ylim(len(groups) - 0.5, -0.5)
        style.legend_below(figure)

    return style.picture(draw, 1.5 + _ROW * len(groups))


def _scale(axes: Any, rows: pl.DataFrame) -> None:
    """A straight scale; where a few groups are worth many times as much as the others, one that is logarithmic beyond
    what most are worth."""
    from matplotlib.ticker import SymmetricalLogLocator

    size = rows["difference"].abs()
    usual = float(size.quantile(0.6) or 0.0)
    if not usual or float(size.max() or 0.0) < _MANY * usual:  # pyright: ignore[reportArgumentType]: a number
        axes.locator_params(axis="x", nbins=4)
        return
    straight = 10 ** ceil(log10(usual))
    axes.set_xscale("symlog", linthresh=straight)
    axes.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=straight))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
