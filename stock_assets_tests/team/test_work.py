"""Units of work on several hosts: a step of the data host, whose workers are killed and cut off, beside the same step
on one machine; and the queue by itself."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.cli.work import work
from stock_assets.errors import DamagedFileError, SettingsError, StockAssetsError
from stock_assets.model.materialize import worker as workers
from stock_assets.model.materialize.sharing import Work, identity, led_batch
from stock_assets.objects import Place, found_below
from stock_assets.settings import PREFIX, PROJECT_DIR, Settings
from stock_assets.storage import work_files, work_queue
from stock_assets.storage.warehouse import Warehouse
from stock_assets.storage.work_files import put_frame, read_frame
from stock_assets.storage.work_queue import WorkQueue
from stock_assets_tests.model.store import NOW, small_settings, small_store, trained
from stock_assets_tests.team import shared_steps
from stock_assets_tests.team.hosts import BUCKET, Host, network, running_services
from stock_assets_tests.team.postgres import Server
from stock_assets_tests.team.s3 import S3, Proxy
from stock_assets_tests.team.shared_steps import GO, HELD, TABLE, TRIALS
from stock_assets_tests.team.test_hosts import AWAY, CUT, PATIENCE, require_hosts
from stock_assets_tests.team.test_postgres import new_database
from stock_assets_tests.waiting import until

__all__ = ["new_database"]
MODULE = shared_steps.__name__


@dataclass
class Team:
    """Hosts that have no process yet but Postgres and the bucket."""

    folder: Path
    data: Host
    other: Host
    services: Host
    postgres: Server
    s3: S3
    bucket: Proxy
    environment: dict[str, str]

    def start_step(self, name: str, **more: str) -> "subprocess.Popen[bytes]":
        own = {f"{PREFIX}DATA_DIR": str(self.folder / "data"), **more}
        command = [sys.executable, "-m", MODULE, name]
        return self.data.start(command, self.environment | own, self.folder / "step.log")

    def start_worker(self, name: str, slots: int, **more: str) -> "subprocess.Popen[bytes]":
        own = {f"{PREFIX}DATA_DIR": str(self.folder / name), **more}
        command = [str(Path(sys.executable).with_name("stock-assets")), "work", "--slots", str(slots)]
        return self.other.start(command, self.environment | own, self.folder / f"{name}.log")

    def ask(self, statement: str) -> list[tuple]:
        with self.services.within():
            return self.postgres.execute(statement, "dagster")

    def wait(self, holds: Callable[[], object]) -> None:
        try:
            until(holds, seconds=PATIENCE, pause=0.1)
        except AssertionError as error:
            raise AssertionError(self.story()) from error

    def wait_for(self, process: "subprocess.Popen[bytes]") -> None:
        """Until it ended well."""
        self.wait(lambda: process.poll() is not None)
        assert process.returncode == 0, self.story()

    def story(self) -> str:
        return "\n".join(f"--- {log.name}\n{log.read_text()[-4000:]}" for log in sorted(self.folder.glob("*.log")))

    def require_nothing_left(self) -> None:
        assert self.ask("SELECT count(*) FROM stock_assets_work_batches") == [(0,)]
        assert self.ask("SELECT count(*) FROM stock_assets_work_units") == [(0,)]
        names = [name for name in self.objects() if "work" in name.split("/") or "checkpoint" in name]
        assert names == []

    def objects(self) -> list[str]:
        """The keys of the bucket, by the server itself."""
        code = (
            "from pathlib import Path; from stock_assets.objects import found_below, place_of; "
            f"print(*(str(found.place) for found in found_below(place_of('s3://{BUCKET}/team'))), sep='\\n')"
        )
        with self.services.within():
            done = subprocess.run(
                [sys.executable, "-c", code],
                env=os.environ | self.s3.environment,
                capture_output=True,
                text=True,
                check=True,
            )
        return done.stdout.split()


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    require_hosts()
    with ExitStack() as stack:
        services, data, other = stack.enter_context(network("services", "data", "other"))
        postgres, s3, proxy = stack.enter_context(running_services(services))
        kept = {name: text for name, text in os.environ.items() if not name.startswith((PREFIX, "DAGSTER_", "PYTEST_"))}
        chosen = {
            "SOURCE": "simulated",
            "START": "2017-01-03",
            "END": "2019-06-28",
            "FIRST_MODEL_YEAR": "2018",
            "MLFLOW": "off",
            "DAGSTER": postgres.address("dagster", services.address),
            "ARTIFACTS": f"s3://{BUCKET}/team",
            "EXTENSIONS": MODULE,
        }
        environment = kept | {PREFIX + name: text for name, text in chosen.items()} | s3.environment
        environment |= {"AWS_ENDPOINT_URL": f"http://{services.address}:{proxy.port}", "PYTHONPATH": str(PROJECT_DIR)}
        yield Team(tmp_path, data, other, services, postgres, s3, proxy, environment)


def test_model_years_of_two_hosts_are_those_of_one_whatever_fails(team: Team):
    """A worker is killed in the middle of a training, the other's link is cut, Postgres is killed, the bucket away."""
    single = small_settings(team.folder / "single", mlflow="off")
    trained(alone := small_store(single), single, 2018, 2019, table=TABLE)
    small_store(small_settings(team.folder / "data"))
    held = team.folder / "held"
    held.mkdir()

    def held_by(process: "subprocess.Popen[bytes]") -> list[str]:
        return [file.name for file in held.glob(f"*-{process.pid}")]

    first = team.start_worker("first", 1, **{HELD: str(held)})
    team.wait(lambda: "waits for units" in (team.folder / "first.log").read_text())
    step = team.start_step("train", **{HELD: str(held)})
    team.wait(lambda: held_by(first) and len(held_by(step)) == 2)  # of four units, in two threads and in one
    first.kill()
    first.wait()
    second = team.start_worker("second", 2, **{HELD: str(held)})
    team.wait(lambda: len(held_by(second)) == 2)
    team.other.cut()
    time.sleep(CUT)
    team.other.connect()
    with team.services.within():  # all locks are lost, and taken again by those that had them
        team.postgres.kill()
        time.sleep(AWAY)
        team.postgres.start()
    team.bucket.fault = lambda *_: "drop"
    (held / GO).touch()
    time.sleep(AWAY)
    team.bucket.fault = lambda *_: None
    team.wait_for(step)

    made = Warehouse(team.folder / "data" / "stock_assets.duckdb").read(TABLE)
    assert_frame_equal(made, alone.read(TABLE), check_exact=True)  # a version names every bit of its weights
    lines = (team.folder / "step.log").read_text()
    assert "4 unit(s) of training are shared with 1 worker(s)" in lines
    assert lines.count("is done by worker") == 2
    assert len({line.split(" is taken by ")[1] for line in lines.splitlines() if " is taken by " in line}) <= 2
    team.require_nothing_left()
    second.terminate()
    assert second.wait() == 0
    assert "ended by SIGTERM; its units are taken by others" in (team.folder / "second.log").read_text()


