"""Pictures of one ticker and of the labels."""

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from stock_assets.evaluation.plots import style
from stock_assets.frames import CLASS_NAMES, CLASSES

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def candlestick(bars: pl.DataFrame, title: str) -> bytes:
    """The last bars of one ticker as candles, with Bollinger bands, volume and, where present, the labels.

    `bars` has session, open, high, low, close, volume, sorted by session, all on one price basis; and where
    known bb_upper_25, bb_lower_25, ma_25 and label (nulls are left out). About 120 rows read well.
    """

    def draw(figure: "Figure") -> None:
        price, volume = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        x = np.arange(bars.height)
        open_price, high, low, close = (bars[c].to_numpy() for c in ("open", "high", "low", "close"))
        rising = close >= open_price
        if "ma_25" in bars.columns:
            upper, lower, mean = (
                bars[c].cast(pl.Float64).fill_null(np.nan).to_numpy() for c in ("bb_upper_25", "bb_lower_25", "ma_25")
            )
            price.fill_between(x, lower, upper, color="#56b4e9", alpha=0.18, linewidth=0, label="25-day mean ± 2 std")
            price.plot(x, mean, color="#56b4e9", linewidth=1.2)
        price.vlines(x, low, high, color=style.INK, linewidth=0.8)
        # hollow when the price rose, filled when it fell: readable without colour. Lines, as a rectangle of its own
        # for every body takes longer to draw than all the rest.
        body = np.maximum(np.abs(close - open_price), (high.max() - low.min()) * 1e-3)
        bottom, thick = np.minimum(open_price, close), 0.65 * 72 * style.WIDTH * 0.88 / (bars.height + 1)
        # not snapped to pixels, each to its own: the white would hide one edge of the black
        price.vlines(x, bottom, bottom + body, color=style.INK, linewidth=thick, snap=False)
        price.vlines(
            x[rising], bottom[rising], (bottom + body)[rising], color="white", linewidth=0.6 * thick, snap=False
        )
        if "label" in bars.columns:
            offset = (high.max() - low.min()) * 0.03
            for c in CLASSES:
                here = (bars["label"] == c).fill_null(False).to_numpy()
                at = high + offset if c == -1 else low - offset
                if c:
                    price.scatter(
                        x[here],
                        at[here],
                        marker=style.MARKERS[c],
                        color=style.COLOURS[c],
                        s=22,
                        label=f"label {CLASS_NAMES[c]}",
                        zorder=3,
                    )
        price.set_title(title)
        price.set_ylabel("price")
        if price.get_legend_handles_labels()[0]:
            price.legend(loc="upper left", ncols=3, fontsize=9)
        volume.vlines(
            x, 0, bars["volume"].to_numpy() / 1e6, color=np.where(rising, "#9a9a9a", style.INK), linewidth=thick
        )
        volume.set_ylim(bottom=0)
        volume.set_ylabel("volume\n(millions)")
        ticks = np.unique(np.linspace(0, bars.height - 1, 7).astype(int))
        volume.set_xticks(ticks, [str(bars["session"][int(i)]) for i in ticks], fontsize=9)
        price.set_xlim(-1, bars.height)

    return style.picture(draw, 5.4)


def label_distribution(counts: pl.DataFrame, by: str = "year") -> bytes:
    """The share of each label, one bar per value of the column `by` where `counts` (label, rows) has it."""
    parts = counts if by in counts.columns else counts.with_columns(pl.lit("all").alias(by))
    years = parts[by].unique().sort().to_list()

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        totals = dict(parts.group_by(by).agg(pl.col("rows").sum()).iter_rows())
        rows = {(year, label): count for year, label, count in parts.select(by, "label", "rows").iter_rows()}
        left = np.zeros(len(years))
        for c in CLASSES:
            share = np.array([100 * rows.get((year, c), 0) / totals[year] for year in years])
            axes.barh(
                range(len(years)), share, left=left, color=style.COLOURS[c], edgecolor="white", label=CLASS_NAMES[c]
            )
            for i, (start, width) in enumerate(zip(left, share, strict=True)):
                if width > 6:
                    axes.text(
                        start + width / 2, i, f"{width:.0f} %", ha="center", va="center", color="white", fontsize=9
                    )
            left = left + share
        axes.set_yticks(range(len(years)), [str(year) for year in years])
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.set_xlabel("share of labels (%)")
        count = int(max(totals.values()) if by == "thresholds" else sum(totals.values()))
        axes.set_title(f"{count:,} labels", pad=26)
        axes.grid(visible=False)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2)

    return style.picture(draw, 1.7 + 0.32 * len(years))


