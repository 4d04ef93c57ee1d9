"""The step that makes each table, by the table's name: what the assets call, for a caller without Dagster.

A table of your own gets a step by one line: `STEPS["toy_moons"] = make_moons`.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, cast

from stock_assets.errors import StockAssetsError
from stock_assets.lifecycle.evening import LEDGER
from stock_assets.settings import Settings
from stock_assets.side_inputs.registry import side_input_names
from stock_assets.storage.warehouse import Warehouse

if TYPE_CHECKING:
    from datetime import date

    from stock_assets.storage.registry import Registry

#: A function that makes the rows of a table and stores them, or "module:function", which is imported when it is called.
#: It gets what its parameters name: `store`, `settings`, `sessions` (ascending), `years` (of the sessions), `now`,
#: `source` and `registry`.
Step = Callable[..., object] | str


def train(
    table: str, *, store: Warehouse, settings: Settings, years: "Sequence[int]", registry: "Registry", now: datetime
) -> object:
    """Trains the models of `table` for the model years, each on what was known before its year."""
    from stock_assets.evaluation import plots
    from stock_assets.market.calendar import calendar_of
    from stock_assets.model.cutoffs import cutoffs_of
    from stock_assets.model.materialize.train import Tracking, train_models

    return train_models(
        store,
        settings,
        cutoffs_of(calendar_of(settings), years),
        table=table,
        tracking=Tracking(registry, plots.learning_curve),
        now=now,
        say=lambda _: None,
    )


def predict(
    store: Warehouse, settings: Settings, *, sessions: "Sequence[date]", registry: "Registry", now: datetime
) -> object:
    """Predicts `sessions` with the versions that serve them."""
    from stock_assets.lifecycle.materialize.serving import serving_versions
    from stock_assets.model.materialize.predict import make_predictions

    return make_predictions(
        store,
        settings,
        sessions,
        assign=lambda pca: serving_versions(store, registry, sessions, pca_version=pca, now=now),
    )


def fetch_side(name: str, *, store: Warehouse, settings: Settings, sessions: "Sequence[date]", now: datetime) -> object:
    """Asks the sources of the side input `name`."""
    from stock_assets.side_inputs.materialize import fetch_side_input

    return fetch_side_input(store, settings, name, sessions=sessions, now=now)


#: The step of every table that `Platform.materialize` makes. The table `operations` has none: it counts Dagster's runs.
STEPS: dict[str, Step] = {
    "universe": "stock_assets.market.materialize.universe:make_universe",
    "raw_ohlcv": "stock_assets.market.materialize.fetch:fetch_bars",
    "context_series": "stock_assets.market.materialize.context:fetch_context",
    "daily_bars": "stock_assets.market.materialize.clean:clean_daily_bars",
    "indicators": "stock_assets.features.materialize:make_indicators",
    "stationary_features": "stock_assets.features.materialize:make_stationary_features",
    "side_features": "stock_assets.features.materialize:make_side_features",
    "labels": "stock_assets.features.materialize:make_labels",
    "pca_model": "stock_assets.features.materialize:make_pca_model",
    "pca_components": "stock_assets.features.materialize:make_pca_components",
    "trained_rnn": partial(train, "trained_rnn"),
    "trained_baselines": partial(train, "trained_baselines"),
    "trained_references": partial(train, "trained_references"),
    "trained_ensemble": "stock_assets.model.materialize.ensemble:weigh_ensembles",
    "predictions": predict,
    "reference_predictions": "stock_assets.model.materialize.predict:make_reference_predictions",
    "leakage_audit": "stock_assets.evaluation.materialize.leakage_audit:make_leakage_audit",
    "evaluation_report": "stock_assets.evaluation.materialize.evaluation_report:make_evaluation_report",
    "drift": "stock_assets.lifecycle.materialize.drift:make_drift",
    "target_weights": "stock_assets.trading.materialize.targets:make_target_weights",
    **dict.fromkeys(LEDGER, "stock_assets.trading.materialize.ledger:make_ledger"),
    "backtest": "stock_assets.trading.materialize.backtest:make_backtest",
    "tear_sheet": "stock_assets.publication.materialize.replays:make_replayed_tear_sheets",
    "publication": "stock_assets.publication.materialize.publish:publish_sessions",
    "promotions": "stock_assets.lifecycle.materialize.champions:judge_challengers",
}


def steps() -> dict[str, Step]:
    """STEPS, and those of every side input that is registered."""
    return STEPS | {name: partial(fetch_side, name) for name in side_input_names() if name not in STEPS}


def call_step(step: Step, arguments: Mapping[str, Callable[[], object]]) -> None:
    """Calls `step` with those of `arguments`, each made when it is needed, that its parameters name.

    Raises StockAssetsError for a parameter that `arguments` lacks and that has no default.
    """
    if isinstance(step, str):
        module, _, function = step.partition(":")
        step = cast(Callable[..., object], getattr(import_module(module), function))
    parameters = signature(step).parameters.values()
    if unknown := [
        parameter.name
        for parameter in parameters
        if parameter.name not in arguments and parameter.default is parameter.empty
    ]:
        raise StockAssetsError(f"the step asks for {unknown[0]}; expected some of {', '.join(arguments)}")
    step(**{parameter.name: arguments[parameter.name]() for parameter in parameters if parameter.name in arguments})
