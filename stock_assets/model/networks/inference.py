"""How networks answer: separate windows for predictions, one pass along each ticker to judge an epoch."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from stock_assets.errors import StockAssetsError
from stock_assets.model.config import NetworkConfig
from stock_assets.model.windows import IGNORE, Panel, context_windows, labelled_spans

#: Windows of one forward pass. Passes are filled up to this size: with a fixed shape the same window gives the same
#: figures whichever windows share its pass, so a day predicted alone equals the day inside a range.
INFERENCE_BATCH = 256


def answers_at(last_rows: np.ndarray, context: int, outputs: int, *, answer: Callable[[Tensor], Tensor]) -> np.ndarray:
    """float32 [W, outputs]: the answers for the `context` rows that end at each of `last_rows` (int64 [W]).

    `answer` maps row indices, int64 [256, context], to [256, outputs].
    """
    answers = np.empty((len(last_rows), outputs), np.float32)
    with torch.inference_mode():
        for start in range(0, len(last_rows), INFERENCE_BATCH):
            chunk = last_rows[start : start + INFERENCE_BATCH]
            windows = torch.from_numpy(context_windows(np.resize(chunk, INFERENCE_BATCH), context))
            answers[start : start + len(chunk)] = answer(windows)[: len(chunk)].numpy()
    return answers


def answers_along(
    panel: Panel, config: NetworkConfig, answer: Callable[[Tensor], Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """(rows int64 [V], answers float32 [V, O]) at the labels of `panel`, in one pass along each ticker.

    `answer` maps row indices, int64 [B, L], to [B, L, O]. Later steps of a pass remember more than the
    `config.context` rows of a prediction, which costs a fraction of separate windows and ranks the epochs alike.

    Raises StockAssetsError for a panel without a label.
    """
    spans = labelled_spans(panel, config.context)
    if not len(spans):
        raise StockAssetsError("no label of the validation sessions has features; expected rows of the same sessions")
    labels, rows, answers = torch.from_numpy(panel.labels), [], []
    with torch.inference_mode():
        for batch in torch.from_numpy(spans).split(config.batch):
            labelled = labels[batch] != IGNORE  # [B, L]
            rows.append(batch[labelled].numpy())
            answers.append(answer(batch).cpu()[labelled].numpy())
    return np.concatenate(rows), np.concatenate(answers)
