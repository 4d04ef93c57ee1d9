"""One book tried in every way that matters: sleeves, cost of the spread, capital, fill, borrow, endings, volatility.

Accounts of one number of sleeves are booked at once. Every one of them is a trial (`trials.Computed`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import polars as pl

from stock_assets.evaluation.bootstrap import BLOCK, block_bootstrap
from stock_assets.trading import statistics
from stock_assets.trading.book_files import digest_of, model_of
from stock_assets.trading.books import Book
from stock_assets.trading.capacity import Capacity, fitted_capacity
from stock_assets.trading.ledger import opened, run
from stock_assets.trading.overfitting import effective_trials, overfitting_probability
from stock_assets.trading.portfolio import SLEEVES, best_sleeves, volatility_scale
from stock_assets.trading.statistics import ANNUAL
from stock_assets.trading.tables import BACKTEST
from stock_assets.trading.targets import OwnTargets, weights_of
from stock_assets.trading.trials import BASE, Computed, Trials, digest_of_scores

#: The scales of the half-spread, and the capitals in the listing's currency.
SCALES = (0.0, 1.0, 2.0, 4.0)
CAPITALS = (1e6, 1e7, 1e8, 1e9)
#: The number of sleeves of a book that has it chosen for each year on the years before.
CHOSEN = 0
#: The volatility of a year that the variant with a target is scaled to.
VOLATILITY = 0.10
#: A capital whose turnover is below this share of that of the smallest one is limited by what may be filled.
_UNLIMITED = 0.9


@dataclass(frozen=True)
class Cell:
    """One back-test: float64 [T] of every session after the first."""

    computed: Computed
    net: np.ndarray
    gross: np.ndarray
    turnover: np.ndarray
    impact: np.ndarray
    """cost of moving prices over the equity before"""

    @property
    def scale(self) -> float:
        """That of the half-spread."""
        return self.computed.book.costs.spread_scale

    @property
    def capital(self) -> float:
        """At the first session."""
        return self.computed.book.capital


def cells_of(targets: OwnTargets, book: Book, *, frontier: bool) -> Iterator[Cell]:
    """Every back-test of `book`, whose model made `targets`; with `frontier` at every capital and in every variant.

    First those of each number of sleeves, then the book's own where it is chosen by year.
    """
    trial = _Trial(targets, book)
    pairs = [*product([book.capital], trial.scales)]
    if frontier:
        pairs += [*product([capital for capital in CAPITALS if capital != book.capital], SCALES)]
    numbers = sorted({*SLEEVES, book.sleeves or SLEEVES[0]})
    base: dict[int, np.ndarray] = {}
    for number in numbers:
        for cell in trial.grid(number, dict.fromkeys(trial.years, number), pairs):
            if cell.computed.variant == BASE:
                base[number] = cell.net
            yield cell
    sleeves = dict.fromkeys(trial.years, book.sleeves) if book.sleeves else trial.chosen(base)
    if book.sleeves is None:
        yield from trial.grid(CHOSEN, sleeves, pairs)
    if frontier:
        yield from trial.variants(book.sleeves or CHOSEN, sleeves)


@dataclass(frozen=True)
class _Trial:
    """The back-tests of one book and one model."""

    targets: OwnTargets
    book: Book

    @property
    def years(self) -> list[int]:
        return sorted({session.year for session in self.targets.panel.sessions})

    @property
    def scales(self) -> list[float]:
        return sorted({*SCALES, self.book.costs.spread_scale})

    def chosen(self, base: Mapping[int, np.ndarray]) -> dict[int, int]:
        """The number of sleeves of each year with the highest mean net return over the years before it."""
        returns = np.column_stack([base[number] for number in SLEEVES])
        of_year = np.array([session.year for session in self.targets.panel.sessions[1:]])
        return {year: best_sleeves(returns[of_year < year]) for year in self.years}

    def grid(self, number: int, sleeves: Mapping[int, int], pairs: Sequence[tuple[float, float]]) -> Iterator[Cell]:
        """The accounts of all `pairs` (capital, scale of the half-spread), booked at once."""
        weights = self._weights(sleeves, self.book.volatility_target)
        capitals, scales = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
        series = self._series(weights[:, None, :], self.book, capitals=capitals, scales=scales[:, None])
        for i, (capital, scale) in enumerate(pairs):
            book = replace(self.book, capital=capital, costs=replace(self.book.costs, spread_scale=scale))
            parts = [f"spread x{scale:g}"] if scale != self.book.costs.spread_scale else []
            parts += [f"capital {capital:,.0f}"] if capital != self.book.capital else []
            of_account = {name: values[:, i] for name, values in series.items()}
            yield self._cell(book, number, variant=", ".join(parts) or BASE, series=of_account)

    def variants(self, number: int, sleeves: Mapping[int, int]) -> Iterator[Cell]:
        """What differs from the book in one assumption, at its own number of sleeves."""
        book, costs = self.book, self.book.costs
        weights = self._weights(sleeves, book.volatility_target)
        fills = {f"fill at the {fill}": replace(book, fill=fill) for fill in ("close", "second open", "open")}
        endings = {
            f"unknown endings {ending:.0%}": replace(book, costs=replace(costs, ending=ending))
            for ending in (0.0, -0.3, -1.0)
        }
        borrow = replace(costs, borrow=3 * costs.borrow, borrow_hard=3 * costs.borrow_hard)
        shorts = {"borrow x3": replace(book, costs=borrow)} if book.kind == "long_short" else {}
        for variant, changed_book in (fills | endings | shorts).items():
            if changed_book != book:
                yield self._cell(changed_book, number, variant=variant, series=self._series(weights, changed_book))
        target = VOLATILITY if book.volatility_target is None else None
        variant = "no volatility target" if target is None else f"volatility target {target:.0%}"
        changed_book = replace(book, volatility_target=target)
        series = self._series(self._weights(sleeves, target), changed_book)
        yield self._cell(changed_book, number, variant=variant, series=series)

    def _weights(self, sleeves: Mapping[int, int], target: float | None) -> np.ndarray:
        """float64 [T, N]: the targets of every close, scaled to the volatility `target` by the returns through it."""
        weights = weights_of(self.targets, sleeves)
        if target is None:
            return weights
        unscaled_returns = self._series(weights, self.book)["net_return"]
        scales = [volatility_scale(unscaled_returns[:t], target) for t in range(len(weights))]
        return weights * np.array(scales)[:, None]

    def _series(
        self,
        weights: np.ndarray,
        book: Book,
        *,
        capitals: np.ndarray | None = None,
        scales: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Net and gross return, turnover and impact of every session after the first, by name: [T - 1, ...]."""
        panel = self.targets.panel
        account = opened(book.capital if capitals is None else capitals, len(panel.tickers))
        totals = run(panel, weights, book, account=account, details=False, spread_scale=scales).totals
        before = totals["equity"] / (1 + totals["net_return"])
        impact = np.divide(totals["impact"], before, out=np.zeros_like(before), where=before > 0)
        names = ("net_return", "gross_return", "turnover")
        return {**{name: np.nan_to_num(totals[name]) for name in names}, "impact": impact}

    def _cell(self, book: Book, number: int, *, variant: str, series: Mapping[str, np.ndarray]) -> Cell:
        sessions = self.targets.panel.sessions
        computation = Computed(
            book=book,
            model=model_of(book),
            sleeves=number,
            variant=variant,
            first=sessions[0],
            last=sessions[-1],
            scores=digest_of_scores(self.targets.scores),
            returns=series["net_return"],
        )
        return Cell(computation, series["net_return"], series["gross_return"], series["turnover"], series["impact"])


