"""How far the tables are, read in one connection: what every tick of the automation asks first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl

from stock_assets.lifecycle.evening import BY_SESSION, TRADED, Gaps, with_side_inputs
from stock_assets.market.calendar import TradingCalendar
from stock_assets.model.materialize.versions import TRAINED
from stock_assets.storage.warehouse import Warehouse

#: The tables of the models of a year; it is served once every one of them has all its rows of it.
MODELS = (*TRAINED, "trained_ensemble")
#: The newest sessions whose rows every tick counts; those of all sessions are counted once a day.
COUNTED = 20
#: SQL: a digest of the predictions of a session that their order does not change. Another version of DuckDB may give
#: another one; then the newest sessions are published again, which adds nothing where they are the same.
CONTENT = "CAST(bit_xor(hash(model, model_version, ticker, p_sell, p_hold, p_buy, score)) AS VARCHAR)"
#: The recent sessions whose published predictions are others than those of the store.
_DIFFERENT = f"""
SELECT session FROM publication.publication AS published JOIN (
    SELECT session, {CONTENT} AS now FROM model.predictions {{span}} GROUP BY session
) USING (session) WHERE now IS DISTINCT FROM published.content ORDER BY session
"""
_NO_COUNTS = pl.DataFrame(schema={"partition": pl.String, "rows": pl.Int64})

#: The answers of the store, by the name of their statement; None before the table is there.
_Answers = Mapping[str, pl.DataFrame | None]


@dataclass(frozen=True)
class Progress:
    """How far the tables are; None before a session was made."""

    predicted_through: date | None
    """the last session of which predictions were made"""
    labelled_through: date | None
    """the last session of which labels were made"""
    model_years: frozenset[int]
    """the model years of which every table of MODELS has all rows that were written"""
    gaps: Gaps
    """what is missing of the sessions up to these"""


def read_progress(
    store: Warehouse, calendar: TradingCalendar, now: datetime, *, side_inputs: tuple[str, ...] = ()
) -> Progress:
    """How far predictions, labels and models are, and what is missing of the sessions before; of the side inputs, of
    the assets `side_inputs`.

    Every session has to be recorded as made; of the newest COUNTED before `now`, the rows have to be there as well.
    Raises StoreBusyError while a writer holds the store. A store that nobody wrote to since is not read again: every
    sensor asks twice a minute, and most answers are those of the evening before.
    """
    newest = calendar.before(now.astimezone(UTC).date() + timedelta(days=1), COUNTED)
    since = newest[0] if newest else calendar.sessions[0]
    stamp = store.stamp()  # before reading: what is written meanwhile changes it
    question = (stamp, calendar, since, side_inputs)
    last_question, answer = _LAST_ANSWER.get(store.path, (None, None))
    if answer is None or last_question != question:
        answer = _read_progress(store, calendar, since, side_inputs=side_inputs)
        if stamp is not None:
            _LAST_ANSWER[store.path] = (question, answer)
    return answer


#: By store: what `read_progress` was asked last, and its answer.
_LAST_ANSWER: dict[Path, tuple[tuple[object, ...], Progress]] = {}


def _read_progress(
    store: Warehouse, calendar: TradingCalendar, since: date, *, side_inputs: tuple[str, ...]
) -> Progress:
    span = f"WHERE session >= DATE '{since}'"
    by_session = with_side_inputs(BY_SESSION, side_inputs)
    answers = store.read_each(
        {"records": "SELECT table_name, partition, rows FROM lifecycle.stored_partitions"}
        | {
            table: f"SELECT CAST(session AS VARCHAR) AS partition, count(*) AS rows FROM {table} {span} GROUP BY ALL"
            for table in (*by_session, "labels")
        }
        | {
            table: f"SELECT CAST(model_year AS VARCHAR) AS partition, count(*) AS rows FROM {table} GROUP BY ALL"
            for table in MODELS
        }
        | {"different": _DIFFERENT.format(span=span)}
        | {"operations": "SELECT CAST(max(session) AS VARCHAR) AS partition, count(*) AS rows FROM operations"}
    )
    records = answers["records"]
    if records is None:
        return Progress(None, None, frozenset(), Gaps())
    by_table = {str(table): frame for (table,), frame in records.partition_by("table_name", as_dict=True).items()}
    records_of = {table: by_table.get(table, records.clear()) for table in (*by_session, "labels", *MODELS)}
    last_predicted, last_labelled = (_last(records_of[table]) for table in ("predictions", "labels"))
    years = [_complete(records_of[table], answers[table]) for table in MODELS]
    through = {**dict.fromkeys(by_session, last_predicted), "labels": last_labelled}
    # what an earlier version predicted, which did not publish or trade yet, is published and traded
    firsts: dict[str, date | None] = dict.fromkeys((*TRADED, "publication"), _first(records_of["predictions"]))
    unmade_sessions = {
        table: _unmade_sessions(calendar, records_of[table], firsts.get(table), last=last)
        for table, last in through.items()
    }
    lost_sessions = {
        table: _lost_sessions(records_of[table], answers[table], since=since, last=last)
        for table, last in through.items()
    }
    if (different := answers["different"]) is not None:
        lost_sessions["publication"] = sorted({*lost_sessions["publication"], *different["session"]})
    gaps = Gaps(unmade_sessions, lost_sessions, _operations_behind(answers), side_inputs)
    model_years = frozenset.intersection(*(frozenset(map(int, complete)) for complete in years))
    return Progress(last_predicted, last_labelled, model_years, gaps)


def _last(records: pl.DataFrame) -> date | None:
    newest = records["partition"].max()
    return date.fromisoformat(newest) if isinstance(newest, str) else None


def _first(records: pl.DataFrame) -> date | None:
    oldest = records["partition"].min()
    return date.fromisoformat(oldest) if isinstance(oldest, str) else None


def _complete(records: pl.DataFrame, counts: pl.DataFrame | None) -> set[str]:
    """The partitions with as many rows as were written, and at least one."""
    records_with_counts = records.join(_NO_COUNTS if counts is None else counts, on="partition", suffix="_counted")
    return set(records_with_counts.filter(pl.col("rows_counted") >= pl.col("rows"))["partition"])


def _unmade_sessions(
    calendar: TradingCalendar, records: pl.DataFrame, first: date | None, *, last: date | None
) -> Sequence[date]:
    """The sessions from `first`, by default the first recorded one, to `last` without a record; `last` itself where
    nothing is recorded."""
    if last is None:
        return ()
    made_partitions = set(records["partition"])
    sessions = calendar.between(first or _first(records) or last, last)
    return [session for session in sessions if str(session) not in made_partitions]


def _lost_sessions(
    records: pl.DataFrame, counts: pl.DataFrame | None, *, since: date, last: date | None
) -> Sequence[date]:
    """The sessions from `since` to `last` that have fewer rows than their record."""
    records_with_counts = (
        records.filter(pl.col("partition").is_between(pl.lit(str(since)), pl.lit(str(last))), pl.col("rows") > 0)
        .join(_NO_COUNTS if counts is None else counts, on="partition", how="left", suffix="_counted")
        .filter(pl.col("rows_counted").fill_null(0) < pl.col("rows"))
    )
    return [date.fromisoformat(partition) for partition in records_with_counts["partition"].sort()]


def _operations_behind(answers: _Answers) -> bool:
    """Whether the newest session with predictions is not in the table `operations`."""
    predicted_partitions, operations = answers["predictions"], answers["operations"]
    newest = None if predicted_partitions is None else predicted_partitions["partition"].max()
    last = None if operations is None else operations["partition"].item()
    return isinstance(newest, str) and (last is None or last < newest)
