"""What many published sessions hold of one ticker, read at once: ten years are thousands of files.

A file costs some hundred microseconds in one scan of all, and milliseconds by itself. What a scan cannot read, or finds
damaged, is read by itself, which names the file.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from stock_assets.frames import PROBABILITIES
from stock_assets.publication.layout import Kind
from stock_assets.publication.read import Publication
from stock_assets.publication.tables import PREDICTIONS_FILE
from stock_assets.serving.days import EPOCH, Day, Files, ModelRows, Outcomes, Shared, file_of, read_day

_NO_ROW = ModelRows({}, np.empty((0, 3)), None, np.empty(0, np.int16), (), None)
_COLUMNS: dict[Kind, list[str]] = {
    "predictions": PREDICTIONS_FILE.names,
    "bars": ["ticker", "suspect"],
    "outcomes": ["ticker", "label", "horizon_end"],
}
_Rows = dict[str, list[dict[str, Any]]]


def read_days_of(publication: Publication, files: Sequence[Files], ticker: str) -> dict[Files, Day]:
    """As `read_day` of each of `files` and `ticker`. Raises DamagedFile."""
    try:
        of_kind = {kind: _rows_of(publication, kind, files, ticker=ticker) for kind in _COLUMNS}
        models = _models_of(publication, files)
        days = [
            _day_of(file, {kind: rows.get(file.session, []) for kind, rows in of_kind.items()}, models)
            for file in files
        ]
    except (pl.exceptions.PolarsError, OSError, TypeError, ValueError):
        days = [read_day(publication, file, Shared(), ticker=ticker) for file in files]
    return dict(zip(files, days, strict=True))


def _paths(publication: Publication, kind: Kind, files: Iterable[Files]) -> dict[str, str]:
    """The session by the path of its file. Raises DamagedFile for one that is gone or not what its name says."""
    digests, paths = publication.pointer.files[kind], {}
    for session in (file.session for file in files):
        if session in digests:
            paths[str(file_of(publication, kind, session))] = session
    return paths


def _rows_of(publication: Publication, kind: Kind, files: Sequence[Files], *, ticker: str) -> _Rows:
    """The rows of `ticker` by session."""
    paths = _paths(publication, kind, files)
    if not paths:
        return {}
    scan = pl.scan_parquet(list(paths), include_file_paths="file", extra_columns="ignore")
    rows: _Rows = {}
    for row in scan.filter(pl.col("ticker") == ticker).select(*_COLUMNS[kind], "file").collect().iter_rows(named=True):
        rows.setdefault(paths[row["file"]], []).append(row)
    return rows


def _models_of(publication: Publication, files: Sequence[Files]) -> Mapping[str, list[str]]:
    """The models that say anything of a session."""
    paths = _paths(publication, "predictions", files)
    scan = pl.scan_parquet(list(paths), include_file_paths="file", extra_columns="ignore")
    models: dict[str, list[str]] = {}
    for model, file in scan.select("model", "file").drop_nulls().unique().sort("model").collect().iter_rows():
        models.setdefault(paths[file], []).append(model)
    return models


def _day_of(file: Files, rows: Mapping[str, list[dict[str, Any]]], models: Mapping[str, list[str]]) -> Day:
    """Raises ValueError for a value that is absent or not finite: the file is damaged."""
    row_of_model = {row["model"]: row for row in rows["predictions"] if row["status"] == "predicted"}
    absent_rows = [row for row in rows["predictions"] if row["status"] != "predicted"]
    known_outcomes = [row for row in rows["outcomes"] if row["label"] is not None and row["horizon_end"] is not None]
    places = {row["ticker"]: place for place, row in enumerate(known_outcomes)}
    return Day(
        date.fromisoformat(file.session),
        {
            model: _model_rows(row_of_model[model]) if model in row_of_model else _NO_ROW
            for model in models.get(file.session, [])
        },
        {row["ticker"]: row["reason"] for row in absent_rows},
        {row["ticker"]: row["suspect"] for row in rows["bars"] if row["suspect"] is not None},
        Outcomes(
            places,
            np.array([row["label"] for row in known_outcomes], np.int8),
            np.array([row["horizon_end"].toordinal() - EPOCH for row in known_outcomes], np.int32),
        ),
    )


def _model_rows(row: Mapping[str, Any]) -> ModelRows:
    probabilities = np.array([[row[name] for name in PROBABILITIES]], np.float64)
    score, version = float(row["score"]), row["model_version"]
    if version is None or not np.isfinite([*probabilities[0], score]).all():
        raise ValueError(f"{row['ticker']}: a value is absent or not finite")
    differs = score != float(probabilities[0, 2] - probabilities[0, 0])
    scores = np.array([score]) if differs else None
    ranks, versions = np.array([int(row["rank"])], np.int32), ((version, row["trained_through"]),)
    return ModelRows({row["ticker"]: 0}, probabilities, scores, ranks, versions, None)
