"""Dagster's storage in a Postgres database, read and written as rows (`storage/dagster_rows.py`)."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Table, func, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError

from stock_assets.errors import MoveError
from stock_assets.files import first_line
from stock_assets.storage.dagster_rows import EVENTS, TABLES, DagsterRows, Event, Rows, batches, read, read_table
from stock_assets.storage.platform_row import connected
from stock_assets.storage.postgres import BatchingPostgresStorage
from stock_assets.storage.postgres_link import shown


class DatabaseRows:
    """The storage in a database, as of the transaction of `connection`."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.connection, self.name = connection, name
        self._has_tables = inspect(connection).has_table(EVENTS.name)

    @property
    def revision(self) -> str | None:
        if not self._has_tables:
            return None
        return self.connection.execute(text("SELECT version_num FROM alembic_version")).scalar()

    @property
    def last_event_id(self) -> int:
        if not self._has_tables:
            return 0
        statement = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM event_logs_id_seq"
        return self.connection.execute(text(statement)).scalar_one()

    def rows(self, table: Table) -> Rows:
        return read_table(self.connection, table) if self._has_tables else iter(())

    def events(self) -> Iterator[Event]:
        if not self._has_tables:
            return
        for row in read(self.connection, select(EVENTS).order_by(EVENTS.c.run_id, EVENTS.c.id)):
            yield Event(**row)


@contextmanager
def database_rows(address: str) -> Iterator[DatabaseRows]:
    """The storage in the database at `address` as of one moment; nothing is written. Raises MoveError where it cannot
    be read, StockAssetsError where the server does not answer."""
    with connected(address) as connection, _errors_of(shown(address)):
        transaction = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with transaction.begin():
            yield DatabaseRows(transaction, shown(address))


@contextmanager
def written_database(address: str) -> Iterator[DatabaseRows]:
    """The storage in the database at `address`, whose tables are made where it has none, for one transaction that
    nothing else writes to: all or nothing. Raises as `database_rows`."""
    BatchingPostgresStorage(address)
    with connected(address) as connection, _errors_of(shown(address)):
        transaction = connection.execution_options(isolation_level="READ COMMITTED")
        with transaction.begin():
            names = ", ".join(f'"{table.name}"' for table in (*TABLES, EVENTS))
            transaction.execute(text(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE"))
            yield DatabaseRows(transaction, shown(address))


def write_database(source: DagsterRows, target: DatabaseRows) -> None:
    """Writes what `source` holds to the tables of `target`, which are empty.

    Every row and every event that has an id keeps it. Events of a folder that have none are given the ids behind the
    last one, so that they stand behind the others in the log of their run.
    """
    connection, next_id = target.connection, source.last_event_id + 1
    for table in TABLES:
        for batch in batches(source.rows(table)):
            connection.execute(table.insert(), batch)
    for batch in batches(source.events()):
        rows = []
        for event in batch:
            rows.append(event._asdict() | ({"id": next_id} if event.id is None else {}))
            next_id += event.id is None
        connection.execute(EVENTS.insert(), rows)
    for table in (*TABLES, EVENTS):
        last_id = connection.execute(select(func.max(table.c.id))).scalar() or 0
        if table is EVENTS:
            last_id = max(last_id, next_id - 1)
        if last_id:
            connection.execute(
                text("SELECT setval(pg_get_serial_sequence(:name, 'id'), :last)"), {"name": table.name, "last": last_id}
            )


@contextmanager
def _errors_of(name: str) -> Iterator[None]:
    """What the database says is one MoveError."""
    try:
        yield
    except SQLAlchemyError as error:
        reason = first_line(getattr(error, "orig", None) or error)
        raise MoveError(f"{name} cannot be read or written: {reason}. Nothing was written; try again") from error
