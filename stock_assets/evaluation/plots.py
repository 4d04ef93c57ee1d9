"""Pictures as PNG bytes, 900 pixels wide.

Every picture is a Figure of its own: no pyplot, no global state, nothing to close. Colours are Okabe &
Ito's, which colour-blind readers tell apart; sell, hold and buy also differ in shape.
"""

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from stock_assets.model.config import CLASSES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = {-1: "sell", 0: "hold", 1: "buy"}
COLOURS = {-1: "#d55e00", 0: "#7f7f7f", 1: "#0072b2"}
_MARKERS = {-1: "v", 0: "o", 1: "^"}
_INK, _FAINT = "#222222", "#d9d9d9"
_SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_WIDTH, _DPI = 9.0, 100
_STYLE: Any = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _INK,
    "axes.grid": True,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


def candlestick(bars: pl.DataFrame, title: str) -> bytes:
    """The last bars of one ticker as candles, with Bollinger bands, volume and, where present, the labels.

    `bars` has session, open, high, low, close, volume, sorted by session, all on one price basis; and where
    known bb_upper_25, bb_lower_25, ma_25 and label (nulls are left out). About 120 rows read well.
    """

    def draw(figure: "Figure") -> None:
        price, volume = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        x = np.arange(bars.height)
        opened, high, low, close = (bars[c].to_numpy() for c in ("open", "high", "low", "close"))
        rising = close >= opened
        if "ma_25" in bars.columns:
            upper, lower, mean = (
                bars[c].cast(pl.Float64).fill_null(np.nan).to_numpy() for c in ("bb_upper_25", "bb_lower_25", "ma_25")
            )
            price.fill_between(x, lower, upper, color="#56b4e9", alpha=0.18, linewidth=0, label="25-day mean ± 2 std")
            price.plot(x, mean, color="#56b4e9", linewidth=1.2)
        price.vlines(x, low, high, color=_INK, linewidth=0.8)
        # hollow when the price rose, filled when it fell: readable without colour
        body = np.maximum(np.abs(close - opened), (high.max() - low.min()) * 1e-3)
        price.bar(
            x,
            body,
            0.65,
            np.minimum(opened, close),
            color=np.where(rising, "white", _INK),
            edgecolor=_INK,
            linewidth=0.8,
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
                        marker=_MARKERS[c],
                        color=COLOURS[c],
                        s=22,
                        label=f"label {NAMES[c]}",
                        zorder=3,
                    )
        price.set_title(title)
        price.set_ylabel("price")
        if price.get_legend_handles_labels()[0]:
            price.legend(loc="upper left", ncols=3, fontsize=9)
        volume.bar(x, bars["volume"].to_numpy() / 1e6, 0.65, color=np.where(rising, "#9a9a9a", _INK))
        volume.set_ylabel("volume\n(millions)")
        ticks = np.unique(np.linspace(0, bars.height - 1, 7).astype(int))
        volume.set_xticks(ticks, [str(bars["session"][int(i)]) for i in ticks], fontsize=9)
        price.set_xlim(-1, bars.height)

    return _picture(draw, 5.4)


def explained_variance(ratios: Sequence[float]) -> bytes:
    """The share of variance of each principal component and their running sum; `ratios` are fractions."""

    from matplotlib.ticker import MaxNLocator

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        number = np.arange(1, len(ratios) + 1)
        axes.bar(number, 100 * np.asarray(ratios), color=_SERIES[0], label="each component")
        axes.plot(number, 100 * np.cumsum(ratios), color=_SERIES[1], marker="o", markersize=4, label="running sum")
        axes.set_title(f"{len(ratios)} components explain {100 * sum(ratios):.1f} % of the variance")
        axes.set_xlabel("principal component")
        axes.set_ylabel("variance explained (%)")
        axes.set_xlim(0.4, len(ratios) + 0.6)
        axes.set_ylim(0, 104)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="center right")

    return _picture(draw, 3.6)


