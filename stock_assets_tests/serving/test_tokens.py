"""The file of tokens: what it holds, who may read it, and that a damaged one lets no client in."""

import hashlib
import os
import stat
from pathlib import Path

import pytest

from stock_assets.errors import SettingsError
from stock_assets.serving.tokens import TokenFile, add_token, holder_of, read_tokens


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


def write(file: Path, text: str) -> None:
    file.write_text(text)
    file.chmod(0o600)


def line(name: str, token: str, scopes: str = "read") -> str:
    return f"{name} sha256:{hashlib.sha256(token.encode()).hexdigest()} {scopes}\n"


def test_a_token_is_printed_once_and_stored_as_its_digest(file: Path):
    token = add_token(file, "desk", ("predict", "read"))
    other = add_token(file, "reports")
    assert token != other
    assert len(token) >= 43  # 256 bits
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert token not in file.read_text()
    assert file.read_text() == line("desk", token, "read,predict") + line("reports", other)
    desk, reports = read_tokens(file)
    assert (desk.name, desk.scopes) == ("desk", {"read", "predict"})
    assert (reports.name, reports.scopes) == ("reports", {"read"})


def test_the_holder_is_whose_digest_it_is(file: Path):
    token = add_token(file, "desk")
    tokens = read_tokens(file)
    assert holder_of(token, tokens) == tokens[0]
    for wrong in ("", token[:-1], token + "x", token.swapcase(), tokens[0].digest.hex(), "\udcff"):
        assert holder_of(wrong, tokens) is None


def test_comments_and_a_missing_last_newline_are_kept(file: Path):
    write(file, "# ours\n\n" + line("a", "1").strip())
    add_token(file, "b")
    assert file.read_text().startswith("# ours\n\n" + line("a", "1") + "b sha256:")
    assert [token.name for token in read_tokens(file)] == ["a", "b"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o644])
def test_a_file_that_others_reach_is_refused(file: Path, mode: int):
    write(file, line("a", "1"))
    file.chmod(mode)
    with pytest.raises(SettingsError, match=f"mode {mode:03o}.*chmod 600"):
        read_tokens(file)
    with pytest.raises(SettingsError, match="chmod 600"):
        add_token(file, "b")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "holds no token"),
        ("# nothing\n", "holds no token"),
        ("secret-in-plain-text\n", "line 1 is no token"),
        ("a sha256:12 read\n", "line 1 is no token"),
        (line("a", "1").replace("sha256:", ""), "line 1 is no token"),
        (line("a", "1", "read,write"), "line 1 is no token; expected .*read or predict"),
        (line("a", "1", "read,,predict"), "line 1 is no token"),
        (line("a/b", "1"), "line 1 is no token"),
        (line("a", "1") + line("a", "2"), "line 2 repeats"),
        (line("a", "1") + line("b", "1"), "line 2 repeats"),
        (line("a", "1") + line("b", "2")[:40], "line 2 is no token"),
    ],
)
def test_a_damaged_file_is_one_line_that_quotes_no_secret(file: Path, text: str, expected: str):
    write(file, text)
    with pytest.raises(SettingsError, match=expected) as caught:
        read_tokens(file)
    message = str(caught.value)
    assert str(file) in message
    assert "\n" not in message
    assert "secret-in-plain-text" not in message


def test_what_is_no_file_of_tokens_is_named(file: Path, tmp_path: Path):
    with pytest.raises(SettingsError, match="no such file; make a token"):
        read_tokens(file)
    with pytest.raises(SettingsError, match="cannot be read"):
        read_tokens(tmp_path)
    file.write_bytes(b"\xff\xfe")
    file.chmod(0o600)
    with pytest.raises(SettingsError, match="no UTF-8 text"):
        read_tokens(file)
    file.write_bytes(b"#" * 1_000_001)
    with pytest.raises(SettingsError, match="larger than 1 MB"):
        read_tokens(file)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    with pytest.raises(SettingsError, match="no regular file"):
        read_tokens(fifo)


@pytest.mark.parametrize("name", ["", "a b", "../a", "a\n", "é", "a" * 65, "-a"])
def test_a_name_that_fits_no_line_is_refused(file: Path, name: str):
    with pytest.raises(SettingsError, match="no name of a token"):
        add_token(file, name)
    assert not file.exists()


def test_a_name_or_scope_that_cannot_be_added_leaves_the_file_as_it_is(file: Path):
    add_token(file, "desk")
    before = file.read_bytes()
    with pytest.raises(SettingsError, match="holds a token desk already"):
        add_token(file, "desk")
    for scopes in ((), ("read", "write")):
        with pytest.raises(SettingsError, match="no scopes"):
            add_token(file, "other", scopes)
    assert file.read_bytes() == before


def test_the_file_is_read_again_when_it_changes(file: Path):
    first = add_token(file, "desk")
    tokens = TokenFile(file)
    assert holder_of(first, tokens.tokens())
    assert tokens.tokens() is tokens.tokens()
    second = add_token(file, "reports")
    assert holder_of(second, tokens.tokens())
    write(file, "".join(file.read_text().splitlines(keepends=True)[1:]))
    assert not holder_of(first, tokens.tokens())
    assert holder_of(second, tokens.tokens())


def test_a_file_that_is_damaged_on_the_way_lets_no_client_in(file: Path):
    add_token(file, "desk")
    tokens = TokenFile(file)
    content = file.read_bytes()
    tokens.tokens()
    file.chmod(0o644)
    for _ in range(2):
        with pytest.raises(SettingsError, match="chmod 600"):
            tokens.tokens()
    file.unlink()
    with pytest.raises(SettingsError, match="no such file"):
        tokens.tokens()
    write(file, content.decode())
    assert tokens.tokens()
