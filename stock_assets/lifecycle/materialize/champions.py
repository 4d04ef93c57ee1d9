"""Who serves, kept: the table `promotions`, and the aliases of the model registry that mirror it.

The table is always written first: it decides. A process that dies between the two leaves aliases behind that the next
`follow_aliases` repairs.
"""

from collections.abc import Collection, Sequence
from datetime import date, datetime

import polars as pl

from stock_assets.errors import ArtifactError, CutoffError, MissingTableError, RegistryError, StockAssetsError
from stock_assets.lifecycle.promotion import (
    SCHEMA,
    Promotion,
    champion_history,
    champions,
    previous_champion,
    promotion_rows,
    reconcile,
    serving,
)
from stock_assets.market.calendar import TradingCalendar
from stock_assets.model.materialize.versions import (
    TRAINED,
    VERSION_COLUMNS,
    Version,
    base_versions,
    registered,
    usable,
)
from stock_assets.storage.registry import NoRegistry, Registry
from stock_assets.storage.warehouse import Warehouse

#: What a person moves to have another version serve; where we left it; the newest version that did not make it.
CHAMPION, SERVING, CHALLENGER = "champion", "serving", "challenger"
#: Every table of versions, and what it calls the model.
_TRAINED = {"trained_rnn": "model", "trained_baselines": "model", "trained_ensemble": "'ensemble'"}
_VERSION = {"model": pl.String, "model_year": pl.Int32, "version": pl.String, "trained_through": pl.Date}


def read_promotions(warehouse: Warehouse) -> pl.DataFrame:
    """The table `promotions`, oldest decision first; without a row before the first decision."""
    try:
        rows = warehouse.read("promotions")
    except MissingTableError:
        return pl.DataFrame(schema=SCHEMA)
    decided = pl.col("decided_at").dt.convert_time_zone("UTC").cast(SCHEMA["decided_at"])
    return rows.select(list(SCHEMA)).with_columns(decided).sort("decided_at", maintain_order=True)


def trained_versions(warehouse: Warehouse) -> pl.DataFrame:
    """model, model_year, version, trained_through of every version there is, one row each, sorted."""
    parts = [pl.DataFrame(schema=_VERSION)]
    for table, model in _TRAINED.items():
        wanted = f"SELECT DISTINCT {model} AS model, model_year, version, trained_through FROM model.{table}"
        try:
            parts.append(warehouse.read_sql(table, wanted).cast(_VERSION))  # pyright: ignore[reportArgumentType]
        except MissingTableError:
            continue
    return pl.concat(parts).sort("model", "model_year", "trained_through", "version")


def next_session(warehouse: Warehouse, calendar: TradingCalendar) -> date:
    """The first session that has no prediction yet. Raises StockAssetsError before the first prediction, and at the
    end of a closed snapshot."""
    last = warehouse.last_session("predictions")
    if last is None:
        raise StockAssetsError("there are no predictions yet, so no version serves. Materialize predictions first.")
    following = calendar.shift(last, 1)
    if following is None:
        raise StockAssetsError(f"{last} is predicted, and the calendar of {calendar.name} ends with it")
    return following


def record(warehouse: Warehouse, registry: Registry, promotions: Sequence[Promotion]) -> list[str]:
    """Adds `promotions` to the history, in one transaction, then sets their aliases. What could not be set is told.

    A version that was never registered gets no alias, and serves all the same. Raises RegistryError when the registry
    does not answer; the history is written then.
    """
    warehouse.append("promotions", promotion_rows(promotions))
    try:
        return [
            said
            for promotion in promotions
            for said in _mirror(
                registry,
                promotion.model,
                promotion.version,
                (CHAMPION, SERVING) if promotion.outcome == "champion" else (CHALLENGER,),
            )
        ]
    except RegistryError as error:
        raise RegistryError(
            f"{error}. What was decided is in the table promotions and holds; the aliases follow with new predictions"
        ) from error


