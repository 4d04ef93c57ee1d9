"""Publications of a market that looks like one: sectors, restatements, drift, promotions, alerts, all from one seed."""

import json
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from stock_assets.files import write_file
from stock_assets.frames import PROBABILITIES
from stock_assets.publication.layout import ALERTS, Pointer
from stock_assets.publication.tables import BARS_FILE, MONITORING, OUTCOMES_FILE, PREDICTIONS_FILE
from stock_assets.publication.write import NewFiles, publish
from stock_assets.side_inputs.lags import known_lags
from stock_assets_tests.publication.folders import facts_of
from stock_assets_tests.serving.pages.accounts import account_tables

SECTORS = ("Industrials", "Information Technology", "Health Care", "Financials", "Energy", "Utilities", "Materials")
MODELS = {
    "rnn": "rnn-2025-12-31-4f1d2a90",
    "ensemble": "ensemble-2025-12-31-93bc01fe",
    "class_prior": "class_prior-2025-12-31-77aa",
}
COLUMNS = (
    *("return_1", "return_5", "return_22", "volatility_22", "volume_z_22", "rsi_14", "macd_gap", "market_return_5"),
    *("market_vol_22", "gap_open", "range_14", "beta_60", "ma_gap_20", "ma_gap_200", "vix_level", "vix_change"),
)
RUN = "6f1c2a7e-0d5b-4be1-8a37-2c1f8c7b9d10"


@dataclass(frozen=True)
class Market:
    """What a market of a test is like."""

    tickers: tuple[str, ...]
    sessions: tuple[date, ...]
    horizon: int = 7
    source: str = "simulated"
    zone: str = "America/New_York"
    sectors: tuple[str, ...] = SECTORS
    """empty where the source states none"""
    models: tuple[str, ...] = tuple(MODELS)
    labels: bool = True
    monitoring: bool = True
    seed: int = 7
    names: bool = True
    trouble: bool = False
    """whether the account is halted over a break"""

    @property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)


def weekdays(last: date, count: int) -> tuple[date, ...]:
    """The last `count` weekdays up to `last`, ascending."""
    days = (last - timedelta(days=back) for back in range(2 * count + 7))
    return tuple(sorted([day for day in days if day.weekday() < 5][:count]))


def market(tickers: int = 60, sessions: int = 120, **more: Any) -> Market:
    """A market of SIM01, SIM02, …"""
    return Market(tuple(f"SIM{i:02d}" for i in range(1, tickers + 1)), weekdays(date(2026, 11, 20), sessions), **more)


def publish_market(folder: Path, of: Market, *, alerts: tuple[dict[str, Any], ...] = ()) -> Pointer:
    """Publishes all of it into `folder`."""
    new, rng = NewFiles(folder), of.rng
    n, days = len(of.tickers), len(of.sessions)
    signal = np.cumsum(rng.normal(0, 0.12, (days, n)), axis=0)
    signal -= signal.mean(axis=1, keepdims=True)
    returns = rng.normal(0.0004, 0.016, (days, n)) + 0.001 * signal
    closes = rng.uniform(15, 420, n) * np.exp(np.cumsum(returns, axis=0))
    files: dict[str, list[pl.DataFrame]] = {"predictions": [], "outcomes": []}
    for i, session in enumerate(of.sessions):
        calls = _predictions(of, signal[i], rng)
        new.put("predictions", str(session), calls)
        files["predictions"].append(calls)
        new.put("bars", str(session), _bars(of, i, closes, returns, rng))
        if of.labels and i + of.horizon < days:
            outcomes = _outcomes(of, i, closes)
            new.put("outcomes", str(session), outcomes)
            files["outcomes"].append(outcomes)
    for name, table in (_monitoring(of, files, rng) if of.monitoring else {}).items():
        new.put("monitoring", name, MONITORING[name].fit(table))
    if of.monitoring:
        new.put("monitoring", "announcements", announced(of))
        new.put("monitoring", "known_lags", lags())
    for model in of.models:
        new.put("cards", MODELS[model], json.dumps(_card(model)).encode())
    facts = replace(facts_of(of.sessions, source=of.source), zone=of.zone, mlflow_url="http://127.0.0.1:5000")
    facts = replace(facts, in_service=of.models[0])
    write_file(folder / ALERTS, json.dumps({"alerts": alerts}).encode())
    champions = {model: MODELS[model] for model in of.models}
    now = datetime.combine(of.sessions[-1], time(21, 47), UTC)
    return publish(folder, new, facts, champions=champions, reason="test", code_version="0", now=now)


