"""What the tests of the protocols share."""

from typing import Any

import polars as pl
from hypothesis import strategies as st

from stock_assets_tests.publication.folders import SESSIONS, TICKERS, predictions_of

PROBABILITIES = ["p_sell", "p_hold", "p_buy"]


def published(ticker: str, session: object = SESSIONS[-1], model: str = "rnn") -> dict[str, Any]:
    """The row of the file, read without the server."""
    frame = predictions_of(session)  # type: ignore[arg-type]
    return frame.filter(pl.col("ticker") == ticker, pl.col("model") == model).row(0, named=True)


_TEXTS = st.text(max_size=8) | st.sampled_from([*TICKERS, "latest"])
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | _TEXTS
_NAMES = st.text(max_size=4) | st.sampled_from(["ticker", "session", "name"])
#: Whatever JSON can hold, and what it cannot.
anything = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=12,
)
