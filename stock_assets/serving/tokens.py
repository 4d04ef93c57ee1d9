"""The tokens of the API's clients: a file of their names, digests and scopes, never of the tokens themselves.

    # name   digest of the token                                                        scopes
    reports  sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08    read
    desk     sha256:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752    read,predict

A token has 256 random bits, so that a plain digest of it cannot be reversed. `stock-assets token NAME` makes one.
"""

import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from stock_assets.errors import SettingsError
from stock_assets.files import PRIVATE, first_line, locked, write_file
from stock_assets.settings_file import PREFIX

#: `read`: everything that is published. `predict`: predictions on demand, which take the machine's time.
SCOPES = ("read", "predict")
SETTING = f"{PREFIX}API_TOKENS"
#: Far more than there are clients, in bytes.
LARGEST_FILE = 1_000_000
_LINE = re.compile(r"(?P<name>\S+)\s+sha256:(?P<digest>[0-9a-f]{64})\s+(?P<scopes>\S+)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Token:
    """One line of the file."""

    name: str
    digest: bytes
    """the SHA-256 of the token, 32 bytes"""
    scopes: frozenset[str]


def digest_of(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()


def holder_of(offer: str, tokens: Iterable[Token]) -> Token | None:
    """The token that `offer` is, in a time that tells neither which nor how much of it is right."""
    digest, match = digest_of(offer), None
    for token in tokens:
        if hmac.compare_digest(digest, token.digest):
            match = token
    return match


def read_tokens(path: Path) -> tuple[Token, ...]:
    """The tokens of the file at `path`, one or more.

    Raises SettingsError, one line that names the file and what to do, where there is none, where others may read or
    write it, or where a line of it is no token.
    """
    tokens = _parse(path, _content(path))
    if not tokens:
        raise _token_file_error(path, "it holds no token; make one: stock-assets token NAME")
    return tokens


def _content(path: Path) -> bytes:
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            _require_private(path, os.fstat(file.fileno()))
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise _token_file_error(path, "there is no such file; make a token: stock-assets token NAME") from None
    except OSError as error:
        raise _token_file_error(path, f"it cannot be read: {first_line(error)}") from None
    if len(content) > LARGEST_FILE:
        raise _token_file_error(path, f"it is larger than {LARGEST_FILE / 1e6:g} MB; expected a line per token")
    return content


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe in the place of the file would be waited for


def _require_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _token_file_error(path, "it is no regular file; expected a file with a line per token")
    if stat.S_IMODE(status.st_mode) & PRIVATE:
        mode = f"{stat.S_IMODE(status.st_mode):03o}"
        raise _token_file_error(path, f"other users can read or write it (mode {mode}); close it: chmod 600 {path}")


def _parse(path: Path, content: bytes) -> tuple[Token, ...]:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise _token_file_error(
            path, "it is no UTF-8 text; expected a line per token: NAME sha256:DIGEST SCOPES"
        ) from None
    tokens: dict[str, Token] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = _LINE.fullmatch(line.strip())
        scopes = frozenset(parts["scopes"].split(",")) if parts else frozenset()
        if parts is None or not _NAME.fullmatch(parts["name"]) or not scopes <= {*SCOPES}:
            # the line is not quoted: a person may have put a token there
            raise _token_file_error(
                path, f"line {number} is no token; expected NAME sha256:DIGEST SCOPES, {_scopes_text()}"
            )
        token = Token(parts["name"], bytes.fromhex(parts["digest"]), scopes)
        if token.name in tokens or any(token.digest == other.digest for other in tokens.values()):
            raise _token_file_error(
                path, f"line {number} repeats the name or the digest of a line before; remove one of them"
            )
        tokens[token.name] = token
    return tuple(tokens.values())


def _scopes_text() -> str:
    return f"with the scopes {' or '.join(SCOPES)}, or both with a comma between"


def _token_file_error(path: Path, fault: str) -> SettingsError:
    return SettingsError(f"{SETTING}={path} is wrong: {fault}")


class TokenFile:
    """The tokens of a file, read again when it changes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, ...] | None = None
        self._content: tuple[Token, ...] | SettingsError = ()

    def tokens(self) -> tuple[Token, ...]:
        """As `read_tokens`. Raises SettingsError as well: what a damaged file held before counts no longer."""
        state = self._state()
        if state is None or state != self._seen:
            try:
                self._content = read_tokens(self.path)
            except SettingsError as error:
                self._content = error
            self._seen = state
        if isinstance(self._content, SettingsError):
            raise self._content
        return self._content

    def _state(self) -> tuple[int, ...] | None:
        """What changes with every change of the file or its mode; None where it cannot be seen."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_ctime_ns, status.st_size


def add_token(path: Path, name: str, scopes: Collection[str] = ("read",)) -> str:
    """Makes a token, appends its line to the file at `path`, which is made where there is none, and returns the token.

    It is stored nowhere. Raises SettingsError for a name that the file holds or that cannot be one, for an unknown
    scope, and for a damaged file.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(f"{name!r} is no name of a token; expected up to 64 letters, digits, points, _ and -")
    if not scopes or not {*scopes} <= {*SCOPES}:
        raise SettingsError(f"{','.join(scopes)!r} are no scopes; expected {_scopes_text()}")
    token = secrets.token_urlsafe(32)
    with locked(path.with_name(f".{path.name}.lock")):
        before = _content(path) if path.exists() else b""
        if name in {other.name for other in _parse(path, before)}:
            raise SettingsError(f"{path} holds a token {name} already; remove its line first, or take another name")
        line = f"{name} sha256:{digest_of(token).hex()} {','.join(scope for scope in SCOPES if scope in scopes)}\n"
        separator = b"" if not before or before.endswith(b"\n") else b"\n"
        write_file(path, before + separator + line.encode())
    return token
