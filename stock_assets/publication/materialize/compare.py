"""Whether what is published is what the store holds, and whether its files are still there."""

from collections.abc import Collection, Iterable, Sequence
from datetime import date

import polars as pl

from stock_assets.errors import PublicationError, PublicationFormError
from stock_assets.lifecycle.materialize import partitions
from stock_assets.lifecycle.partitions import Stored
from stock_assets.model.materialize.versions import by_year
from stock_assets.model.tables import PREDICTIONS
from stock_assets.objects import Place, found_below, name_below
from stock_assets.publication.layout import BY_SESSION, FOLDER, KINDS, LEDGER, path_of
from stock_assets.publication.ledger import read_pointer
from stock_assets.publication.read import Publication
from stock_assets.storage.warehouse import Warehouse

_KEYS = ["session", "ticker", "model"]


def differing_rows(store: Warehouse, publication: Publication, sessions: Sequence[date]) -> pl.DataFrame:
    """session, ticker, model of the predictions of `sessions`, ascending, that the store and the published files, read
    back, do not hold alike, sorted.

    Raises PublicationError where a file is gone or damaged.
    """
    found = [PREDICTIONS.empty().select(_KEYS)]
    for _, days in by_year(sessions):  # a year at a time, for the memory's sake
        stored = store.read("predictions", days[0], days[-1]).filter(pl.col("session").is_in(days))
        published = [
            publication.predictions(day).filter(pl.col("status") == "predicted").with_columns(session=pl.lit(day))
            for day in days
        ]
        both = pl.concat([stored, *(rows.select(stored.columns) for rows in published)])
        sides = both.group_by(stored.columns).agg(sides=pl.len())
        found.append(sides.filter(pl.col("sides") != 2).select(_KEYS).unique())
    return pl.concat(found).sort(_KEYS)


def stored_partitions(
    store: Warehouse, tables: Iterable[str] | None = None, *, published: Place | None = None
) -> dict[str, Stored]:
    """As `lifecycle.materialize.partitions.stored_partitions`; sessions of the publication whose files are gone are
    lost. Those that are to be published again, since something of them was made again, are none: what Dagster holds of
    them is still said. `published` is where they are published, beside the store when None."""
    stored = partitions.stored_partitions(store, tables)
    if made := stored.get("publication"):
        again = {str(session) for session in store.sessions("publication")} - made.all
        made = Stored(made.with_rows | again, made.without_rows, made.lost)
        lost = lost_sessions(published or store.path.parent / FOLDER, made.there)
        stored["publication"] = Stored(made.with_rows - lost, made.without_rows - lost, made.lost | lost)
    return stored


def lost_sessions(folder: Place, sessions: Collection[str]) -> frozenset[str]:
    """Those of `sessions`, which were published, whose files are gone, or all of them where the pointer is; the newest
    one where anything else that the pointer names is gone, as its publication makes that again.

    Raises PublicationFormError for a folder of another form.
    """
    try:
        pointer = read_pointer(folder)
    except PublicationFormError:
        raise
    except PublicationError:  # damaged: the next publication makes it again of the ledger
        pointer = None
    if pointer is None or not sessions:
        return frozenset(sessions)
    lost = set(sessions) - pointer.files["predictions"].keys()
    stored = {name_below(found.place, folder) for found in found_below(folder)}
    there = f"{LEDGER}/{pointer.entry}.json" in stored
    for kind in KINDS:
        gone = {key for key, digest in pointer.files[kind].items() if path_of(kind, key, digest) not in stored}
        lost |= gone if kind in BY_SESSION else set()
        there = there and (kind in BY_SESSION or not gone)
    return frozenset((lost if there else lost | {max(sessions)}) & set(sessions))
