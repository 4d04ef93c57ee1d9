"""The forms of an answer: JSON, and for ranges CSV and Parquet, as the header `Accept` asks for."""

import csv
from collections.abc import Mapping, Sequence
from io import BytesIO, StringIO
from typing import Any

import polars as pl
from starlette.requests import Request

from stock_assets.serving.answers import text_of
from stock_assets.serving.problems import Problem

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
RANGES = (JSON, CSV, PARQUET)
#: What begins a formula in a spreadsheet.
FORMULA = ("=", "+", "-", "@", "\t", "\r")

_UNRESTRICTED = (b"*/*", b"application/json")


def form_of(request: Request, forms: Sequence[str] = (JSON,)) -> str:
    """The media type of `forms` that the client likes best, the first one where it does not care.

    Raises Problem where it wants none of them.
    """
    header_values = [value for name, value in request.scope["headers"] if name == b"accept"]
    if not header_values or (len(header_values) == 1 and header_values[0] in _UNRESTRICTED):
        return forms[0]
    media_weights = _weights(b",".join(header_values).decode("latin-1"))
    weights = {form: _weight(form, media_weights) for form in forms}
    best = max(forms, key=lambda form: weights[form])  # the first of equals
    if weights[best] <= 0:
        raise Problem("not-acceptable", f"this answer comes as {' or '.join(forms)}", offered=[*forms])
    return best


def _weights(accept: str) -> dict[str, float]:
    """What a client likes how much, by media range."""
    media_weights = {}
    for part in accept.split(","):
        media, *parameters = (text.strip().lower() for text in part.split(";"))
        quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        try:
            media_weights[media] = float(quality)
        except ValueError:
            media_weights[media] = 0.0
    return media_weights


def _weight(form: str, media_weights: Mapping[str, float]) -> float:
    """The most specific range counts."""
    for media in (form, f"{form.partition('/')[0]}/*", "*/*"):
        if media in media_weights:
            return media_weights[media]
    return 0.0


def range_body(form: str, rows: Sequence[Mapping[str, Any]], schema: pl.Schema) -> bytes:
    """`rows` as CSV or Parquet with the columns of `schema`."""
    return csv_of(rows, schema.names()) if form == CSV else parquet_of(rows, schema)


def csv_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> bytes:
    """A header and a line per row. A number is written so that reading it gives the published one to the last bit.

    A text of a vendor that a spreadsheet would take for a formula is put behind an apostrophe. A ticker stays as it is:
    its characters make no call.
    """
    file = StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([row.get(name) if name == "ticker" else _cell(row.get(name)) for name in columns] for row in rows)
    return file.getvalue().encode("utf-8", "replace")


def _cell(value: object) -> object:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULA) else value
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else value if not isinstance(value, list | dict) else text_of(value).decode()


def parquet_of(rows: Sequence[Mapping[str, Any]], schema: pl.Schema) -> bytes:
    """`rows`, whose dates and moments are texts as in JSON, in the types of `schema`."""
    columns = []
    for name, dtype in schema.items():
        values = [row.get(name) for row in rows]
        if isinstance(dtype, pl.Datetime):
            column = pl.Series(name, values, pl.String()).str.to_datetime(time_unit="us", time_zone="UTC")
        elif isinstance(dtype, pl.Date):
            column = pl.Series(name, values, pl.String()).str.to_date("%Y-%m-%d")
        else:
            column = pl.Series(name, values, dtype)
        columns.append(column)
    sink = BytesIO()
    pl.DataFrame(columns).write_parquet(sink, compression="zstd")
    return sink.getvalue()


def document(common: Mapping[str, Any], name: str, rows: Sequence[Mapping[str, Any]], **fields: Any) -> bytes:
    """JSON: what all rows have in common, then the rows under `name`."""
    return text_of({**common, name: rows, **fields})
