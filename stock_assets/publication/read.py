"""Reads what is published: now, or as of a moment. Knows neither the store nor a model."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl

from stock_assets.errors import PublicationError
from stock_assets.objects import Place, local_copy
from stock_assets.publication.layout import Entry, Kind, Pointer, digest_of, parse_json, path_of
from stock_assets.publication.ledger import files_of, read_ledger, read_pointer
from stock_assets.publication.tables import BARS_FILE, MONITORING, OUTCOMES_FILE, PREDICTIONS_FILE

__all__ = ["Publication", "after", "as_of", "chain_to", "open_publication", "read_ledger"]

_BY_KIND = {"predictions": PREDICTIONS_FILE, "bars": BARS_FILE, "outcomes": OUTCOMES_FILE}


@dataclass(frozen=True)
class Publication:
    """What `folder` says by `pointer`. Nothing of it changes: its files never do."""

    folder: Place
    pointer: Pointer

    def predictions(self, session: date) -> pl.DataFrame:
        """`PREDICTIONS_FILE` of a session; no row where none is published."""
        return self._session("predictions", session)

    def bars(self, session: date) -> pl.DataFrame:
        """`BARS_FILE` of a session; no row where none is published."""
        return self._session("bars", session)

    def outcomes(self, session: date) -> pl.DataFrame:
        """`OUTCOMES_FILE` of a session; no row before its labels are known."""
        return self._session("outcomes", session)

    def strongest(self, session: date, count: int = 5) -> pl.DataFrame:
        """rank, ticker, score, p_sell, p_hold, p_buy, model_version of the `count` highest and lowest scores
        of the model in service, by rank."""
        rows = self.predictions(session).filter(pl.col("model") == self.pointer.facts.in_service).sort("rank")
        rows = rows.filter((pl.col("rank") <= count) | (pl.col("rank") > rows.height - count))
        return rows.select("rank", "ticker", "score", "p_sell", "p_hold", "p_buy", "model_version")

    def monitoring(self, name: str) -> pl.DataFrame:
        """One of `MONITORING`; no row where it is not published. Raises KeyError for another name."""
        table = MONITORING[name]
        digest = self.pointer.files["monitoring"].get(name)
        if digest is None:
            return table.empty()
        return pl.read_parquet(BytesIO(self.content("monitoring", name, digest)))

    def card(self, version: str) -> dict[str, Any] | None:
        """The card of a model version; None where it has none."""
        digest = self.pointer.files["cards"].get(version)
        if digest is None:
            return None
        return parse_json(self.folder / path_of("cards", version, digest), self.content("cards", version, digest))

    def content(self, kind: Kind, key: str, digest: str) -> bytes:
        """A published file. Raises PublicationError where it is gone or is not what its name says."""
        path = self.folder / path_of(kind, key, digest)
        try:
            content = local_copy(path, lambda blob: digest_of(blob) == digest).read_bytes()
        except OSError as error:
            raise PublicationError(
                f"{path} cannot be read: {error.strerror}; publish again: materialize publication"
            ) from error
        if digest_of(content) != digest:
            raise PublicationError(
                f"{path} is damaged: its digest is {digest_of(content)}; remove it and publish again: materialize "
                "publication"
            )
        return content

    def file(self, kind: Kind, key: str, digest: str) -> Path:
        """A file of this machine with what `content` returns, for what scans several. Raises as that."""
        self.content(kind, key, digest)
        return local_copy(self.folder / path_of(kind, key, digest), lambda blob: digest_of(blob) == digest)

    def _session(self, kind: Kind, session: date) -> pl.DataFrame:
        digest = self.pointer.files[kind].get(str(session))
        if digest is None:
            return _BY_KIND[kind].empty()
        return pl.read_parquet(BytesIO(self.content(kind, str(session), digest)))


def open_publication(folder: Place) -> Publication | None:
    """What is published in `folder` now; None before anything was. Raises PublicationError for a damaged pointer."""
    pointer = read_pointer(folder)
    return None if pointer is None else Publication(folder, pointer)


def as_of(publication: Publication, ledger: list[Entry], moment: datetime) -> Publication | None:
    """What was published at `moment` (aware): `publication` with the files that were named until then.

    None where nothing was published yet. Entries that were written and never pointed to are no part of the chain.
    """
    chain = chain_to(ledger, publication.pointer.entry)
    count = bisect_right([entry.published_at for entry in chain], moment)
    return after(publication, chain[:count]) if count else None


def after(publication: Publication, chain: Sequence[Entry]) -> Publication:
    """What was published after the last entry of `chain`, the first entries of the way to `publication`."""
    last = chain[-1]
    pointer = replace(
        publication.pointer,
        entry=last.id,
        published_at=last.published_at,
        champions=last.champions,
        files=files_of(chain),
    )
    return Publication(publication.folder, pointer)


def chain_to(ledger: Iterable[Entry], newest: str) -> list[Entry]:
    """The entries that lead to `newest`, oldest first. Raises PublicationError where one of them is absent."""
    by_id: Mapping[str, Entry] = {entry.id: entry for entry in ledger}
    chain: list[Entry] = []
    at: str | None = newest
    while at is not None:
        if at not in by_id:
            raise PublicationError(
                f"the ledger lacks the entry {at}, which a later one names; restore it from a backup"
            )
        chain.append(by_id[at])
        at = by_id[at].previous
    return chain[::-1]
