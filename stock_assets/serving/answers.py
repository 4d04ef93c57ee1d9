"""The rows of the answers: plain dictionaries in the order in which JSON shows them."""

import json
from datetime import date
from typing import Any

from stock_assets.serving.current import Served
from stock_assets.serving.days import Day, ModelRows
from stock_assets.serving.lookup import require_ticker, rows_of, stamp

NOT_PREDICTED = "the model made no row of this ticker"
NO_PREDICTION = dict.fromkeys(("p_sell", "p_hold", "p_buy", "score", "rank", "model_version", "trained_through"))
NOTHING_ELSE = dict.fromkeys(("suspect", "label", "horizon_end"))


#: Made once: `json.dumps` makes one for every answer.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def text_of(value: object) -> bytes:
    """`value` as JSON. A number is written so that reading it gives the published one to the last bit."""
    return _encode(value).encode("utf-8", "replace")


def row_of(day: Day, rows: ModelRows, ticker: str) -> dict[str, Any]:
    """What a model says of a ticker in a session, and why not where it says nothing."""
    place = rows.tickers.get(ticker)
    if place is None:
        row = _absent_row(day, ticker)
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
    label, known_on = day.outcomes.of(ticker) or (None, None)
    row["suspect"] = day.suspect.get(ticker)
    row["label"] = label
    row["horizon_end"] = None if known_on is None else str(known_on)
    return row


def _absent_row(day: Day, ticker: str) -> dict[str, Any]:
    if ticker in day.left_out:
        return {"status": "left_out", "reason": day.left_out[ticker], **NO_PREDICTION}
    return {"status": "not_predicted", "reason": NOT_PREDICTED, **NO_PREDICTION}


def without(status: str, reason: str) -> dict[str, Any]:
    """The row of what was asked for and is not there, with why."""
    return {"status": status, "reason": reason, **NO_PREDICTION, **NOTHING_ELSE}


def result_of(day: Day, model: str, ticker: str) -> dict[str, Any]:
    """As `row_of`, with a status also where the session knows no such ticker or model."""
    if not day.holds(ticker):
        return without("unknown_ticker", f"the session {day.session} has no row of it")
    rows = day.models.get(model)
    if rows is None:
        return without("unknown_model", f"the session {day.session} has no row of the model {model}")
    return row_of(day, rows, ticker)


def common(served_state: Served, session: date, model: str) -> dict[str, Any]:
    """What all rows of a session have in common."""
    published_at = served_state.published_at(session)
    return {
        "session": str(session),
        "model": model,
        "horizon": served_state.facts.horizon,
        "publication": served_state.pointer.entry,
        "published_at": None if published_at is None else stamp(published_at),
        "simulated": served_state.facts.simulated,
    }


def prediction(served_state: Served, day: Day, ticker: str, *, model: str) -> dict[str, Any]:
    """One prediction. Raises Problem for a model or a ticker of which the session has no row."""
    rows = rows_of(day, model)
    require_ticker(day, ticker)
    return {"ticker": ticker, **row_of(day, rows, ticker), **common(served_state, day.session, model)}
