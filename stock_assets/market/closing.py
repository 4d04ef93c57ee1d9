"""A snapshot without STOCK_ASSETS_END whose files end long ago is closed at their last session, until newer rows come.

`make run` decides it and keeps it in a note in the data folder (`stock_assets.closed_snapshot`); every process reads
its end from there.
"""

import hashlib
from datetime import date, datetime
from typing import TYPE_CHECKING

from stock_assets.closed_snapshot import Note, keep, note_of
from stock_assets.errors import SettingsError
from stock_assets.market.sources.forms.listing import list_files
from stock_assets.market.sources.registry import make_source
from stock_assets.settings import Settings

if TYPE_CHECKING:
    from stock_assets.market.sources.snapshot import SnapshotSource

#: Sessions that an open snapshot may lack: its files come once a week or less often.
WEEKS_TO_COME = 10


def close_where_old(settings: Settings, source: "SnapshotSource", now: datetime) -> date | None:
    """The last session of `source` where its END is open and more than some weeks have passed since; a note of it is
    kept. None where the snapshot goes on, or its end is set.

    Raises SettingsError, which names the setting, where the files end before the end that is set, or begin weeks after
    the start.
    """
    first, last = source.span()
    due_session = min(source.calendar.last_closed(now) or source.end, source.end)
    after = [day for day in source.calendar.between(last, due_session) if day > last]
    if settings.end is not None and after:
        raise SettingsError(
            f"the bars of {source.path} end on {last}, {len(after)} session(s) before {due_session}, and "
            f"STOCK_ASSETS_END={settings.end}; set STOCK_ASSETS_END={last}, or add newer files"
        )
    before = [day for day in source.calendar.between(source.start, first) if day < first]
    if len(before) > WEEKS_TO_COME:
        raise SettingsError(
            f"the bars of {source.path} begin on {first}, {len(before)} sessions after STOCK_ASSETS_START="
            f"{settings.start}; set STOCK_ASSETS_START={first}, or add older files"
        )
    if len(after) <= WEEKS_TO_COME:
        return None
    keep(settings.data_dir, Note(str(settings.snapshot), last, last, _state(settings)))
    return last


def newer_session(settings: Settings) -> date | None:
    """The last session of the files where they have got newer ones since the snapshot was closed by itself, else None.

    Files that are as they were are not read. Raises SourceError for files that have changed and cannot be read.
    """
    note = note_of(settings.data_dir, settings.snapshot)
    if note is None or note.end != settings.end:
        return None
    if (state := _state(settings)) != note.state:
        from stock_assets.market.sources.snapshot import SnapshotSource  # every tick imports this module

        source = make_source(settings.model_copy(update={"end": None}), lambda _: None)
        assert isinstance(source, SnapshotSource)
        note = note._replace(newest=source.span()[1], state=state)
        keep(settings.data_dir, note)
    return note.newest if note.newest > note.end else None


def _state(settings: Settings) -> str:
    """Another one when a file has come, gone or changed."""
    assert settings.snapshot is not None
    return hashlib.sha256(repr(list_files(settings.snapshot)).encode()).hexdigest()
