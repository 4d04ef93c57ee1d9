"""Which version serves a session: read, decided, recorded, and mirrored in the aliases of the model registry.

The table `promotions` is always written first, because it decides. A process that dies between table and aliases leaves
old aliases behind; the next `follow_aliases` repairs them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl

from stock_assets.errors import ArtifactError, CutoffError, StockAssetsError
from stock_assets.lifecycle.champions import (
    BAR_YEAR,
    CHAMPION_ALIAS,
    MIRROR_ALIAS,
    Promotion,
    after_all,
    challengers_to_judge,
    champion_at,
    champion_history,
    champions_at,
    judge,
    previous_champion,
    promotion_rows,
    reconcile,
)
from stock_assets.lifecycle.materialize.aliases import mirror, set_aliases
from stock_assets.lifecycle.materialize.alone import alone
from stock_assets.lifecycle.materialize.kept import DAYS, Kept, kept_in, next_session, trained_versions
from stock_assets.lifecycle.tables import PROMOTIONS
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.model.materialize.inputs import StoredInputs, inputs_for, usable_between
from stock_assets.model.materialize.versions import (
    TRAINED,
    VERSION_COLUMNS,
    Assignment,
    answers_of,
    registered,
    skipped_models,
    usable,
)
from stock_assets.model.registry import IN_SERVICE, models_of
from stock_assets.settings import Settings
from stock_assets.storage.registry import NoRegistry, Registry
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared

_SERVICE_SCHEMA = {
    "model": pl.String,
    "alias": pl.String,
    "version": pl.String,
    "serves_from": pl.Date,
    "reason": pl.String,
}


@dataclass(frozen=True)
class JudgedChallengers:
    """What `judge_challengers` decided and recorded."""

    promotions: list[Promotion]
    messages: list[str]
    """one sentence per verdict, and per alias that could not be set"""


def read_promotions(store: Warehouse) -> pl.DataFrame:
    """The table `promotions`, oldest decision first; no row before the first decision."""
    return PROMOTIONS.fit(store.read_or(PROMOTIONS.empty(), "promotions")).sort("decided_at", maintain_order=True)


def record(store: Warehouse, registry: Registry, promotions: Sequence[Promotion]) -> list[str]:
    """Adds `promotions` to the table in one transaction, then sets their aliases; returns what could not be set.

    A version that was never registered gets no alias and serves all the same. Raises RegistryError when the registry
    does not answer; the table is written by then.
    """
    store.append("promotions", promotion_rows(promotions))
    return mirror(registry, promotions)


def champions_of(
    store: Warehouse, sessions: Sequence[date], *, pca_version: str, promotions: pl.DataFrame | None = None
) -> Assignment:
    """Which versions of the registered models serve which of `sessions`, ascending and of one model year.

    The champion of a model is its base version of the year until the table `promotions` names another. A model without
    a version in the year is skipped, a model whose first version was trained within the year serves from the session
    after its cutoff on, and versions of a model that is not registered any more do not serve: shipping or removing a
    model stops no evening. The notes name what is skipped.

    `promotions` takes the place of the table, for a decision that is not written yet.

    Raises ArtifactError where a table of trained models has no row of the year, or lacks a version that was promoted;
    CutoffError where the model in service, or a promoted version, is trained through the first session or later.
    """
    year = sessions[0].year
    with store.reading():
        all_versions = registered(_versions_of_year(store, year, sessions[0]))
        promotions = read_promotions(store) if promotions is None else promotions
    rows = {row["version"]: row for row in all_versions.iter_rows(named=True)}
    base_cutoffs = dict(all_versions.group_by("model").agg(pl.col("trained_through").min()).sort("model").iter_rows())
    if (cutoff := base_cutoffs.get(IN_SERVICE)) and cutoff >= sessions[0]:
        raise CutoffError(
            f"{IN_SERVICE} of model year {year} was trained through {cutoff}, which is not before the session "
            f"{sessions[0]} to predict"
        )
    by_model = {model: champions_at(promotions, all_versions, model, sessions=sessions) for model in base_cutoffs}
    spans: dict[tuple[str, ...], list[date]] = {}
    for session in sessions:
        serving = tuple(by_model[model][session] for model, cutoff in base_cutoffs.items() if cutoff < session)
        spans.setdefault(serving, []).append(session)
    for version in {version for versions in spans for version in versions} - set(rows):
        raise ArtifactError(
            f"{version} serves by the table promotions, and no table of trained models has it any more; expected one "
            f"of {', '.join(sorted(rows))}: roll back to it with `stock-assets rollback`"
        )
    return Assignment(
        [
            ([usable(rows[version], span[0], pca_version) for version in versions], span)
            for versions, span in spans.items()
        ],
        skipped_models(store, year, models_of("champion", "naive"), tables=TRAINED),
    )


def judge_challengers(store: Warehouse, settings: Settings, registry: Registry, *, now: datetime) -> JudgedChallengers:
    """Judges the newest version of every registered model that was not judged yet, and records the verdicts.

    The model year is that of the next session. Both versions predict the sessions after the challenger's cutoff whose
    labels are usable; only members count unless the settings include everyone. A challenger without such a session
    waits. Raises StockAssetsError before the first prediction, and as `record`.
    """
    calendar = calendar_of(settings)
    last = store.last_session("predictions")
    if last is None:
        raise StockAssetsError("there are no predictions yet, so nothing serves. Materialize predictions first.")
    session = calendar.shift(last, 1) or last
    versions = registered(_versions_of_year(store, session.year))
    pairs = challengers_to_judge(read_promotions(store), versions, session)
    if not pairs:
        # the table is there from the first look on, for every query
        return JudgedChallengers([], record(store, registry, []))
    first = min(challenger["trained_through"] for _, challenger in pairs) + timedelta(days=1)
    labels, _ = usable_between(store, settings, first)
    window = sorted(labels["session"].unique())
    promotions: list[Promotion] = []
    messages: list[str] = []
    inputs = inputs_for(store, settings, window, needed_by="promotions") if window else None
    for champion, challenger in pairs:
        days = [day for day in window if day > challenger["trained_through"]]
        if inputs is None or not days:
            messages.append(f"{challenger['version']} waits: no label after its cutoff is known yet")
            continue
        of_champion, of_challenger = (_predictions(settings, inputs, row, days=days) for row in (champion, challenger))
        verdict = judge(of_champion, of_challenger, labels, seed=settings.seed)
        messages.append(f"{challenger['version']} {verdict.reason}")
        promotions.append(
            Promotion(
                challenger["model"],
                challenger["version"],
                session.year,
                session,
                now,
                "champion" if verdict.promote else "challenger",
                "judged",
                champion["version"],
                verdict.reason,
                verdict,
            )
        )
    recorded_verdicts, notes = record_verdicts(store, registry, promotions, versions=versions)
    return JudgedChallengers(recorded_verdicts, [*messages, *notes])


@alone
def record_verdicts(
    store: Warehouse, registry: Registry, verdicts: Sequence[Promotion], *, versions: pl.DataFrame
) -> tuple[list[Promotion], list[str]]:
    """(those of `verdicts` that were recorded, notes): comparing takes minutes, and a verdict over a champion that was
    replaced meanwhile, as by a rollback, does not count. The challenger is judged again by the next look."""
    history = read_promotions(store)
    verdicts_to_record, notes = [], []
    for verdict in verdicts:
        year = verdict.model_year
        champion = champion_at(history, versions, verdict.model, session=verdict.serves_from, year=year)
        if champion == verdict.replaced:
            verdicts_to_record.append(replace(verdict, decided_at=after_all(history, verdict.decided_at)))
        else:
            notes.append(f"{verdict.version} waits: {champion} replaced {verdict.replaced} while they were compared")
    return verdicts_to_record, [*notes, *record(store, registry, verdicts_to_record)]


@alone
def rollback(
    store: Warehouse,
    registry: Registry,
    calendar: TradingCalendar,
    *,
    model: str,
    to: str | None,
    now: datetime,
    reason: str,
) -> tuple[Promotion, list[str]]:
    """(the decision, what could not be done): makes an earlier version the champion of `model` again.

    It is the version that served before the current champion, or version `to`. It serves from the first session
    without a prediction on, in that session's model year.

    Raises StockAssetsError for a model or version that does not exist, for one that serves already, and where nothing
    served before, each naming the choices; CutoffError for a version trained through the session or later.
    """
    model_tables = kept_in(store)
    session = next_session(store, calendar, model_tables)
    all_versions, history = trained_versions(store, model_tables), read_promotions(store)
    models = all_versions["model"].unique().sort().to_list()
    if model not in models:
        raise ArtifactError(f"there is no model {model}; expected one of {', '.join(models) or 'none trained'}")
    year = model_tables.year_of(session)
    versions = all_versions.filter((pl.col("model") == model) & (pl.col("model_year") == year))
    # also after what was decided for a later session
    serves_from = max([session, *champion_history(history, all_versions, model, year=year)["serves_from"]])
    current = champion_at(history, all_versions, model, session=serves_from, year=year)
    others = [version for version in versions["version"] if version != current]
    choices = f"other versions of model year {year}: {', '.join(others) or 'none'}"
    chosen_version = to or previous_champion(history, all_versions, model, year=year)
    if chosen_version is None:
        raise StockAssetsError(f"nothing to roll back to: {current} is {model}'s first champion of {year}; {choices}")
    if chosen_version == current:
        raise StockAssetsError(f"{current} is the champion of {model} already; {choices}")
    if chosen_version not in others:
        raise ArtifactError(f"there is no version {chosen_version} of {model} for model year {year}; {choices}")
    _require_cutoff_before(versions, chosen_version, model, session=session)
    decided_at = after_all(history, now)
    promotion = Promotion(model, chosen_version, year, serves_from, decided_at, "champion", "rollback", current, reason)
    return promotion, record(store, registry, [promotion])


@alone
def follow_aliases(
    store: Warehouse,
    registry: Registry,
    models: Collection[str],
    *,
    session: date,
    now: datetime,
    model_tables: Kept = DAYS,
) -> list[str]:
    """Makes table and registry name the same champion of `models` for `session`, the newest; returns what was done.

    Where a person has moved the alias `champion`, the version under it serves from `session` on, and the table records
    that. Where this code was cut off, the aliases are set again (`champions.reconcile`). A model without a version in
    the session's year has no champion and is skipped. Without a registry nothing happens.

    Raises CutoffError for an alias on a version trained through `session` or later, with both dates, ArtifactError for
    one that is no version of the session's model year; nothing is changed then.
    """
    if isinstance(registry, NoRegistry):
        return []
    aliases, versions, history = registry.aliases(), trained_versions(store, model_tables), read_promotions(store)
    year = model_tables.year_of(session)
    trained_models = set(versions.filter(pl.col("model_year") == year)["model"])
    alias_moves: list[Promotion] = []
    repaired_aliases: list[tuple[str, str]] = []
    for model in sorted(trained_models & set(models)):
        of_model = aliases.get(model, {})
        champion, alias = (
            champion_at(history, versions, model, session=session, year=year),
            of_model.get(CHAMPION_ALIAS),
        )
        action = reconcile(alias, of_model.get(MIRROR_ALIAS), champion)
        if action == "repair":
            repaired_aliases.append((model, champion))
        elif action == "follow":
            assert alias is not None
            require_usable_alias(versions, model, alias, session=session, model_tables=model_tables)
            reason = f"the alias {CHAMPION_ALIAS} was set to {alias} in the registry"
            alias_moves.append(Promotion(model, alias, year, session, now, "champion", "alias", champion, reason))
    messages = [f"{p.model}: {p.reason}; it serves from {session} on, {p.replaced} did before" for p in alias_moves]
    if alias_moves:
        messages += record(store, registry, alias_moves)
    for model, version in repaired_aliases:
        messages += set_aliases(registry, model, version) or [
            f"{model}: the alias {CHAMPION_ALIAS} is set to {version}, which serves"
        ]
    return messages


def models_in_service(
    store: Warehouse, registry: Registry, calendar: TradingCalendar, *, model_tables: Kept = DAYS
) -> pl.DataFrame:
    """model, alias, version, trained_through, model_year, serves_from, reason: the champion of every model, and each
    version that has another alias, in the model year of the next session. Without a trained version, no row.

    `model_tables` is where the market keeps its versions (`kept_of`); those of bars have no model year."""
    all_versions, history, aliases = trained_versions(store, model_tables), read_promotions(store), registry.aliases()
    last = store.last_session(model_tables.predictions)
    running = model_tables.year_of(calendar.shift(last, 1) or last) if last else model_tables.year
    rows = []
    for (model,), versions in all_versions.partition_by("model", as_dict=True, maintain_order=True).items():
        years: list[int] = versions["model_year"].to_list()
        year = running if running is not None and running in years else max(years)
        champion = champion_history(history, all_versions, str(model), year=year).row(-1, named=True)
        rows_of_aliases = _aliased(history.filter(pl.col("model") == model), champion, aliases.get(str(model), {}))
        rows += [{"model": model, "alias": alias, **row} for alias, row in rows_of_aliases.items()]
    table = pl.DataFrame(rows, schema=_SERVICE_SCHEMA)
    table = table.join(all_versions, on=["model", "version"], how="left", maintain_order="left")
    table = table.with_columns(pl.when(pl.col("model_year") != BAR_YEAR).then("model_year").alias("model_year"))
    return table.select("model", "alias", "version", "trained_through", "model_year", "serves_from", "reason")


def _aliased(history: pl.DataFrame, champion: dict[str, Any], aliases: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The champion and the other versions of one model that have an alias, each under the alias it is shown with."""
    rows_of_aliases = {CHAMPION_ALIAS: champion}
    for alias, version in aliases.items():
        if alias == MIRROR_ALIAS or (alias == CHAMPION_ALIAS and version == champion["version"]):
            continue
        if alias == CHAMPION_ALIAS:
            alias, reason = f"{alias} (requested)", "set in the registry; the next predictions follow"
        else:
            decisions = history.filter(pl.col("version") == version)
            reason = decisions["reason"][-1] if decisions.height else None
        rows_of_aliases[alias] = {"version": version, "reason": reason}
    return rows_of_aliases


