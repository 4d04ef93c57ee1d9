"""Pictures as PNG bytes, 900 pixels wide.

Every picture is a Figure of its own: no pyplot, no global state, nothing to close. Colours are Okabe &
Ito's, which colour-blind readers tell apart; sell, hold and buy also differ in shape.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from stock_assets.evaluation.metrics import NAMES, t_statistic
from stock_assets.frames import CLASSES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
        # hollow when the price rose, filled when it fell: readable without colour. Lines, as a rectangle of its own
        # for every body takes longer to draw than all the rest.
        body = np.maximum(np.abs(close - opened), (high.max() - low.min()) * 1e-3)
        bottom, thick = np.minimum(opened, close), 0.65 * 72 * _WIDTH * 0.88 / (bars.height + 1)
        price.vlines(x, bottom, bottom + body, color=_INK, linewidth=thick)
        price.vlines(x[rising], bottom[rising], (bottom + body)[rising], color="white", linewidth=0.6 * thick)
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
        volume.vlines(x, 0, bars["volume"].to_numpy() / 1e6, color=np.where(rising, "#9a9a9a", _INK), linewidth=thick)
        volume.set_ylim(bottom=0)
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
        count = int(max(totals.values()) if by == "thresholds" else sum(totals.values()))
        axes.set_title(f"{count:,} labels", pad=26)
        axes.grid(visible=False)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2)

    return _picture(draw, 1.7 + 0.32 * len(years))


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

    return _picture(draw, 3.7)


def rank_ic_through_time(ic: pl.DataFrame, window: int = 63) -> bytes:
    """Running sum and `window`-session mean of the daily rank IC, one line per model with its t-statistic.

    `ic` is that of `metrics.daily_rank_ic`; sessions without a correlation are left out, and so are models
    without any.
    """

    def draw(figure: "Figure") -> None:
        total, mean = figure.subplots(2, 1, sharex=True)
        colours = _colours(ic["model"])
        for model, rows in _groups(ic.drop_nulls("rank_ic").sort("session"), "model"):
            colour, t = colours[model], t_statistic(rows["rank_ic"].to_numpy())
            name = model if t is None else f"{model} (t = {t:.1f})"
            total.plot(rows["session"], rows["rank_ic"].cum_sum(), color=colour, label=name)
            mean.plot(rows["session"], rows["rank_ic"].rolling_mean(window), color=colour, linewidth=1.2)
        total.set_title("Rank IC of the score against the next day's return, running sum")
        mean.set_title(f"… and its mean over {window} sessions")
        mean.axhline(0, color=_INK, linewidth=0.8)
        total.axhline(0, color=_INK, linewidth=0.8)
        _legend_below(figure)

    return _picture(draw, 5.0)


def growth(paths: pl.DataFrame, market: str) -> bytes:
    """What 1 has grown to, one line per portfolio; `paths` is that of `benchmark.growth`, `market` a series' name."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        names = [name for name in paths.columns if name != "session"]
        colours = _colours(pl.Series(names))
        for name in names:
            look: Any = {"color": _INK, "linestyle": "--"} if name == "market" else {"color": colours[name]}
            axes.plot(paths["session"], paths[name], label=market if name == "market" else name, **look)
        axes.set_yscale("log")
        axes.set_title("What 1 has grown to")
        _dates(axes)
        _legend_below(figure, side="left")

    return _picture(draw, 3.7)


def drift_through_time(drift: pl.DataFrame, limits: Mapping[str, float], cutoffs: Sequence[date]) -> bytes:
    """One line per kind of `drift` (session, kind, drift), dashed where its limit is, and the `cutoffs` of the models.

    A kind without a row shows its limit alone.
    """

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for (kind, limit), colour in zip(limits.items(), _SERIES, strict=False):
            rows = drift.filter(pl.col("kind") == kind).sort("session")
            axes.plot(rows["session"], rows["drift"], color=colour, label=f"{kind} drift")
            axes.axhline(limit, color=colour, linestyle="--", linewidth=1.0, label=f"limit {limit:g}")
        for i, cutoff in enumerate(cutoffs):
            label = "cutoff of a model" if i == 0 else None
            axes.axvline(cutoff, color=_INK, linestyle=":", linewidth=1.0, label=label)  # pyright: ignore[reportArgumentType]
        axes.set_title("How far the last month lies from what the serving model learned from")
        axes.set_ylabel("Kolmogorov-Smirnov distance")
        axes.set_ylim(0, 1)
        _legend_below(figure)

    return _picture(draw, 4.0)


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
        axes.margins(y=0.12)  # room for the figures on the bars
        axes.set_title("Copying the label of some rows ago")
        _legend_below(figure)

    return _picture(draw, 3.6)