def announced(of: Market) -> pl.DataFrame:
    """Two of three tickers report every 91 days, in a season of thirty; the others have no date."""
    rows, rng = [], np.random.default_rng(of.seed)
    last = of.sessions[-1]
    for i, ticker in enumerate(of.tickers[: max(1, 2 * len(of.tickers) // 3)]):
        for k in range(-8, 1):
            day = last + timedelta(days=(i % 30) - 5 + 91 * k)
            day += timedelta(days=max(0, 8 - day.isoweekday()) if day.isoweekday() > 5 else 0)
            happened = day <= last
            move = float(rng.normal(0, 0.05)) if happened else None
            rows.append(
                {
                    "ticker": ticker,
                    "reaction_session": day,
                    "day": day - timedelta(days=i % 3 == 1),
                    "moment": ("pre", "post", "unknown")[i % 3],
                    "origin": "filed" if happened else ("calendar", "replayed")[i % 2],
                    "known_from": day if happened else last - timedelta(days=20),
                    "happened": happened,
                    "total_return": move,
                    "residual_return": None if move is None else move - 0.002,
                }
            )
    return MONITORING["announcements"].fit(pl.DataFrame(rows, infer_schema_length=None))


def lags() -> pl.DataFrame:
    """Announcements that are known ahead or when they happen, and fundamentals a month after their period."""
    at = datetime(2026, 5, 4, 12, tzinfo=UTC)
    ahead = [at - timedelta(days=days) for days in (35, 20, 20, 12, 3, 0, 0, 0)]
    later = [at + timedelta(days=days) for days in (20, 28, 35, 41, 55)]
    frames = {"announcements": ahead, "fundamentals": later}
    return MONITORING["known_lags"].fit(
        known_lags(
            {name: pl.DataFrame({"event_time": [at] * len(rows), "known_at": rows}) for name, rows in frames.items()}
        )
    )


def alert(session: date) -> dict[str, Any]:
    """An alert that is open."""
    at = datetime.combine(session, time(21, 33), UTC).isoformat()
    return {
        "key": "run/daily_bars",
        "title": f"daily_bars failed for {session}",
        "text": "SIM07: the vendor answered <500> twice.\nThe next try is in 10 minutes; nothing is published before.",
        "run_id": RUN,
        "first_at": at,
        "last_at": at,
        "sent_at": at,
        "count": 1,
        "resolved_at": None,
    }


def _predictions(of: Market, signal: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    absent = of.tickers[-2:] if len(of.tickers) > 10 else ()
    kept = of.tickers[: len(of.tickers) - len(absent)]
    parts = []
    for model in of.models:
        share = 0.0 if model == "class_prior" else 0.55
        tilt = share * signal[: len(kept)]
        logits = np.stack([-tilt - 0.25, np.full(len(kept), 0.35), tilt - 0.15], axis=1)
        logits += (0.0 if model == "class_prior" else 0.12) * rng.normal(size=logits.shape)
        p = np.exp(logits)
        p /= p.sum(axis=1, keepdims=True)
        rows = pl.DataFrame({"ticker": kept, "p_sell": p[:, 0], "p_hold": p[:, 1], "p_buy": p[:, 2]}).with_columns(
            model=pl.lit(model),
            model_version=pl.lit(MODELS[model]),
            trained_through=pl.lit(date(2025, 12, 31)),
            score=pl.col("p_buy") - pl.col("p_sell"),
            status=pl.lit("predicted"),
        )
        parts.append(rows.with_columns(rank=pl.struct(-pl.col("score"), "ticker").rank("ordinal").cast(pl.Int32)))
    reasons = ["it missed 61 of the last 1,000 sessions; at most 50 are allowed", "no bar of the session"]
    gone = pl.DataFrame({"ticker": absent}, schema={"ticker": pl.String})
    gone = gone.with_columns(status=pl.lit("left_out"), reason=pl.Series(reasons[: len(absent)], dtype=pl.String))
    return PREDICTIONS_FILE.fit(pl.concat([*parts, gone], how="diagonal").sort("ticker", "model"))


def _bars(of: Market, i: int, closes: np.ndarray, returns: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    n, days = len(of.tickers), len(of.sessions)
    splits = np.ones(n)
    if n > 2 and days > 10 and i == days - 40:
        splits[1] = 2.0
    after_split = np.where((np.arange(n) == 1) & (i >= days - 40) & (n > 2) & (days > 10), 2.0, 1.0)
    close = closes[i] / after_split
    spread = np.abs(rng.normal(0, 0.008, n)) + 0.002
    opens = close * (1 + rng.normal(0, 0.006, n))
    suspect: list[str | None] = [None] * n
    if i in (days - 3, days - 30) and n > 1:
        suspect[1] = "the return lies 9.1 deviations from its own history"
    return BARS_FILE.fit(
        pl.DataFrame(
            {
                "ticker": of.tickers,
                "name": [f"Simulated {k}" if of.names else None for k in range(1, n + 1)],
                "sector": [of.sectors[k % len(of.sectors)] if of.sectors else None for k in range(n)],
                "open": opens,
                "high": np.maximum(opens, close) * (1 + spread),
                "low": np.minimum(opens, close) * (1 - spread),
                "close": close,
                "volume": rng.lognormal(14, 0.6, n).round(),
                "dividend": np.where((i + np.arange(n)) % 63 == 5, 0.4, 0.0),
                "split_ratio": splits,
                "total_return": returns[i],
                "is_member": [True] * n,
                "suspect": suspect,
            },
            schema_overrides={"suspect": pl.String, "name": pl.String, "sector": pl.String},
        )
    )


def _outcomes(of: Market, i: int, closes: np.ndarray) -> pl.DataFrame:
    forward = closes[i + of.horizon] / closes[i] - 1
    labels = np.where(forward > 0.027, 1, np.where(forward < -0.022, -1, 0))
    return OUTCOMES_FILE.fit(
        pl.DataFrame({"ticker": of.tickers, "label": labels, "forward_return_horizon": forward}).with_columns(
            horizon_end=pl.lit(of.sessions[i + of.horizon]), usable=pl.lit(value=True)
        )
    )


def _monitoring(of: Market, files: dict[str, list[pl.DataFrame]], rng: np.random.Generator) -> dict[str, pl.DataFrame]:
    days = len(of.sessions)
    scored = len(files["outcomes"])
    naive = 1.081 + 0.03 * rng.normal(size=days)
    own = naive - 0.012 + 0.012 * rng.normal(size=days)
    known = np.arange(days) < scored

    def late(values: np.ndarray) -> list[float | None]:
        return [float(v) if k else None for v, k in zip(values, known, strict=True)]

    predicted = [frame.filter(pl.col("model") == of.models[0]) for frame in files["predictions"]]
    entropy = [
        frame.select(-pl.sum_horizontal(pl.col(p) * pl.col(p).log() for p in PROBABILITIES).mean()).item()
        for frame in predicted
    ]
    sessions = pl.DataFrame(
        {
            "session": of.sessions,
            "models": len(of.models),
            "rows": [f.height for f in predicted],
            "left_out": [2 if len(of.tickers) > 10 else 0] * days,
            "suspects": [int(i in (days - 3, days - 30)) for i in range(days)],
            "version": MODELS[of.models[0]],
            "trained_through": date(2025, 12, 31),
            "age": list(range(226 - days, 226)),
            "scored": [f.height if k else 0 for f, k in zip(predicted, known, strict=True)],
            "log_loss": late(own),
            "ensemble_log_loss": late(own + 0.002),
            "naive_log_loss": late(naive),
            "accuracy": late(0.43 + 0.04 * rng.normal(size=days)),
            "rank_ic": late(0.05 + 0.12 * rng.normal(size=days)),
            "expected_log_loss": entropy,
        }
    )
    losses = ("log_loss", "ensemble_log_loss", "naive_log_loss")
    sessions = sessions.with_columns(pl.col(*losses, "accuracy", "rank_ic").cast(pl.Float64))
    rolling = pl.concat(
        sessions.head(scored).select(
            "session",
            model=pl.lit(model),
            log_loss=pl.col(column).rolling_mean(21, min_samples=1),
            low=pl.col(column).rolling_mean(21, min_samples=10) - 0.011,
            high=pl.col(column).rolling_mean(21, min_samples=10) + 0.011,
            gain=(pl.col("naive_log_loss") - pl.col(column)).cum_sum(),
        )
        for model, column in (
            (of.models[0], "log_loss"),
            ("ensemble", "ensemble_log_loss"),
            ("naive", "naive_log_loss"),
        )
    )
    tables = {"sessions": sessions, "rolling_skill": rolling, **_drift(of, rng), **_decisions(of)}
    tables |= account_tables(of.sessions, of.tickers, of.rng, trouble=of.trouble)
    if scored:
        bins = np.arange(1, 11)
        tables["reliability"] = pl.concat(
            pl.DataFrame({"class": name, "bin": bins, "probability": centre + 0.035 * (bins - 5.5)}).with_columns(
                frequency=pl.col("probability") + pl.Series(rng.normal(0, 0.012, 10)), rows=pl.lit(640)
            )
            for name, centre in (("sell", 0.27), ("hold", 0.42), ("buy", 0.31))
        )
    return {name: tables.get(name, MONITORING[name].empty()) for name in MONITORING}


def _drift(of: Market, rng: np.random.Generator) -> dict[str, pl.DataFrame]:
    days = of.sessions[-60:]
    rows = []
    for k, column in enumerate((*COLUMNS, "p_sell", "p_hold", "p_buy")):
        walk = np.abs(np.cumsum(rng.normal(0.001, 0.006 * (1 + (k % 5)), len(days)))) + 0.01
        kind = "prediction" if column.startswith("p_") else "input"
        rows += [
            (day, kind, column, float(v), float(v) / 2, date(2025, 12, 31)) for day, v in zip(days, walk, strict=True)
        ]
    schema = ["session", "kind", "column", "psi", "ks", "reference_through"]
    drift = pl.DataFrame(rows, schema, orient="row")
    worst = drift.filter(pl.col("session") == days[-1]).sort("psi", descending=True).head(4)["column"]
    edges = [None, *np.linspace(-1.6, 1.6, 9).round(2), None]
    histograms = pl.concat(
        pl.DataFrame(
            {
                "column": column,
                "bin": range(1, 11),
                "low": edges[:-1],
                "high": edges[1:],
                "reference": [0.1] * 10,
                "recent": rng.dirichlet(np.linspace(4, 12, 10)),
            }
        )
        for column in worst
    )
    return {"drift": drift, "histograms": histograms}


def _decisions(of: Market) -> dict[str, pl.DataFrame]:
    last = of.sessions[-1]
    at = datetime.combine(last, time(21, 44), UTC)
    version = MODELS[of.models[0]]
    return {
        "score": pl.DataFrame(
            {
                "model": ["rnn", "ensemble", "gradient_boosting", "class_prior"],
                "naive": [False, False, False, True],
                "log_loss": [1.0712, 1.0698, 1.0741, 1.0821],
                "low": [1.0655, 1.0644, 1.0688, 1.0770],
                "high": [1.0769, 1.0752, 1.0794, 1.0873],
                "accuracy": [0.431, 0.434, 0.424, 0.402],
                "rank_ic": [0.051, 0.054, 0.038, 0.0],
                "rows": [41_204] * 4,
            }
        ),
        "promotions": pl.DataFrame(
            {
                "model": ["rnn", "rnn", "rnn"],
                "version": ["rnn-2026-05-29-1b2c", "rnn-2026-08-31-9e0d", version],
                "model_year": [2026, 2026, 2026],
                "serves_from": [date(2026, 6, 15), date(2026, 9, 15), last],
                "decided_at": [at - timedelta(days=160), at - timedelta(days=66), at - timedelta(days=1)],
                "outcome": ["challenger", "champion", "champion"],
                "kind": ["judged", "judged", "alias"],
                "replaced": [version, version, "rnn-2026-08-31-9e0d"],
                "improvement": [0.0008, 0.0041, None],
                "improvement_low": [-0.0021, 0.0012, None],
                "improvement_high": [0.0037, 0.0070, None],
                "reason": [
                    "0.0008 nats better on 60 sessions; the margin is 0.0020",
                    "0.0041 nats better on 63 sessions, interval above 0",
                    "a person moved the alias champion in the model registry",
                ],
            }
        ),
        "retraining_decisions": pl.DataFrame(
            {
                "session": list(of.sessions[-6:]),
                "decided_at": [at - timedelta(days=d) for d in range(len(of.sessions[-6:]))][::-1],
                "retrain": [False] * (len(of.sessions[-6:]) - 1) + [True],
                "rule": ["age"] * (len(of.sessions[-6:]) - 1) + ["drift"],
                "reason": ["the model is younger than 63 sessions"] * (len(of.sessions[-6:]) - 1)
                + ["KS 0.31 of market_vol_22 is above 0.20, the 99 % quantile of its year"],
            }
        ),
        "in_service": pl.DataFrame(
            {
                "model": list(of.models),
                "alias": ["champion"] * len(of.models),
                "version": [MODELS[m] for m in of.models],
                "trained_through": [date(2025, 12, 31)] * len(of.models),
                "model_year": [2026] * len(of.models),
                "serves_from": [date(2026, 1, 2)] * len(of.models),
                "reason": ["the model year began with it"] * len(of.models),
            }
        ),
        "failures": pl.DataFrame(
            {
                "at": [at - timedelta(days=4)],
                "what": ["raw_ohlcv, daily_bars"],
                "partitions": [str(last - timedelta(days=4))],
                "run_id": [RUN],
            }
        ),
        "checks": pl.DataFrame(
            {
                "asset": ["daily_bars", "predictions", "drift"],
                "check": ["prices_are_plausible", "probabilities_sum_to_one", "inputs_are_alike"],
                "passed": [True, True, False],
                "severity": ["ERROR", "ERROR", "WARN"],
                "text": [None, None, "market_vol_22 drifted: PSI 0.31"],
                "at": [at] * 3,
                "run_id": [RUN] * 3,
            },
            schema_overrides={"text": pl.String},
        ),
        "fetch_outcomes": pl.DataFrame(
            {
                "ticker": [of.tickers[-1]],
                "first": [last - timedelta(days=3)],
                "last": [last],
                "outcome": ["halted"],
                "reason": ["the exchange lists it as halted"],
            }
        ),
    }


def _card(model: str) -> dict[str, Any]:
    """As `publication/cards.py` writes one."""
    scores = {"log_loss": 1.0712, "log_loss_low": 1.0655, "log_loss_high": 1.0769, "accuracy": 0.431}
    return {
        "version": MODELS[model],
        "model": model,
        "title": "a recurrent network over 128 sessions",
        "role": "champion",
        "reads": "features",
        "model_year": 2026,
        "trained_through": "2025-12-31",
        "trained_at": "2026-01-02T22:10:00+00:00",
        "training": {"first": "2018-01-02", "through": "2025-12-31", "rows": 111_402},
        "seed": 0,
        "code_version": "0.1.0+g1234567",
        "columns": list(COLUMNS),
        "columns_hash": "a1b2c3d4",
        "config": {"hidden": 64, "layers": 2, "dropout": 0.2, "learning_rate": 0.001},
        "members": [],
        "validation": {"best_epoch": 11, "log_loss": 1.0698, "accuracy": 0.437},
        "scores": [{"year": None, "rows": 41_204, **scores, "naive": "class_prior", "naive_log_loss": 1.0821}],
        "promotions": [],
        "limits": ["Most of the gain over a naive baseline is volatility.", "It is no investment advice."],
        "run": {"id": "ab12", "experiment": "1", "url": "http://127.0.0.1:5000/#/experiments/1/runs/ab12"},
    }
