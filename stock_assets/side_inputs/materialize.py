"""The steps of the room: asking the sources of a side input, and reading what they said."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import polars as pl

from stock_assets.errors import MissingTableError, SettingsError, SourceError, TableError
from stock_assets.market.calendar import calendar_of
from stock_assets.market.materialize.clock import require_past
from stock_assets.market.materialize.context import bars_first_fetched
from stock_assets.market.materialize.one_source import require_same_market
from stock_assets.market.requests import LOOK_AGAIN, too_many_failures
from stock_assets.market.sources.registry import make_source
from stock_assets.settings import PREFIX, Settings
from stock_assets.side_inputs import ReadsStored, SideAnswer, SideSource
from stock_assets.side_inputs.as_of import late_rows, new_versions, rows_by, with_session
from stock_assets.side_inputs.registry import Say, SideInput, side_input
from stock_assets.side_inputs.tables import ROOM, naming_columns
from stock_assets.storage.changes import Change
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import TABLES, UTC_TIME, Table
from stock_assets.tickers import require_tickers

#: So long before the first session of the calendar the sources are asked about: what happened then a year ago.
BEFORE_THE_CALENDAR = timedelta(days=2 * 366)


class FetchedSide(NamedTuple):
    """What one fetch of a side input brought."""

    rows: pl.DataFrame
    """those of the asked sessions that the store holds now"""
    added: pl.DataFrame
    """the versions that were appended, of any session"""
    subjects: int
    """tickers that were asked for; 0 where the sources name their subjects themselves"""
    failures: Mapping[str, str]
    """why there is no answer of a subject, by subject, with the source"""
    notes: Sequence[str]
    """what a reader should know"""


def fetch_side_input(
    store: Warehouse,
    settings: Settings,
    name: str,
    *,
    sessions: Sequence[date],
    now: datetime,
    say: Say = lambda _: None,
) -> FetchedSide:
    """Asks every source of the side input `name` what became known on `sessions` (ascending) and in the week before,
    and appends the versions that the store lacks, in one transaction. The first fetch asks for everything since
    BEFORE_THE_CALENDAR: a store that a side input is new to has its history at once.

    What an answer holds of other sessions is appended too: a source that was silent for a while catches up, and what
    became known after the last close belongs to the next session. Raises SettingsError where the settings give it no
    source, and SourceError where a source as a whole has no answer, or none of too many subjects, and for rows that
    cannot be; then nothing is written.
    """
    entry, calendar = side_input(name), calendar_of(settings)
    sources = entry.sources(settings, say)
    if not sources:
        raise SettingsError(f"{name} has no source: {entry.missing(settings)}. {PREFIX}SIDE_INPUTS=off does without")
    require_same_market(store, make_source(settings))
    require_past(store, now, {name: f"SELECT subject AS name, session, fetched_at FROM side_inputs.{name}"})
    subjects = store.read("universe")["ticker"].unique().sort().to_list() if entry.subjects == "tickers" else []
    stored_rows = _versions(store, entry.table)
    first = (*calendar.before(sessions[0], LOOK_AGAIN), sessions[0])[0]
    if stored_rows.is_empty() or first == calendar.sessions[0]:
        first = calendar.sessions[0] - BEFORE_THE_CALENDAR
    frames, failures, notes = [], {}, []
    for registered_source in sources:
        source = (
            registered_source.with_stored(stored_rows)
            if isinstance(registered_source, ReadsStored)
            else registered_source
        )
        answer = source.fetch(subjects, first, sessions[-1], fetched_at=now)
        failures |= _failures(answer, source, subjects, allowed=settings.max_failed_share)
        notes += answer.notes
        frames += [_fitting_rows(entry, answer.rows, source, now=now), _withdrawn(stored_rows, answer, source, now=now)]
    rows = with_session(entry.follows(pl.concat(frames), calendar), calendar)
    new_rows = new_versions(stored_rows, entry.table.fit(rows))
    store.write([Change(name, new_rows, makes=sessions)])
    rows_now = pl.concat([stored_rows, new_rows]).filter(pl.col("session").is_in(list(sessions)))
    return FetchedSide(rows_now, new_rows, len(subjects), failures, notes)


def read_side_input(
    store: Warehouse, name: str, first: date | None = None, *, last: date | None = None, required: bool = False
) -> pl.DataFrame:
    """Every version of the side input `name` that became known from session `first` to `last`, both included and open
    where None; no row before the first write, or MissingTableError where it is `required`."""
    table = side_input(name).table
    return table.fit(store.read(name, first, last)) if required else _versions(store, table, first, last=last)


def side_inputs_as_of(store: Warehouse, moment: datetime) -> dict[str, pl.DataFrame]:
    """By side input that was written at some time: the newest version of everything that was known by `moment` (aware)
    and had been fetched by then."""
    tables = [table for table in TABLES.values() if table.room == ROOM]
    stored_tables = store.read_each({table.name: f'SELECT * FROM {ROOM}."{table.name}"' for table in tables})
    frames = {table.name: _in_utc(table, rows) for table in tables if (rows := stored_tables[table.name]) is not None}
    return {
        name: rows_by(rows.filter(pl.col("known_at") <= moment), date.max, fetched_by=moment)
        for name, rows in frames.items()
    }


def late_side_rows(store: Warehouse, name: str, moment: datetime, *, last: date) -> pl.DataFrame:
    """Versions of the side input `name` up to session `last` that were fetched after `moment` although something had
    been made of their session before (`as_of.late_rows`)."""
    newest = last_side_fetch(store, name)
    if newest is None or newest <= moment:
        return side_input(name).table.empty()
    return late_rows(read_side_input(store, name, last=last), moment, bars_first_fetched(store))


def last_side_fetch(store: Warehouse, name: str) -> datetime | None:
    """When the newest version of the side input `name` was fetched, UTC; None without a row."""
    try:
        newest = store.read_sql(name, f"SELECT max(fetched_at) AS newest FROM side_inputs.{name}")["newest"][0]
    except MissingTableError:
        return None
    return newest and newest.astimezone(UTC)


def _versions(store: Warehouse, table: Table, first: date | None = None, *, last: date | None = None) -> pl.DataFrame:
    return _in_utc(table, store.read_or(table.empty(), table.name, first, last=last))


def _in_utc(table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` as `table` declares them: the store names UTC as the machine does."""
    return table.fit(rows)