def test_trials_of_two_hosts_are_enough_though_a_worker_is_killed(team: Team):
    held = team.folder / "held"
    held.mkdir()

    def states() -> list[str]:
        return [state for (state,) in team.ask("SELECT state::text FROM stock_assets_tuning.trials ORDER BY number")]

    worker = team.start_worker("first", 1, **{HELD: str(held)})
    step = team.start_step("tune")
    team.wait(
        lambda: list(held.glob("trial-*")) and states().count("COMPLETE") + states().count("PRUNED") == TRIALS - 1
    )
    with suppress(ProcessLookupError):
        os.killpg(worker.pid, 9)  # its process with the trial as well
    worker.wait()
    team.wait_for(step)
    done = states()
    assert done.count("COMPLETE") + done.count("PRUNED") == TRIALS
    lines = (team.folder / "step.log").read_text().splitlines()
    assert [line for line in lines if "does trials of deepar-" in line]
    assert not [line for line in lines if line.startswith(" (")]  # an empty line is nobody's news
    assert done.count("FAIL") == 1
    assert "RUNNING" not in done
    assert "WAITING" not in done
    team.require_nothing_left()


# ---------------------------------------------------------------- without hosts


@pytest.fixture
def queues(new_database: Callable[[], str]) -> Iterator[Callable[[str], WorkQueue]]:
    address = new_database()
    with ExitStack() as stack:
        yield lambda role: stack.enter_context(closing(WorkQueue(address, role)))


