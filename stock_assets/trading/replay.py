"""A book traded on what was said each evening, on bars as they were known then, and again with the hindsight of today.

The same book goes three times through the same sessions: as said, with what was said on the bars of today, and with
the predictions and the bars of today. The first step is the price of revised bars, the second that of changed models.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date

import numpy as np
import polars as pl

from stock_assets.errors import TradingError
from stock_assets.trading.books import Book
from stock_assets.trading.ledger import decide, opened, step
from stock_assets.trading.panel import NO_BAR, Bars, Panel
from stock_assets.trading.portfolio import Evening, own_target, sleeved
from stock_assets.trading.simulation import net_returns
from stock_assets.trading.targets import OwnTargets, own_targets, scores_of, weights_of

BASIS_POINTS = 1e4
#: What an array of `Bars` holds of a ticker that a panel lacks.
_ABSENT = {"dividend": 0.0, "split_ratio": 1.0, "refusal": NO_BAR, "trusted": False, "fifth_before": 0}


@dataclass(frozen=True)
class Replay:
    """A book as said, and with hindsight."""

    rows: pl.DataFrame
    """session, as_said, todays_bars, today: net returns (fraction); by_bars, by_models: differences in basis points"""
    changed_bars: int
    """evenings whose bars have been revised since"""
    changed_versions: int
    """predictions that another version makes today"""

    @property
    def by_bars(self) -> float:
        """Basis points a session that revised bars add."""
        return _mean(self.rows["by_bars"])

    @property
    def by_models(self) -> float:
        """Basis points a session that changed models add."""
        return _mean(self.rows["by_models"])


def replay(
    book: Book,
    today: Panel,
    panel_of_evening: Callable[[date], Panel | None],
    *,
    published_predictions: pl.DataFrame,
    predictions: pl.DataFrame,
    sleeves: Mapping[int, int],
) -> Replay:
    """`book` through the sessions of `today`, the panel of the bars as they are now.

    `panel_of_evening` gives the panel whose last two sessions are the one before and that of an evening, with the bars
    of that evening; None where they are those of today. `published_predictions` and `predictions` are the rows of the
    book's model as they were published on each evening and as they are now; `sleeves` are by year. Orders are filled at
    the next open, whatever the book names; its volatility target does not count. Raises TradingError for a panel that
    ends at another session.
    """
    now = own_targets(today, scores_of(predictions, today, book), book)
    then = own_targets(today, scores_of(published_predictions, today, book), book)
    as_said, changed_count = _as_said(
        book, today, panel_of_evening, then=then, published_predictions=published_predictions, sleeves=sleeves
    )
    todays_bars = net_returns(today, weights_of(then, sleeves), book)
    with_models = net_returns(today, weights_of(now, sleeves), book)
    rows = pl.DataFrame(
        {
            "session": pl.Series(today.sessions, dtype=pl.Date),
            "as_said": as_said,
            "todays_bars": todays_bars,
            "today": with_models,
            "by_bars": (todays_bars - as_said) * BASIS_POINTS,
            "by_models": (with_models - todays_bars) * BASIS_POINTS,
        }
    )
    joint_predictions = published_predictions.join(predictions, on=["session", "ticker"], suffix="_today")
    return Replay(
        rows,
        changed_count,
        joint_predictions.filter(pl.col("model_version").ne_missing(pl.col("model_version_today"))).height,
    )


def _as_said(
    book: Book,
    today: Panel,
    panel_of_evening: Callable[[date], Panel | None],
    *,
    then: OwnTargets,
    published_predictions: pl.DataFrame,
    sleeves: Mapping[int, int],
) -> tuple[np.ndarray, int]:
    """(float64 [T]: the net returns of the book as said, evenings whose bars differ from those of today)."""
    own = np.full_like(then.own, np.nan)
    account, orders = opened(book.capital, len(today.tickers)), np.zeros(len(today.tickers))
    returns, changed_count = np.zeros(len(today.sessions)), 0
    for t, session in enumerate(today.sessions):
        panel = panel_of_evening(session)
        if panel is None:
            bars, own[t] = today.day(t), then.own[t]
        else:
            if panel.sessions[-1] != session:
                raise TradingError(
                    f"the bars known on {session} end at {panel.sessions[-1]}; expected them to end there"
                )
            changed_count += 1
            bars = _aligned(panel.day(len(panel.sessions) - 1), panel.tickers, today.tickers)
            own[t] = _own(panel, scores_of(published_predictions, panel, book)[-1], book, tickers=today.tickers)
        if t:
            before = account.equity
            account, _ = step(account, orders, bars, book=book)
            returns[t] = float((account.equity - before) / before)
        number = sleeves[session.year]
        weights = sleeved(own[max(0, t - number + 1) : t + 1], number)[-1]
        account, orders = decide(account, weights, bars, book=book)
    return returns, changed_count


def _own(panel: Panel, scores: np.ndarray, book: Book, *, tickers: Sequence[str]) -> np.ndarray:
    """float64 [N]: the own target of the last session of `panel` over `tickers`."""
    evening = Evening(scores, panel.close[-1], panel.trusted[-1], panel.adv[-1], panel.beta[-1], panel.sector)
    return _over(own_target(evening, book).own, panel.tickers, tickers, fill_value=np.nan)


def _aligned(bars: Bars, tickers: Sequence[str], wanted_tickers: Sequence[str]) -> Bars:
    """`bars` of `tickers` over `wanted_tickers`."""
    arrays = {
        field.name: _over(values, tickers, wanted_tickers, fill_value=_ABSENT.get(field.name, np.nan))
        for field in fields(bars)
        if isinstance(values := getattr(bars, field.name), np.ndarray)
    }
    return replace(bars, **arrays)


def _over(
    values: np.ndarray, tickers: Sequence[str], wanted_tickers: Sequence[str], *, fill_value: float
) -> np.ndarray:
    """`values` [M] of `tickers` as an array over `wanted_tickers`; `fill_value` where a ticker is not among them."""
    places = {ticker: n for n, ticker in enumerate(wanted_tickers)}
    row = np.full(len(wanted_tickers), fill_value, dtype=values.dtype)
    common = [(m, places[ticker]) for m, ticker in enumerate(tickers) if ticker in places]
    if common:
        source_places, target_places = map(list, zip(*common, strict=True))
        row[target_places] = values[source_places]
    return row


def _mean(values: pl.Series) -> float:
    return float(np.mean(values.to_numpy())) if len(values) else 0.0
