"""The file of a simulated account: SQLite, so that every change is whole after a crash or not there at all."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from stock_assets.errors import DamagedFileError, TradingError
from stock_assets.files import RESTORE, aside, disk_errors_of, make_folder, remove_leftovers, sync
from stock_assets.trading.broker.protocol import Activity, OrderState, Side
from stock_assets.trading.ledger import Account

FORM = 1
"""of the file: raised when its tables change"""
#: SQLite waits until the disk holds each change: a machine that loses its power keeps what was acknowledged.
SYNCHRONOUS = "FULL"
#: Seconds that a second process waits for the file.
WAIT_SECONDS = 30.0
_TABLES = """
CREATE TABLE account (
    form INTEGER, number TEXT, currency TEXT, session TEXT, cash REAL, equity REAL, last_equity REAL,
    status TEXT, blocked INTEGER);
CREATE TABLE listing (
    place INTEGER PRIMARY KEY, ticker TEXT UNIQUE, shares REAL, mark REAL, frozen INTEGER, tradable INTEGER);
CREATE TABLE orders (
    place INTEGER PRIMARY KEY AUTOINCREMENT, client_order_id TEXT UNIQUE, broker_id TEXT, ticker TEXT, side TEXT,
    shares TEXT, session TEXT, status TEXT, filled REAL, average_price REAL, reason TEXT, submitted_at TEXT,
    updated_at TEXT);
CREATE TABLE activities (
    place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT, kind TEXT, at TEXT, ticker TEXT, shares REAL, price REAL,
    amount REAL, client_order_id TEXT);
