"""Where the versions of a market are, and the first session without a prediction; at a day and below."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import polars as pl

from stock_assets.errors import MissingTableError, StockAssetsError
from stock_assets.market.calendar import TradingCalendar
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

_VERSION_SCHEMA = {"model": pl.String, "model_year": pl.Int32, "version": pl.String, "trained_through": pl.Date}


@dataclass(frozen=True)
class Kept:
    """Where a market keeps its versions and what they predict."""

    versions: Mapping[str, str]
    """SQL of the columns of `trained_versions`, by the table of versions that may serve"""
    predictions: str = "predictions"
    year: int | None = None
    """the model year of every version; None where that is the year of the session"""

    def year_of(self, session: date) -> int:
        """The model year of `session`."""
        return session.year if self.year is None else self.year


DAYS = Kept(
    {
        table: f"SELECT DISTINCT {model} AS model, model_year, version, trained_through FROM model.{table}"
        for table, model in (
            ("trained_rnn", "model"),
            ("trained_baselines", "model"),
            ("trained_ensemble", "'ensemble'"),
        )
    }
)


def kept_of(settings: Settings) -> Kept:
    """That of the market of `settings`."""
    if settings.interval == "1d":
        return DAYS
    from stock_assets.lifecycle.materialize.bar_champions import BARS

    return BARS


def kept_in(store: Warehouse) -> Kept:
    """That of the market of `store`, which has one interval."""
    if store.last_session("trained_bar_models") is None:
        return DAYS
    from stock_assets.lifecycle.materialize.bar_champions import BARS

    return BARS


def trained_versions(store: Warehouse, model_tables: Kept = DAYS) -> pl.DataFrame:
    """model, model_year, version, trained_through: one row per saved version, sorted."""
    parts = [pl.DataFrame(schema=_VERSION_SCHEMA)]
    for table, statement in model_tables.versions.items():
        try:
            parts.append(store.read_sql(table, statement).cast(_VERSION_SCHEMA))  # pyright: ignore[reportArgumentType]
        except MissingTableError:
            continue
    return pl.concat(parts).sort("model", "model_year", "trained_through", "version")


def next_session(store: Warehouse, calendar: TradingCalendar, model_tables: Kept = DAYS) -> date:
    """The first session that has no prediction yet. Raises StockAssetsError before the first prediction, and at the
    end of a closed snapshot."""
    last = store.last_session(model_tables.predictions)
    if last is None:
        raise StockAssetsError(
            f"there are no predictions yet, so no version serves. Materialize {model_tables.predictions} first."
        )
    following = calendar.shift(last, 1)
    if following is None:
        raise StockAssetsError(f"{last} is predicted, and the calendar of {calendar.name} ends with it")
    return following