def team_settings(folder: Path, address: str, **changes: object) -> Settings:
    return small_settings(folder, dagster=address, artifacts=str(folder / "artifacts"), mlflow="off", **changes)


def end_connections(postgres: Server, queue: WorkQueue) -> None:
    """As a link that breaks: the server forgets the process with its locks."""
    name = f"stock-assets {queue.name}"
    postgres.execute(f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = '{name}'")


def test_a_unit_has_one_process_at_a_time_and_its_first_result_counts(
    postgres: Server, queues: Callable[[str], WorkQueue], monkeypatch: pytest.MonkeyPatch
):
    lead, one, two = queues("lead"), queues("worker"), queues("worker")
    batch = lead.post("training", ["a", "b"])
    assert one.open_batches() == []  # what its units read is not published
    one.enrol()
    assert lead.workers() == 1
    lead.publish(batch, "{}")
    assert [open_batch.batch for open_batch in one.open_batches()] == [batch]
    first, second = one.claim(batch), one.claim(batch)
    assert first
    assert second
    assert (first.spec, second.spec, one.claim(batch), two.claim(batch)) == ("a", "b", None, None)
    one.finish(second, "B")

    end_connections(postgres, one)
    taken = two.claim(batch)  # before the first process notices
    assert taken
    assert taken.unit == first.unit
    assert not one.is_held(first)
    assert two.is_held(taken)
    one.finish(first, "late")  # an unlocked process does nothing worse than to be first with the same result
    two.finish(taken, "A")
    assert lead.results(batch) == ["late", "B"]
    assert lead.workers() == 1  # enrolled again over the new link

    third = lead.post("training", ["c"])
    claim = one.claim(third)
    assert claim is not None
    end_connections(postgres, one)
    end_connections(postgres, two)
    assert two.claim(third) is None  # after a restart of the server all have lost their locks: it waits for the other
    assert one.is_held(claim)
    monkeypatch.setattr(work_queue, "GRACE_SECONDS", 0.0)
    assert two.claim(third) is None
    one.give_back(claim)
    assert two.claim(third) is not None

    lead.close()
    until(lambda: two.open_batches() == [])  # without a lead no unit is taken
    assert sorted(queues("lead").leaderless()) == [batch, third]


def fails(number: int) -> Callable[..., str]:
    """What opens a batch whose unit `number` raises, as of a worker."""

    def compute(spec: str, _say: object, *, require_held: Callable[[], None]) -> str:
        require_held()
        if int(spec) == number:
            raise StockAssetsError("no label\nat all")
        return spec

    return compute


def test_a_unit_that_fails_elsewhere_and_one_that_kills_its_processes_end_the_step(
    tmp_path: Path, new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
):
    settings = team_settings(tmp_path, address := new_database())
    names = ["2018 rnn", "2019 rnn"]
    units = Work("training", names, ["0", "1"], publish=lambda folder: {"file": put_frame(folder, pl.DataFrame())})
    removed: list[int] = []

    def opened(*_: object) -> Callable[..., str]:
        if not removed:  # the step ends while the worker reads
            removed.extend(batch.batch for batch in queue.open_batches())
            queue.remove(removed[0])
            raise DamagedFileError("a file is absent")
        return fails(1)

    monkeypatch.setitem(workers.KINDS, "training", opened)
    monkeypatch.setattr(workers, "LOOK_SECONDS", 0.05)
    lines: list[str] = []
    with closing(WorkQueue(address, "worker")) as queue:
        Thread(target=_ended(workers.Worker(settings, queue, 1)), daemon=True).start()
        with led_batch(settings, units) as batch:
            until(lambda: queue.workers() == 1)
            batch.look(lines.append)
            until(lambda: removed)
        with (
            pytest.raises(StockAssetsError, match=r"2019 rnn failed on worker .*: no label"),
            led_batch(settings, units) as batch,
        ):
            until(lambda: batch.look(lines.append))
        assert lines[0].startswith("2 unit(s) of training are shared with 1 worker(s): ")
        assert list(found_below(settings.artifacts / work_files.FOLDER)) == []

        with led_batch(settings, units) as batch, closing(WorkQueue(address, "worker")) as other:
            for _ in range(work_queue.MOST_CLAIMS):
                claim = other.claim(batch.batch)
                assert claim is not None
                other.give_back(claim)
            with pytest.raises(StockAssetsError, match=r"2018 rnn: 5 processes ended at it, the last of them worker "):
                batch.look(lines.append)


def _ended(worker: workers.Worker) -> Callable[[], None]:
    """Works until its queue is closed."""

    def run() -> None:
        with suppress(Exception):
            worker.run(lambda _: None)

    return run


def test_a_worker_of_other_settings_or_another_clock_is_refused_in_one_line(
    tmp_path: Path, new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
):
    settings = team_settings(tmp_path, address := new_database())
    with pytest.raises(SettingsError, match=r"STOCK_ASSETS_DAGSTER names no Postgres database.*docs/team\.md"):
        work(small_settings(tmp_path), 1, now=datetime.now(UTC), say=print)
    monkeypatch.setattr("stock_assets.cli.work._end_at_once", lambda: None)
    with pytest.raises(SettingsError, match=r"the clock of this host .* is 300 s ahead of"):
        work(settings, 1, now=datetime.now(UTC) + timedelta(minutes=5), say=print)

    lines: list[str] = []
    units = Work("training", ["2018 rnn"], ["{}"], publish=lambda _: {})
    with led_batch(settings, units) as batch, closing(WorkQueue(address, "worker")) as present:
        present.enrol()
        batch.look(lines.append)
        for change, words in (
            ({"seed": 1}, "the setting seed is 1 here and 0 in the run"),
            ({"horizon": 5}, "the setting horizon is 5 here and 7 in the run"),
        ):
            other = team_settings(tmp_path, address, **change)
            with pytest.raises(SettingsError, match=rf"refuses the units of training: {words}; expected the image"):
                work(other, 1, now=datetime.now(UTC), say=print)
            batch.look(lines.append)
            assert words in lines[-1]
        newer = identity(settings) | {"stock_assets": "9.9"}
        monkeypatch.setattr(workers, "identity", lambda _: newer)
        with pytest.raises(SettingsError, match=r"stock_assets is 9\.9 here and "):
            work(settings, 1, now=datetime.now(UTC), say=print)


def test_a_frame_of_several_files_comes_back_to_the_bit(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(work_files, "ROWS", 2)
    rows = pl.DataFrame(
        {
            "ticker": ["A", "A", "Ä", "B", "B"],
            "session": [NOW.date()] * 5,
            "float": pl.Series([0.1, None, float("nan"), -0.0, 1e-45], dtype=pl.Float32),
            "double": [1 / 3, float("inf"), None, 2.0**-1074, 0.0],
            "label": pl.Series([-1, 0, 1, None, 1], dtype=pl.Int8),
        }
    )
    folder = work_files.batch_folder(place, 7)
    names = put_frame(folder, rows)
    assert len(names) == 3
    again = read_frame(folder, names, tmp_path / "store.duckdb")
    assert_frame_equal(again, rows, check_exact=True)
    assert [str(one) for one in again["float"]] == [str(one) for one in rows["float"]]  # the sign of zero, NaN and null
    empty = put_frame(folder, rows.clear())
    assert_frame_equal(read_frame(folder, empty, tmp_path / "store.duckdb"), rows.clear())

    with pytest.raises(StockAssetsError, match=r"is absent: the batch was removed, or the artifacts of this host"):
        read_frame(folder, ["0" * 64], tmp_path / "store.duckdb")
    work_files.remove_batch(place, 7)
    assert list(found_below(place / work_files.FOLDER)) == []
    assert json.dumps(names)  # a line of the queue
