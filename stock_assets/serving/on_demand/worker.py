"""The process that predicts on demand: reads questions from its standard input, a line of JSON each, and answers them.

    {"ticker": "AAPL", "session": "2026-11-20", "version": "rnn-2025-12-31-0a0a0a0a0a0a"}

The first line that it writes says that it is warm. It ends where its input does, and when nothing was asked for
IDLE_SECONDS. What is refused is answered with the kind of the problem and its text.
"""

import json
import logging
import os
import select
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any, BinaryIO

from stock_assets.errors import (
    ArtifactError,
    CutoffError,
    MissingSessionsError,
    MissingTableError,
    StockAssetsError,
    StoreBusyError,
    UnknownNameError,
)

#: Without a question for so long the process ends, and gives its memory back.
IDLE_SECONDS = 300.0
#: How long it waits for a store that somebody writes; the API does not wait longer for an answer anyway.
PATIENCE_SECONDS = 1.5
#: Below everything else that runs here.
NICENESS = 10
#: The problem that an error is, as serving/problems.py names them.
UNKNOWN = {
    "ticker": "unknown-ticker",
    "session": "not-a-session",
    "later session": "not-published-yet",
    "version": "unknown-version",
}
KINDS: Mapping[type[StockAssetsError], str] = {
    CutoffError: "trained-too-late",
    MissingSessionsError: "rows-missing",
    MissingTableError: "rows-missing",
    ArtifactError: "rows-missing",
    StoreBusyError: "not-ready",
}

Predict = Callable[[str, date, str], Mapping[str, Any]]


def main() -> None:
    """Answers until there is nothing more to answer."""
    os.nice(NICENESS)
    questions = os.fdopen(os.dup(0), "rb", buffering=0)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints goes to the log
    serve(questions, answers, predictor(), idle=IDLE_SECONDS)


def predictor() -> Predict:
    """Predicts from the store of the settings, with everything imported that it takes."""
    import torch

    from stock_assets.model.materialize.on_demand import OnDemandPredictions
    from stock_assets.settings import settings
    from stock_assets.storage.warehouse import Warehouse

    torch.set_num_threads(1)
    store = Warehouse.of(settings()).patient(PATIENCE_SECONDS)
    predictions = OnDemandPredictions(store, settings())
    return lambda ticker, session, version: predictions.predict(ticker, session, version, now=datetime.now(UTC))


def serve(questions: BinaryIO, answers: BinaryIO, predict: Predict, *, idle: float) -> None:
    """Says that it is warm, then answers each line of `questions` on `answers`."""
    write(answers, {"warm": True})
    while select.select([questions], [], [], idle)[0]:
        line = questions.readline()
        if not line:
            return
        write(answers, answer(json.loads(line), predict))


def answer(question: Mapping[str, str], predict: Predict) -> dict[str, Any]:
    """The prediction, or the kind and the text of the problem."""
    try:
        session = date.fromisoformat(question["session"])
        return {"prediction": dict(predict(question["ticker"], session, question["version"]))}
    except StockAssetsError as error:
        return {"problem": kind_of(error), "detail": str(error)}
    except Exception:
        logging.getLogger(__name__).exception("a prediction on demand failed")
        return {"problem": "internal-error", "detail": "the prediction failed; the server's log says why"}


def kind_of(error: StockAssetsError) -> str:
    """The kind of the problem that an error is.

    >>> kind_of(UnknownNameError("…", "version")), kind_of(CutoffError("…"))
    ('unknown-version', 'trained-too-late')
    """
    if isinstance(error, UnknownNameError):
        return UNKNOWN[error.kind]
    return next((KINDS[cls] for cls in type(error).__mro__ if cls in KINDS), "internal-error")


def write(answers: BinaryIO, content: Mapping[str, Any]) -> None:
    answers.write(json.dumps(content, default=str).encode() + b"\n")


if __name__ == "__main__":
    main()