def accuracy_by_ticker(tickers: Mapping[str, pl.DataFrame]) -> bytes:
    """How many tickers are predicted how well: one outline per model, with its median.

    `tickers` maps each model to its `breakdowns.by_ticker`.
    """

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        accuracies = {model: 100 * table["accuracy"].to_numpy() for model, table in tickers.items()}
        pooled = np.concatenate(list(accuracies.values()))
        edges = np.linspace(pooled.min() - 0.5, pooled.max() + 0.5, 41)
        for i, (model, values) in enumerate(accuracies.items()):
            median = float(np.median(values))
            colour = _SERIES[i % len(_SERIES)]
            axes.hist(values, edges, histtype="stepfilled", color=colour, alpha=0.25)
            axes.hist(values, edges, histtype="step", color=colour, label=f"{model}, half above {median:.1f} %")
            axes.axvline(median, color=colour, linestyle="--", linewidth=1.2)
        axes.set_xlabel("accuracy of a ticker (%)")
        axes.set_ylabel("tickers")
        axes.set_title("Accuracy per ticker")
        _legend_below(figure)

    return _picture(draw, 3.6)


def accuracy_by_sector(tickers: pl.DataFrame, sectors: pl.DataFrame) -> bytes:
    """Each ticker's accuracy as a dot in the row of its sector, and the sector's own as a bar.

    `tickers` has sector and accuracy, `sectors` is `breakdowns.by_sector`.
    """

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for i, (sector, accuracy) in enumerate(sectors.select("sector", "accuracy").iter_rows()):
            dots = 100 * tickers.filter(pl.col("sector") == sector)["accuracy"].sort().to_numpy()
            # side by side instead of on top of each other, in an order that says nothing
            spread = (np.arange(len(dots)) * 0.618 % 1 - 0.5) * 0.5
            axes.scatter(dots, i + spread, s=12, color=_SERIES[0], alpha=0.5, linewidth=0)
            axes.vlines(100 * accuracy, i - 0.36, i + 0.36, color=_SERIES[1], linewidth=2.4)
        axes.set_yticks(range(sectors.height), sectors["sector"].to_list())
        axes.set_ylim(sectors.height - 0.4, -0.6)
        axes.set_xlabel("accuracy (%); a dot is a ticker, the bar its sector")
        axes.set_title("Accuracy per sector")

    return _picture(draw, 1.4 + 0.34 * sectors.height)


def price_and_volume(bars: pl.DataFrame, cutoffs: Sequence[date], title: str) -> bytes:
    """Close and volume of one ticker, the sessions before the first of `cutoffs` and after each told apart.

    `bars` is that of `study.chart`; a cutoff is the last session that the models of the next test year know.
    """

    def draw(figure: "Figure") -> None:
        price, volume = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        first, last = bars["session"][0], bars["session"][-1]
        price.plot(bars["session"], bars["close"], color=_INK, linewidth=1.2)
        # one polygon: thousands of bars would take seconds
        volume.fill_between(bars["session"], bars["volume"] / 1e6, step="mid", color="#7f7f7f", linewidth=0)
        volume.set_ylim(0)
        for axes in (price, volume):
            axes.axvspan(first, cutoffs[0], color=_SERIES[5], alpha=0.15, linewidth=0, label="trains only")
            axes.axvspan(cutoffs[0], last, color=_SERIES[4], alpha=0.15, linewidth=0, label="tests, then trains")
            for i, cutoff in enumerate(cutoffs):
                text = "cutoff of a model year" if i == 0 else None
                axes.axvline(cutoff, color=_SERIES[1], linestyle="--", linewidth=1.0, label=text)
        price.set_title(f"{title}: price, volume, and the train-test split")
        price.set_ylabel("adjusted price")
        volume.set_ylabel("volume\n(millions)")
        price.set_xlim(first, last)
        _legend_below(figure)

    return _picture(draw, 4.6)


