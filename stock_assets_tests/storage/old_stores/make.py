"""Makes the store of an older commit that `test_old_stores.py` opens with today's code.

    git worktree add ../old 16a4e64
    cd ../old && PYTHONPATH=. python .../old_stores/make.py .../old_stores/16a4e64.duckdb.xz

It runs under the code of that commit, in today's environment with `pydantic-settings` beside it. Every table is made
there by the assets; what is long is cut to its last sessions afterwards, so that the file stays below 200 kB.
"""

import lzma
import os
import sys
import tempfile
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
SETTINGS = {
    "SOURCE": "simulated",
    "START": "2018-01-02",
    "END": "2019-01-16",
    "FIRST_MODEL_YEAR": "2019",
    "TICKERS": "SIM01,SIM02,SIM03",
    "MLFLOW": "off",
}
#: Sessions that are kept of the tables with many columns.
KEPT = 5
WIDE = ("features.indicators", "features.stationary_features", "features.pca_components")


def main(target: Path) -> None:
    folder = tempfile.mkdtemp()
    os.environ.update({f"STOCK_ASSETS_{name}": value for name, value in SETTINGS.items()})
    os.environ["STOCK_ASSETS_DATA_DIR"] = folder
    import dagster as dg
    import duckdb

    from stock_assets.definitions import defs
    from stock_assets.settings import settings

    days = settings().calendar.sessions
    served = [day for day in days if day.year == 2019]
    chain = ["raw_ohlcv", "daily_bars", "context_series", "indicators", "stationary_features"]
    keys = {key.to_user_string() for asset in defs.assets for key in asset.keys}

    def make(assets: list[str], first: object = None, last: object = None) -> None:
        assets = [asset for asset in assets if asset in keys]
        tags = {"dagster/asset_partition_range_start": str(first), "dagster/asset_partition_range_end": str(last)}
        result = dg.materialize(
            list(defs.assets), selection=assets, tags=tags if first else {}, resources=dict(defs.resources)
        )
        assert result.success

    make(["universe"])
    make(chain, days[0], days[-1])
    make(["labels"], days[0], days[-1 - settings().horizon])
    make(["pca_model"])
    make(["pca_components"], days[0], days[-1])
    make(["trained_rnn", "trained_baselines", "trained_ensemble"], "2019", "2019")
    make(["predictions"], served[0], served[-1])
    make(["promotions"])
    copy = Path(folder) / "cut.duckdb"
    with duckdb.connect(str(copy)) as connection:
        connection.execute(f"ATTACH '{settings().database}' AS whole (READ_ONLY)")
        connection.execute("COPY FROM DATABASE whole TO cut")
        for table in WIDE:
            connection.execute(f"DELETE FROM cut.{table} WHERE session < ?", [days[-KEPT]])
        connection.execute("CHECKPOINT cut")
    # written anew, as deleted rows keep their blocks
    small = Path(folder) / "small.duckdb"
    with duckdb.connect(str(small)) as connection:
        connection.execute(f"ATTACH '{copy}' AS cut (READ_ONLY)")
        connection.execute("COPY FROM DATABASE cut TO small")
    target.write_bytes(lzma.compress(small.read_bytes(), preset=9))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
