"""The parameters of the routes: how each is read, what else is an error, and how OpenAPI describes it.

A value is read strictly: a date is ten characters that name a day, a moment has its zone. A parameter that the route
does not have, or that is given twice, is an error, so that a misspelt `sesion` never answers for the latest session.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any, Literal
from urllib.parse import parse_qsl

from starlette.requests import Request

from stock_assets.publication.tables import MONITORING
from stock_assets.serving.problems import Problem, quoted, wrong
from stock_assets.tickers import EXPECTED as EXPECTED_TICKER
from stock_assets.tickers import is_ticker

LATEST = "latest"
#: Tickers of one list; more are asked for as a batch.
MOST_TICKERS = 100
_COMMON_YEAR = (
    "[12][0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_LEAP_DAY = "(?:[12][0-9](?:0[48]|[2468][048]|[13579][26])|(?:12|16|20|24|28)00)-02-29"
#: A day of the calendar, as OpenAPI can say it: no month has a 31st that it lacks.
DATE = f"{_COMMON_YEAR}|{_LEAP_DAY}"
TICKER = r"[A-Za-z0-9.^=/:_&\-]{1,32}"
MODEL = r"[A-Za-z][A-Za-z0-9_.\-]{0,63}"
VERSION = r"[A-Za-z][A-Za-z0-9_.\-]{0,127}"
ENTRY = r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z-[0-9a-f]{8}"
CURSOR = r"[A-Za-z0-9_\-]{1,600}"
MOMENT = (
    rf"(?:{DATE})[Tt ](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{{1,9}})?"
    r"(?:[Zz]|[+\-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)

A_DAY = "a day as YYYY-MM-DD, such as 2026-11-20"
A_SESSION = f"latest, or {A_DAY}"


@dataclass(frozen=True)
class Parameter:
    """One parameter of a route. `read` makes the value of its text, and raises ValueError for a wrong one."""

    name: str
    text: str
    expected: str
    read: Callable[[str], Any]
    schema: Mapping[str, Any]
    place: Literal["path", "query"] = "query"
    style: Mapping[str, Any] = field(default_factory=dict)
    default: Any = None
    example: str | None = None

    def value(self, text: str) -> Any:
        """Raises Problem for a value that the parameter may not have."""
        try:
            return self.read(text)
        except ValueError:
            raise wrong(self.name, text, self.expected) from None

    def openapi(self) -> dict[str, Any]:
        description = {"name": self.name, "in": self.place, "description": self.text, "required": self.place == "path"}
        return {
            **description,
            **self.style,
            "schema": dict(self.schema),
            **({"example": self.example} if self.example else {}),
        }


def matching(pattern: str, make: Callable[[str], Any] = str) -> Callable[[str], Any]:
    """Reads what `pattern` matches as a whole."""
    expression = re.compile(pattern)

    def read(text: str) -> Any:
        if expression.fullmatch(text) is None:
            raise ValueError(text)
        return make(text)

    return read


def read_ticker(text: str) -> str:
    if not is_ticker(text):
        raise ValueError(text)
    return text


def read_tickers(text: str) -> tuple[str, ...]:
    """Tickers separated by commas, each once, in their order."""
    tickers = text.split(",")
    if len(tickers) > MOST_TICKERS:
        raise ValueError(text)
    return tuple(dict.fromkeys(map(read_ticker, tickers)))


def read_moment(text: str) -> datetime:
    """A moment with its zone, in UTC.

    >>> read_moment("2026-11-20T18:00:00-05:00").isoformat()
    '2026-11-20T23:00:00+00:00'
    """
    if _MOMENT.fullmatch(text) is None:
        raise ValueError(text)
    return datetime.fromisoformat(_BEYOND_MICROSECONDS.sub(r"\1", text.upper())).astimezone(UTC)


def between(low: int, high: int) -> Callable[[str], int]:
    """Reads a whole number from `low` to `high`."""

    def read(text: str) -> int:
        if _NUMBER.fullmatch(text) is None or not low <= int(text) <= high:
            raise ValueError(text)
        return int(text)

    return read


_MOMENT, _NUMBER = re.compile(MOMENT), re.compile("0|[1-9][0-9]{0,8}")
_BEYOND_MICROSECONDS = re.compile(r"(\.[0-9]{6})[0-9]+")
read_day = matching(DATE, date.fromisoformat)


def read_session(text: str) -> date | None:
    """A day; None for the latest session."""
    return None if text == LATEST else read_day(text)


def _strings(pattern: str, **options: object) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^(?:{pattern})$", **options}


_TICKER_SCHEMA = _strings(f"(?=.*[A-Za-z0-9]){TICKER}")
TICKER_OF_PATH = Parameter(
    "ticker",
    "the ticker as the source spells it, percent-encoded: `%5EGSPC` for ^GSPC, `BTC%2FUSD` for BTC/USD",
    EXPECTED_TICKER,
    read_ticker,
    _TICKER_SCHEMA,
    place="path",
    example="AAPL",
)
SESSION = Parameter(
    "session",
    "the session: a day in the exchange's own time zone, or `latest`, which the answer resolves",
    A_SESSION,
    read_session,
    _strings(f"latest|{DATE}", default=LATEST),
)
SESSION_OF_PATH = Parameter(
    "session", SESSION.text, A_SESSION, read_session, SESSION.schema, place="path", example=LATEST
)
DAY_OF_PATH = Parameter(
    "date",
    "a day in the exchange's own time zone, or `latest`, the newest session that is published",
    A_SESSION,
    read_session,
    _strings(f"latest|{DATE}"),
    place="path",
    example=LATEST,
)
MODEL_NAME = Parameter(
    "model",
    "the model; that in service when none is named",
    "the name of a model, such as rnn",
    matching(MODEL),
    _strings(MODEL),
)
AS_OF = Parameter(
    "as_of",
    "answer as the server would have at this moment, with its zone: what was published by then. A `+` is `%2B` in an "
    "address",
    "a moment with its zone, such as 2026-11-20T23:00:00Z (a + is %2B in an address)",
    read_moment,
    _strings(MOMENT),
)
TICKERS = Parameter(
    "tickers",
    f"these alone, separated by commas, at most {MOST_TICKERS}",
    f"1 to {MOST_TICKERS} tickers separated by commas, each of {EXPECTED_TICKER}",
    read_tickers,
    {"type": "array", "items": _TICKER_SCHEMA, "minItems": 1, "maxItems": MOST_TICKERS},
    style={"style": "form", "explode": False},
)
FIRST = Parameter("from", "the first session of the range", A_DAY, read_day, _strings(DATE))
LAST = Parameter("to", "the last session of the range, included", A_DAY, read_day, _strings(DATE))
CURSOR_OF_PAGE = Parameter(
    "cursor",
    "`next` of the page before; the further pages are of the same publication",
    "next of the page before",
    matching(CURSOR),
    _strings(CURSOR),
)


def limit(upper_bound: int, default: int) -> Parameter:
    """How many rows a page holds at most."""
    return Parameter(
        "limit",
        f"rows of a page, 1 to {upper_bound}",
        f"a whole number from 1 to {upper_bound}",
        between(1, upper_bound),
        {"type": "integer", "minimum": 1, "maximum": upper_bound, "default": default},
        default=default,
    )


def top(upper_bound: int, default: int) -> Parameter:
    """How many tickers of each end of an order."""
    return replace(limit(upper_bound, default), name="top", text=f"tickers of each end, 1 to {upper_bound}")


def one_of(name: str, text: str, values: tuple[str, ...]) -> Parameter:
    """A part of the path that is one of `values`."""
    choice = "|".join(map(re.escape, values))
    return Parameter(
        name, text, f"one of {', '.join(values)}", matching(choice), {"type": "string", "enum": [*values]}, place="path"
    )


NAME_OF_PATH = Parameter(
    "name", "the model", MODEL_NAME.expected, MODEL_NAME.read, MODEL_NAME.schema, place="path", example="rnn"
)
VERSION_OF_PATH = Parameter(
    "version",
    "the model version",
    "the name of a model version, such as rnn-2025-12-31-0a0a0a0a",
    matching(VERSION),
    _strings(VERSION),
    place="path",
)
ENTRY_OF_PATH = Parameter(
    "id",
    "the entry of the ledger",
    "the name of an entry, such as 20261120T213000.000000Z-e3b0c442",
    matching(ENTRY),
    _strings(ENTRY),
    place="path",
)
OF_SESSION = Parameter("session", "the entries that published this session", A_DAY, read_day, _strings(DATE))
TABLE = one_of("name", "the monitoring table", (*MONITORING, "skill", "alerts", "freshness"))


@dataclass(frozen=True)
class Parameters:
    """Those of one route."""

    declared: tuple[Parameter, ...] = ()
    query: Mapping[str, Parameter] = field(init=False, repr=False)
    path: tuple[Parameter, ...] = field(init=False, repr=False)
    defaults: Mapping[str, Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        queries = {parameter.name: parameter for parameter in self.declared if parameter.place == "query"}
        object.__setattr__(self, "query", queries)
        object.__setattr__(self, "path", tuple(parameter for parameter in self.declared if parameter.place == "path"))
        object.__setattr__(self, "defaults", {name: parameter.default for name, parameter in queries.items()})

    def of(self, request: Request) -> dict[str, Any]:
        """The values of `request`, the defaults for what it leaves out.

        Raises Problem for a wrong value, for a parameter that is given twice and for one that the route lacks.
        """
        values = dict(self.defaults)
        parts = request.scope["path_params"]
        for parameter in self.path:
            values[parameter.name] = parameter.value(parts[parameter.name])
        query = request.scope["query_string"]
        if query:
            given_names: set[str] = set()
            for name, text in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
                parameter = self.query.get(name)
                if parameter is None:
                    raise self._unknown(name)
                if name in given_names:
                    raise Problem("wrong-parameter", f"{name} is given twice; expected it once", parameter=name)
                given_names.add(name)
                values[name] = parameter.value(text)
        return values

    def openapi(self) -> list[dict[str, Any]]:
        """The parameters as OpenAPI describes them."""
        return [parameter.openapi() for parameter in self.declared]

    def _unknown(self, name: str) -> Problem:
        expected = f"one of {', '.join(self.query)}" if self.query else "none"
        detail = f"there is no parameter {quoted(name)}; expected {expected}"
        return Problem("wrong-parameter", detail, parameter=name[:40], expected=expected)
