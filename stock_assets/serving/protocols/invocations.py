"""What a POST to /invocations asks for, as clients of MLflow and SageMaker send it, and the answer. Pure.

JSON with one of `dataframe_split`, `dataframe_records`, `instances` and `inputs`, or CSV; a row has a `ticker` and,
where it is not the newest session, a `session`. `params` may name the `model`.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from stock_assets.serving.parameters import MODEL_NAME
from stock_assets.serving.problems import quoted
from stock_assets.serving.protocols.items import (
    BadRequestError,
    Item,
    items_of_columns,
    items_of_records,
    require_columns,
    require_some,
)

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
#: The columns of an answer, in the order of its rows.
COLUMNS = ("ticker", "session", "status", "p_sell", "p_hold", "p_buy", "model_version")


@dataclass(frozen=True)
class Invocation:
    """What one request asks for."""

    items: list[Item]
    model: str | None
    """None for the model in service"""


def parse_json(body: bytes) -> Invocation:
    """Raises BadRequestError."""
    question = json_object(body)
    forms_given = [form for form in FORMS if form in question]
    unknown = sorted({*question} - {*FORMS, "params"})
    if len(forms_given) != 1 or unknown:
        unknown_text = f", not {quoted(unknown[0])}" if unknown else ""
        raise BadRequestError(f"expected exactly one of {', '.join(FORMS)}, and params where one is set{unknown_text}")
    data = question[forms_given[0]]
    items = _READERS[forms_given[0]](data)
    return Invocation(items, _model_of(question.get("params")))


def parse_csv(body: bytes) -> Invocation:
    """A line per row, below a line of names or, without one, `ticker` or `ticker,session`. Raises BadRequestError."""
    try:
        rows = [row for row in csv.reader(StringIO(body.decode("utf-8-sig")), strict=True) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadRequestError(f"the body is no CSV in UTF-8: {error}") from None
    rows = [[cell.strip() for cell in row] for row in rows]
    names = rows.pop(0) if rows and "ticker" in rows[0] else ["ticker", "session"][: max(map(len, rows), default=1)]
    require_columns(names)
    require_some(len(rows))
    for place, row in enumerate(rows):
        if len(row) != len(names):
            raise BadRequestError(f"row {place} has {len(row)} cells; expected {len(names)}: {', '.join(names)}")
    return Invocation(items_of_records(dict(zip(names, row, strict=True)) for row in rows), None)


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a body is. Raises BadRequestError."""
    try:
        document = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else quoted(error)
        raise BadRequestError(f"the body is no JSON: {reason}") from None
    if not isinstance(document, dict):
        raise BadRequestError(f"the body is a {type(document).__name__}; expected a JSON object")
    return document


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _model_of(params: object) -> str | None:
    if params is None or params == {}:
        return None
    if not isinstance(params, dict) or [*params] != ["model"] or not isinstance(params["model"], str):
        raise BadRequestError("expected params to be an object with the member model, a text")
    try:
        return MODEL_NAME.read(params["model"])
    except ValueError:
        raise BadRequestError(f"the model is {quoted(params['model'])}; expected {MODEL_NAME.expected}") from None


def _of_split(data: object) -> list[Item]:
    if not (isinstance(data, dict) and isinstance(data.get("columns"), list) and isinstance(data.get("data"), list)):
        raise BadRequestError("expected dataframe_split to be an object with the lists columns and data")
    columns, rows = data["columns"], data["data"]
    require_columns(columns)
    require_some(len(rows))
    for place, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(columns):
            raise BadRequestError(f"row {place} of dataframe_split fits no columns; expected {len(columns)} values")
    return items_of_records(dict(zip(columns, row, strict=True)) for row in rows)


def _of_records(data: object) -> list[Item]:
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise BadRequestError("expected dataframe_records to be a list of objects")
    require_some(len(data))
    return items_of_records(data)


def _of_instances(data: object) -> list[Item]:
    """A list of objects, of texts (tickers), or of [ticker, session]."""
    if not isinstance(data, list):
        raise BadRequestError("expected a list of objects, of tickers, or of [ticker, session]")
    require_some(len(data))
    records: list[Mapping[str, Any]] = []
    for place, row in enumerate(data):
        if isinstance(row, dict):
            records.append(row)
        elif isinstance(row, str):
            records.append({"ticker": row})
        elif isinstance(row, list) and 1 <= len(row) <= 2:
            records.append(dict(zip(("ticker", "session"), row, strict=False)))
        else:
            raise BadRequestError(f"row {place} is {type(row).__name__}; expected an object, a ticker or two texts")
    return items_of_records(records)


def _of_inputs(data: object) -> list[Item]:
    """An object of columns, or a list as of `instances`."""
    if not isinstance(data, dict):
        return _of_instances(data)
    require_columns(data)
    columns = {name: value if isinstance(value, list) else [value] for name, value in data.items()}
    return items_of_columns(columns["ticker"], columns.get("session"))


_READERS = {
    "dataframe_split": _of_split,
    "dataframe_records": _of_records,
    "instances": _of_instances,
    "inputs": _of_inputs,
}


def csv_of(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """The rows of an answer as CSV with a line of names; an empty cell is null.

    >>> csv_of([{"ticker": "AAPL", "session": "2026-11-20", "status": "left_out", "p_sell": None}])
    b'ticker,session,status,p_sell,p_hold,p_buy,model_version\\r\\nAAPL,2026-11-20,left_out,,,,\\r\\n'
    """
    text = StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows([row.get(name) for name in COLUMNS] for row in rows)
    return text.getvalue().encode()
