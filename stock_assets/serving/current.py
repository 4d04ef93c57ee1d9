"""What is served now: one object, replaced by a single assignment as soon as the pointer was renamed.

A request takes the object once, so that no answer holds something of two publications.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from email.utils import format_datetime
from functools import cached_property

from stock_assets.buckets import version_of
from stock_assets.errors import PublicationError
from stock_assets.objects import ObjectPath, Place
from stock_assets.publication.layout import POINTER, Facts, Pointer
from stock_assets.publication.read import Publication, open_publication
from stock_assets.serving.bodies import Bodies
from stock_assets.serving.days import DamagedFile, Day, Days, Files, relative
from stock_assets.serving.ledger import Chain, Ledger, after

log = logging.getLogger("stock_assets.serving")

#: Seconds between two looks at the pointer, each of two microseconds; a new publication answers well within 250 ms.
EVERY_SECONDS = 0.05
#: The same where the pointer is in a bucket: each look is a request.
EVERY_SECONDS_OF_A_BUCKET = 2.0
#: How long a publication that could not be read waits for the next try.
RETRY = timedelta(seconds=2)
#: Earlier publications that stay at hand, for `as_of` and cursors.
EARLIER = 8


@dataclass(frozen=True)
class Served:
    """A publication and what is read of it. Nothing of it changes but what it keeps at hand."""

    publication: Publication
    days: Days
    chain: Chain
    bodies: Bodies = field(default_factory=Bodies, compare=False, repr=False)
    """whole answers of this and other publications, ready to send"""
    earlier: "OrderedDict[int, Served]" = field(default_factory=OrderedDict, compare=False, repr=False)

    @property
    def pointer(self) -> Pointer:
        return self.publication.pointer

    @property
    def facts(self) -> Facts:
        return self.publication.pointer.facts

    @cached_property
    def sessions(self) -> tuple[date, ...]:
        """The sessions with predictions, ascending."""
        return self.pointer.sessions

    @property
    def newest(self) -> date | None:
        return self.sessions[-1] if self.sessions else None

    @cached_property
    def last_modified(self) -> str:
        """When it was published, as HTTP writes it."""
        return format_datetime(self.pointer.published_at, usegmt=True)

    @cached_property
    def code_version(self) -> str | None:
        """Of the entry that is served; None where the ledger lacks it."""
        return self.chain.entries[-1].code_version if self.chain.entries else None

    def published_at(self, session: date) -> datetime | None:
        """When the file of a session was named first; None where it is not published or the ledger is damaged."""
        key = str(session)
        entry = self.chain.published.get((key, self.pointer.files["predictions"].get(key, "")))
        return entry and entry.published_at

    async def day(self, session: date) -> Day | None:
        """A session; None where it has no predictions. One that is not in memory is read outside the event loop.

        Raises DamagedFile.
        """
        files = Files.of(self.pointer, session)
        if files is None:
            return None
        return self.days.get(files) or await asyncio.to_thread(self.days.read, self.publication, files)

    def in_memory(self) -> list[Day]:
        """The sessions that are in memory."""
        files = (Files.of(self.pointer, session) for session in self.sessions)
        return [day for file in files if file is not None and (day := self.days.get(file)) is not None]

    def day_now(self, session: date) -> Day | None:
        """As `day`, read at once. Raises DamagedFile."""
        files = Files.of(self.pointer, session)
        return None if files is None else self.days.read(self.publication, files)

    async def at_entry(self, place: int) -> "Served":
        """What was served after the entry at `place` of the chain; made outside the event loop, a few are kept."""
        if place == len(self.chain.entries) - 1:
            return self
        served_state = self.earlier.get(place)
        if served_state is None:
            served_state = await asyncio.to_thread(self._after, place)
            self.earlier[place] = served_state
            while len(self.earlier) > EARLIER:
                self.earlier.popitem(last=False)
        return served_state

    def _after(self, place: int) -> "Served":
        entries = self.chain.entries[: place + 1]
        return Served(after(self.publication, entries), self.days, Chain(entries), self.bodies)


class Current:
    """What the pointer of `folder` says, as far as it can be read.

    `served` is what answers; None before anything was published. `trouble` says why the pointer that lies in the folder
    is not what answers, or what of it cannot be; None when all is well.
    """

    def __init__(self, folder: Place, clock: Callable[[], datetime]) -> None:
        self.folder, self.clock = folder, clock
        self.served: Served | None = None
        self.trouble: str | None = None
        self.taken = 0
        """publications that came into service"""
        self.refused = 0
        """looks at a pointer that could not"""
        self._days, self._bodies, self._ledger = Days(), Bodies(), Ledger(folder)
        self._seen: object = None
        self._retry_at: datetime | None = None

    def changed(self) -> bool:
        """Whether the pointer is another file than at the last look, or is to be tried again."""
        return self._stamp() != self._seen or (self._retry_at is not None and self.clock() >= self._retry_at)

    def look(self) -> bool:
        """Reads the pointer where it changed; whether something else is served now."""
        if not self.changed():
            return False
        self._seen, before = self._stamp(), self.served
        try:
            served_state, self.trouble = self._read(before)
        except PublicationError as error:
            served_state, self.trouble = before, relative(error, self.folder)
        except OSError as error:
            served_state, self.trouble = before, f"{POINTER} cannot be read: {error.strerror}"
        self._retry_at = None if self.trouble is None else self.clock() + RETRY
        if self.trouble is not None:
            self.refused += served_state is before
            log.warning("%s", self.trouble)
        if served_state is before:
            return False
        self.served = served_state
        self.taken += 1
        return True

    def _read(self, before: Served | None) -> tuple[Served | None, str | None]:
        """What to serve, and what is wrong with it. Raises PublicationError where the pointer is not to be served."""
        publication = open_publication(self.folder)
        if publication is None:
            return before, None if before is None else f"{POINTER} is gone; the publication before it stays in service"
        chain = self._ledger.chain(publication.pointer.entry)
        served_state, trouble = Served(publication, self._days, chain, self._bodies), chain.trouble
        if before is not None and before.publication == publication and before.chain == chain:
            served_state = before
        if served_state.newest is not None:
            try:
                served_state.day_now(served_state.newest)
            except DamagedFile as error:
                if before is not None and before.publication != publication:
                    raise
                trouble = str(error)
        # here, in the watcher's thread, rather than in the first request
        _ = served_state.sessions, chain.published, chain.by_id
        self._days.keep(publication.pointer)
        return served_state, trouble

    def _stamp(self) -> object:
        """What tells one pointer from another; None where there is none."""
        pointer = self.folder / POINTER
        try:
            if isinstance(pointer, ObjectPath):
                return version_of(pointer.bucket, pointer.key)
            status = pointer.stat()
        except OSError:
            return "none"
        return status.st_mtime_ns, status.st_ino, status.st_size

    async def watch(self) -> None:
        """Looks at the pointer until it is cancelled, and reads the newest sessions into memory, the newest first."""
        filled_state: Served | None = None
        in_bucket = isinstance(self.folder, ObjectPath)
        while True:
            if in_bucket or self.changed():  # a request to a bucket must not hold up the event loop
                await asyncio.to_thread(self.look)
            if self.served is not filled_state and (filled_state := self.served) is not None:
                filled_state = filled_state if await asyncio.to_thread(self._fill, filled_state) else None
            await asyncio.sleep(EVERY_SECONDS_OF_A_BUCKET if in_bucket else EVERY_SECONDS)

    def _fill(self, served_state: Served) -> bool:
        """Reads the newest sessions into memory; False where something else is to be served meanwhile."""
        for files in self._days.keep(served_state.pointer):
            if self.changed():
                return False
            if self._days.is_full:
                break
            try:
                self._days.read(served_state.publication, files)
            except DamagedFile as error:
                log.warning("%s", error)  # whoever asks for the session is told
        return True