def rows_of_book(
    cells: Sequence[Cell], book: Book, trials: Trials, *, seed: int = 0, block: int = BLOCK
) -> pl.DataFrame:
    """The rows of the table `backtest` of `book`, whose models made `cells`; `trials` are counted with them.

    Intervals are those of blocks of `block` sessions.
    """
    net, gross, turnover = (
        np.column_stack([getattr(cell, name) for cell in cells]) for name in ("net", "gross", "turnover")
    )
    intervals = np.hstack(
        [
            statistics.sharpe_intervals(net, block=block, seed=seed),
            statistics.ratio_intervals(gross, turnover, block=block, seed=seed),
        ]
    )
    base = np.column_stack([cell.net for cell in cells if cell.computed.variant == BASE])
    correlations = np.full((base.shape[1], base.shape[1]), np.nan)
    if len(base) > 1:
        with np.errstate(invalid="ignore", divide="ignore"):  # a series without variance has no correlation
            correlations = np.atleast_2d(np.corrcoef(base, rowvar=False))
    of_book = {
        "overfitting": overfitting_probability(base),
        "effective_trials": effective_trials(correlations),
        "trials": trials.count,
        "settings": digest_of(book),
        "book": book.name,
    }
    capacities = _capacities(cells, seed=seed, block=block)
    rows = [
        _row(cell, trials)
        | of_book
        | _interval_of(interval)
        | (capacities.get(_key(cell), {}) if _in_grid(cell) else {})
        for cell, interval in zip(cells, intervals, strict=True)
    ]
    return pl.DataFrame(rows, BACKTEST.schema, infer_schema_length=None)


