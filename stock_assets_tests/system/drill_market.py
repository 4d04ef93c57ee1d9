"""The definitions of the drill: the project's own, on a clock and a vendor that the test plants."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import dagster as dg
import polars as pl
from dagster._time import get_current_datetime

from stock_assets.definitions import build_definitions
from stock_assets.market.calendar import calendar_of
from stock_assets.market.context import MarketContext
from stock_assets.market.sources import Answer, Source
from stock_assets.market.sources.registry import make_source
from stock_assets.settings import settings

PRICES = ("open", "high", "low", "close", "adj_close")
#: From the regime change on, log returns are so many times what they would have been.
WILDER = 2.5


@dataclass(frozen=True)
class Plants:
    """What goes wrong, and when the vendor mends it; read from the environment, where the test puts it."""

    regime: date
    """the session after whose close the market is wilder"""
    restated: tuple[str, date, date]
    """ticker and session of a close that is 2 % higher for who asks from the day on"""
    corrupt: tuple[date, date]
    """a session whose opens are wrong, and the day from which they are right"""

    def text(self) -> str:
        ticker, session, seen = self.restated
        return " ".join(map(str, (self.regime, ticker, session, seen, *self.corrupt)))

    @classmethod
    def of(cls, text: str) -> "Plants":
        regime, ticker, session, seen, corrupt, mended = text.split()
        day = date.fromisoformat
        return cls(day(regime), (ticker, day(session), day(seen)), (day(corrupt), day(mended)))


@dataclass(frozen=True)
class PlantedSource:
    """The simulated market, with what was planted in it."""

    inner: Source
    plants: Plants

    @property
    def name(self) -> str:
        return self.inner.name

    def universe(self) -> pl.DataFrame:
        return self.inner.universe()

    def context(self, first: date, last: date, now: datetime) -> MarketContext:
        return self.inner.context(first, last, now)

    def fetch(self, tickers: Sequence[str], first: date, last: date, *, fetched_at: datetime) -> Answer:
        """As `Source.fetch`."""
        plants = self.plants
        rows = self.inner.fetch(tickers, first, last, fetched_at=fetched_at).bars
        if last > plants.regime:
            # both prices are in the basis of one answer, so that a later split changes no as-traded figure
            whole = self.inner.fetch(tickers, plants.regime, last, fetched_at=fetched_at).bars.sort("ticker", "session")
            anchor = whole.filter(pl.col("session") == plants.regime).select("ticker", anchor="close")
            before = whole.select("ticker", "session", before=pl.col("close").shift().over("ticker"))
            rows = rows.join(anchor, on="ticker", how="left", maintain_order="left")
            rows = rows.join(before, on=["ticker", "session"], how="left", maintain_order="left")
            wild = (pl.col("session") > plants.regime) & pl.col("anchor").is_not_null()
            factor = (pl.col("close") / pl.col("anchor")) ** (WILDER - 1)
            moved = {name: _wilder(name) for name in PRICES}
            moved["dividend"] = pl.col("dividend") * factor
            # so that the adjusted closes imply the dividend
            left = _wilder("before") - moved["dividend"]
            moved["previous_adj_close"] = moved["adj_close"] * left / moved["close"]
            rows = rows.with_columns(
                pl.when(wild).then(value).otherwise(name).alias(name) for name, value in moved.items()
            ).drop("anchor", "before")
        ticker, session, seen = plants.restated
        if fetched_at.date() >= seen:
            here = (pl.col("ticker") == ticker) & (pl.col("session") == session)
            following = calendar_of(settings()).shift(session, 1)
            after = (pl.col("ticker") == ticker) & (pl.col("session") == following)
            higher = {"high": here, "close": here, "adj_close": here, "previous_adj_close": after}
            rows = rows.with_columns(
                pl.when(where).then(pl.col(name) * 1.02).otherwise(name).alias(name) for name, where in higher.items()
            )
        session, mended = plants.corrupt
        if fetched_at.date() < mended:
            here = (pl.col("session") == session) & (pl.col("ticker").str.slice(-1).is_in(["1", "2", "3"]))
            rows = rows.with_columns(open=pl.when(here).then(pl.col("high") * 1.5).otherwise("open"))
        return Answer(rows)


def _wilder(price: str) -> pl.Expr:
    """A price after the regime change, as far from the `anchor` as the wilder market takes it."""
    return pl.col("anchor") * (pl.col(price) / pl.col("anchor")) ** WILDER


def planted(project: dg.Definitions, plants: Plants) -> dg.Definitions:
    """`project` on the clock that `freeze_time` of Dagster moves, with what is planted."""
    return dg.Definitions(
        assets=project.assets,
        asset_checks=project.asset_checks,
        # the reference models and the report would take longer than all evenings; test_automation plays their sensor
        sensors=[sensor for sensor in project.sensors or () if sensor.name != "reference_models"],
        jobs=project.jobs,
        executor=project.executor,
        resources={
            **dict(project.resources or {}),
            "source": dg.ResourceDefinition(lambda _: PlantedSource(make_source(settings()), plants)),
            "clock": dg.ResourceDefinition.hardcoded_resource(get_current_datetime),
        },
    )


if "DRILL_PLANTS" in os.environ:
    defs = planted(build_definitions(settings()), Plants.of(os.environ["DRILL_PLANTS"]))