def label_distribution(counts: pl.DataFrame) -> bytes:
    """The share of each label, per year where `counts` (label, rows and maybe year) tells years apart."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        by_year = counts if "year" in counts.columns else counts.with_columns(year=pl.lit("all"))
        years = by_year["year"].unique().sort().to_list()
        totals = dict(by_year.group_by("year").agg(pl.col("rows").sum()).iter_rows())
        rows = {(year, label): count for year, label, count in by_year.select("year", "label", "rows").iter_rows()}
        left = np.zeros(len(years))
        for c in CLASSES:
            share = np.array([100 * rows.get((year, c), 0) / totals[year] for year in years])
            axes.barh(range(len(years)), share, left=left, color=COLOURS[c], edgecolor="white", label=NAMES[c])
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
        axes.set_title(f"{int(by_year['rows'].sum()):,} labels", pad=26)
        axes.grid(visible=False)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2)

    return _picture(draw, 1.7 + 0.32 * (counts["year"].n_unique() if "year" in counts.columns else 1))


def learning_curve(curves: pl.DataFrame, loss_name: str, skill_name: str) -> bytes:
    """Train and validation loss, and a skill, against the epoch, one colour per model year.

    `curves` has model_year, epoch, train_loss, validation_loss, skill (fraction); the names are their titles.
    """

    from matplotlib.ticker import MaxNLocator

    def draw(figure: "Figure") -> None:
        loss, hits = figure.subplots(1, 2)
        colours = _colours(curves["model_year"])
        for year, rows in _groups(curves.sort("epoch"), "model_year"):
            colour = colours[year]
            loss.plot(rows["epoch"], rows["validation_loss"], color=colour, marker="o", markersize=4, label=str(year))
            loss.plot(rows["epoch"], rows["train_loss"], color=colour, linestyle=":", linewidth=1.2)
            hits.plot(rows["epoch"], 100 * rows["skill"], color=colour, marker="o", markersize=4)
        loss.set_title(f"{loss_name}: validation (line), training (dotted)")
        hits.set_title(f"{skill_name} (%)")
        for axes in (loss, hits):
            axes.set_xlabel("epoch; 0 is untrained")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend_below(figure)

    return _picture(draw, 3.8)


def calibration(table: pl.DataFrame, smallest: int = 50) -> bytes:
    """How often each class came against how probable it was said to be; one panel per class, one line per
    model.

    `table` is that of `metrics.calibration_table`; bins with fewer than `smallest` rows are left out.
    """

    def draw(figure: "Figure") -> None:
        shown = table.filter(pl.col("rows") >= smallest)
        panels = np.atleast_1d(figure.subplots(1, 3, sharex=True, sharey=True))
        colours = _colours(table["model"])
        top = max([0.5, *shown["forecast"], *shown["observed"]]) + 0.05
        for axes, c in zip(panels, CLASSES, strict=True):
            axes.plot([0, top], [0, top], color=_FAINT, linewidth=1.2)
            for model, rows in _groups(shown.filter(pl.col("class") == c), "model"):
                axes.plot(
                    rows["forecast"],
                    rows["observed"],
                    color=colours[model],
                    marker="o",
                    markersize=4,
                    label=model,
                )
            axes.set_title(NAMES[c])
            axes.set_xlabel("forecast probability")
            axes.set_xlim(0, top)
            axes.set_ylim(0, top)
            axes.set_aspect("equal")
        panels[0].set_ylabel("observed share")
        _legend_below(figure)

    return _picture(draw, 4.0)


def rank_ic_through_time(ic: pl.DataFrame, window: int = 63) -> bytes:
    """Running sum and `window`-session mean of the daily rank IC, one line per model.

    `ic` is that of `metrics.daily_rank_ic`; sessions without a correlation are left out, and so are models
    without any.
    """

    def draw(figure: "Figure") -> None:
        total, mean = figure.subplots(2, 1, sharex=True)
        colours = _colours(ic["model"])
        for model, rows in _groups(ic.drop_nulls("rank_ic").sort("session"), "model"):
            colour = colours[model]
            total.plot(rows["session"], rows["rank_ic"].cum_sum(), color=colour, label=model)
            mean.plot(rows["session"], rows["rank_ic"].rolling_mean(window), color=colour, linewidth=1.2)
        total.set_title("Rank IC of the score against the next day's return, running sum")
        mean.set_title(f"… and its mean over {window} sessions")
        mean.axhline(0, color=_INK, linewidth=0.8)
        total.axhline(0, color=_INK, linewidth=0.8)
        _legend_below(figure)

    return _picture(draw, 5.0)


def confusion(table: pl.DataFrame, model: str) -> bytes:
    """The confusion matrix of one model of `metrics.confusion_table`: rows of the matrix sum to 100 %."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        cells = {(a, b): (rows, share) for a, b, rows, share in _cells(table, model)}
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
                    color="white" if shares[i, j] > 0.45 else _INK,
                )
        axes.set_xticks(range(3), [f"predicted {NAMES[c]}" for c in CLASSES])
        axes.set_yticks(range(3), [f"was {NAMES[c]}" for c in CLASSES])
        axes.set_title(f"{model}: share of each label, and rows")
        axes.grid(visible=False)

    return _picture(draw, 3.6)


