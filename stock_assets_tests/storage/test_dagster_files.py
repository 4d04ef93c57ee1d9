"""What is old in Dagster's files goes, and what the platform and the UI still ask for stays."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.test_utils import freeze_time

from stock_assets.storage.dagster_files import REMOVED_TEXT, DagsterFiles, fold_in, without_long_texts

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")

DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-02-01")
KEYS = DAYS.get_partition_keys()
FIRST = datetime(2024, 3, 1, tzinfo=UTC)
PICTURE = f"![drift](data:image/png;base64,{'A' * 5000})"


@dg.asset(partitions_def=DAYS, check_specs=[dg.AssetCheckSpec("complete", asset="bars")])
def bars(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    if "fail" in context.run.tags:
        raise ValueError("no bars today")
    return dg.MaterializeResult(
        metadata={"rows": 7, "picture": dg.MetadataValue.md(PICTURE), "note": dg.MetadataValue.md("short")},
        check_results=[dg.AssetCheckResult(check_name="complete", passed=True)],
    )


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs on three days of one partition each, the second of which was made twice, and one that failed."""
    home = tmp_path_factory.mktemp("history")
    with opened(home) as instance:
        for day, key in ((0, KEYS[0]), (1, KEYS[1]), (2, KEYS[1]), (3, KEYS[2])):
            with freeze_time(FIRST + timedelta(days=day)):
                dg.materialize([bars], instance=instance, partition_key=key)
        with freeze_time(FIRST + timedelta(days=1)):
            dg.materialize([bars], instance=instance, partition_key=KEYS[3], tags={"fail": "1"}, raise_on_error=False)
    return home


@contextmanager
def opened(home: Path) -> Iterator[dg.DagsterInstance]:
    storage = {
        "module": "stock_assets.storage.event_log",
        "class": "BatchingSqliteStorage",
        "config": {"base_dir": str(home)},
    }
    settings = {"storage": {"custom": storage}, "telemetry": {"enabled": False}}
    (home / "dagster.yaml").write_text(yaml.safe_dump(settings))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")
        with dg.DagsterInstance.from_config(str(home)) as instance:
            yield instance


@pytest.fixture
def instance(history: Path, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """That of a copy of `history` in `tmp_path`."""
    shutil.copytree(history, tmp_path, dirs_exist_ok=True)
    with opened(tmp_path) as instance:
        yield instance


def shards(files: DagsterFiles) -> set[str]:
    return {file.stem for file in files.shards.glob("*.db")} - {"index", ""}


def run_of(instance: dg.DagsterInstance, key: str) -> list[str]:
    return [run.run_id for run in instance.get_runs(dg.RunsFilter(tags={"dagster/partition": key}))]


def test_what_a_run_wrote_ahead_is_folded_in_when_it_ends(instance: dg.DagsterInstance, tmp_path: Path):
    files = DagsterFiles(tmp_path)
    assert len(shards(files)) == 5
    ahead = {log.name: log.stat().st_size for log in files.shards.glob("*.db-wal") if log.name != "index.db-wal"}
    assert set(ahead.values()) <= {0}
    for run in instance.get_runs():
        assert instance.all_logs(run.run_id)[-1].dagster_event_type in (
            dg.DagsterEventType.RUN_SUCCESS,
            dg.DagsterEventType.RUN_FAILURE,
        )


def test_the_logs_of_killed_processes_are_folded_in(tmp_path: Path):
    """A process that is killed leaves what it wrote ahead for as long as nobody opens the file."""
    home = DagsterFiles(tmp_path)
    home.shards.mkdir(parents=True)
    child = os.fork()
    if child == 0:
        connection = sqlite3.connect(home.shards / "killed.db")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE event_logs (event TEXT)")
        connection.execute("INSERT INTO event_logs VALUES (?)", ["x" * 100_000])
        connection.commit()
        os._exit(9)
    os.waitpid(child, 0)
    assert home.shards.joinpath("killed.db-wal").stat().st_size > 100_000
    done = home.fold_in()
    assert (done.number, done.bytes > 100_000) == (1, True)
    assert not home.shards.joinpath("killed.db-wal").exists()
    with closing(sqlite3.connect(home.shards / "killed.db")) as connection:
        assert connection.execute("SELECT length(event) FROM event_logs").fetchone() == (100_000,)


def test_a_log_that_somebody_reads_is_left_for_the_next_time(tmp_path: Path):
    with closing(sqlite3.connect(tmp_path / "read.db")) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("CREATE TABLE one (x)")
        writer.execute("INSERT INTO one VALUES (1)")
        writer.commit()
        with closing(sqlite3.connect(tmp_path / "read.db")) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM one").fetchall()
            assert fold_in(tmp_path / "read.db", 0.05) is False
        assert fold_in(tmp_path / "read.db", 0.05) is True


def test_events_of_old_runs_go_and_their_materializations_stay(instance: dg.DagsterInstance, tmp_path: Path):
    files = DagsterFiles(tmp_path)
    (newest,) = run_of(instance, KEYS[2])
    (failed,) = run_of(instance, KEYS[3])
    before = datetime(2024, 3, 3, 12)
    done = files.remove_shards(ended_before=before, failed_before=datetime(2024, 1, 1))
    assert done.number == 3
    assert done.bytes > 100_000
    assert shards(files) == {newest, failed}
    assert instance.get_materialized_partitions(bars.key) == set(KEYS[:3])
    assert len(instance.get_runs()) == 5
    old = instance.get_latest_materialization_event(bars.key)
    assert old
    assert old.asset_materialization
    assert old.asset_materialization.metadata["rows"].value == 7
    assert files.remove_shards(ended_before=before, failed_before=before).number == 1


def test_a_run_under_way_keeps_everything(instance: dg.DagsterInstance, tmp_path: Path):
    with freeze_time(FIRST):
        run = instance.create_run_for_job(
            dg.define_asset_job("all").resolve(asset_graph=dg.Definitions([bars]).resolve_asset_graph()),
            status=dg.DagsterRunStatus.STARTED,
        )
        instance.report_engine_event("it began", run)
    files, late = DagsterFiles(tmp_path), datetime(2030, 1, 1)
    files.remove_shards(ended_before=late, failed_before=late)
    files.remove_runs(late)
    assert shards(files) == {run.run_id}
    assert instance.get_run_by_id(run.run_id) is not None


def test_old_runs_go_unless_they_made_the_newest_version_of_an_asset(instance: dg.DagsterInstance, tmp_path: Path):
    with closing(sqlite3.connect(DagsterFiles(tmp_path).index)) as index:
        ((newest,),) = index.execute("SELECT last_run_id FROM asset_keys").fetchall()
    assert DagsterFiles(tmp_path).remove_runs(datetime(2030, 1, 1)) == 4
    assert [run.run_id for run in instance.get_runs()] == [newest]
    assert instance.get_materialized_partitions(bars.key) == set(KEYS[:3])


def test_old_materializations_lose_their_pictures_alone(instance: dg.DagsterInstance, tmp_path: Path):
    files = DagsterFiles(tmp_path)
    assert files.thin_materializations(datetime(2030, 1, 1)) == 3
    assert files.thin_materializations(datetime(2030, 1, 1)) == 0
    records = instance.fetch_materializations(bars.key, limit=10).records
    shown = [record.asset_materialization.metadata for record in records if record.asset_materialization]
    assert [data["picture"].value for data in shown] == [PICTURE, *[REMOVED_TEXT] * 3]
    assert [(data["rows"].value, data["note"].value) for data in shown] == [(7, "short")] * 4
    assert {record.partition_key for record in records} == set(KEYS[:3])


def test_the_newest_evaluation_of_a_check_stays(instance: dg.DagsterInstance, tmp_path: Path):
    key = dg.AssetCheckKey(bars.key, "complete")
    newest = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)[0].id
    planned = "SELECT count(*) FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION_PLANNED'"
    DagsterFiles(tmp_path).remove_checks(datetime(2030, 1, 1))
    history = instance.event_log_storage.get_asset_check_execution_history(key, limit=10)
    assert newest in [record.id for record in history]
    with closing(sqlite3.connect(DagsterFiles(tmp_path).index)) as index:
        assert index.execute(planned).fetchone() == (1,), "that of the failed run, which the UI shows as failed"


