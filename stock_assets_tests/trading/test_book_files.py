from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from stock_assets.errors import SettingsError
from stock_assets.settings import read_settings
from stock_assets.trading.book_files import RANGES, books_of, digest_of, read_books
from stock_assets.trading.books import BOOKS, LONG_ONLY, LONG_SHORT, Book, Costs, Limits


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "books.toml"
    file.write_text(text)
    return file


ONE = '[[book]]\nname = "one"\nkind = "long_short"\n'


def test_the_two_default_books_are_there_without_a_file():
    assert books_of(read_settings(books=None)) == BOOKS


def test_a_file_holds_every_field_of_a_book(tmp_path: Path):
    def toml(value: object) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, tuple):
            return str(list(value))
        return f'"{value}"' if isinstance(value, str) else repr(value)

    book = replace(LONG_SHORT, model="ensemble", sleeves=3, volatility_target=0.1, name="all_of_it")
    lines = ["[[book]]"]
    lines += [f"{k} = {toml(v)}" for k, v in asdict(book).items() if k not in ("costs", "limits")]
    for part in ("costs", "limits"):
        lines += [f"[book.{part}]", *(f"{key} = {toml(value)}" for key, value in asdict(book)[part].items())]
    assert read_books(written(tmp_path, "\n".join(lines))) == (book,)


def test_what_a_book_leaves_out_is_that_of_the_default_book_of_its_kind(tmp_path: Path):
    text = '[[book]]\nname = "mine"\nkind = "long_only"\ncosts = {commission = 0.001}\nlimits = {position = 0.5}\n'
    (book,) = read_books(written(tmp_path, text))
    assert book.limits == replace(LONG_ONLY.limits, position=0.5)
    assert book.costs == Costs(commission=0.001)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("books = 1", ("key books", "[[book]]")),
        ("", ("found None", "one table [[book]] or more")),
        ('[[book]]\nkind = "long_only"', ("book 1", "found no name", "expected a text")),
        ('[[book]]\nname = "one"', ("book one", "found no kind", "long_only or long_short")),
        ('[[book]]\nname = "one"\nkind = "short_only"', ("key kind", "found short_only", "long_only or long_short")),
        (ONE + "sleeve = 3", ("book one", "the key sleeve", "sleeves")),
        (ONE + "sleeves = 2.5", ("key sleeves", "found 2.5", "a whole number from 1 to 60")),
        (ONE + "sleeves = true", ("key sleeves", "found True", "a whole number")),
        (ONE + "whole_shares = 1", ("key whole_shares", "found 1", "true or false")),
        (ONE + "capital = 0", ("key capital", "found 0", "from 1 to 1e+15")),
        (ONE + "capital = nan", ("key capital", "found nan", "a number")),
        (ONE + 'capital = "much"', ("key capital", "found much", "a number")),
        (ONE + 'model = "oracle"', ("key model", "found oracle", "rnn", "ensemble")),
        (ONE + "costs = 3", ("key costs", "found 3", "a table")),
        (ONE + "costs = {spread = 1}", ("the key costs.spread", "costs.commission")),
        (ONE + "costs = {commission = -0.1}", ("key costs.commission", "found -0.1", "from 0 to 0.1")),
        (ONE + "costs = {half_spreads = [0.1]}", ("key costs.half_spreads", "a list of 5 numbers")),
        (ONE + "limits = {position = 3.0}", ("key limits.position", "found 3.0", "to 1")),
        (ONE + "limits = {gross = 0.001}", ("key limits.position", "at most gross")),
        (ONE.replace("one", "a" * 21), ("key name", "1 to 20 of")),
        (ONE.replace("one", "No name"), ("key name", "1 to 20 of")),
        (ONE.replace("short", "only") + "limits = {gross = 2.0}", ("key limits.gross", "at most 1 of a long_only")),
        (ONE + ONE, ("book one", "the name twice", "one book of a name")),
        ("[[book]", ("cannot be read as TOML",)),
    ],
)
def test_a_wrong_file_is_one_error_with_file_book_key_found_and_expected(
    tmp_path: Path, text: str, named: tuple[str, ...]
):
    file = written(tmp_path, text)
    with pytest.raises(SettingsError) as raised:
        read_books(file)
    message = str(raised.value)
    assert all(part in message for part in (str(file), *named)), message
    assert len(message.splitlines()) == 1


def test_the_book_of_the_account_is_one_of_the_books(tmp_path: Path):
    file = written(tmp_path, ONE)
    with pytest.raises(SettingsError, match="PAPER_BOOK=long_only is none of the books one"):
        books_of(read_settings(books=file))
    assert [book.name for book in books_of(read_settings(books=file, broker="off"))] == ["one"]
    assert [book.name for book in books_of(read_settings(books=file, paper_book="one"))] == ["one"]


def test_every_range_is_that_of_a_field():
    names = {field.name for kind in (Book, Costs, Limits) for field in fields(kind)}
    assert set(RANGES) <= names


def test_the_digest_follows_every_field():
    changed = [replace(LONG_ONLY, sleeves=2), replace(LONG_ONLY, costs=Costs(borrow=0.1)), LONG_SHORT]
    assert len({digest_of(book) for book in (LONG_ONLY, *changed)}) == 4
    assert digest_of(replace(LONG_ONLY, model="rnn")) == digest_of(LONG_ONLY)


def test_books_of_bars_have_their_own_defaults_kinds_and_models(tmp_path: Path):
    """Below a day `by_sign` is a kind, and what a book leaves out is as in the book of bars of its kind."""
    hours = read_settings(data_dir=tmp_path, interval="1h")
    assert [book.name for book in books_of(hours)] == ["by_sign", "long_only"]
    text = '[[book]]\nname = "mine"\nkind = "by_sign"\nmodel = "trees"\ncosts = {impact = 0.5}\n'
    (mine,) = books_of(hours.model_copy(update={"books": written(tmp_path, text)}))
    assert (mine.whole_shares, mine.costs.half_spreads, mine.costs.impact) == (False, (0.0005,) * 5, 0.5)
    for wrong, found in (
        (text.replace("mine", "hold"), "the name of a baseline"),
        (text.replace("trees", "rnn"), "found rnn"),
        (text + "volatility_target = 0.1\n", "found 0.1"),
    ):
        changed = hours.model_copy(update={"books": written(tmp_path, wrong.replace("costs = {impact = 0.5}\n", ""))})
        with pytest.raises(SettingsError, match=found):
            books_of(changed)
    with pytest.raises(SettingsError, match="found by_sign, expected long_only or long_short"):
        read_books(written(tmp_path, text.replace('model = "trees"\n', "")))
