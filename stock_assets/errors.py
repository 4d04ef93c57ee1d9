"""Every error a user can meet, as one tree.

StockAssetsError
├── SettingsError        a setting has a value that it may not have
├── SourceError          a source answered with something that is not prices
│   ├── EmptySourceError   … or with nothing at all
│   ├── UnknownTickerError … or that it has nothing of a ticker
│   └── QuietTickerError   … or that a ticker has not traded since
├── BadBarsError         rows that break the contract of their table
├── TableError           a frame that does not fit the declaration of its table
├── MissingTableError    a table that was asked for before anything was written to it
├── MissingSessionsError rows that should exist and do not; names the asset to materialize first
├── UnknownNameError     a ticker, session or version that was asked for is none
├── CutoffError          a model would be used before its training data ends
├── QueryError           a person's own SELECT is wrong, or wants more than to read
├── DamagedFileError     a file of the data folder cannot be read or written; names it and the way back
├── PublicationError     a published file is damaged or gone, or what is to be published has no place in it
├── ApiError             the API did not answer, or answered with a problem; has its title, status and detail
├── BackupError          a backup cannot be made, read or put back
├── MoveError            a platform cannot be moved between a folder and a database or a bucket
├── MemoryBudgetError    DuckDB needs more memory than the setting memory leaves it
├── StoreBusyError       another process kept the store locked for too long
├── RegistryError        the model registry (MLflow) is damaged, or does not answer
├── ArtifactError        a saved model is absent, incomplete or of another layout
├── PrivateApiError      a symbol that we borrow from inside another package is gone
├── OutgoingError        a server of somebody else did not answer in time, or with too much
└── AlertError           an alert could not be handed over to a channel
"""

from collections.abc import Mapping, Sequence
from datetime import date
from traceback import walk_tb

from stock_assets.escape import lines


class StockAssetsError(Exception):
    """The base of all errors that stock_assets raises on purpose; its message is meant for a person.

    It may quote a vendor or a file: what cannot be seen in it, such as the start of a command to a terminal, is marked.
    """

    def __str__(self) -> str:
        return lines(super().__str__())

    @classmethod
    def descendants(cls) -> "list[type[StockAssetsError]]":
        """Every error below this one."""
        return [kind for child in cls.__subclasses__() for kind in (child, *child.descendants())]


class SettingsError(StockAssetsError):
    """A setting has a value it may not have; names the variable or the file, the value and what was expected."""


class SourceError(StockAssetsError):
    """A source answered with something that is not prices."""


class EmptySourceError(SourceError):
    """A source answered with nothing where bars were expected. A holiday is not this error."""


class UnknownTickerError(SourceError):
    """A vendor says that it has nothing of a ticker; asking again changes nothing."""


class EmptyRangeError(UnknownTickerError):
    """A vendor says that it has nothing of a ticker in the range asked for; it may have something in another one."""


class QuietTickerError(SourceError):
    """A vendor knows a ticker, and that it has not traded since before the range that was asked for.

    `span` are the days of its first and its last trade.
    """

    def __init__(self, message: str, span: tuple[date, date]) -> None:
        super().__init__(message)
        self.span = span


class BadBarsError(StockAssetsError):
    """Rows break the contract of their table; names the ticker, session and column."""


class TableError(StockAssetsError):
    """A frame does not fit the declaration of its table; names the table, the column and what was expected."""


class MissingTableError(StockAssetsError):
    """A table was asked for before anything was written to it."""

    def __init__(self, table: str) -> None:
        super().__init__(f"there is no table {table} yet. Materialize {table} first.")


class QueryError(StockAssetsError):
    """A person's own SELECT cannot be answered; says what DuckDB said."""


class StoreBusyError(StockAssetsError):
    """Another process held the store for longer than we wait."""


class MemoryBudgetError(StockAssetsError):
    """DuckDB cannot do its work within its part of the setting `memory`."""


class DamagedFileError(StockAssetsError, OSError):
    """A file of the data folder cannot be read or written; names it and the way back. Who copes with an OSError of the
    disk copes with it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.strerror = message  # what an OSError is asked for


class BucketError(StockAssetsError, OSError):
    """A bucket cannot be read or written; names it, what the server answered and what to do, and no secret. Who copes
    with an OSError of the disk copes with it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.strerror = message  # what an OSError is asked for


class LakeError(StockAssetsError, OSError):
    """A DuckLake cannot be read or written; names it and what to do, and no secret."""


class TradingError(StockAssetsError):
    """A book, an order or an account that cannot be traded as it is."""


class BrokerError(TradingError):
    """A broker that does not answer, or answers what cannot be understood."""


class PublicationError(StockAssetsError):
    """A published file is damaged or gone, or what is to be published has no place in a publication."""


class PublicationFormError(PublicationError):
    """A publication has a form that this version does not read."""


class ApiError(StockAssetsError):
    """The API did not answer, or answered with a problem.

    `title`, `status` and `detail` are those of the problem, and `problem` is all of it; the status is None where no
    server answered.
    """

    def __init__(
        self,
        message: str,
        *,
        title: str = "",
        status: int | None = None,
        detail: str = "",
        problem: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.title, self.status, self.detail, self.problem = title, status, detail, dict(problem or {})


class BackupError(StockAssetsError):
    """A backup cannot be made, read or put back; names the folder or the file."""


class MoveError(StockAssetsError):
    """What a platform keeps cannot be moved to another place; names both, what was found and what to do."""


class RegistryError(StockAssetsError):
    """The model registry is damaged or does not answer; names its URI."""


class ArtifactError(StockAssetsError):
    """A saved model is absent, incomplete, or has another layout than this code reads."""


class PrivateApiError(StockAssetsError):
    """Another package has dropped or renamed something private that we use; names it and the way out."""


class OutgoingError(StockAssetsError):
    """A server of somebody else did not answer in time, or with more than may be read; names no more than its host."""


class AlertError(StockAssetsError):
    """An alert could not be handed over to a channel; says what the channel answered."""


class UnknownNameError(StockAssetsError):
    """A ticker, a session or a version that was asked for is none; names it and what was expected.

    `kind` is ticker, session, later session (one that is not over) or version.
    """

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class CutoffError(StockAssetsError):
    """A model trained through a later session than the one it is asked to predict; names both dates."""


class MissingSessionsError(StockAssetsError):
    """Rows that should exist do not; names the sessions and the asset to materialize first."""

    def __init__(self, needed_by: str, asset: str, sessions: Sequence[date], *, why: str = "") -> None:
        self.asset, self.sessions = asset, tuple(sessions)
        session_names = ", ".join(map(str, sessions[:5])) + (", …" if len(sessions) > 5 else "")
        span = f"{sessions[0]} to {sessions[-1]}" if len(sessions) > 1 else str(sessions[0])
        super().__init__(
            f"{needed_by} needs {len(sessions)} session(s) of {asset} that are not there: {session_names}"
            f"{f' ({why})' if why else ''}. Materialize {asset} for {span} first."
        )


def raised_in(error: Exception, package: str) -> bool:
    """Whether `package`, or a library that it called, raised `error`, and not code of ours that it called back.

    >>> import json
    >>> try:
    ...     json.loads("{")
    ... except ValueError as error:
    ...     raised_in(error, "json")
    True
    """
    packages = [str(frame.f_globals.get("__name__")).partition(".")[0] for frame, _ in walk_tb(error.__traceback__)]
    of_both = [name for name in packages if name in (package, "stock_assets")]
    return bool(of_both) and of_both[-1] == package
