"""The rows of the answers: plain dictionaries in the order in which JSON shows them."""

import json
from datetime import date
from typing import Any

from stock_assets.serving.current import Served
from stock_assets.serving.days import Day, ModelRows
from stock_assets.serving.lookup import require_ticker, rows_of, stamp

NOT_PREDICTED = "the model made no row of this ticker"


def text_of(value: object) -> bytes:
    """`value` as JSON. A number is written so that reading it gives the published one to the last bit."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def row_of(day: Day, rows: ModelRows, ticker: str) -> dict[str, Any]:
    """What a model says of a ticker in a session, and why not where it says nothing."""
    place = rows.tickers.get(ticker)
    if place is None:
        row = _absent(day, ticker)
    else:
        sell, hold, buy = rows.probabilities[place].tolist()
        version, trained_through = rows.version(place)
        row = {
            "status": "predicted",
            "reason": None,
            "p_sell": sell,
            "p_hold": hold,
            "p_buy": buy,
            "score": rows.score(place),
            "rank": int(rows.ranks[place]),
            "model_version": version,
            "trained_through": None if trained_through is None else str(trained_through),
        }
    label, known_on = day.labels.get(ticker, (None, None))
    row["suspect"] = day.suspect.get(ticker)
    row["label"] = label
    row["horizon_end"] = None if known_on is None else str(known_on)
    return row


def _absent(day: Day, ticker: str) -> dict[str, Any]:
    left_out = ticker in day.left_out
    return {
        "status": "left_out" if left_out else "not_predicted",
        "reason": day.left_out[ticker] if left_out else NOT_PREDICTED,
        **dict.fromkeys(("p_sell", "p_hold", "p_buy", "score", "rank", "model_version", "trained_through")),
    }


def common(served: Served, session: date, model: str) -> dict[str, Any]:
    """What all rows of a session have in common."""
    published_at = served.published_at(session)
    return {
        "session": str(session),
        "model": model,
        "horizon": served.facts.horizon,
        "publication": served.pointer.entry,
        "published_at": None if published_at is None else stamp(published_at),
        "simulated": served.facts.simulated,
    }


def prediction(served: Served, day: Day, ticker: str, *, model: str) -> dict[str, Any]:
    """One prediction. Raises Problem for a model or a ticker of which the session has no row."""
    rows = rows_of(day, model)
    require_ticker(day, ticker)
    return {"ticker": ticker, **row_of(day, rows, ticker), **common(served, day.session, model)}
