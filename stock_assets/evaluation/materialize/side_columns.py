"""The columns of side inputs that no model reads, computed for a comparison and stored nowhere."""

from collections.abc import Collection, Sequence
from datetime import date

import polars as pl

from stock_assets.features.market_context import context_inputs
from stock_assets.features.side_features import GROUPS, SideFrames, SideGroup, computed
from stock_assets.frames import KEYS
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import Settings
from stock_assets.side_inputs.materialize import read_side_input
from stock_assets.side_inputs.registry import side_input
from stock_assets.storage.warehouse import Warehouse


def columns_on_demand(
    store: Warehouse, settings: Settings, keys: pl.DataFrame, *, names: Collection[str]
) -> tuple[pl.DataFrame, dict[str, list[str]], dict[str, str]]:
    """(`keys` with the columns of the groups, f32 and null where unknown; the columns by group; why a group has none).

    `keys` has ticker and session, of neighbouring sessions. The groups are those of `names` that models do not read,
    all where there is no name. A column that most of the sessions lack is none, as for a model.
    """
    wide_rows, columns, reasons = keys.select(KEYS), {}, {}
    sessions = keys["session"].unique().sort().to_list()
    for group in GROUPS.values():
        if group.in_model or (names and group.name not in names):
            continue
        rows = {name: read_side_input(store, name, last=sessions[-1]) for name in group.reads}
        if empty := [name for name, frame in rows.items() if frame.is_empty()]:
            reasons[group.name] = no_rows(settings, empty[0])
            continue
        of_group = computed(
            group, SideFrames(_bars(store, settings, group, sessions=sessions), rows, sessions, calendar_of(settings))
        )
        of_keys = keys.select(KEYS).join(
            of_group.cast({pl.Float64: pl.Float32}), on=KEYS, how="left", maintain_order="left"
        )
        if stored_columns := context_inputs(of_keys, list(group.columns)):
            wide_rows, columns[group.name] = (
                wide_rows.with_columns(of_keys.select(stored_columns).get_columns()),
                stored_columns,
            )
        else:
            reasons[group.name] = "most sessions lack all of its columns"
    return wide_rows, columns, reasons


def no_rows(settings: Settings, name: str) -> str:
    """Why the side input `name` has no row, and what to do."""
    missing = side_input(name).missing(settings)
    return f"the store has no row of {name}: {missing or 'turn it on and materialize it for every session'}"


def _bars(store: Warehouse, settings: Settings, group: SideGroup, *, sessions: Sequence[date]) -> pl.DataFrame:
    """What `group` reads of the bars of `sessions` and of its look-back."""
    first = (*calendar_of(settings).before(sessions[0], group.lookback), sessions[0])[0]
    columns = None if group.bar_columns is None else [*KEYS, *group.bar_columns]
    return store.read("daily_bars", first, sessions[-1], columns=columns)
