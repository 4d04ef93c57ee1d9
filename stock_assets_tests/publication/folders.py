"""Small publications for tests: everything that a reader needs, without a store."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from stock_assets.publication.layout import Facts, Pointer, Upcoming
from stock_assets.publication.tables import BARS_FILE, MONITORING, OUTCOMES_FILE, PREDICTIONS_FILE
from stock_assets.publication.write import NewFiles, publish

MODELS = {
    "rnn": "rnn-2025-12-31-0a0a0a0a",
    "ensemble": "ensemble-2025-12-31-0b0b0b0b",
    "prior": "prior-2025-12-31-0c0c",
}
TICKERS = ("AAPL", "BRK.B", "MSFT", "^GSPC")
SESSIONS = tuple(date(2026, 11, day) for day in (16, 17, 18, 19, 20))


def predictions_of(
    session: date,
    tickers: Sequence[str] = TICKERS,
    left_out: Sequence[str] = ("XYZ",),
    *,
    models: dict[str, str] = MODELS,
) -> pl.DataFrame:
    """A file of predictions, random but the same for the same session and versions."""
    parts = []
    for model, version in models.items():
        seed = sum(map(ord, f"{session}{version}"))
        probabilities = np.random.default_rng(seed).dirichlet((3, 6, 3), len(tickers))
        rows = pl.DataFrame({"ticker": list(tickers)}).with_columns(
            model=pl.lit(model),
            model_version=pl.lit(version),
            trained_through=pl.lit(date(2025, 12, 31)),
            p_sell=pl.Series(probabilities[:, 0]),
            p_hold=pl.Series(probabilities[:, 1]),
            p_buy=pl.Series(probabilities[:, 2]),
        )
        rows = rows.with_columns(score=pl.col("p_buy") - pl.col("p_sell"), status=pl.lit("predicted"))
        order = pl.struct(-pl.col("score"), "ticker").rank("ordinal").cast(pl.Int32)
        parts.append(rows.with_columns(rank=order))
    absent = pl.DataFrame({"ticker": list(left_out)}, schema={"ticker": pl.String})
    parts.append(absent.with_columns(status=pl.lit("left_out"), reason=pl.lit("no bar of the session")))
    return PREDICTIONS_FILE.fit(pl.concat(parts, how="diagonal").sort("ticker", "model"))


def bars_of(session: date, tickers: Sequence[str] = TICKERS, *, sector: str = "Technology") -> pl.DataFrame:
    """A file of bars whose prices drift with the session."""
    closes = [100.0 + i + (session - date(2026, 1, 1)).days / 10 for i in range(len(tickers))]
    frame = pl.DataFrame({"ticker": list(tickers), "close": closes}).with_columns(
        name=pl.col("ticker") + " Inc.",
        sector=pl.lit(sector),
        open=pl.col("close") - 0.5,
        high=pl.col("close") + 1,
        low=pl.col("close") - 1,
        volume=pl.lit(1e6),
        dividend=pl.lit(0.0),
        split_ratio=pl.lit(1.0),
        total_return=pl.lit(0.001),
        is_member=pl.lit(value=True),
        suspect=pl.lit(None, pl.String),
    )
    return BARS_FILE.fit(frame)


def outcomes_of(session: date, tickers: Sequence[str] = TICKERS) -> pl.DataFrame:
    """A file of outcomes."""
    labels = [(-1, 0, 1)[i % 3] for i in range(len(tickers))]
    frame = pl.DataFrame({"ticker": list(tickers), "label": labels}, schema_overrides={"label": pl.Int8}).with_columns(
        horizon_end=pl.lit(session + timedelta(days=9)),
        forward_return_horizon=pl.col("label") * 0.03,
        usable=pl.lit(value=True),
    )
    return OUTCOMES_FILE.fit(frame)


def facts_of(sessions: Sequence[date] = SESSIONS, *, source: str = "simulated", upcoming: int = 5) -> Facts:
    """A market on New York hours whose next sessions follow the last of `sessions`."""
    days = [sessions[-1] + timedelta(days=n) for n in range(1, 20)]
    coming = [day for day in days if day.weekday() < 5][:upcoming]
    closes = [datetime.combine(day, time(21), UTC) for day in coming]
    return Facts(
        source=source,
        exchange="XNYS",
        zone="America/New_York",
        currency="USD",
        first_session=date(2018, 1, 2),
        horizon=7,
        buy_threshold=0.027,
        sell_threshold=0.022,
        in_service="rnn",
        upcoming=tuple(Upcoming(c.date(), c, c + timedelta(minutes=30)) for c in closes),
        grace_seconds=7200.0,
        dagster_url="http://127.0.0.1:3000",
        mlflow_url=None,
        unpublished=(),
    )


def published_folder(
    folder: Path,
    *,
    sessions: Sequence[date] = SESSIONS,
    tickers: Sequence[str] = TICKERS,
    labelled: int = 2,
    source: str = "simulated",
    sector: str = "Technology",
    now: datetime | None = None,
    facts: Facts | None = None,
) -> Pointer:
    """Publishes `sessions` of `tickers` into `folder`; the first `labelled` sessions have outcomes. `facts` are by
    default those of `facts_of`."""
    new = NewFiles(folder)
    for i, session in enumerate(sessions):
        new.put("predictions", str(session), predictions_of(session, tickers))
        new.put("bars", str(session), bars_of(session, tickers, sector=sector))
        if i < labelled:
            new.put("outcomes", str(session), outcomes_of(session, tickers))
    for name, table in MONITORING.items():
        new.put("monitoring", name, table.empty())
    moment = now or datetime.combine(sessions[-1], time(21, 45), UTC)
    facts = facts or facts_of(sessions, source=source)
    return publish(folder, new, facts, champions=MODELS, reason="test", code_version="0", now=moment)
