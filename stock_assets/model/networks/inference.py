"""How networks answer: separate windows for predictions, one pass along each sequence to judge an epoch."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from stock_assets.errors import StockAssetsError
from stock_assets.model.config import NetworkConfig
from stock_assets.model.networks.layers import INFERENCE_BATCH
from stock_assets.model.windows import IGNORE, Panel, labelled_spans, rows_of_windows

#: Windows whose rows are gathered at once.
_AT_ONCE = 16 * INFERENCE_BATCH


def answers_at(
    last_rows: np.ndarray, context: int, outputs: int, *, answer: Callable[[Tensor, Tensor], Tensor]
) -> np.ndarray:
    """float32 [W, outputs]: the answers for the `context` rows that end at each of `last_rows`.

    `last_rows` is int64 [W], ascending. `answer` gets the numbers of the rows of some windows, int64 [U], each once for
    neighbouring windows, and the places of the windows' last ones among them, int64 [B]; it returns [B, outputs]. U
    and B are multiples of INFERENCE_BATCH.
    """
    answers = np.empty((len(last_rows), outputs), np.float32)
    with torch.inference_mode():
        for start in range(0, len(last_rows), _AT_ONCE):
            chunk = last_rows[start : start + _AT_ONCE]
            rows, ends = (torch.from_numpy(_filled(part)) for part in rows_of_windows(chunk, context))
            answers[start : start + len(chunk)] = answer(rows, ends)[: len(chunk)].numpy()
    return answers


def _filled(numbers: np.ndarray) -> np.ndarray:
    """`numbers` with the last one repeated, up to a multiple of INFERENCE_BATCH."""
    return np.append(numbers, np.full(-len(numbers) % INFERENCE_BATCH, numbers[-1]))


def answers_along(
    panel: Panel, config: NetworkConfig, answer: Callable[[Tensor], Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """(rows int64 [V], answers float32 [V, O]) at the labels of `panel`, in one pass along each of its sequences.

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
            has_label = labels[batch] != IGNORE  # [B, L]
            rows.append(batch[has_label].numpy())
            answers.append(answer(batch).cpu()[has_label].numpy())
    return np.concatenate(rows), np.concatenate(answers)
