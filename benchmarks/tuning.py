"""What tuning finds: thirty trials of each network, judged before the first model year, and what they are worth.

    python -m benchmarks.tuning

The asset `tuned_hyperparameters` with its defaults, on everything it needs.
"""

import tempfile
from pathlib import Path

import dagster as dg
import polars as pl

from benchmarks.common import fill, materialize, preamble, set_workload, table, use, workload_parser
from stock_assets.market.calendar import calendar_of
from stock_assets.storage.warehouse import Warehouse


def main() -> None:
    options = workload_parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        set_workload(options, Path(folder))
        config = use(Path(folder, "store"))
        # tuning reads nothing of the model years
        fill(config, [day for day in calendar_of(config).sessions if day.year < config.model_start_year])
        seconds = materialize(config, ["tuned_hyperparameters"])
        trials = Warehouse(config.database).read("tuned_hyperparameters")
        with dg.DagsterInstance.get() as instance:
            event = instance.get_latest_materialization_event(dg.AssetKey("tuned_hyperparameters"))
    assert event is not None
    assert event.asset_materialization is not None
    metadata = {name: entry.value for name, entry in event.asset_materialization.metadata.items()}
    print(
        table(
            ("network", "trials", "complete", "pruned", "failed", "best", "median"),
            [
                [
                    name,
                    rows.height,
                    *((rows["state"] == state).sum() for state in ("complete", "pruned", "fail")),
                    f"{rows['value'].min():.4f}",
                    f"{rows.filter(pl.col('state') == 'complete')['value'].median():.4f}",
                ]
                for (name,), rows in trials.group_by("network", maintain_order=True)
            ],
        )
    )
    for name in trials["network"].unique(maintain_order=True):
        print(f"{name}: {metadata[f'{name}_verdict']} Sample: {metadata[f'{name}_sample']}.\n")
        print(f"Best: `{metadata[f'{name}_best']}`\n")
    print(f"{seconds:.0f} seconds.")


if __name__ == "__main__":
    preamble()
    main()
