"""Screen 2: what does the model in service say?"""

from dataclasses import dataclass
from datetime import date
from functools import cached_property
from math import ceil

import polars as pl
from markupsafe import Markup

from stock_assets.pages import numbers
from stock_assets.pages.charts import bars
from stock_assets.pages.charts.bars import Shares
from stock_assets.publication.read import Publication
from stock_assets.serving.pages.calls import Call, calls_of, predicted_rows, session_before, strongest

#: Calls from each end, the sessions that tonight is compared with, and the width of a bin of probability.
LISTED, BEFORE, BIN = 20, 21, 0.05


@dataclass(frozen=True)
class SectorRow:
    """The calls of one sector."""

    sector: str
    tickers: int
    score: float
    """mean"""


@dataclass(frozen=True)
class Spread:
    """The distribution of one probability: the share of tickers per bin of width BIN from 0 on."""

    name: str
    edges: tuple[float, ...]
    tonight: tuple[float, ...]
    before: tuple[float, ...]
    """over the last sessions; empty without one"""

    @cached_property
    def chart(self) -> Markup:
        groups = [Shares(f"the {BEFORE} sessions before", self.before, "reference")] if self.before else []
        groups.append(Shares("tonight", self.tonight, self.name))
        note = "share of tickers by probability"
        return bars.histogram(f"Probability of {self.name}", self.edges, groups, note=note, percent=True)


@dataclass(frozen=True)
class SignalsView:
    """What the screen shows."""

    session: date | None
    before: date | None
    """the session that ranks are compared with"""
    model: str
    predicted: int
    buys: tuple[Call, ...]
    sells: tuple[Call, ...]
    turnover: float | None
    """share of the top decile that was not in it the session before; None without one"""
    decile: int
    """tickers of the top decile"""
    mean_score: float | None
    spreads: tuple[Spread, ...]
    sectors: tuple[SectorRow, ...]
    """the highest mean score first; empty where the source states none"""
    currency: str | None

    @cached_property
    def sector_chart(self) -> Markup:
        rows = [(f"{row.sector} ({row.tickers})", row.score, numbers.signed_percent(row.score)) for row in self.sectors]
        return bars.diverging_bars("Mean score by sector", rows, note="p(buy) less p(sell); in brackets the tickers")


def signals_view(publication: Publication | None) -> SignalsView:
    """The view of the newest session of `publication`."""
    if publication is None or not publication.pointer.sessions:
        return SignalsView(None, None, "", 0, (), (), None, 0, None, (), (), None)
    facts, sessions = publication.pointer.facts, publication.pointer.sessions
    session = sessions[-1]
    before = session_before(publication, session)
    calls = calls_of(publication, session, before)
    buys, sells = strongest(calls, LISTED)
    earlier = [predicted_rows(publication, earlier_session) for earlier_session in sessions[-1 - BEFORE : -1]]
    decile = ceil(len(calls) / 10)
    return SignalsView(
        session=session,
        before=before,
        model=facts.in_service,
        predicted=len(calls),
        buys=buys,
        sells=sells,
        turnover=_turnover(calls[:decile], earlier[-1]) if earlier and earlier[-1].height and calls else None,
        decile=decile,
        mean_score=sum(call.score for call in calls) / len(calls) if calls else None,
        spreads=_spreads(predicted_rows(publication, session), earlier) if calls else (),
        sectors=_sectors(calls),
        currency=facts.currency,
    )


def _turnover(top: list[Call], earlier: pl.DataFrame) -> float:
    """The share of `top` that was not in the top decile of `earlier` (by rank)."""
    before = set(earlier["ticker"].head(ceil(earlier.height / 10)))
    return sum(call.ticker not in before for call in top) / len(top)


def _spreads(rows: pl.DataFrame, earlier: list[pl.DataFrame]) -> tuple[Spread, ...]:
    before = pl.concat(earlier) if earlier else rows.clear()
    highest = max(frame.select(pl.max_horizontal("p_buy", "p_sell").max()).item() or 0.0 for frame in (rows, before))
    bins = max(1, ceil(highest / BIN - 1e-9))
    edges = tuple(round(i * BIN, 4) for i in range(bins + 1))
    return tuple(
        Spread(
            name,
            edges,
            _shares(rows[f"p_{name}"], bins),
            _shares(before[f"p_{name}"], bins) if before.height else (),
        )
        for name in ("buy", "sell")
    )


def _shares(values: pl.Series, bins: int) -> tuple[float, ...]:
    """The share of `values` in each bin; a value on an edge belongs to the bin that begins there, the last holds 1."""
    places = (values / BIN + 1e-9).floor().cast(pl.Int64).clip(0, bins - 1).to_list()
    return tuple(places.count(i) / len(places) for i in range(bins))


def _sectors(calls: list[Call]) -> tuple[SectorRow, ...]:
    groups: dict[str, list[float]] = {}
    for call in calls:
        if call.sector:
            groups.setdefault(call.sector, []).append(call.score)
    rows = (SectorRow(sector, len(scores), sum(scores) / len(scores)) for sector, scores in groups.items())
    return tuple(sorted(rows, key=lambda row: (-row.score, row.sector)))
