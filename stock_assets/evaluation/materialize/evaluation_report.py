"""The step that makes `evaluation_report` and its HTML page."""

from dataclasses import dataclass
from datetime import date

import polars as pl

from stock_assets.evaluation.findings import Ablation, ReportInputs
from stock_assets.evaluation.leakage import frequencies, too_good
from stock_assets.evaluation.materialize.inputs import judged_predictions, learning_curves
from stock_assets.evaluation.metrics import scored_rows
from stock_assets.evaluation.report import Report, make_report, render_report
from stock_assets.features.materialize import absent_of, announced_of, lags_of
from stock_assets.frames import KEYS
from stock_assets.market.calendar import currency_of
from stock_assets.market.materialize.context import read_context
from stock_assets.model.materialize.inputs import usable_between
from stock_assets.objects import Place, put
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared

#: About so many rows compare price and volume with the components: a few seconds of fitting.
COMPARED_ROWS = 50_000
BAR_COLUMNS = ("ticker", "session", "close", "volume", "split_ratio", "total_return", "is_member", "suspect")


@dataclass(frozen=True)
class MadeReport:
    """What `make_evaluation_report` wrote."""

    report: Report
    page: Place
    alarming: pl.DataFrame
    """the models that are too good to be honest (`leakage.too_good`)"""

    @property
    def table(self) -> pl.DataFrame:
        """The table `evaluation_report`."""
        return self.report.tables["walk_forward"]


def make_evaluation_report(store: Warehouse, settings: Settings) -> MadeReport:
    """Makes the table `evaluation_report` of all predictions, and the page `evaluation_report/report.html`.

    Raises MissingTableError before there are predictions, StockAssetsError where no naive baseline was predicted.
    """
    inputs = read_inputs(store, settings)
    report = make_report(inputs)
    page = settings.artifacts / "evaluation_report" / "report.html"
    put(page, render_report(report).encode())
    scores = report.tables["walk_forward"]
    store.replace_table("evaluation_report", scores)
    alarming = too_good(scores, frequencies(inputs.scored))
    # the made-up market has a signal of a size of its own
    return MadeReport(report, page, alarming.clear() if settings.source == "simulated" else alarming)


def read_inputs(store: Warehouse, settings: Settings) -> ReportInputs:
    """Everything that the report is made from."""
    predictions = judged_predictions(store)
    first, last = predictions.select(first=pl.col("session").min(), last=pl.col("session").max()).row(0)
    cutoffs = cutoff_of_years(predictions)
    usable, left_out = usable_between(store, settings, first)
    scored_predictions = scored_rows(predictions, usable)
    del predictions  # a dozen models of ten years are gigabytes
    volatility = store.read("stationary_features", first, columns=["session", "market_vol_22"]).unique("session")
    return ReportInputs(
        source=settings.source,
        currency=currency_of(settings),
        rule=settings.label_rule,
        seed=settings.seed,
        scored=scored_predictions,
        usable_labels=usable.select("session", "label"),
        left_out=left_out,
        predicted=(first, last),
        cutoffs=cutoffs,
        market_volatility=volatility.rename({"market_vol_22": "volatility"}),
        universe=store.read("universe"),
        bars=store.read("daily_bars", columns=BAR_COLUMNS),
        labels=store.read("labels", columns=[*KEYS, "label"]),
        context=read_context(store).select("series", "session", "total_return"),
        audit=store.read_or(declared("leakage_audit").empty(), "leakage_audit"),
        ablation=_ablation(store, settings),
        curves=learning_curves(store, settings),
        announced=announced_of(store, settings, last),
        lags=lags_of(store),
        absent=[str(table) for table in absent_of(store, settings)],
        input_value=store.read_or(declared("input_value").empty(), "input_value"),
    )


def cutoff_of_years(predictions: pl.DataFrame) -> dict[int, date]:
    """The last session that the models of each predicted year know, by year, ascending."""
    years = predictions.group_by(pl.col("session").dt.year().alias("year")).agg(pl.col("trained_through").max())
    return dict(years.sort("year").iter_rows())


def _ablation(store: Warehouse, settings: Settings) -> Ablation:
    """Price and volume, with and without the principal components, on about COMPARED_ROWS."""
    labels, _ = usable_between(store, settings, date.min)
    one_in = -(-labels.height // COMPARED_ROWS)
    # rows of every session, since those of one move together; drawn by a digest, so that they are always the same
    sample_condition = "md5_number_lower(concat(ticker, session)) % ? = 0"

    def sample(table: str, columns: str) -> pl.DataFrame:
        statement = f"SELECT ticker, session, COLUMNS('{columns}') FROM features.{table} WHERE {sample_condition}"
        return store.read_sql(table, statement, [one_in])

    prices = sample("stationary_features", "^(log_return_|volume_ratio)").sort("session", "ticker")
    components = sample("pca_components", "^pc_")
    of_prices, of_components = ([name for name in frame.columns if name not in KEYS] for frame in (prices, components))
    sets = {"price and volume": of_prices, "price, volume and components": [*of_prices, *of_components]}
    return Ablation(prices.join(components, on=KEYS), labels, sets)
