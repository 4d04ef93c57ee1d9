"""Dagster's memory goes from a folder to a database and back: every row, every answer, and no request twice."""

import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterEventType as Event
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.definitions.sensor_definition import SensorType
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.test_utils import create_run_for_test
from rich.console import Console
from typer.testing import CliRunner

from stock_assets.cli.commands import app
from stock_assets.cli.daemon_lock import lock_database
from stock_assets.cli.home import lock_home
from stock_assets.cli.migrate import migrate
from stock_assets.errors import DamagedFileError, MoveError, SettingsError, StockAssetsError
from stock_assets.objects import Place, found_below, name_below, place_of, put
from stock_assets.publication.materialize.publish import publish_sessions
from stock_assets.settings import Settings
from stock_assets.storage import dagster_move, dagster_rows
from stock_assets.storage import postgres as pools
from stock_assets.storage.dagster_database import database_rows
from stock_assets.storage.dagster_folder import FolderRows
from stock_assets.storage.dagster_move import to_database, to_folder
from stock_assets.storage.dagster_rows import contents_of
from stock_assets.storage.platform_row import IDENTITY, Platform, require_platform
from stock_assets.storage.registry import NoRegistry
from stock_assets_tests.publication.markets import NOW as PUBLISHED_AT
from stock_assets_tests.publication.markets import market, sessions_of
from stock_assets_tests.storage.test_event_log import (
    ASSETS,
    KEYS,
    Recorded,
    _own_batch_size,
    answers,
    materializations,
    open_instance,
    recorded,
)
from stock_assets_tests.team.postgres import Server
from stock_assets_tests.team.s3 import S3
from stock_assets_tests.team.test_postgres import open_instance as open_database
from stock_assets_tests.team.test_profiles import another_process

pytestmark = [
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning"),
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]
__all__ = ["_own_batch_size", "recorded"]

_NAMES = (f"moved_{number}" for number in count())
#: What a folder and a database answer differently by their nature: the ids and the order within the log of a run, and
#: what an asset that was wiped had in it.
OF_ONE_RUN = (
    "get_logs_for_",
    "get_records_for_run",
    "get_step_stats",
    "get_maximum_record_id",
    "get_event_records(EventRecordsFilter(event_type=<DagsterEventType.STEP_SUCCESS",
    "get_asset_partitions_for_run",
    "get_asset_keys_for_run",
)
ORIGIN = RemoteInstigatorOrigin(
    RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("stock_assets"), "__repository__"), "evening"
)
NOW = 1.7e9


@pytest.fixture
def address(postgres: Server) -> Iterator[str]:
    yield postgres.database(next(_NAMES))
    for key, engine in list(pools._ENGINES.items()):
        engine.dispose()
        del pools._ENGINES[key]


@pytest.fixture
def home(recorded: Recorded, tmp_path: Path) -> Path:
    """The recorded runs, with a row in every other table, and what the daily tidying leaves of old ones."""
    folder = tmp_path / "data" / "dagster"
    shutil.copytree(recorded.runs_db.parent.parent, folder)
    (folder / "history" / "runs" / f"{recorded.runs[-1]}.db").unlink()  # the tidying removed it
    with closing(sqlite3.connect(folder / "history" / "runs" / "index.db")) as index:
        index.execute(
            "UPDATE event_logs SET event = replace(event, '\"rows\"', '\"row\"') "
            "WHERE dagster_event_type = 'ASSET_MATERIALIZATION'"
        )
        gone = "DELETE FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION_PLANNED' AND partition = ?"
        index.execute(gone, [KEYS[2]])
        index.commit()
    with open_instance(folder) as instance:
        state = InstigatorState(
            ORIGIN,
            InstigatorType.SENSOR,
            InstigatorStatus.RUNNING,
            SensorInstigatorData(cursor="7", sensor_type=SensorType.ASSET),
        )
        instance.add_instigator_state(state)
        tick = TickData(ORIGIN.get_id(), "evening", InstigatorType.SENSOR, TickStatus.SKIPPED, NOW, cursor="7")
        instance.create_tick(tick._replace(selector_id=state.selector_id))
        instance.add_dynamic_partitions("watchlists", ["one", "two"])
        instance.daemon_cursor_storage.set_cursor_values({"asset_daemon": "42"})
        instance.event_log_storage.set_concurrency_slots("duckdb", 3)
        instance.add_backfill(
            PartitionBackfill("of_2019", BulkActionStatus.COMPLETED_SUCCESS, False, {"by": "hand"}, NOW)
        )
        instance.wipe_assets([ASSETS[3]])
    return folder


