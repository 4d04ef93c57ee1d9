"""What each input is worth, on demand: the walk-forward with each group of inputs left out, permuted or added."""

import dagster as dg
from pydantic import Field

from stock_assets.cores import usable_cores
from stock_assets.defs.tables import SIMULATED, picture, preview, table_asset
from stock_assets.evaluation.input_value import WAYS, reading, verdicts
from stock_assets.evaluation.materialize.input_value import TABLE, MadeValues, ValueQuestion, measure_inputs
from stock_assets.features.materialize import feature_tables
from stock_assets.model.registry import IN_SERVICE
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse


class InputValueConfig(dg.Config):
    """What to compare and how hard; shown in the launchpad."""

    model: str = Field(default=IN_SERVICE, description="a model that reads the stationary features")
    groups: list[str] = Field(default=[], description="groups of inputs, such as peers or noise; all when empty")
    ways: list[str] = Field(default=list(WAYS), description="; ".join(f"{way}: {text}" for way, text in WAYS.items()))
    years: list[int] = Field(default=[], description="model years; all that have labels when empty")
    seeds: int = Field(default=ValueQuestion.seeds, ge=1, description="trainings of each variant; of one, the luck of "
                       "a training stays unknown")  # fmt: skip
    tickers: int | None = Field(default=None, ge=2, description="tickers, drawn with the seed; all when unset")
    workers: int = Field(default=usable_cores(), ge=1, description="trainings side by side")

    def question(self) -> ValueQuestion:
        """The same for the step."""
        lists = {name: tuple(getattr(self, name)) for name in ("groups", "ways", "years")}
        return ValueQuestion(self.model, **lists, seeds=self.seeds, tickers=self.tickers, workers=self.workers)


def input_value_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    note = SIMULATED if settings.source == "simulated" else ""

    @table_asset(
        TABLE,
        description=(
            "What each group of inputs is worth to a model: the walk-forward with the group left out, permuted or, "
            "where the model does not read it, added; the differences on the same rows with paired 95 % intervals. "
            "A group of noise shows what luck looks like. Takes from minutes to hours and holds the store meanwhile, "
            "so `make run` leaves it out: materialize it here. A run that was stopped resumes. Most of what inputs "
            "are worth is volatility known in advance, hardly direction. Make `evaluation_report` afterwards: it shows "
            "the table and the picture." + note
        ),
        deps=[*feature_tables(settings), "pca_components", "labels", "daily_bars"],
        kinds=("pytorch", "matplotlib"),
    )
    def input_value(
        context: dg.AssetExecutionContext, config: InputValueConfig, warehouse: dg.ResourceParam[Warehouse]
    ) -> dg.MaterializeResult:
        input_values = measure_inputs(warehouse, settings, config.question(), say=context.log.info)
        return dg.MaterializeResult(metadata=findings(input_values))

    return [input_value]


def findings(input_values: MadeValues) -> dict[str, dg.MetadataValue | int | str]:
    """What the page of the asset shows: a verdict on each group, how sure it is, the picture and the table."""
    from stock_assets.evaluation import plots

    return {
        "dagster/row_count": input_values.rows.height,
        "trainings": input_values.trainings,
        "verdicts": preview(verdicts(input_values.rows), rows=40),
        "how_sure": reading(input_values.rows),
        "values": picture(plots.input_values(input_values.rows), "what each group of inputs is worth"),
        "preview": preview(input_values.rows),
    }