def _versions_of_year(store: Warehouse, year: int, needed_by: date | None = None) -> pl.DataFrame:
    """VERSION_COLUMNS of all versions of `year`, the earliest cutoff first.

    Raises ArtifactError where one of the TRAINED tables has none and session `needed_by` is to be predicted.
    """
    parts = []
    for table in TRAINED:
        rows = store.read_or(declared(table).empty().select(VERSION_COLUMNS), table, columns=VERSION_COLUMNS)
        parts.append(rows.filter(pl.col("model_year") == year))
        if needed_by and parts[-1].is_empty():
            raise ArtifactError(
                f"predictions of {needed_by} need {table} of model year {year}. Materialize {table} {year} first."
            )
    return pl.concat(parts).sort("trained_through", "version")


def _predictions(
    settings: Settings, inputs: StoredInputs, row: dict[str, Any], *, days: Sequence[date]
) -> pl.DataFrame:
    """What the version of `row` predicts for `days`."""
    return answers_of([usable(row, days[0], inputs.pca_version)], settings, inputs, sessions=days)


def require_usable_alias(
    all_versions: pl.DataFrame, model: str, alias: str, *, session: date, model_tables: Kept = DAYS
) -> None:
    """Raises CutoffError, with both dates, where the version `alias` of `model` was trained through `session` or later,
    and ArtifactError where it is none of the session's model year. `all_versions` as `trained_versions`."""
    versions = all_versions.filter(pl.col("model") == model)
    _require_cutoff_before(versions, alias, model, session=session)
    year = model_tables.year_of(session)
    of_year = versions.filter(pl.col("model_year") == year)["version"]
    if alias not in of_year:
        raise ArtifactError(
            f"the alias {CHAMPION_ALIAS} of {model} is set to {alias}, which is no version of model year "
            f"{year}; expected one of {', '.join(of_year)}"
        )


def _require_cutoff_before(versions: pl.DataFrame, version: str, model: str, *, session: date) -> None:
    late_versions = versions.filter((pl.col("version") == version) & (pl.col("trained_through") >= session))
    if not late_versions.is_empty():
        raise CutoffError(
            f"{version} of {model} was trained through {late_versions['trained_through'][0]}, which is not before the "
            f"session {session} it should predict"
        )