def champions_of(
    warehouse: Warehouse, year: int, sessions: Sequence[date], pca_version: str
) -> list[tuple[list[Version], list[date]]]:
    """Which versions of all models serve which of `sessions`, ascending and all of `year`.

    A model's first version of the year, until the table `promotions` says that another one does. A model that is not
    registered serves no session, one that was first trained within the year none up to its cutoff. Raises as
    `base_versions`, for the versions that were promoted too.
    """
    base_versions(warehouse, year, sessions[0], pca_version)
    trained = pl.concat([warehouse.read(table, columns=VERSION_COLUMNS) for table in TRAINED])
    trained = registered(trained.filter(pl.col("model_year") == year))
    promotions = read_promotions(warehouse)
    rows = {row["version"]: row for row in trained.iter_rows(named=True)}
    models = trained["model"].unique().sort().to_list()
    by_model = {model: champions(promotions, trained, model, sessions) for model in models}
    first_cutoffs = dict(trained.group_by("model").agg(pl.col("trained_through").min()).iter_rows())
    spans: dict[tuple[str, ...], list[date]] = {}
    for session in sessions:
        there = [model for model in models if first_cutoffs[model] < session]
        spans.setdefault(tuple(by_model[model][session] for model in there), []).append(session)
    for version in {version for versions in spans for version in versions} - set(rows):
        raise ArtifactError(
            f"{version} serves by the table promotions, and no table of trained models has it any more; expected one "
            f"of {', '.join(sorted(rows))}: roll back to it with `stock-assets rollback`"
        )
    return [
        ([usable(rows[version], span[0], pca_version) for version in versions], span)
        for versions, span in spans.items()
    ]


def rollback(
    warehouse: Warehouse,
    registry: Registry,
    calendar: TradingCalendar,
    model: str,
    to: str | None,
    now: datetime,
    reason: str,
) -> tuple[Promotion, list[str]]:
    """(what was decided, what could not be done): the version that served before `model`'s champion, or version
    `to`, is its champion again, from the first session without a prediction on, in that session's model year.

    Raises StockAssetsError for a model or version that is not there, that serves already or when nothing served
    before, each naming what there is; CutoffError for a version trained through the session or later.
    """
    session = next_session(warehouse, calendar)
    trained, history = trained_versions(warehouse), read_promotions(warehouse)
    known = trained["model"].unique().sort().to_list()
    if model not in known:
        raise ArtifactError(f"there is no model {model}; expected one of {', '.join(known) or 'none trained'}")
    year = session.year
    versions = trained.filter((pl.col("model") == model) & (pl.col("model_year") == year))
    # also after what was decided for a later session
    serves_from = max([session, *champion_history(history, trained, model, year)["serves_from"]])
    current = serving(history, trained, model, serves_from)
    others = [version for version in versions["version"] if version != current]
    there_is = f"other versions of model year {year}: {', '.join(others) or 'none'}"
    wanted = to or previous_champion(history, trained, model, year)
    if wanted is None:
        raise StockAssetsError(f"nothing to roll back to: {current} is {model}'s first champion of {year}; {there_is}")
    if wanted == current:
        raise StockAssetsError(f"{current} is the champion of {model} already; {there_is}")
    if wanted not in others:
        raise ArtifactError(f"there is no version {wanted} of {model} for model year {year}; {there_is}")
    _require_cutoff_before(versions, wanted, model, session)
    promotion = Promotion(model, wanted, year, serves_from, now, "champion", "rollback", current, reason)
    return promotion, record(warehouse, registry, [promotion])