def of_all_runs(asked: Mapping[str, Any]) -> dict[str, Any]:
    # the tags of an asset come in no order
    return {
        name: sorted(answer, key=repr) if name.startswith("get_event_tags") else answer
        for name, answer in asked.items()
        if not name.startswith(OF_ONE_RUN)
    }


def seen_in(instance: dg.DagsterInstance, run: str) -> Counter[object]:
    """The log of a run, in any order; of a materialization the tidied text is kept."""
    return Counter((e.dagster_event_type, e.timestamp, e.step_key, e.user_message) for e in instance.all_logs(run))


def rows_in(contents: Mapping[str, Any]) -> dict[str, int]:
    return {name: found.rows for name, found in contents.items()}


def test_there_and_back_every_row_and_answer_is_the_same(home: Path, tmp_path: Path, address: str, recorded: Recorded):
    runs = recorded.runs[:-1]  # the log of the last is gone
    before = contents_of(FolderRows(home))
    empty = {"pending_steps", "asset_daemon_asset_evaluations", "jobs"}
    assert {name for name, found in before.items() if not found.rows} <= empty
    with open_instance(home) as instance:
        answers(instance, runs)  # which keeps the status of each partition
        single = answers(instance, runs)
        logs = {run: seen_in(instance, run) for run in runs}
        states = repr(instance.all_instigator_state())
    before = contents_of(FolderRows(home))

    moved = to_database(home, address, dry_run=False)
    assert not moved.was_there
    assert moved.rows == rows_in(before)
    assert contents_of(FolderRows(home)) == before, "the source is as it was"
    with open_database(tmp_path / "team", address) as instance:
        team = answers(instance, runs)
        assert repr(instance.all_instigator_state()) == states
        assert instance.get_ticks(ORIGIN.get_id(), instance.all_instigator_state()[0].selector_id)[0].cursor == "7"
        for run in runs:
            assert seen_in(instance, run) == logs[run]
    different = [name for name, answer in of_all_runs(single).items() if of_all_runs(team)[name] != answer]
    assert not different

    assert to_database(home, address, dry_run=False).was_there, "the same again is success"
    back = tmp_path / "back" / "dagster"
    assert not to_folder(address, back, dry_run=False).was_there
    assert contents_of(FolderRows(back)) == contents_of(FolderRows(home)) == before
    with open_instance(back) as instance:
        again = answers(instance, runs)
    different = [name for name, answer in of_all_runs(single).items() if of_all_runs(again)[name] != answer]
    assert not different
    assert to_folder(address, back, dry_run=False).was_there


# ---------------------------------------------------------------- what goes on afterwards


def sensor_over_bars() -> Callable[[dg.DagsterInstance, str | None], tuple[int, str | None]]:
    """A tick of a sensor that asks for a run at each new materialization: how many it asked for, and its cursor."""

    @dg.asset_sensor(asset_key=ASSETS[0], job_name="downstream")
    def after_bars(context: dg.SensorEvaluationContext, _event: dg.EventLogEntry) -> dg.RunRequest:
        return dg.RunRequest(run_key=context.cursor)

    def tick(instance: dg.DagsterInstance, cursor: str | None) -> tuple[int, str | None]:
        with dg.build_sensor_context(instance, cursor=cursor) as context:
            done = after_bars.evaluate_tick(context)
        return len(done.run_requests or []), done.cursor

    return tick


