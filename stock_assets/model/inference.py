"""Asking a network: separate windows for predictions, one pass along each ticker to judge an epoch."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from stock_assets.model.config import RnnConfig
from stock_assets.model.windows import IGNORE, Panel, context_windows, labelled_spans

#: Windows of one forward pass. Passes are filled up to this size: with a fixed shape the same window gives
#: the same figures whichever windows share its pass, so a day predicted alone equals the day inside a
#: range.
INFERENCE_BATCH = 256


def answers_at(last_rows: np.ndarray, context: int, outputs: int, answer: Callable[[Tensor], Tensor]) -> np.ndarray:
    """float32 [W, outputs]: what `answer` says of the `context` rows that end at each of `last_rows` (int64 [W]).

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
    panel: Panel, config: RnnConfig, outputs: int, answer: Callable[[Tensor], Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """(rows int64 [V], answers float32 [V, outputs]) at the known labels of `panel`, in one pass along each ticker.

    `answer` maps row indices, int64 [B, L], to [B, L, outputs]. Later steps of a pass remember more than the
    `config.context` rows of a prediction, which costs a fraction of separate windows and ranks the epochs alike.
    """
    rows, answers = [np.empty(0, np.int64)], [np.empty((0, outputs), np.float32)]
    with torch.inference_mode():
        for spans in torch.from_numpy(labelled_spans(panel, config.context)).split(config.batch):
            known = torch.from_numpy(panel.labels)[spans] != IGNORE  # [B, L]
            rows.append(spans[known].numpy())
            answers.append(answer(spans).cpu()[known].numpy())
    return np.concatenate(rows), np.concatenate(answers)