def follow_aliases(
    warehouse: Warehouse, registry: Registry, models: Collection[str], session: date, now: datetime
) -> list[str]:
    """What was done so that table and registry name the same champion of `models` for `session`, the newest one.

    Where a person has moved the alias `champion`, the version under it serves from `session` on, and the history says
    so; where we were cut off, the aliases are set again (`lifecycle.promotion.reconcile`). Without a registry nothing
    happens.

    Raises CutoffError for an alias on a version trained through `session` or later, with both dates, ArtifactError for
    one that is no version of the session's model year; nothing is changed then.
    """
    if isinstance(registry, NoRegistry):
        return []
    aliases, trained, history = registry.aliases(), trained_versions(warehouse), read_promotions(warehouse)
    moved, repaired = [], []
    for model in sorted(models):
        of_model = aliases.get(model, {})
        table, alias = serving(history, trained, model, session), of_model.get(CHAMPION)
        todo = reconcile(alias, of_model.get(SERVING), table)
        if todo == "repair":
            repaired.append((model, table))
        elif todo == "follow":
            assert alias is not None
            versions = trained.filter(pl.col("model") == model)
            _require_cutoff_before(versions, alias, model, session)
            of_year = versions.filter(pl.col("model_year") == session.year)["version"]
            if alias not in of_year:
                raise ArtifactError(
                    f"the alias {CHAMPION} of {model} is set to {alias}, which is no version of model year "
                    f"{session.year}; expected one of {', '.join(of_year)}"
                )
            reason = f"the alias {CHAMPION} was set to {alias} in the registry"
            moved.append(Promotion(model, alias, session.year, session, now, "champion", "alias", table, reason))
    done = [f"{p.model}: {p.reason}; it serves from {session} on, {p.replaced} did before" for p in moved]
    if moved:
        done += record(warehouse, registry, moved)
    for model, version in repaired:
        done += _mirror(registry, model, version, (CHAMPION, SERVING)) or [
            f"{model}: the alias {CHAMPION} is set to {version}, which serves"
        ]
    return done


def models_in_service(warehouse: Warehouse, registry: Registry, calendar: TradingCalendar) -> pl.DataFrame:
    """model, alias, version, trained_through, model_year, serves_from, reason: the champion of every model, and each
    version that has another alias, in the model year of the newest session. Without a trained version, no row."""
    trained, history, aliases = trained_versions(warehouse), read_promotions(warehouse), registry.aliases()
    last = warehouse.last_session("predictions")
    rows = []
    for (model,), versions in trained.partition_by("model", as_dict=True, maintain_order=True).items():
        years = versions["model_year"]
        running = (calendar.shift(last, 1) or last).year if last else None
        year = running if running in years else years.max()
        champion = champion_history(history, trained, str(model), int(year)).row(-1, named=True)  # pyright: ignore[reportArgumentType]
        shown = {CHAMPION: champion}
        for alias, version in aliases.get(str(model), {}).items():
            if alias == SERVING or (alias == CHAMPION and version == champion["version"]):
                continue
            if alias == CHAMPION:
                reason = "set in the registry; the next predictions follow"
            else:
                decided = history.filter((pl.col("model") == model) & (pl.col("version") == version))
                reason = decided["reason"][-1] if decided.height else None
            shown[f"{alias} (asked for)" if alias == CHAMPION else alias] = {"version": version, "reason": reason}
        rows += [{"model": model, "alias": alias, **row} for alias, row in shown.items()]
    schema = {"model": pl.String, "alias": pl.String, "version": pl.String, "serves_from": pl.Date, "reason": pl.String}
    table = pl.DataFrame(rows, schema=schema).join(trained, on=["model", "version"], how="left", maintain_order="left")
    return table.select("model", "alias", "version", "trained_through", "model_year", "serves_from", "reason")


def _require_cutoff_before(versions: pl.DataFrame, version: str, model: str, session: date) -> None:
    late = versions.filter((pl.col("version") == version) & (pl.col("trained_through") >= session))
    if not late.is_empty():
        raise CutoffError(
            f"{version} of {model} was trained through {late['trained_through'][0]}, which is not before the session "
            f"{session} it should predict"
        )


def _mirror(registry: Registry, model: str, version: str, aliases: Sequence[str]) -> list[str]:
    """Sets `aliases`, in this order; what there is to tell where the version was never registered."""
    try:
        for alias in aliases:
            registry.set_alias(model, alias, version)
    except ArtifactError as error:
        return [f"{error}; it has no alias, which changes nothing about what serves"]
    return []
