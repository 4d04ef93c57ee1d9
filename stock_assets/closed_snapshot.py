"""The note that a snapshot was closed by itself, in the data folder: the end of every process that sets none."""

import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stock_assets.files import write_file
from stock_assets.settings_file import Given

if TYPE_CHECKING:
    from stock_assets.settings import Settings

NAME = "closed_snapshot.json"


class Note(NamedTuple):
    """Until when a snapshot is."""

    snapshot: str
    """its path"""
    end: date
    """the session at which it was closed"""
    newest: date
    """the last session of its files when they were last read"""
    state: str
    """of its files then"""


def keep(data_dir: Path, note: Note) -> None:
    """Puts `note` in the place of the one that is there."""
    write_file(data_dir / NAME, json.dumps(note._asdict(), default=str).encode())


def forget(data_dir: Path) -> bool:
    """Removes the note; whether there was one."""
    was_present = (data_dir / NAME).exists()
    (data_dir / NAME).unlink(missing_ok=True)
    return was_present


def note_of(data_dir: Path, snapshot: Path | None) -> Note | None:
    """The note about `snapshot`; None where there is none, or a damaged one, which the next start makes again."""
    try:
        values = json.loads((data_dir / NAME).read_bytes())
        ends = {name: date.fromisoformat(values[name]) for name in ("end", "newest")}
        note = Note(snapshot=str(values["snapshot"]), state=str(values["state"]), **ends)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return note if note.snapshot == str(snapshot) else None


def noted_end(settings: "Settings") -> Given | None:
    """The end that the note states for a snapshot whose own is open; None where nothing is closed."""
    if settings.source != "snapshot" or settings.end is not None:
        return None
    note = note_of(settings.data_dir, settings.snapshot)
    return Given(note.end, str(note.end), str(settings.data_dir / NAME)) if note else None
