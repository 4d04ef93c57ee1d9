"""A store made by hand whose sessions can be published: no training, no Dagster."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl

from stock_assets.market.calendar import calendar_of
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared
from stock_assets_tests.stores import filled_store
from stock_assets_tests.tables import rows_of

#: SUSP has a suspect bar, LEFT left the index and NEWB has no features yet; HALT has no bar at all, and SHRT too few
#: rows for the model in service.
TICKERS = ("AAA", "BBB", "CCC", "DDD")
LEFT_OUT = ("HALT", "LEFT", "NEWB", "SHRT", "SUSP")
VERSIONS = {"rnn": "rnn-2018-12-31-aaa", "ensemble": "ensemble-1", "ticker_prior": "prior-1"}
NOW = datetime(2019, 3, 1, 22, tzinfo=UTC)


def settings_of(folder: Path, **overrides: object) -> Settings:
    plain: dict[str, object] = {
        "source": "simulated",
        "start": date(2018, 1, 2),
        "end": date(2019, 6, 28),
        "first_model_year": 2019,
        "mlflow": "off",
    }
    return read_settings(data_dir=folder, **(plain | overrides))


def sessions_of(settings: Settings, count: int) -> tuple[date, ...]:
    """The first sessions that a model serves."""
    return calendar_of(settings).between(date(2019, 1, 2), date.max)[:count]


def market(folder: Path, count: int = 30, **overrides: object) -> tuple[Settings, Warehouse]:
    """`count` predicted sessions, of which those before the last `horizon` are labelled."""
    settings = settings_of(folder, **overrides)
    sessions = sessions_of(settings, count)
    key = ("publication", sessions, settings.horizon)
    store = filled_store(settings.database, key, lambda empty: _fill(empty, sessions, settings.horizon))
    return settings, store.patient(0.1)


def _fill(store: Warehouse, sessions: Sequence[date], horizon: int) -> None:
    with_bars = [ticker for ticker in (*TICKERS, *LEFT_OUT) if ticker != "HALT"]
    members = pl.DataFrame({"ticker": [*TICKERS, *LEFT_OUT]}).with_columns(
        from_session=pl.lit(date(2018, 1, 2)),
        to_session=pl.when(pl.col("ticker") == "LEFT").then(pl.lit(date(2018, 12, 31))),
        name=pl.col("ticker") + " <b>Inc.</b>",
        sector=pl.lit("R&D"),
    )
    store.replace_table("universe", rows_of("universe", members))
    bars = keys(sessions, with_bars).with_columns(
        **{name: pl.lit(10.0) for name in ("open", "high", "low", "close", "volume")},
        dividend=pl.lit(0.0),
        split_ratio=pl.lit(1.0),
        total_return=pl.lit(0.001),
        is_member=pl.col("ticker") != "LEFT",
        suspect=pl.when(pl.col("ticker") == "SUSP").then(pl.lit("absurd_return")),
    )
    store.replace_sessions("daily_bars", sessions, rows_of("daily_bars", bars))
    featured = [ticker for ticker in with_bars if ticker not in ("NEWB", "SUSP")]
    features = rows_of("stationary_features", keys(sessions, featured))
    store.replace_sessions("stationary_features", sessions, features)
    halted = {"ticker": "HALT", "first": date(2018, 12, 3), "last": sessions[-1], "outcome": "halted"}
    halt = pl.DataFrame([halted | {"reason": "no bar since 2018-11-30", "fetched_at": NOW}])
    store.append("fetch_outcomes", rows_of("fetch_outcomes", halt))
    trained = pl.DataFrame([{"model_year": 2019, "model": "rnn", "version": VERSIONS["rnn"], "trained_at": NOW}])
    cutoff = pl.lit(date(2018, 12, 31))
    store.replace_table("trained_rnn", rows_of("trained_rnn", trained.with_columns(trained_through=cutoff)))
    member = pl.DataFrame([{"model_year": 2019, "member": "rnn", "weight": 1.0, "version": VERSIONS["ensemble"]}])
    store.replace_table("trained_ensemble", rows_of("trained_ensemble", member.with_columns(trained_through=cutoff)))
    predict(store, sessions)
    label(store, sessions[:-horizon])
    losses = {name: pl.lit(1.0) for name in ("log_loss", "ensemble_log_loss", "naive_log_loss")}
    operations = pl.DataFrame({"session": sessions}).with_columns(**losses, suspects=pl.lit(1, pl.Int64))
    store.replace_table("operations", rows_of("operations", operations))


def keys(sessions: Sequence[date], tickers: Sequence[str]) -> pl.DataFrame:
    return pl.DataFrame({"session": list(sessions)}, {"session": pl.Date}).join(
        pl.DataFrame({"ticker": list(tickers)}), how="cross"
    )


def predict(
    store: Warehouse, sessions: Sequence[date], *, seed: int = 0, versions: dict[str, str] | None = None
) -> None:
    """Stores predictions of `sessions` in the place of theirs; another `seed` gives others. The prior also predicts
    SHRT, which is too short for the network."""
    parts = []
    for model, version in (versions or VERSIONS).items():
        rows = keys(sessions, [*TICKERS, "SHRT"] if model == "ticker_prior" else TICKERS)
        drawn = np.random.default_rng([seed, *map(ord, model)]).dirichlet((3, 6, 3), rows.height)
        probabilities = dict(zip(("p_sell", "p_hold", "p_buy"), map(pl.Series, drawn.T), strict=True))
        parts.append(rows.with_columns(**probabilities, model=pl.lit(model), model_version=pl.lit(version)))
    rows = pl.concat(parts).with_columns(
        score=pl.col("p_buy") - pl.col("p_sell"), trained_through=pl.lit(date(2018, 12, 31))
    )
    store.replace_sessions("predictions", sessions, rows.select(declared("predictions").names))


def label(store: Warehouse, sessions: Sequence[date], tickers: Sequence[str] = (*TICKERS, "SUSP")) -> None:
    """Stores labels of `sessions` in the place of theirs."""
    rows = keys(sessions, tickers).with_columns(
        label=(pl.col("ticker").str.len_chars() - 3).cast(pl.Int8),
        forward_return_horizon=pl.col("session").dt.day() / 1000,
        horizon_end=pl.col("session").dt.offset_by("9d"),
    )
    store.replace_sessions("labels", sessions, rows_of("labels", rows))