def lag_sweep(sweep: pl.DataFrame) -> bytes:
    """Accuracy of copying the label of so many rows ago, and where it stops to be cheating.

    `sweep` is that of `leakage.lag_sweep`: lag, honest, accuracy; lags without one are left out.
    """

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for honest, text, colour in ((False, "not known by then", COLOURS[-1]), (True, "known by then", COLOURS[1])):
            rows = sweep.drop_nulls("accuracy").filter(pl.col("honest") == honest)
            bars = axes.bar(rows["lag"], 100 * rows["accuracy"], color=colour, label=text)
            axes.bar_label(bars, fmt="%.1f", fontsize=9)
        axes.set_xticks(sweep["lag"].to_list())
        axes.set_xlabel("rows ago")
        axes.set_ylabel("accuracy (%)")
        axes.set_title("Copying the label of some rows ago")
        _legend_below(figure)

    return _picture(draw, 3.6)


def optimization_history(trials: pl.DataFrame, title: str) -> bytes:
    """The score of every trial in the order they began, the best so far, and that of the default configuration.

    `trials` has trial, state (complete, pruned or failed), value (lower is better; null but for complete ones) and
    is_default. Trials without a value are marks on the axis.
    """
    from matplotlib.ticker import MaxNLocator

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        rows = trials.sort("trial")
        done = rows.drop_nulls("value")
        axes.scatter(done["trial"], done["value"], color=_SERIES[0], s=26, label="complete", zorder=3)
        axes.step(done["trial"], done["value"].cum_min(), where="post", color=_SERIES[1], label="best so far")
        for state, colour, marker in (("pruned", COLOURS[0], "|"), ("fail", _SERIES[3], "x")):
            without = rows.filter(pl.col("state") == state)["trial"]
            if len(without):
                at = [0.02] * len(without)
                axes.scatter(
                    without, at, color=colour, marker=marker, label=state, transform=axes.get_xaxis_transform()
                )
        for value in done.filter("is_default")["value"]:
            axes.axhline(value, color=_SERIES[2], linestyle="--", linewidth=1.2, label="default configuration")
        axes.set_title(title)
        axes.set_xlabel("trial")
        axes.set_ylabel("log-loss of the\nvalidation periods")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend_below(figure)

    return _picture(draw, 3.8)


def hyperparameter_importance(shares: Mapping[str, float], title: str) -> bytes:
    """How much of the scores' variance each hyperparameter explains; `shares` are fractions, of at least one."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        ordered = sorted(shares.items(), key=lambda item: item[1])
        bars = axes.barh([name for name, _ in ordered], [100 * share for _, share in ordered], color=_SERIES[0])
        axes.bar_label(bars, fmt="%.0f %%", padding=3, fontsize=9)
        axes.set_xlim(0, 112)
        axes.set_title(title)
        axes.set_xlabel("variance of the scores explained (%)")
        axes.grid(visible=False, axis="y")

    return _picture(draw, 1.4 + 0.28 * len(shares))


def _cells(table: pl.DataFrame, model: str) -> Sequence[tuple[int, int, int, float | None]]:
    return table.filter(pl.col("model") == model).select("label", "predicted", "rows", "share").rows()


def _groups(frame: pl.DataFrame, key: str) -> list[tuple[Any, pl.DataFrame]]:
    """(value, its rows) of each value of `key`, ascending."""
    return [(rows[key][0], rows) for rows in frame.sort(key, maintain_order=True).partition_by(key)]


def _colours(names: pl.Series) -> dict[Any, str]:
    """One colour per name, the same in every picture that shows the same names."""
    return {name: _SERIES[i % len(_SERIES)] for i, name in enumerate(names.unique().sort())}


def _legend_below(figure: "Figure") -> None:
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(len(handles), 7))


def _picture(draw: Callable[["Figure"], None], height: float) -> bytes:
    """What `draw` draws, as a PNG of 900 pixels by `height` × 100."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        buffer = BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
