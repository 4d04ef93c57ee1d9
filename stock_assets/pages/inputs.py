"""Did the world change? How far recent inputs lie from what the model in service learned from, and what was missing."""

from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

import polars as pl
from markupsafe import Markup

from stock_assets.pages.charts import bars, lines
from stock_assets.pages.charts.bars import Shares
from stock_assets.pages.charts.lines import Line

#: Columns of the heat map, its sessions, and the columns of the table.
HEAT_COLUMNS, HEAT_SESSIONS, LISTED = 20, 60, 10
#: The usual reading of the population stability index (Siddiqi 2006): below the first alike, above the second changed.
MODERATE, LARGE = 0.10, 0.25
LEVELS = (f"below {MODERATE:.2f}: alike", f"{MODERATE:.2f} to {LARGE:.2f}", f"above {LARGE:.2f}: changed")


@dataclass(frozen=True)
class Histogram:
    """The shares of one column in the deciles of the reference."""

    column: str
    edges: tuple[float | None, ...]
    reference: tuple[float, ...]
    recent: tuple[float, ...]

    @cached_property
    def chart(self) -> Markup:
        groups = [Shares("reference", self.reference, "reference"), Shares("last month", self.recent, "service")]
        return bars.histogram(self.column, self.edges, groups)


@dataclass(frozen=True)
class Lag:
    """How long after an event rows of one side input were known."""

    side_input: str
    rows: int
    edges: tuple[float | None, ...]
    """days, one more than shares; None without end"""
    shares: tuple[float, ...]

    @cached_property
    def chart(self) -> Markup:
        note = f"share of {self.rows:,} rows by the days from the event to when it was known; below 0 known ahead"
        groups = [Shares("rows", self.shares, "service")]
        return bars.histogram(self.side_input.replace("_", " "), self.edges, groups, note=note)


@dataclass(frozen=True)
class InputsView:
    """What the section on inputs shows."""

    session: date | None
    """the newest one with drift"""
    reference_through: date | None
    largest: dict[str, Any] | None
    """the row of the column that drifted most"""
    changed: int
    """columns above LARGE"""
    columns: int
    furthest: tuple[dict[str, Any], ...]
    """the columns that drifted most, with `level`"""
    heat_columns: tuple[str, ...]
    heat_sessions: tuple[date, ...]
    heat: tuple[tuple[int | None, ...], ...]
    sessions: tuple[date, ...]
    """with drift"""
    drift: tuple[Line, ...]
    """the largest PSI of inputs and of probabilities"""
    histograms: tuple[Histogram, ...]
    predicted_sessions: tuple[date, ...]
    missing: tuple[Line, ...]
    """shares of tickers without prediction, and of suspect bars"""
    outcomes: tuple[dict[str, Any], ...] | None
    """why tickers have no bar, the latest stretch first; None where that was not looked at"""
    outcome_counts: tuple[tuple[str, int], ...]
    lags: tuple[Lag, ...] = ()

    @cached_property
    def heat_chart(self) -> Markup:
        return bars.heat_map(
            "Drift of each column through time",
            self.heat_columns,
            self.heat_sessions,
            levels=self.heat,
            legend=LEVELS,
            note=f"population stability index of the {len(self.heat_columns)} columns furthest away",
        )

    @cached_property
    def drift_chart(self) -> Markup:
        note = f"population stability index; above {LARGE} counts as changed"
        form = lines.Format(value=lambda v: lines.numbers.score(v, 3))
        return lines.LineChart("Largest drift", self.sessions, self.drift, form=form, note=note, zero=True).figure()

    @cached_property
    def missing_chart(self) -> Markup:
        note = "share of the tickers of each session"
        return lines.LineChart(
            "Left out and suspect", self.predicted_sessions, self.missing, form=lines.SHARE, note=note, zero=True
        ).figure()