"""
_ORDER = "client_order_id, broker_id, ticker, side, shares, session, status, filled, average_price, reason, "
_ORDER += "submitted_at, updated_at"
_ACTIVITY = "id, kind, at, ticker, shares, price, amount, client_order_id"


def exact(number: float) -> Decimal:
    """The Decimal of the shortest text that names `number`: `float` of it is `number` again.

    >>> exact(0.1), exact(100.0), float(exact(2 / 3)) == 2 / 3
    (Decimal('0.1'), Decimal('100'), True)
    """
    number = float(number)
    return Decimal(int(number)) if number.is_integer() and abs(number) < 1e15 else Decimal(repr(number))


@dataclass(frozen=True)
class Opening:
    """How a simulated account begins."""

    number: str = "PA-SIMULATED"
    currency: str = "USD"
    capital: float = 1_000_000.0
    multiplier: int = 4
    """of the equity: what positions and open orders may be worth, long and short together"""
    may_short: bool = True
    not_shortable: frozenset[str] = frozenset()
    """tickers of which no share can be borrowed"""


@dataclass
class Standing:
    """An account as the file has it: `ledger` and `tradable` are in the order of `tickers`."""

    number: str
    currency: str
    session: date | None
    """the last one that was booked; None before the first"""
    tickers: tuple[str, ...]
    ledger: Account
    tradable: np.ndarray
    """bool [N]"""
    equity: float
    last_equity: float
    status: str
    blocked: bool


@dataclass
class StoredOrder:
    """An order as the file has it."""

    client_order_id: str
    broker_id: str
    ticker: str
    side: Side
    shares: Decimal
    session: date
    status: str
    filled: float
    average_price: float | None
    reason: str | None
    submitted_at: datetime
    updated_at: datetime

    @property
    def signed(self) -> float:
        """Shares, negative for a sale."""
        return float(self.shares if self.side == "buy" else -self.shares)

    @property
    def state(self) -> OrderState:
        average = None if self.average_price is None else exact(self.average_price)
        return OrderState(
            client_order_id=self.client_order_id,
            broker_id=self.broker_id,
            ticker=self.ticker,
            side=self.side,
            shares=self.shares,
            status=self.status,
            filled=exact(self.filled),
            average_price=average,
            updated_at=self.updated_at,
            reason=self.reason,
        )


Read = TypeVar("Read", bound=Callable[..., Any])


def _whole(method: Read) -> Read:
    """A reader of rows to which a value that cannot be read is damage as a broken page is."""

    @wraps(method)
    def reader(*args: Any) -> Any:
        try:
            return method(*args)
        except (ValueError, TypeError, ArithmeticError) as error:
            raise sqlite3.DatabaseError(f"a row cannot be read: {error}") from error

    return reader  # type: ignore[return-value]


class Rows:
    """What the file holds, within one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def _rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple]:
        return self._connection.execute(statement, values).fetchall()

    @_whole
    def identity(self) -> tuple[int, str, str]:
        """(form of the file, number, currency)."""
        ((form, number, currency),) = self._rows("SELECT form, number, currency FROM account")
        return form, number, currency

    @_whole
    def standing(self) -> Standing:
        ((_, number, currency, session, cash, equity, last_equity, status, blocked),) = self._rows(
            "SELECT * FROM account"
        )
        rows = self._rows("SELECT ticker, shares, mark, frozen, tradable FROM listing ORDER BY place")
        tickers, shares, marks, frozen, tradable = zip(*rows, strict=True) if rows else ((), (), (), (), ())
        ledger = Account(
            np.asarray(cash),
            np.array(shares, dtype=np.float64),
            np.array([np.nan if mark is None else mark for mark in marks], dtype=np.float64),
            np.array(frozen, dtype=np.int64),
        )
        return Standing(
            number=number,
            currency=currency,
            session=None if session is None else date.fromisoformat(session),
            tickers=tuple(tickers),
            ledger=ledger,
            tradable=np.array(tradable, dtype=bool),
            equity=equity,
            last_equity=last_equity,
            status=status,
            blocked=bool(blocked),
        )

    def keep_standing(self, standing: Standing) -> None:
        ledger = standing.ledger
        self._connection.execute(
            "UPDATE account SET session = ?, cash = ?, equity = ?, last_equity = ?",
            (
                standing.session and standing.session.isoformat(),
                float(ledger.cash),
                standing.equity,
                standing.last_equity,
            ),
        )
        self._connection.execute("DELETE FROM listing")
        columns = (ledger.shares.tolist(), ledger.marks.tolist(), ledger.frozen.tolist(), standing.tradable.tolist())
        rows = zip(range(len(standing.tickers)), standing.tickers, *columns, strict=True)
        self._connection.executemany("INSERT INTO listing VALUES (?, ?, ?, ?, ?, ?)", rows)

    def keep_state(self, *, status: str, blocked: bool) -> None:
        self._connection.execute("UPDATE account SET status = ?, blocked = ?", (status, int(blocked)))

    @_whole
    def orders(self, condition: str = "1", values: Sequence[object] = ()) -> list[StoredOrder]:
        """The orders for which `condition`, SQL of our own, holds, in the order in which they came."""
        rows = self._rows(f"SELECT {_ORDER} FROM orders WHERE {condition} ORDER BY place", values)
        return [_order_of(row) for row in rows]

    def open_orders(self) -> list[StoredOrder]:
        return self.orders("status = 'accepted'")

    def add_order(self, order: StoredOrder) -> None:
        self._connection.execute(
            f"INSERT INTO orders ({_ORDER}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _row_of(order)
        )

    def keep_order(self, order: StoredOrder) -> None:
        row = _row_of(order)
        self._connection.execute(
            "UPDATE orders SET shares = ?, status = ?, filled = ?, average_price = ?, reason = ?, updated_at = ? "
            "WHERE client_order_id = ?",
            (row[4], *row[6:10], row[11], row[0]),
        )

    def add_activities(self, activities: Iterable[Activity]) -> None:
        rows = [
            (
                activity.id,
                activity.kind,
                _text(activity.at),
                activity.ticker,
                float(activity.shares),
                None if activity.price is None else float(activity.price),
                float(activity.amount),
                activity.client_order_id,
            )
            for activity in activities
        ]
        self._connection.executemany(f"INSERT INTO activities ({_ACTIVITY}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    @_whole
    def activities(self, since: datetime) -> list[Activity]:
        rows = self._rows(f"SELECT {_ACTIVITY} FROM activities WHERE at >= ? ORDER BY place", (_text(since),))
        return [
            Activity(
                id=row[0],
                kind=row[1],
                at=datetime.fromisoformat(row[2]),
                ticker=row[3],
                shares=exact(row[4]),
                price=None if row[5] is None else exact(row[5]),
                amount=exact(row[6]),
                client_order_id=row[7],
            )
            for row in rows
        ]


def _text(moment: datetime) -> str:
    """A time as text that sorts as the time does."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _order_of(row: tuple) -> StoredOrder:
    return StoredOrder(
        client_order_id=row[0],
        broker_id=row[1],
        ticker=row[2],
        side=row[3],
        shares=Decimal(row[4]),
        session=date.fromisoformat(row[5]),
        status=row[6],
        filled=row[7],
        average_price=row[8],
        reason=row[9],
        submitted_at=datetime.fromisoformat(row[10]),
        updated_at=datetime.fromisoformat(row[11]),
    )


def _row_of(order: StoredOrder) -> tuple:
    return (
        order.client_order_id,
        order.broker_id,
        order.ticker,
        order.side,
        str(order.shares),
        order.session.isoformat(),
        order.status,
        order.filled,
        order.average_price,
        order.reason,
        _text(order.submitted_at),
        _text(order.updated_at),
    )


@contextmanager
def transaction(file: Path, opening: Opening, *, writes: bool = True) -> Iterator[Rows]:
    """What `file` holds, which is made where there is none; all changes are kept at the end, or none.

    One process or thread at a time. Raises DamagedFileError, with the way back, for a file that is damaged, cannot be
    written or stays locked, and TradingError where it is another account's than `opening` names.
    """
    if not file.exists():
        _make(file, opening)
    try:
        with closing(_connect(file)) as connection:
            connection.execute(
                "BEGIN IMMEDIATE" if writes else "BEGIN"
            )  # and what a killed process left half done is undone
            try:
                rows = Rows(connection)
                _require_account(file, rows, opening)
                yield rows
            except BaseException:
                connection.rollback()
                raise
            connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        raise DamagedFileError(f"{file} cannot be read or written: {error}; {RESTORE}") from error
    except sqlite3.DatabaseError as error:
        raise DamagedFileError(f"{file} is damaged: {error}; {RESTORE}") from error


def _connect(file: Path) -> sqlite3.Connection:
    uri = f"{file.absolute().as_uri()}?mode=rwc"
    connection = sqlite3.connect(uri, timeout=WAIT_SECONDS, isolation_level=None, uri=True)
    connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
    return connection


def _make(file: Path, opening: Opening) -> None:
    """Makes the file aside and gives it its name once it is whole: one without an account is damaged, and never new."""
    with disk_errors_of(file):
        make_folder(file.parent)
        temporary = aside(file)
        try:
            with closing(_connect(temporary)) as connection:
                connection.executescript(f"BEGIN; {_TABLES} COMMIT;")
                capital = float(opening.capital)
                row = (FORM, opening.number, opening.currency, None, capital, capital, capital, "ACTIVE", 0)
                connection.execute("INSERT INTO account VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            temporary.chmod(0o600)
            with suppress(FileExistsError):  # another process made it in the meantime
                file.hardlink_to(temporary)
        except sqlite3.Error as error:
            raise DamagedFileError(f"{file} cannot be written: {error}; look at its disk") from error
        finally:
            temporary.unlink(missing_ok=True)
            remove_leftovers(file)
        sync(file.parent)


def _require_account(file: Path, rows: Rows, opening: Opening) -> None:
    form, number, currency = rows.identity()
    if form != FORM:
        raise TradingError(f"{file} has form {form}, and this version reads {FORM}: install the version that wrote it")
    if (number, currency) != (opening.number, opening.currency):
        raise TradingError(
            f"{file} is the account {number} in {currency}, expected {opening.number} in {opening.currency}: a book "
            "has one account, and an account one file"
        )