@pytest.mark.parametrize("ways", [1, 2], ids=["in the database", "back in a folder"])
def test_what_remembers_an_event_goes_on_and_requests_nothing_twice(
    home: Path, tmp_path: Path, address: str, ways: int
):
    tick = sensor_over_bars()
    upstream = dg.AssetSpec(ASSETS[2])

    @dg.asset(deps=[upstream], automation_condition=dg.AutomationCondition.eager())
    def downstream() -> None: ...

    defs = dg.Definitions([upstream, downstream])
    with open_instance(home) as instance:
        requests, cursor = tick(instance, None)
        assert requests == 1
        seen = instance.fetch_run_status_changes(Event.RUN_SUCCESS, 100, ascending=True).cursor
        conditions = dg.evaluate_automation_conditions(defs, instance).cursor
    to_database(home, address, dry_run=False)
    if ways == 2:
        with open_database(tmp_path / "team", address) as instance:
            instance.event_log_storage.store_event_batch(materializations("in the database", "bars", 1))
            instance.delete_run(instance.get_runs(limit=1)[0].run_id)  # with the newest ids
            requests, cursor = tick(instance, cursor)
            assert requests == 1
            conditions = dg.evaluate_automation_conditions(defs, instance, cursor=conditions).cursor
        to_folder(address, tmp_path / "back", dry_run=False)
    with open_database(tmp_path / "team", address) if ways == 1 else open_instance(tmp_path / "back") as instance:
        requests, cursor = tick(instance, cursor)
        again = dg.evaluate_automation_conditions(defs, instance, cursor=conditions)
        assert (requests, again.total_requested) == (0, 0)
        assert not instance.fetch_run_status_changes(Event.RUN_SUCCESS, 100, cursor=seen, ascending=True).records
        instance.event_log_storage.store_event_batch(materializations("later", "bars", 1))
        instance.report_runless_asset_event(dg.AssetMaterialization(ASSETS[2]))
        run = create_run_for_test(instance)
        instance.report_dagster_event(dg.DagsterEvent(Event.RUN_SUCCESS.value, run.job_name), run.run_id)
        requests, cursor = tick(instance, cursor)
        again = dg.evaluate_automation_conditions(defs, instance, cursor=again.cursor)
        assert (requests, again.total_requested) == (1, 1)
        changes = instance.fetch_run_status_changes(Event.RUN_SUCCESS, 100, cursor=seen, ascending=True)
        assert len(changes.records) == 1
        assert tick(instance, cursor)[0] == 0


# ---------------------------------------------------------------- kills

#: Moves, and dies at the n-th batch that is written, or after the n-th of the two renames.
KILLED = """
import os, signal, sys
from pathlib import Path
from stock_assets.storage import dagster_database, dagster_folder, dagster_move
what, home, address, n = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
done = 0
def counting(act):
    def then(*arguments):
        global done
        result = act(*arguments)
        done += 1
        if done == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return then
if what == "to_database":
    dagster_database.Event._asdict = counting(dagster_database.Event._asdict)
elif what == "to_folder, aside":
    dagster_folder._without_id = counting(dagster_folder._without_id)
else:
    rename = Path.rename
    Path.rename = counting(rename)
move = dagster_move.to_database if what == "to_database" else dagster_move.to_folder
move(*((home, address) if what == "to_database" else (address, home)), dry_run=False)
"""


def killed(what: str, home: Path, address: str, n: int) -> None:
    command = [sys.executable, "-c", KILLED, what, str(home), address, str(n)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def test_a_move_that_is_killed_leaves_nothing_half_and_is_begun_again(home: Path, tmp_path: Path, address: str):
    before = contents_of(FolderRows(home))
    killed("to_database", home, address, 60)
    with database_rows(address) as rows:
        assert not any(found.rows for found in contents_of(rows).values())
    assert not to_database(home, address, dry_run=False).was_there

    back = tmp_path / "back"
    killed("to_folder, aside", back, address, 60)
    assert [path.name[:9] for path in back.iterdir()] == [".tmp-move"]
    killed("to_folder", back, address, 1)
    assert (back / "history").exists()
    assert not (back / "schedules").exists()
    assert not to_folder(address, back, dry_run=False).was_there
    assert sorted(path.name for path in back.iterdir()) == ["history", "schedules"]
    assert contents_of(FolderRows(back)) == contents_of(FolderRows(home)) == before


# ---------------------------------------------------------------- what is refused


def test_what_may_not_be_moved_is_one_line_and_writes_nothing(
    home: Path, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
):
    def refused(says: str, act: Callable[[], object]) -> None:
        with pytest.raises(MoveError, match=says) as error:
            act()
        assert "\n" not in str(error.value)
        assert "secret" not in str(error.value)

    move = lambda: to_database(home, address, dry_run=False)  # noqa: E731
    refused("holds no runs and events", lambda: to_database(tmp_path / "nothing", address, dry_run=False))
    with monkeypatch.context() as patch:
        patch.setattr(dagster_rows, "dagster_revision", lambda: "another")
        refused("has Dagster's schema .*, and the installed Dagster another", move)
    with open_instance(home) as instance:
        run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
        refused(f"are not over, {run.run_id} first", move)
        instance.delete_run(run.run_id)
    with monkeypatch.context() as patch:
        patch.setattr(dagster_move, "write_database", lambda *_: None)
        refused("did not arrive in", move)
    with database_rows(address) as rows:
        assert not any(found.rows for found in contents_of(rows).values())
    with open_database(tmp_path / "team", address) as instance:
        create_run_for_test(instance, status=dg.DagsterRunStatus.SUCCESS)
    refused("holds something else already: .* rows of", move)
    refused("holds something else already: .* rows of", lambda: to_folder(address, home, dry_run=False))
    (home / "history" / "runs" / "index.db").write_bytes(b"SQLite format 3\0" + b"\0" * 5000)
    with pytest.raises(DamagedFileError, match=r"index.db is (damaged|cut short)"):
        move()


# ---------------------------------------------------------------- the command


def said(settings: Settings, *targets: str, dry_run: bool = False) -> str:
    out = Console(file=StringIO(), width=400)
    migrate(settings, targets, dry_run=dry_run, now=datetime.now(UTC), out=out)
    return out.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]: it is a StringIO


