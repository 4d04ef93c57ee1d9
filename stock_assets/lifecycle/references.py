"""When the reference models, which never serve, are trained and scored: rarely, and not in an evening."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date

from stock_assets.lifecycle.evening import Work
from stock_assets.market.calendar import TradingCalendar

#: Sessions that the predictions of the reference models may lag behind those of the serving models: a month.
LAG = 21
#: What is made of the reference models, in order; the report shows the audit.
REFERENCES = ("trained_references", "reference_predictions", "leakage_audit", "evaluation_report")
#: What acting on the predictions would have earned, made as rarely: no session waits for it.
BACK_TESTS = ("backtest", "tear_sheet")
#: The report's scores are published with the newest session.
PUBLICATION = "publication"


def references_due(
    calendar: TradingCalendar,
    *,
    first_served: date,
    predicted_through: date | None,
    model_years: frozenset[int],
    references_through: date | None,
    reference_years: frozenset[int],
) -> list[Work]:
    """The runs that bring the reference models up to date, in order: trainings, predictions, the report. None is due
    before there are predictions, nor while the references are complete and lag less than LAG sessions.

    `first_served` is the first session that any model serves. `model_years` are those of the serving models.
    """
    if predicted_through is None:
        return []
    missing = sorted(year for year in model_years - reference_years if year <= predicted_through.year)
    first = calendar.shift(references_through, 1) if references_through else first_served
    lag = len(calendar.between(first, predicted_through)) if first else 0
    if not missing and lag < LAG:
        return []
    until = f"up to {predicted_through}"
    works = []
    if missing:
        years = (str(missing[0]), str(missing[-1]))
        reason = f"model year(s) {', '.join(map(str, missing))} have no reference models"
        works.append(Work(f"reference models {until}", REFERENCES[:1], *years, reason))
    if lag:
        reason = f"the reference models lag {lag} session(s) behind the predictions"
        span = (str(first), str(predicted_through))
        works.append(Work(f"reference predictions {until}", REFERENCES[1:2], *span, reason))
    reason = f"the report is made again with the reference models {until}"
    last, reason_of_publication = str(predicted_through), f"the scores of the report {until} are published"
    return [
        *works,
        Work(f"report {until}", REFERENCES[2:], None, None, reason),
        Work(f"{PUBLICATION} of the report {until}", (PUBLICATION,), last, last, reason_of_publication),
        Work(f"back-tests {until}", BACK_TESTS, None, None, "they are made again as rarely as the report"),
    ]


def text_of_works(works: Sequence[Work]) -> str:
    """`works` as JSON, which `parse_works` reads."""
    return json.dumps([asdict(work) for work in works])


def parse_works(text: str) -> list[Work]:
    """The works that `text` holds.

    >>> parse_works(text_of_works([Work("labels", ("labels",), None, None, "why")]))[0].assets
    ('labels',)
    """
    return [Work(**{**work, "assets": tuple(work["assets"])}) for work in json.loads(text)]
