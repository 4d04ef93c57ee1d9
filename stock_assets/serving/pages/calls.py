"""What the model in service says of a session: rows with their bars, as several screens list them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import polars as pl
from markupsafe import Markup

from stock_assets.pages.charts.bars import probability_bar
from stock_assets.publication.read import Publication

#: Tickers named with a reason for which they are left out.
NAMED = 8


@dataclass(frozen=True)
class Call:
    """One ticker of one session."""

    ticker: str
    name: str | None
    sector: str | None
    p_sell: float
    p_hold: float
    p_buy: float
    score: float
    rank: int
    moved: int | None
    """places gained since the session before; None where it had no rank"""
    close: float | None
    total_return: float | None
    suspect: str | None

    @cached_property
    def bar(self) -> Markup:
        return probability_bar(self.p_sell, self.p_hold, self.p_buy)


@dataclass(frozen=True)
class LeftOut:
    """The tickers that are left out for one reason."""

    reason: str
    count: int
    tickers: tuple[str, ...]
    """the first NAMED"""


def predicted_rows(publication: Publication, session: date) -> pl.DataFrame:
    """The predictions of the model in service, by rank."""
    rows = publication.predictions(session)
    model = publication.pointer.facts.in_service
    return rows.filter(pl.col("status") == "predicted", pl.col("model") == model).sort("rank")


def calls_of(publication: Publication, session: date, before: date | None) -> list[Call]:
    """Every call of `session` by rank; `before` is the session that ranks are compared with."""
    rows = predicted_rows(publication, session)
    earlier = predicted_rows(publication, before) if before else rows.clear()
    rows_with_bars = rows.join(publication.bars(session), on="ticker", how="left", maintain_order="left").join(
        earlier.select("ticker", earlier="rank"), on="ticker", how="left", maintain_order="left"
    )
    rows_with_bars = rows_with_bars.with_columns(moved=pl.col("earlier") - pl.col("rank"))
    columns = list(Call.__dataclass_fields__)
    return [Call(*row) for row in rows_with_bars.select(columns).iter_rows()]


def strongest(calls: Sequence[Call], limit: int) -> tuple[tuple[Call, ...], tuple[Call, ...]]:
    """(buys, sells): at most `limit` from each end of `calls`, which are by rank; no call is in both.

    Sells begin with the strongest.
    """
    sells = min(limit, len(calls) // 2)
    buys = min(limit, len(calls) - sells)
    return tuple(calls[:buys]), tuple(calls[len(calls) - sells :][::-1])


def left_out(publication: Publication, session: date) -> tuple[LeftOut, ...]:
    """The tickers that are left out, by reason, the most frequent first."""
    rows = publication.predictions(session).filter(pl.col("status") != "predicted")
    groups = (
        rows.with_columns(pl.col("reason").fill_null("no reason is stated"))
        .group_by("reason")
        .agg(count=pl.len(), tickers=pl.col("ticker").sort())
        .sort("count", "reason", descending=[True, False])
    )
    return tuple(LeftOut(reason, count, tuple(names[:NAMED])) for reason, count, names in groups.iter_rows())


def session_before(publication: Publication, session: date) -> date | None:
    """The published session before `session`."""
    earlier = [other_session for other_session in publication.pointer.sessions if other_session < session]
    return earlier[-1] if earlier else None