def inputs_view(
    drift: pl.DataFrame,
    histograms: pl.DataFrame,
    sessions: pl.DataFrame,
    *,
    outcomes: pl.DataFrame | None,
    lags: pl.DataFrame | None = None,
) -> InputsView:
    """The view of `drift` (session, kind, column, psi, ks, reference_through), `histograms` (column, bin, low, high,
    reference, recent), `sessions` (session, rows, left_out, suspects), `outcomes` (ticker, first, last, outcome,
    reason) and `lags` (side_input, bin, low, high, share, rows)."""
    last = drift["session"].max()
    newest = drift.filter(pl.col("session") == pl.col("session").max()).sort("psi", descending=True, nulls_last=True)
    newest = newest.with_columns(level=_level(pl.col("psi")))
    furthest = newest.head(HEAT_COLUMNS)["column"].to_list()
    days = drift["session"].unique().sort().tail(HEAT_SESSIONS)
    days_of_lines = drift["session"].unique().sort()
    sessions_in_order = sessions.sort("session")
    total = pl.col("rows") + pl.col("left_out").fill_null(0)
    shares = sessions_in_order.select(
        left_out=pl.col("left_out") / pl.when(total > 0).then(total),
        suspects=pl.col("suspects") / pl.when(total > 0).then(total),
    )
    return InputsView(
        session=last,  # pyright: ignore[reportArgumentType]: a date
        reference_through=newest["reference_through"][0] if newest.height else None,
        largest=newest.row(0, named=True) if newest.height else None,
        changed=int((newest["psi"] > LARGE).sum()),
        columns=newest.height,
        furthest=tuple(newest.head(LISTED).to_dicts()),
        heat_columns=tuple(furthest),
        heat_sessions=tuple(days),
        heat=tuple(_cells(drift, name, days) for name in furthest),
        sessions=tuple(days_of_lines),
        drift=tuple(
            Line(title, tuple(_largest(drift, kind, days_of_lines)), look)
            for kind, title, look in (("input", "inputs", "service"), ("prediction", "probabilities", "ensemble"))
            if kind in drift["kind"].unique()
        ),
        histograms=tuple(_histogram(histograms, name) for name in histograms["column"].unique(maintain_order=True)),
        predicted_sessions=tuple(sessions_in_order["session"]),
        missing=tuple(
            Line(title, tuple(shares[name]), look)
            for name, title, look in (("left_out", "left out", "service"), ("suspects", "suspect", "naive"))
            if shares[name].count()
        ),
        outcomes=None if outcomes is None else _latest(outcomes),
        outcome_counts=() if outcomes is None else _counts(outcomes),
        lags=() if lags is None else _lags(lags),
    )


def _lags(lags: pl.DataFrame) -> tuple[Lag, ...]:
    by_input = lags.sort("side_input", "bin").partition_by("side_input", as_dict=True, maintain_order=True)
    return tuple(
        Lag(str(name), int(rows["rows"].sum()), (*rows["low"], rows["high"][-1]), tuple(rows["share"]))
        for (name,), rows in by_input.items()
    )


def _latest(outcomes: pl.DataFrame) -> tuple[dict[str, Any], ...]:
    return tuple(outcomes.sort("last", "ticker", descending=[True, False]).head(25).to_dicts())


def _counts(outcomes: pl.DataFrame) -> tuple[tuple[str, int], ...]:
    return tuple(outcomes["outcome"].value_counts().sort("count", "outcome", descending=True).iter_rows())


def _level(psi: pl.Expr) -> pl.Expr:
    """0 alike, 1 between, 2 changed."""
    return (psi > MODERATE).cast(pl.Int8) + (psi > LARGE).cast(pl.Int8)


def _cells(drift: pl.DataFrame, column: str, days: pl.Series) -> tuple[int | None, ...]:
    rows = drift.filter(pl.col("column") == column).unique("session", keep="first")
    drift_of_days = pl.DataFrame({"session": days}).join(rows, on="session", how="left", maintain_order="left")
    return tuple(drift_of_days.select(_level(pl.col("psi"))).to_series())


def _largest(drift: pl.DataFrame, kind: str, days: pl.Series) -> pl.Series:
    rows = drift.filter(pl.col("kind") == kind).group_by("session").agg(pl.col("psi").max())
    return pl.DataFrame({"session": days}).join(rows, on="session", how="left", maintain_order="left")["psi"]


def _histogram(histograms: pl.DataFrame, column: str) -> Histogram:
    rows = histograms.filter(pl.col("column") == column).sort("bin")
    reference, recent = (tuple(rows[name].fill_null(0)) for name in ("reference", "recent"))
    return Histogram(column, (rows["low"][0], *rows["high"]), reference, recent)