def _row(cell: Cell, trials: Trials) -> dict[str, object]:
    computation, moments_of_returns = cell.computed, statistics.moments(cell.net)
    mean_turnover = cell.turnover.mean() if len(cell.turnover) else 0.0
    return {
        "model": computation.model,
        "sleeves": computation.sleeves,
        "spread_scale": cell.scale,
        "capital": cell.capital,
        "variant": computation.variant,
        "first": computation.first,
        "last": computation.last,
        "sessions": len(cell.net),
        "net_sharpe": moments_of_returns and moments_of_returns.sharpe * ANNUAL,
        "deflated_sharpe": trials.deflated(moments_of_returns),
        "gross_return": float(cell.gross.mean()) if len(cell.gross) else None,
        "net_return": float(cell.net.mean()) if len(cell.net) else None,
        "turnover": float(mean_turnover),
        "break_even": float(cell.gross.mean() / mean_turnover) if mean_turnover > 0 else None,
        "drawdown": statistics.deepest_drawdown(cell.net),
    }


def _interval_of(interval: np.ndarray) -> dict[str, float | None]:
    names = ("net_sharpe_low", "net_sharpe_high", "break_even_low", "break_even_high")
    return {name: None if np.isnan(end) else float(end) for name, end in zip(names, interval, strict=True)}


_Key = tuple[str, int, float]


def _capacities(cells: Sequence[Cell], *, seed: int, block: int) -> dict[_Key, dict[str, float | None]]:
    """The capital with the largest gain, with its interval, of each model, number of sleeves and scale.

    The edge is that of the smallest capital, and impact that of the capitals that what may be filled does not limit.
    """
    groups: dict[_Key, list[Cell]] = {}
    for cell in filter(_in_grid, cells):
        groups.setdefault(_key(cell), []).append(cell)
    capacities = {}
    for key, group in groups.items():
        smallest = min(group, key=lambda cell: cell.capital)
        edges = smallest.net + smallest.impact
        ends = block_bootstrap(edges, block, seed)
        if ends is None:
            continue
        free = [cell for cell in group if cell.turnover.mean() >= _UNLIMITED * smallest.turnover.mean()]
        impacts = np.array([cell.impact.mean() for cell in free])
        capacity = fitted_capacity(float(edges.mean()), np.array([cell.capital for cell in free]), impacts)
        low, high = (Capacity(end, capacity.slope).best for end in ends)
        if capacity.best is not None or high is not None:
            capacities[key] = {"capacity": capacity.best, "capacity_low": low or 0.0, "capacity_high": high}
    return capacities


def _in_grid(cell: Cell) -> bool:
    """Whether it differs from the book in capital and cost of the spread alone."""
    return cell.computed.variant == BASE or cell.computed.variant.startswith(("spread", "capital"))


def _key(cell: Cell) -> _Key:
    return cell.computed.model, cell.computed.sleeves, cell.scale