def _failures(answer: SideAnswer, source: SideSource, subjects: Sequence[str], *, allowed: float) -> dict[str, str]:
    """Why there is no answer of a subject. Raises SourceError where too many have none though the source may have one:
    a fund has no fundamentals, and the source says so. A source that names its subjects itself judges that itself."""
    unknown = {subject for subject, failure in answer.failures.items() if failure.unknown}
    silent = {subject: failure.reason for subject, failure in answer.failures.items() if subject not in unknown}
    requested_count = len({*subjects, *silent} - unknown)
    if subjects and (message := too_many_failures(silent, requested_count, allowed)):
        raise SourceError(f"{source.name}: {message}")
    return {subject: f"{source.name}: {failure.reason}" for subject, failure in answer.failures.items()}


def _fitting_rows(entry: SideInput, rows: pl.DataFrame, source: SideSource, *, now: datetime) -> pl.DataFrame:
    """`rows` of `source` in the order of their table, without session. Raises SourceError for one that cannot be."""
    names = [name for name in entry.table.names if name != "session"]
    place = f"{entry.table.name} of the source {source.name}"
    if missing_columns := [name for name in names if name not in rows.columns]:
        raise TableError(f"rows of {place} lack the column {missing_columns[0]}; expected {', '.join(names)}")
    rows = rows.select(names)
    if entry.subjects == "tickers":
        require_tickers(rows["subject"].unique(), place)
    wrong_rows = rows.filter((pl.col("known_at") > pl.col("fetched_at")) | (pl.col("fetched_at") > now))
    if wrong_rows.height:
        row = wrong_rows.row(0, named=True)
        raise SourceError(
            f"{place}, {row['subject']}: found known_at {row['known_at']:%Y-%m-%d %H:%M} and fetched_at "
            f"{row['fetched_at']:%Y-%m-%d %H:%M} UTC at {now:%Y-%m-%d %H:%M} UTC ({wrong_rows.height} such rows); "
            "expected nothing that is known or fetched later"
        )
    return rows


def _withdrawn(stored_rows: pl.DataFrame, answer: SideAnswer, source: SideSource, *, now: datetime) -> pl.DataFrame:
    """The versions that withdraw at `now` what `source` stated and does not state any more, without session."""
    none = stored_rows.drop("session").clear()
    if not answer.states_all_of:
        return none
    if "withdrawn" not in stored_rows.columns:
        raise TableError(f"the source {source.name} states all of a table without the column withdrawn")
    # a replayed date is withdrawn with the one that it repeats, and by no answer of its own
    is_replayed = pl.col("origin") == "replayed" if "origin" in stored_rows.columns else pl.lit(value=False)
    coming = stored_rows.filter(
        pl.col("event_time") > now,
        pl.col("source") == source.name,
        pl.col("subject").is_in(list(answer.states_all_of)),
        ~is_replayed,
    )
    coming = rows_by(coming, date.max).filter(~pl.col("withdrawn").fill_null(value=False))
    withdrawn_rows = coming.join(answer.rows, on=naming_columns(stored_rows.columns), how="anti", nulls_equal=True)
    at = pl.lit(now).cast(UTC_TIME)
    return withdrawn_rows.select(none.columns).with_columns(known_at=at, fetched_at=at, withdrawn=pl.lit(value=True))
