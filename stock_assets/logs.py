"""What this package logs stays on one line of characters that can be seen, whoever logs it and wherever it goes.

Messages of vendors, tickers, names of files, answers of servers and texts of exceptions end up in log lines. A newline
in one of them would forge a line, and ESC would draw on a terminal. So nobody has to remember to escape them: every
record that code of this package makes, on its own loggers and on those of Dagster, is escaped when it is made. Records
of other libraries are left alone.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from stock_assets.escape import one_line

#: The code whose records are escaped, and the loggers that carry its name.
PACKAGE, NAME = str(Path(__file__).parent) + "/", "stock_assets"


def escape_log_records() -> None:
    """Has the records of this package escaped from now on, in this process; once is enough.

    >>> escape_log_records()
    >>> logging.getLogger("stock_assets.docs").makeRecord(
    ...     "stock_assets.docs", logging.INFO, __file__, 1, "from %s", ("Red\\nHat",), None
    ... ).getMessage()
    'from Red Hat'
    """
    before = logging.getLogRecordFactory()
    if not hasattr(before, "escapes"):
        logging.setLogRecordFactory(_escaping(before))


def _escaping(make: Callable[..., logging.LogRecord]) -> Callable[..., logging.LogRecord]:
    def escaped(*arguments: object, **keywords: object) -> logging.LogRecord:
        record = make(*arguments, **keywords)
        if record.pathname.startswith(PACKAGE) or str(record.name).partition(".")[0] == NAME:
            record.msg, record.args = one_line(record.getMessage()), ()
        return record

    vars(escaped)["escapes"] = True
    return escaped