def bollinger(bars: pl.DataFrame, title: str) -> bytes:
    """The 25- and the 50-day Bollinger bands around the close; `bars` is that of `study.chart`."""
    from matplotlib.dates import AutoDateLocator

    def draw(figure: "Figure") -> None:
        for axes, k in zip(figure.subplots(2, 1, sharex=True), (25, 50), strict=True):
            x, fill = bars["session"], {"color": _SERIES[5], "alpha": 0.25, "linewidth": 0}
            axes.fill_between(x, bars[f"bb_lower_{k}"], bars[f"bb_upper_{k}"], **fill, label="mean ± 2 std")
            axes.plot(x, bars[f"ma_{k}"], color=_SERIES[0], linewidth=1.2, label="mean")
            axes.plot(x, bars["close"], color=_INK, linewidth=1.2, label="close")
            axes.set_title(f"{title}: {k}-day Bollinger bands")
            axes.xaxis.set_major_locator(AutoDateLocator(maxticks=8))
            axes.set_ylabel("adjusted price")
            axes.set_xlim(bars["session"][0], bars["session"][-1])
        _legend_below(figure)

    return _picture(draw, 5.6)


def rsi_and_momentum(bars: pl.DataFrame, title: str, span: int = 25) -> bytes:
    """RSI and momentum of each session, coloured by its label; `bars` is that of `study.chart`.

    Sessions whose label is not known yet are left out.
    """

    def draw(figure: "Figure") -> None:
        rsi, momentum = figure.subplots(2, 1, sharex=True)
        known = bars.drop_nulls(["label", f"rsi_{span}"])
        for axes, values in ((rsi, known[f"rsi_{span}"]), (momentum, 100 * known[f"momentum_{span}"])):
            axes.plot(known["session"], values, color=_FAINT, linewidth=1.0, zorder=1)
            for c in CLASSES:
                here = (known["label"] == c).to_numpy()
                axes.scatter(
                    known["session"].filter(here),
                    values.filter(here),
                    marker=_MARKERS[c],
                    color=COLOURS[c],
                    s=24,
                    label=NAMES[c],
                )
        for level in (30, 70):
            rsi.axhline(level, color=_INK, linestyle=":", linewidth=0.8)
        momentum.axhline(0, color=_INK, linewidth=0.8)
        rsi.set_title(f"{title}: RSI over {span} days")
        momentum.set_title(f"{title}: momentum over {span} days (% of the close)")
        _legend_below(figure)

    return _picture(draw, 5.6)


def epochs(curves: pl.DataFrame) -> bytes:
    """Accuracy and RMSE on the validation labels against the epoch; a colour per model year, a line style per model.

    `curves` has model_year, model, epoch, accuracy (fraction) and rmse (of the classes -1, 0, 1).
    """
    from matplotlib.ticker import MaxNLocator

    def draw(figure: "Figure") -> None:
        hits, distance = figure.subplots(1, 2)
        colours, models = _colours(curves["model_year"]), curves["model"].unique().sort().to_list()
        for (year, model), rows in curves.sort("epoch").partition_by("model_year", "model", as_dict=True).items():
            style = ("-", "--", ":", "-.")[models.index(model) % 4]
            line: Any = {"color": colours[year], "linestyle": style, "marker": "o", "markersize": 4}
            hits.plot(rows["epoch"], 100 * rows["accuracy"], **line, label=f"{model} {year}")
            distance.plot(rows["epoch"], rows["rmse"], **line)
        hits.set_title("Accuracy (%)")
        distance.set_title("RMSE of the predicted class")
        for axes in (hits, distance):
            axes.set_xlabel("epoch; 0 is untrained")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend_below(figure, 4)

    return _picture(draw, 4.2)


