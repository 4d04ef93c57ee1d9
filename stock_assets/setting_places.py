"""Where things are that the settings name."""

from pathlib import Path
from typing import TYPE_CHECKING

from stock_assets.address_settings import LAKE
from stock_assets.lakes import Lake
from stock_assets.objects import Place


class Places:
    """What lies where, of the settings `data_dir`, `store`, `dagster`, `artifacts` and `mlflow`."""

    if TYPE_CHECKING:
        data_dir: Path
        artifacts: Place
        mlflow: str | None
        store: str | None
        lake_files: str | None
        dagster: str | None

        @property
        def dagster_postgres(self) -> str | None: ...

    @property
    def database(self) -> Path:
        """The DuckDB file of the tables; of a lake, what this host keeps for itself lies beside this name."""
        own = self.store is None or self.store.startswith(LAKE)
        return self.data_dir / "stock_assets.duckdb" if own else Path(self.store or "")

    @property
    def lake(self) -> Lake | None:
        """The lake of the tables; None where they are in the file `database`."""
        if self.store is None or not self.store.startswith(LAKE):
            return None
        return self.lake_at(self.store)

    def lake_at(self, address: str) -> Lake:
        """The lake whose catalog is at `address`, with the files that these settings name."""
        files = self.lake_files or str(self.data_dir.absolute() / "lake")
        return Lake(address.removeprefix(LAKE), files.rstrip("/"))

    @property
    def dagster_home(self) -> Path:
        """Dagster's folder: its storage unless that is a database, its logs and the locks of its processes. Next to
        the store by default, because Dagster's memory of what is materialized must not outlive it."""
        if self.dagster is None or self.dagster_postgres:
            return self.data_dir / "dagster"
        return Path(self.dagster)

    @property
    def published(self) -> Place:
        """Where what is published is, which any tool may read (`publication.layout`): beside the artifacts in the data
        folder, else with them."""
        own = self.artifacts == self.data_dir / "artifacts"
        return self.data_dir / "published" if own else self.artifacts / "published"

    @property
    def staged_answers(self) -> Path:
        """The folder of a vendor's answers that are not stored yet."""
        return self.data_dir / "staged_answers"

    @property
    def mlflow_uri(self) -> str | None:
        """The tracking URI of the model registry; None when it is off."""
        if self.mlflow is None:
            return f"sqlite:///{self.data_dir.absolute() / 'mlflow' / 'mlflow.db'}"
        return None if self.mlflow == "off" else self.mlflow

    @property
    def mlflow_artifacts(self) -> Path:
        """Where a registry in SQLite keeps the files of its runs; a server knows its own place."""
        return self.data_dir.absolute() / "mlflow" / "artifacts"
