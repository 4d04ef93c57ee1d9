"""Connections to Dagster's database that outlive a restart of its server and a link that is cut.

A server that does not answer is waited for, WAITS long. A statement whose link broke is sent again where that cannot
do anything twice; `sent_once` does so for what could.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, make_url
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError, TimeoutError
from sqlalchemy.sql import Delete, Insert, Select, TextClause, Update

from stock_assets.errors import StockAssetsError
from stock_assets.files import first_line

Answer = TypeVar("Answer")

#: Seconds between two tries for a connection: a server that restarts is waited for, about 50 s in all.
WAITS = (0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6)
#: How often in a row what is stored may lose its link before it fails.
BREAKS = 5
#: A server or a client that is gone without a word is noticed by the other after half a minute, and not after a
#: quarter of an hour here and two hours there: until then the server keeps the locks of a host that is lost.
LINK: Mapping[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
    "options": "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=4 "
    "-c tcp_user_timeout=30000",
}
#: What no wait repairs, of the words of a server or of its client.
_HOPELESS = ("authentication failed", "does not exist", "could not translate host name", "no password supplied")


def link_options(address: str | URL) -> dict[str, Any]:
    """LINK, without what the address itself states."""
    return {name: value for name, value in LINK.items() if name not in make_url(address).query}


def shown(address: str | URL) -> str:
    """The server and the database of an address, without user and password.

    >>> shown("postgresql+psycopg2://me:secret@host:5432/dagster")
    'dagster on host:5432'
    """
    url = make_url(address)
    return f"{url.database} on {url.host or 'this machine'}" + (f":{url.port}" if url.port else "")


def waited_for(ask: Callable[[], Answer], url: URL) -> Answer:
    """The answer of `ask`, which needs the server at `url`; it is asked again after each of WAITS. Raises
    StockAssetsError in one line where the server does not answer by then, or refuses for good."""
    for wait in (*WAITS, None):
        try:
            return ask()
        except (DatabaseError, TimeoutError) as error:
            reason = first_line(getattr(error, "orig", None) or error)
            if wait is None or any(sign in str(error) for sign in _HOPELESS):
                raise StockAssetsError(
                    f"Dagster's database {shown(url)} cannot be reached: {reason}; expected the address of a Postgres "
                    "server that answers, of a database that is there and of a user that may use it"
                ) from None
            if wait == WAITS[0]:
                logging.getLogger("stock_assets").warning(
                    f"Dagster's database {shown(url)} does not answer and is waited for: {reason}"
                )
        time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def plain_connection(url: URL, name: str) -> Any:
    """A connection of psycopg2 by itself, in autocommit mode, which the server shows under `name`: its locks last as
    long as it does. Raises as `waited_for`."""
    import psycopg2

    options = {"application_name": name[:63], **link_options(url)}
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)

    def connect() -> Any:
        try:
            return psycopg2.connect(address, **options)
        except psycopg2.OperationalError as error:
            raise OperationalError("connect", None, error) from error

    connection = waited_for(connect, url)
    connection.autocommit = True
    return connection


@contextmanager
def linked(engine: Engine) -> Iterator[Connection]:
    """A connection of `engine`, in its own isolation level, which is that of single statements. Raises as
    `waited_for`."""
    connection = waited_for(lambda: ResendingConnection(engine), engine.url)
    try:
        yield connection
    finally:
        connection.close()


class ResendingConnection(Connection):
    """A connection whose statements, each a transaction of its own, are sent again over a new link where the old one
    broke and sending them twice leaves what sending them once does. In a transaction, which has an isolation level of
    its own, nothing is sent again."""

    def execute(self, statement: Any, parameters: Any = None, **options: Any) -> Any:
        """As of a Connection; raises as `waited_for` where no new link comes."""
        send = super().execute
        try:
            return send(statement, parameters, **options)
        except DBAPIError as error:
            in_transaction = "isolation_level" in self.get_execution_options()
            if not error.connection_invalidated or in_transaction or not may_be_sent_twice(statement):
                raise

        def again() -> Any:
            self.rollback()  # of what SQLAlchemy calls a transaction: on the server there is none
            return send(statement, parameters, **options)

        return waited_for(again, self.engine.url)


def may_be_sent_twice(statement: object) -> bool:
    """Whether a statement does nothing that the same statement has done already.

    >>> from sqlalchemy import text
    >>> may_be_sent_twice(text("SELECT 1")), may_be_sent_twice(text("INSERT INTO t VALUES (1)"))
    (True, False)
    """
    if isinstance(statement, TextClause):
        return statement.text.lstrip().upper().startswith(("SELECT", "NOTIFY"))
    if isinstance(statement, Insert):
        return " ON CONFLICT " in str(statement.compile(dialect=postgresql.dialect()))
    return isinstance(statement, Select | Update | Delete)


def sent_once(store: Callable[[], None], undo: Callable[[], bool]) -> None:
    """Calls `store`, and again where its link broke meanwhile, BREAKS times at most. Before each other try `undo`
    removes what the last one may have left, or returns that all of it is there."""
    for left in range(BREAKS, -1, -1):
        try:
            store()
            return
        except DBAPIError as error:
            if not error.connection_invalidated or not left:
                raise
        if undo():
            return