def contents(place: Place) -> dict[str, bytes]:
    found = {name_below(found.place, place): found.place.read_bytes() for found in found_below(place)}
    return {name: content for name, content in found.items() if not name.endswith(".lock")}


def test_the_command_moves_a_platform_to_a_database_and_a_bucket_and_back(
    home: Path, tmp_path: Path, address: str, s3: S3
):
    settings, store = market(home.parent, 4)
    publish_sessions(store, settings, sessions_of(settings, 4), registry=NoRegistry(), now=PUBLISHED_AT)
    put(settings.artifacts / "trained_rnn" / "2019" / "one" / "model.json", b"{}")
    bucket = str(s3.bucket() / "team")
    counted = said(settings, address, bucket, dry_run=True)
    assert "nothing was written: this was a dry run" in counted
    assert "secret" not in counted
    assert not (settings.data_dir / IDENTITY).exists()
    assert list(found_below(place_of(bucket))) == []
    with database_rows(address) as rows:
        assert rows.revision is None

    published = contents(settings.published)
    assert "went from" in said(settings, address, bucket)
    assert "in the database dagster" not in said(settings, address, bucket)
    team = settings.model_copy(update={"dagster": address, "artifacts": place_of(bucket)})
    assert contents(team.published) == published
    with pytest.raises(SettingsError, match="is a database already"):
        said(team, address)
    back = tmp_path / "back"
    assert "unset STOCK_ASSETS_DAGSTER" in said(team, str(back))
    assert contents(back / "published") == published
    assert contents(back / "artifacts") == contents(settings.artifacts)
    assert contents_of(FolderRows(back / "dagster")) == contents_of(FolderRows(home))

    put(team.artifacts / "trained_rnn" / "2019" / "one" / "model.json", b"{1}")
    with pytest.raises(MoveError, match=r"model.json is not what"):
        said(settings, bucket)
    put(team.artifacts / "another.json", b"{}")
    with pytest.raises(MoveError, match=r"holds 1 object\(s\) that .* lacks, another.json first"):
        said(settings, bucket)


def test_a_platform_that_works_and_the_database_of_another_are_refused(home: Path, tmp_path: Path, address: str):
    settings, _ = market(home.parent, 1)
    with lock_home(home), pytest.raises(StockAssetsError, match="another stock-assets run works on"):
        said(settings, address)
    with another_process():
        daemon = lock_database(address)
    with closing(daemon), pytest.raises(StockAssetsError, match="another dagster-daemon works on"):
        said(settings, address)
    other = Platform(tmp_path / "other", tmp_path / "other" / "stock_assets.duckdb")
    other.data_dir.mkdir()
    require_platform(address, other, now=datetime.now(UTC))
    with pytest.raises(SettingsError, match="the database of another platform"):
        said(settings, address, dry_run=True)
    with pytest.raises(MoveError, match=f"{other.data_dir} is the data folder of another platform"):
        said(settings.model_copy(update={"dagster": address}), str(other.data_dir))
    with database_rows(address) as rows:
        assert rows.revision is None
    refused = CliRunner().invoke(app, ["migrate", "--to", "postgresql://me:secret@host/dagster", "--dry-run"])
    assert isinstance(refused.exception, SettingsError)
    assert "secret" not in str(refused.exception)