@pytest.mark.usefixtures("instance")
def test_young_things_stay(tmp_path: Path):
    files, early = DagsterFiles(tmp_path), datetime(2024, 2, 1)
    assert files.remove_shards(ended_before=early, failed_before=early) == (0, 0)
    assert files.remove_runs(early) == files.thin_materializations(early) == files.remove_checks(early) == 0


def test_a_file_of_mostly_free_space_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = DagsterFiles(tmp_path)
    files.shards.mkdir(parents=True)
    with closing(sqlite3.connect(files.index)) as index:
        index.execute("CREATE TABLE event_logs (event TEXT)")
        index.executemany("INSERT INTO event_logs VALUES (?)", [["x" * 1000]] * 1000)
        index.execute("DELETE FROM event_logs WHERE rowid > 10")
        index.commit()
    assert files.shrink() == (0, 0), "a megabyte is not worth it"
    monkeypatch.setattr("stock_assets.storage.dagster_files.FREE_BYTES", 100_000)
    before = files.index.stat().st_size
    assert files.shrink().number == 1
    assert files.index.stat().st_size < before / 10


def test_printed_lines_go_with_their_age(tmp_path: Path):
    files = DagsterFiles(tmp_path)
    old, young = tmp_path / "storage" / "a" / "compute_logs" / "x.out", tmp_path / "storage" / "b" / "x.err"
    for file, age in ((old, 40), (young, 2)):
        file.parent.mkdir(parents=True)
        file.write_text("line")
        moment = (FIRST - timedelta(days=age)).timestamp()
        os.utime(file, (moment, moment))
    assert files.remove_printed(FIRST - timedelta(days=30)) == (1, 4)
    assert young.exists()
    assert not (tmp_path / "storage" / "a").exists()


def test_a_home_of_another_dagster_or_none_is_left_as_it_is(tmp_path: Path):
    files, late = DagsterFiles(tmp_path), datetime(2030, 1, 1)
    assert files.fold_in() == files.remove_printed(FIRST) == files.shrink() == (0, 0)
    assert files.remove_shards(ended_before=late, failed_before=late) == (0, 0)
    assert files.remove_runs(late) == files.thin_materializations(late) == files.remove_checks(late) == 0


def test_an_event_without_a_long_text_is_not_written_again():
    assert (
        without_long_texts('{"dagster_event": {"event_specific_data": {"materialization": {"metadata_entries": []}}}}')
        is None
    )
