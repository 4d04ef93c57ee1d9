"""A backup holds what Dagster keeps in a database, as of a moment before the store, and puts every row back."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import count
from pathlib import Path

import dagster as dg
import pytest
from polars.testing import assert_frame_equal
from rich.console import Console

from stock_assets.cli.backup import restore, verify
from stock_assets.errors import MoveError, SettingsError
from stock_assets.lifecycle.materialize.backup import back_up, elsewhere_of
from stock_assets.objects import Place
from stock_assets.settings import Settings
from stock_assets.storage import postgres as pools
from stock_assets.storage.dagster_folder import FolderRows
from stock_assets.storage.dagster_move import to_database
from stock_assets.storage.dagster_rows import contents_of
from stock_assets.storage.elsewhere import DATABASE
from stock_assets.storage.platform_row import Platform, require_platform
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import TABLES
from stock_assets_tests.publication.markets import NOW, market
from stock_assets_tests.storage.test_event_log import Recorded, _own_batch_size, answers, materializations, recorded
from stock_assets_tests.team.postgres import Server
from stock_assets_tests.team.test_postgres import open_instance, rows

pytestmark = [
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning"),
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]
__all__ = ["_own_batch_size", "recorded"]

_NAMES = (f"kept_{number}" for number in count())


@pytest.fixture
def new_database(postgres: Server) -> Iterator[Callable[[], str]]:
    yield lambda: postgres.database(next(_NAMES))
    for key, engine in list(pools._ENGINES.items()):
        engine.dispose()
        del pools._ENGINES[key]


@pytest.fixture
def platform(recorded: Recorded, tmp_path: Path, new_database: Callable[[], str]) -> tuple[Settings, Warehouse]:
    """A platform whose Dagster worked in a folder, and then in a database; its store is on a disk of its own."""
    settings, store = market(tmp_path / "data", 6, dagster=new_database(), store=tmp_path / "fast" / "bars.duckdb")
    assert settings.dagster
    require_platform(settings.dagster, Platform(settings.data_dir, settings.database), now=clock())
    to_database(recorded.runs_db.parent.parent, settings.dagster, dry_run=False)
    with open_instance(tmp_path / "host", settings.dagster) as instance:
        instance.event_log_storage.store_event_batch(materializations("in the database", "bars", 3))
    return settings, store


def clock() -> datetime:
    """The time of this host, which is compared with that of the server."""
    return datetime.now(UTC)


def said(action: Callable[[Console], object]) -> str:
    out = Console(file=StringIO(), width=400)
    action(out)
    return out.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]: it is a StringIO


def answered(home: Path, address: str, runs: list[str]) -> dict[str, object]:
    with open_instance(home, address) as instance:
        return answers(instance, runs)


def test_backup_destroy_everything_restore_gives_the_same(
    platform: tuple[Settings, Warehouse],
    place: Place,
    tmp_path: Path,
    new_database: Callable[[], str],
    postgres: Server,
    recorded: Recorded,
):
    settings, store = platform
    assert settings.dagster
    runs = [*recorded.runs, "in the database"]
    answered(tmp_path / "host", settings.dagster, runs)  # which keeps the status of each partition
    asked, kept = answered(tmp_path / "host", settings.dagster, runs), rows(postgres, settings.dagster)
    predictions = store.read("predictions")
    back_up(settings, place, keep=3, now=NOW)
    second = back_up(settings, place, keep=3, now=NOW + timedelta(hours=1))
    assert second.new_bytes < 1000, "what did not change costs nothing"
    assert "is sound" in said(lambda out: verify(place, out))

    database = settings.dagster.rpartition("/")[2]
    for engine in pools._ENGINES.values():
        engine.dispose()
    postgres.execute(f'DROP DATABASE "{database}" WITH (FORCE)')
    shutil.rmtree(settings.data_dir)
    settings.database.unlink()
    after = settings.model_copy(update={"dagster": new_database()})
    assert after.dagster
    elsewhere = elsewhere_of(after)
    text = said(lambda out: restore(place, after.data_dir, replace=False, now=clock(), out=out, elsewhere=elsewhere))
    assert "rows of Dagster's are in" in text
    assert "secret" not in text
    assert_frame_equal(Warehouse(after.database).read("predictions"), predictions)
    assert rows(postgres, after.dagster) == kept
    assert answered(tmp_path / "host", after.dagster, runs) == asked
    assert not (after.data_dir / DATABASE).exists()
    assert "is sound" in said(lambda out: verify(after.data_dir, out, settings=after))
    require_platform(after.dagster, Platform(after.data_dir, after.database), now=clock())
    with open_instance(tmp_path / "host", after.dagster) as instance:
        instance.event_log_storage.store_event_batch(materializations("after", "bars", 2))
        assert len(instance.all_logs("after")) == 4


def test_a_backup_of_a_team_is_restored_to_a_single_machine(
    platform: tuple[Settings, Warehouse], tmp_path: Path, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
):
    settings, _ = platform
    assert settings.dagster
    back_up(settings, tmp_path / "backups", keep=1, now=NOW)
    said(lambda out: restore(tmp_path / "backups", tmp_path / "new", replace=False, now=NOW, out=out))
    single = contents_of(FolderRows(tmp_path / "new" / "dagster"))
    before = contents_of(FolderRows(recorded.runs_db.parent.parent))
    assert single["event_logs"].rows == before["event_logs"].rows + 6
    assert single["runs"] == before["runs"]
    # of the recorded graph an asset is called as a table of ours, which this store lacks
    monkeypatch.delitem(TABLES, "bars", raising=False)
    assert "is sound" in said(lambda out: verify(tmp_path / "new", out))


def test_a_database_that_is_not_empty_is_refused_before_anything_is_restored(
    platform: tuple[Settings, Warehouse], tmp_path: Path, new_database: Callable[[], str]
):
    settings, _ = platform
    back_up(settings, tmp_path / "backups", keep=1, now=NOW)

    def restored(address: str) -> None:
        elsewhere = elsewhere_of(settings.model_copy(update={"dagster": address}))
        target, elsewhere = tmp_path / "new", replace(elsewhere, paths={})
        said(lambda out: restore(tmp_path / "backups", target, replace=True, now=clock(), out=out, elsewhere=elsewhere))

    used, foreign = new_database(), new_database()
    with open_instance(tmp_path / "host", used) as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization("bars"))
    with pytest.raises(MoveError, match="holds something else already"):
        restored(used)
    other = Platform(tmp_path / "other", tmp_path / "other" / "stock_assets.duckdb")
    other.data_dir.mkdir()
    require_platform(foreign, other, now=clock())
    with pytest.raises(SettingsError, match="the database of another platform"):
        restored(foreign)
    assert not (tmp_path / "new").exists()