def price_and_volume(bars: pl.DataFrame, cutoffs: Sequence[date], title: str) -> bytes:
    """Close and volume of one ticker, shaded before and after the first of `cutoffs`.

    `bars` is that of `study.chart`; a cutoff is the last session that the models of the next test year know.
    """

    def draw(figure: "Figure") -> None:
        price, volume = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        first, last = bars["session"][0], bars["session"][-1]
        price.plot(bars["session"], bars["close"], color=style.INK, linewidth=1.2)
        # one polygon: thousands of bars would take seconds
        volume.fill_between(bars["session"], bars["volume"] / 1e6, step="mid", color="#7f7f7f", linewidth=0)
        volume.set_ylim(0)
        for axes in (price, volume):
            axes.axvspan(first, cutoffs[0], color=style.SERIES[5], alpha=0.15, linewidth=0, label="trains only")
            axes.axvspan(cutoffs[0], last, color=style.SERIES[4], alpha=0.15, linewidth=0, label="tests, then trains")
            for i, cutoff in enumerate(cutoffs):
                text = "cutoff of a model year" if i == 0 else None
                axes.axvline(cutoff, color=style.SERIES[1], linestyle="--", linewidth=1.0, label=text)
        price.set_title(f"{title}: price, volume, and the train-test split")
        price.set_ylabel("adjusted price")
        volume.set_ylabel("volume\n(millions)")
        price.set_xlim(first, last)
        style.legend_below(figure)

    return style.picture(draw, 4.6)


def bollinger(bars: pl.DataFrame, title: str) -> bytes:
    """The 25- and the 50-day Bollinger bands around the close; `bars` is that of `study.chart`."""
    from matplotlib.dates import AutoDateLocator

    def draw(figure: "Figure") -> None:
        for axes, k in zip(figure.subplots(2, 1, sharex=True), (25, 50), strict=True):
            x, fill = bars["session"], {"color": style.SERIES[5], "alpha": 0.25, "linewidth": 0}
            axes.fill_between(x, bars[f"bb_lower_{k}"], bars[f"bb_upper_{k}"], **fill, label="mean ± 2 std")
            axes.plot(x, bars[f"ma_{k}"], color=style.SERIES[0], linewidth=1.2, label="mean")
            axes.plot(x, bars["close"], color=style.INK, linewidth=1.2, label="close")
            axes.set_title(f"{title}: {k}-day Bollinger bands")
            axes.xaxis.set_major_locator(AutoDateLocator(maxticks=8))
            axes.set_ylabel("adjusted price")
            axes.set_xlim(bars["session"][0], bars["session"][-1])
        style.legend_below(figure)

    return style.picture(draw, 5.6)


def rsi_and_momentum(bars: pl.DataFrame, title: str, span: int = 25) -> bytes:
    """RSI and momentum of each session, coloured by its label; `bars` is that of `study.chart`.

    Sessions whose label is not known yet are left out.
    """

    def draw(figure: "Figure") -> None:
        rsi, momentum = figure.subplots(2, 1, sharex=True)
        labelled_bars = bars.drop_nulls(["label", f"rsi_{span}"])
        for axes, values in ((rsi, labelled_bars[f"rsi_{span}"]), (momentum, 100 * labelled_bars[f"momentum_{span}"])):
            axes.plot(labelled_bars["session"], values, color=style.FAINT, linewidth=1.0, zorder=1)
            for c in CLASSES:
                here = (labelled_bars["label"] == c).to_numpy()
                axes.scatter(
                    labelled_bars["session"].filter(here),
                    values.filter(here),
                    marker=style.MARKERS[c],
                    color=style.COLOURS[c],
                    s=24,
                    label=CLASS_NAMES[c],
                )
        for level in (30, 70):
            rsi.axhline(level, color=style.INK, linestyle=":", linewidth=0.8)
        momentum.axhline(0, color=style.INK, linewidth=0.8)
        rsi.set_title(f"{title}: RSI over {span} days")
        momentum.set_title(f"{title}: momentum over {span} days (% of the close)")
        style.legend_below(figure)

    return style.picture(draw, 5.6)
