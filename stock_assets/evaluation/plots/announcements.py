"""Pictures of what is known beside prices: the moves of reactions, and how long after an event it was known."""

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from stock_assets.evaluation.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Moves of more than this are drawn as this much.
_LARGEST = 0.2


def reaction_moves(moves: pl.Series, usual: float) -> bytes:
    """The distribution of the absolute `moves` of reaction sessions (fractions, none null), their median, and the
    median of a `usual` session."""
    sizes = moves.abs().clip(upper_bound=_LARGEST).to_numpy()

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        axes.hist(100 * sizes, bins=np.linspace(0, 100 * _LARGEST, 41).tolist(), color=style.SERIES[0])
        median = 100 * float(np.median(sizes))
        axes.axvline(median, color=style.SERIES[1], label=f"median of a reaction, {median:.1f} %")
        label = f"median of a usual session, {100 * usual:.1f} %"
        axes.axvline(100 * usual, color=style.INK, linestyle="--", label=label)
        axes.set_title(f"Moves of {len(sizes):,} reactions to announcements")
        axes.set_xlabel(f"size of the return less the market, percent; {100 * _LARGEST:.0f} and more together")
        axes.set_ylabel("reactions")
        style.legend_below(figure)

    return style.picture(draw, 3.8)


def known_lags(lags: pl.DataFrame) -> bytes:
    """One row of bars per side input of `lags` (`side_inputs.lags.LAGS`): the share of its rows in each bin."""
    inputs = style.groups(lags, "side_input")

    def draw(figure: "Figure") -> None:
        panels = np.atleast_1d(figure.subplots(len(inputs), 1, sharex=True))
        for axes, (name, rows), colour in zip(panels, inputs, style.SERIES, strict=False):
            rows_in_order = rows.sort("bin")
            axes.bar(rows_in_order["bin"].to_list(), (100 * rows_in_order["share"]).to_list(), color=colour)
            axes.set_title(f"{name}, {rows_in_order['rows'].sum():,} rows")
            axes.set_ylabel("% of rows")
            axes.set_xticks(
                rows_in_order["bin"].to_list(), [_days(*row) for row in rows_in_order.select("low", "high").rows()]
            )
        panels[-1].set_xlabel("days from the event to when it was known; below 0 known ahead")

    return style.picture(draw, 0.8 + 2.2 * len(inputs))


def _days(low: float | None, high: float | None) -> str:
    """The bin in words.

    >>> _days(None, -30.0), _days(-1.0, 0.0), _days(90.0, None)
    ('before\\n−30', '−1\\nto 0', 'after\\n90')
    """
    if low is None:
        return f"before\n{high:g}".replace("-", "−")
    return (f"after\n{low:g}" if high is None else f"{low:g}\nto {high:g}").replace("-", "−")
