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
    differing_keys = [PREDICTIONS.empty().select(_KEYS)]
    for _, days in by_year(sessions):  # a year at a time, for the memory's sake
        stored_rows = store.read("predictions", days[0], days[-1]).filter(pl.col("session").is_in(days))
        published_rows = [
            publication.predictions(day).filter(pl.col("status") == "predicted").with_columns(session=pl.lit(day))
            for day in days
        ]
        joint_rows = pl.concat([stored_rows, *(rows.select(stored_rows.columns) for rows in published_rows)])
        sides = joint_rows.group_by(stored_rows.columns).agg(sides=pl.len())
        differing_keys.append(sides.filter(pl.col("sides") != 2).select(_KEYS).unique())
    return pl.concat(differing_keys).sort(_KEYS)


def stored_partitions(
    store: Warehouse, tables: Iterable[str] | None = None, *, publication_folder: Place | None = None
) -> dict[str, Stored]:
    """As `lifecycle.materialize.partitions.stored_partitions`; sessions of the publication whose files are gone are
    lost. Those that are to be published again, since something of them was made again, are none: what Dagster holds of
    them is still said. `publication_folder` is where they are published, beside the store when None."""
    partitions_of = partitions.stored_partitions(store, tables)
    if publication_partitions := partitions_of.get("publication"):
        sessions_again = {str(session) for session in store.sessions("publication")} - publication_partitions.all
        publication_partitions = Stored(
            publication_partitions.with_rows | sessions_again,
            publication_partitions.without_rows,
            publication_partitions.lost,
        )
        lost_keys = lost_sessions(publication_folder or store.path.parent / FOLDER, publication_partitions.there)
        partitions_of["publication"] = Stored(
            publication_partitions.with_rows - lost_keys,
            publication_partitions.without_rows - lost_keys,
            publication_partitions.lost | lost_keys,
        )
    return partitions_of


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
    lost_keys = set(sessions) - pointer.files["predictions"].keys()
    stored_names = {name_below(file.place, folder) for file in found_below(folder)}
    is_complete = f"{LEDGER}/{pointer.entry}.json" in stored_names
    for kind in KINDS:
        missing_keys = {
            key for key, digest in pointer.files[kind].items() if path_of(kind, key, digest) not in stored_names
        }
        lost_keys |= missing_keys if kind in BY_SESSION else set()
        is_complete = is_complete and (kind in BY_SESSION or not missing_keys)
    return frozenset((lost_keys if is_complete else lost_keys | {max(sessions)}) & set(sessions))
