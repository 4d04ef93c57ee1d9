"""The one frame in which every model answers."""

import numpy as np
import polars as pl

from stock_assets.frames import PROBABILITIES


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, float64 [N, 3], of logits [N, 3]."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def probability_frame(keys: pl.DataFrame, probabilities: np.ndarray) -> pl.DataFrame:
    """ticker, session, p_sell, p_hold, p_buy, score = p_buy - p_sell, in the order of `keys`.

    `probabilities` is float64 [N, 3] in the order of CLASSES.
    """
    return keys.select(
        "ticker",
        "session",
        *(pl.Series(name, probabilities[:, i]) for i, name in enumerate(PROBABILITIES)),
        pl.Series("score", probabilities[:, 2] - probabilities[:, 0]),
    )