def ablation(table: pl.DataFrame) -> bytes:
    """Accuracy and log-loss of each set of inputs, by test year; `table` is `study.ablation_table`."""

    def draw(figure: "Figure") -> None:
        right, loss = figure.subplots(1, 2)
        years = table["year"].drop_nulls().unique().sort().to_list()
        sets = table["inputs"].unique(maintain_order=True).to_list()
        for i, name in enumerate(sets):
            rows = table.filter((pl.col("inputs") == name) & pl.col("year").is_not_null()).sort("year")
            line: Any = {"color": _SERIES[i % len(_SERIES)], "marker": ("o", "s", "^")[i % 3], "markersize": 6}
            right.plot(range(len(years)), 100 * rows["accuracy"], **line, label=name)
            loss.plot(range(len(years)), rows["log_loss"], **line)
        right.set_title("Accuracy (%)")
        loss.set_title("Log-loss (lower is better)")
        for axes in (right, loss):
            axes.set_xticks(range(len(years)), [str(year) for year in years])
            axes.margins(x=0.1)
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


def live_skill(skill: pl.DataFrame) -> bytes:
    """Log-loss through time and the running gain over the naive baseline, one line per model.

    `skill` is that of `operations.live_skill`: session, model, log_loss, gain.
    """

    def draw(figure: "Figure") -> None:
        loss, gain = figure.subplots(2, 1, sharex=True)
        colours = _colours(skill["model"])
        alone = skill["session"].n_unique() == 1  # a line needs two
        for model, rows in _groups(skill.sort("session"), "model"):
            naive = model == "naive"
            look: Any = {"color": _INK if naive else colours[model], "linestyle": "--" if naive else "-"}
            if model == "ensemble":  # which may be rnn alone
                look |= {"linestyle": ":", "linewidth": 2.6, "zorder": 3}
            look |= {"marker": "o"} if alone else {}
            loss.plot(rows["session"], rows["log_loss"], label=model, **look)
            if not naive:
                gain.plot(rows["session"], rows["gain"], **look)
        loss.set_title("Log-loss, rolling mean")
        gain.set_title("Gain over the naive baseline, running sum")
        gain.axhline(0, color=_INK, linewidth=0.8)
        _dates(gain)
        _legend_below(figure, side="left")

    return _picture(draw, 5.0)


def drift(table: pl.DataFrame) -> bytes:
    """The largest PSI and KS of all columns of a session through time, one line per kind.

    `table` has session, kind, column, psi, ks.
    """
    worst = table.group_by("session", "kind").agg(pl.col("psi", "ks").max()).sort("session")

    def draw(figure: "Figure") -> None:
        panels = figure.subplots(2, 1, sharex=True)
        colours = _colours(worst["kind"])
        names = (("psi", "Population stability index"), ("ks", "Kolmogorov-Smirnov statistic"))
        for axes, (column, name) in zip(panels, names, strict=True):
            for kind, rows in _groups(worst, "kind"):
                axes.plot(rows["session"], rows[column], color=colours[kind], marker="o", markersize=3, label=kind)
            axes.set_title(f"{name}, largest of all columns")
            axes.set_ylim(bottom=0)
        _dates(panels[-1])
        _legend_below(figure, side="left")

    return _picture(draw, 5.0)


def _dates(axes: Any) -> None:
    """A few dates below `axes`, shortened where they repeat."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=2, maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def _cells(table: pl.DataFrame, model: str) -> Sequence[tuple[int, int, int, float | None]]:
    return table.filter(pl.col("model") == model).select("label", "predicted", "rows", "share").rows()


def _groups(frame: pl.DataFrame, key: str) -> list[tuple[Any, pl.DataFrame]]:
    """(value, its rows) of each value of `key`, ascending."""
    return [(rows[key][0], rows) for rows in frame.sort(key, maintain_order=True).partition_by(key)]


def _colours(names: pl.Series) -> dict[Any, str]:
    """One colour per name, the same in every picture that shows the same names."""
    return {name: _SERIES[i % len(_SERIES)] for i, name in enumerate(names.unique().sort())}


def _legend_below(figure: "Figure", most: int = 7, side: Literal["left", "center"] = "center") -> None:
    """On the left a phone, which shows that part of a picture first, has it in view."""
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if handles:
        place: Any = f"outside lower {side}"
        figure.legend(handles.values(), handles.keys(), loc=place, ncols=min(len(handles), most))


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
