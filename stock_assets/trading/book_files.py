"""Books as a person configures them: one TOML file, checked once, every field by name, type and range.

    [[book]]
    name = "patient"
    kind = "long_only"
    sleeves = 7
    costs = {commission = 0.0001}
    limits = {position = 0.05}

What a book leaves out is as in the default book of its kind.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, asdict, fields, replace
from math import inf, isfinite
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from stock_assets.errors import SettingsError
from stock_assets.escape import shortened
from stock_assets.model.registry import ENSEMBLE, IN_SERVICE, models_of, named
from stock_assets.settings import Settings
from stock_assets.settings_file import PREFIX
from stock_assets.trading.books import BAR_BOOKS, BAR_KINDS, BOOKS, EQUAL_WEIGHT, HOLD, Book, Costs

#: A name of a book: it stands in the names of orders, which a broker limits to 48 characters.
NAME = "^[a-z][a-z0-9_]{0,19}$"
MOST_BYTES = 1_000_000
#: The smallest and the largest value of a field; every other number is at least 0.
RANGES: Mapping[str, tuple[float, float]] = {
    "capital": (1.0, 1e15),
    "sleeves": (1, 60),
    "volatility_target": (0.001, 2.0),
    "commission": (0.0, 0.1),
    "sale_fee": (0.0, 0.1),
    "half_spreads": (0.0, 0.1),
    "open_factor": (0.0, 100.0),
    "spread_scale": (0.0, 100.0),
    "impact": (0.0, 100.0),
    "participation": (1e-6, 1.0),
    "borrow": (0.0, 10.0),
    "borrow_hard": (0.0, 10.0),
    "credit": (-1.0, 1.0),
    "debit": (-1.0, 1.0),
    "ending": (-1.0, 10.0),
    "position": (1e-6, 1.0),
    "sector_net": (0.0, 10.0),
    "gross": (1e-6, 10.0),
    "fewest_names": (1, 100_000),
    "frozen_sessions": (1, 1000),
    "ended_sessions": (1, 1000),
}


def books_of(settings: Settings) -> tuple[Book, ...]:
    """The books that `settings` names: those of the file, or the default ones of the interval.

    Raises SettingsError that names the file, the book, the key, what was found and what was expected.
    """
    if settings.interval != "1d":
        return BAR_BOOKS if settings.books is None else _bar_books(settings.books)
    books = BOOKS if settings.books is None else read_books(settings.books)
    if settings.broker != "off" and settings.paper_book not in (names := [book.name for book in books]):
        raise SettingsError(
            f"{PREFIX}PAPER_BOOK={settings.paper_book} is none of the books {', '.join(names)}; expected one of them, "
            f"or {PREFIX}BROKER=off"
        )
    return books


def _bar_books(file: Path) -> tuple[Book, ...]:
    """The books of `file` of a market of bars below a day."""
    from stock_assets.model.bar_models import BAR_MODELS

    books = read_books(file, BAR_KINDS, list(BAR_MODELS))
    for book in books:
        if book.name in (HOLD, EQUAL_WEIGHT):
            raise SettingsError(f"{file}, book {book.name}: found the name of a baseline of bars, expected another one")
        if book.volatility_target is not None:
            raise SettingsError(
                f"{file}, book {book.name}, key volatility_target: found {book.volatility_target}, expected none: a "
                "book of bars has no target of its sessions"
            )
    return books


def read_books(file: Path, kinds: Sequence[Book] = BOOKS, models: Sequence[str] | None = None) -> tuple[Book, ...]:
    """The books of `file`, in its order. `kinds` has the default of every kind, and `models` those that a book may
    follow: unset, those of a day. Raises SettingsError as `books_of`."""
    try:
        if file.stat().st_size > MOST_BYTES:
            raise SettingsError(f"{file}: found {file.stat().st_size:,} bytes, expected a file of at most {MOST_BYTES}")
        content = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(f"{file} cannot be read as TOML: {error}") from error
    if stray := sorted(set(content) - {"book"}):
        raise SettingsError(f"{file}: found the key {_short_text(stray[0])}, expected tables [[book]] alone")
    tables = content.get("book")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise SettingsError(f"{file}: found {_short_text(tables)}, expected one table [[book]] or more")
    books: dict[str, Book] = {}
    for number, table in enumerate(tables, 1):
        place = f"{file}, book {_short_text(table.get('name', number))}"
        book = book_of(table, place, kinds=kinds, models=models)
        if book.name in books:
            raise SettingsError(f"{file}, book {book.name}: found the name twice, expected one book of a name")
        books[book.name] = book
    return tuple(books.values())


def book_of(
    values: Mapping[str, Any], place: str, *, kinds: Sequence[Book] = BOOKS, models: Sequence[str] | None = None
) -> Book:
    """The book of `values`, by field; `kinds` and `models` as `read_books`. Raises SettingsError that begins with
    `place`.

    >>> book_of({"name": "one", "kind": "long_only", "limits": {"gross": 1.0}}, "books.toml, book one").limits.gross
    1.0
    """
    names: list[object] = [book.kind for book in kinds]
    if (kind := values.get("kind")) not in names:
        problem = f"{place}, key kind: found {_short_text(kind)}" if "kind" in values else f"{place}: found no kind"
        raise SettingsError(f"{problem}, expected {named(map(str, names))}")
    own = _values_of(Book, {key: value for key, value in values.items() if key not in ("costs", "limits")}, place)
    default = next(book for book in kinds if book.kind == own["kind"])
    parts = {}
    for name, defaults in (("costs", default.costs), ("limits", default.limits)):
        if not isinstance(part := values.get(name, {}), dict):
            raise SettingsError(f"{place}, key {name}: found {_short_text(part)}, expected a table")
        parts[name] = replace(defaults, **_values_of(type(defaults), part, place, prefix=f"{name}."))
    book = replace(default, **own, **parts)
    models = [*models_of("champion", "naive"), ENSEMBLE] if models is None else models
    _require(
        re.fullmatch(NAME, book.name),
        place,
        "name",
        value=book.name,
        expected="1 to 20 of a-z, 0-9 and _, a letter first",
    )
    _require(
        book.model is None or book.model in models,
        place,
        "model",
        value=book.model,
        expected=f"one of {', '.join(models)}",
    )
    if book.kind == "long_only":
        _require(
            book.limits.gross <= 1,
            place,
            "limits.gross",
            value=book.limits.gross,
            expected="at most 1 of a long_only book",
        )
    _require(
        book.limits.position <= book.limits.gross,
        place,
        "limits.position",
        value=book.limits.position,
        expected="at most gross",
    )
    return book


def model_of(book: Book) -> str:
    """The model whose scores `book` follows."""
    return book.model or IN_SERVICE


def digest_of(book: Book) -> str:
    """12 letters that differ where any field of `book` does: rows made under other settings are not continued.

    >>> from dataclasses import replace
    >>> digest_of(BOOKS[0]) == digest_of(replace(BOOKS[0], capital=2.0))
    False
    """
    content = json.dumps(asdict(book) | {"model": model_of(book)}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _values_of(kind: type, values: Mapping[str, Any], place: str, *, prefix: str = "") -> dict[str, Any]:
    """`values` in the types of the fields of the dataclass `kind`."""
    by_name: dict[str, Field[Any]] = {field.name: field for field in fields(kind)}
    hints = get_type_hints(kind)
    if unknown := sorted(set(values) - set(by_name)):
        key_names = ", ".join(prefix + name for name in by_name)
        raise SettingsError(f"{place}: found the key {prefix}{_short_text(unknown[0])}, expected one of {key_names}")
    for name, field in by_name.items():
        required = field.default is MISSING and field.default_factory is MISSING
        if required and name not in values:
            raise SettingsError(f"{place}: found no {prefix}{name}, expected {_expected(name, hints[name])}")
    return {
        name: _value(name, hints[name], value, place=f"{place}, key {prefix}{name}") for name, value in values.items()
    }


def _value(name: str, hint: Any, written_value: object, *, place: str) -> object:
    """`written_value` as a value of the type `hint`, within RANGES."""
    options = get_args(hint) if get_origin(hint) is UnionType else (hint,)
    of_type = next((option for option in options if option is not type(None)), hint)
    value = written_value
    if get_origin(of_type) is tuple:
        fits = (
            isinstance(written_value, list)
            and len(written_value) == len(Costs().half_spreads)
            and all(map(_is_number, written_value))
        )
        value = tuple(map(float, written_value)) if fits and isinstance(written_value, list) else None
        numbers = value or ()
    elif get_origin(of_type) is Literal:
        fits, numbers = written_value in get_args(of_type), ()
    elif of_type is float:
        fits, numbers = _is_number(written_value), (written_value,)
        value = float(written_value) if fits else None  # pyright: ignore[reportArgumentType]: it is a number
    else:
        fits = isinstance(written_value, of_type) and (of_type is bool or not isinstance(written_value, bool))
        numbers = (written_value,) if of_type is int else ()
    low, high = RANGES.get(name, (0, inf))
    if not fits or not all(low <= number <= high for number in numbers):  # pyright: ignore[reportOperatorIssue]
        raise SettingsError(f"{place}: found {_short_text(written_value)}, expected {_expected(name, of_type)}")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _expected(name: str, hint: Any) -> str:
    """What a field may hold, in words."""
    low, high = RANGES.get(name, (0, inf))
    bounds = f"from {low:g} to {high:g}" if high < inf else f"of {low:g} or more"
    if get_origin(hint) is Literal:
        return named(get_args(hint))
    if get_origin(hint) is tuple:
        return f"a list of {len(Costs().half_spreads)} numbers {bounds}, the least traded fifth first"
    if hint is bool:
        return "true or false"
    if hint is str:
        return "a text"
    return f"a {'whole number' if hint is int else 'number'} {bounds}"


def _require(holds: object, place: str, key: str, *, value: object, expected: str) -> None:
    if not holds:
        raise SettingsError(f"{place}, key {key}: found {_short_text(value)}, expected {expected}")


def _short_text(value: object) -> str:
    return shortened(value if isinstance(value, str) else repr(value), 80)
