"""Evenings of a team over three hosts, while what joins them fails, beside the same evenings on one machine.

Host `services` has Postgres and the bucket, `control` Dagster's daemon and the API, `data` the code server, its runs
and the store. They are network namespaces of this machine. HOSTS_SEED chooses other moments of failure, HOSTS_EVENINGS
more evenings, up to ten.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from stock_assets.cli.profiles import Profile, files_of
from stock_assets.errors import StoreBusyError
from stock_assets.settings import PREFIX, PROJECT_DIR
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.system.kills import contents
from stock_assets_tests.team import evening_market
from stock_assets_tests.team.evening_market import CLOSED, EVENINGS, LAST_BEFORE, SETTINGS
from stock_assets_tests.team.hosts import BUCKET, Host, network, refusal, running_services
from stock_assets_tests.team.postgres import Server
from stock_assets_tests.team.s3 import Proxy
from stock_assets_tests.waiting import until

SEED = int(os.environ.get("HOSTS_SEED", "20"))
#: Seconds of a cut link.
CUT = 10.0
#: Seconds for which the database or the bucket is away.
AWAY = 3.0
#: Everything ends within so many seconds, or hangs.
PATIENCE = 600.0
MODULE = evening_market.__name__
#: What is said of runs that failed.
OF_FAILURES = ("alerts",)


def require_hosts() -> None:
    if reason := refusal():
        pytest.skip(reason)


def plain_environment(data_dir: Path, closed: Path) -> dict[str, str]:
    """The environment of every process of the drill, without the addresses of a team."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "DAGSTER_", "PYTEST_"))}
    chosen = SETTINGS | {"DATA_DIR": str(data_dir)}
    own = {CLOSED: str(closed), "PYTHONPATH": str(PROJECT_DIR)}
    return kept | {PREFIX + name: value for name, value in chosen.items()} | own


@dataclass
class Team:
    """A running team over three hosts."""

    folder: Path
    services: Host
    control: Host
    data: Host
    postgres: Server
    bucket: Proxy
    address: str
    environment: dict[str, str]
    most_connections: int = 0
    missing: dict[str, tuple[int, int | None]] | None = None

    @property
    def store(self) -> Warehouse:
        return Warehouse(Path(self.environment[f"{PREFIX}DATA_DIR"]) / "stock_assets.duckdb").patient(30)

    def start_data(self) -> None:
        code = ["api", "grpc", "-h", "0.0.0.0", "-p", "4000", "-m", MODULE]
        self.data.start([*_python("dagster"), *code], self.environment, self.folder / "code-server.log")

    def start_control(self) -> None:
        workspace = ["-w", str(self.folder / "home" / "workspace.yaml")]
        self.control.start(
            [*_python("dagster._daemon"), "run", *workspace], self.environment, self.folder / "daemon.log"
        )

    def start_api(self) -> None:
        """Beside the daemon, over a data folder without a store: what is published comes from the bucket."""
        chosen = {f"{PREFIX}DATA_DIR": str(self.folder / "api"), f"{PREFIX}API_PORT": "8000"}
        serve = [str(Path(sys.executable).with_name("stock-assets")), "serve"]
        self.control.start(serve, self.environment | chosen, self.folder / "api.log")

    def status_by_api(self, session: date) -> str:
        """What the API says of a session; empty while it does not answer."""
        url = f"http://127.0.0.1:8000/v1/sessions/{session}"
        with self.control.within(), suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)["status"]
        return ""

    def start_services(self) -> None:
        with self.services.within():
            self.postgres.start()

    def runs(self) -> list[tuple[str, str, str]]:
        """Status, work and id of every run, oldest first; none while Postgres is away."""
        statement = (
            "SELECT runs.status, tags.value, runs.run_id FROM runs JOIN run_tags tags ON tags.run_id = runs.run_id "
            "WHERE tags.key = 'stock_assets/work' ORDER BY runs.id"
        )
        with self.services.within():
            self.most_connections = max(self.most_connections, self._connections())
            if self.postgres.execute("SELECT to_regclass('run_tags')", "dagster") == [(None,)]:
                return []
            return self.postgres.execute(statement, "dagster")  # pyright: ignore[reportReturnType]

    def _connections(self) -> int:
        counted = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'dagster'"
        return self.postgres.execute(counted)[0][0]

    def wait_for_run(self, work: str) -> None:
        """Until a run of `work` is under way."""
        until(lambda: ("STARTED", work) in [run[:2] for run in self.runs()], seconds=PATIENCE, pause=0.2)

    def wait_for_rows(self, expected: dict[str, int]) -> None:
        """Until nothing is under way and every table has its rows."""

        def complete() -> bool:
            if any(status not in ("SUCCESS", "FAILURE", "CANCELED") for status, _, _ in self.runs()):
                return False
            with suppress(StoreBusyError):
                self.missing = {
                    name: (rows, expected.get(name))
                    for name, rows in self.store.row_counts().items()
                    if name not in OF_FAILURES and rows != expected.get(name)
                }
                return not self.missing
            return False

        end = time.monotonic() + PATIENCE
        while not complete():
            assert time.monotonic() < end, f"rows and rows of single: {self.missing}\n{self.story()}"
            time.sleep(0.5)

    def story(self) -> str:
        """What the runs were, and the ends of the logs."""
        logs = [f"--- {log.name}\n{log.read_text(errors='replace')[-6000:]}" for log in self.folder.glob("*.log")]
        return "\n".join([*(" ".join(run) for run in self.runs()), *logs])


def _python(module: str) -> list[str]:
    return [sys.executable, "-m", module]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With `filled`, everything up to LAST_BEFORE, and `single`, the evenings on one machine."""
    require_hosts()
    folder = tmp_path_factory.mktemp("hosts")
    done = subprocess.run(
        [*_python(MODULE), str(folder)],
        env=plain_environment(folder / "filled", folder / "closed"),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture
def team(folder: Path) -> Iterator[Team]:
    """The hosts, at LAST_BEFORE: a copy of the filled market, its objects in the bucket, an empty database."""
    with ExitStack() as stack:
        services, control, data = stack.enter_context(network("services", "control", "data"))
        postgres, s3, bucket = stack.enter_context(running_services(services))
        home = folder / "home"
        home.mkdir()
        for path, text in files_of(Profile.TEAM, home).items():
            path.write_text(text)
        address = postgres.address("dagster", services.address)
        environment = plain_environment(folder / "team", folder / "closed") | {
            **s3.environment,
            "AWS_ENDPOINT_URL": f"http://{services.address}:{bucket.port}",
            f"{PREFIX}DAGSTER": address,
            f"{PREFIX}ARTIFACTS": f"s3://{BUCKET}/team",
            "DAGSTER_HOME": str(home),
            "CODE_SERVER_HOST": data.address,
        }
        shutil.copytree(folder / "filled", folder / "team")
        with services.within():
            for name, prefix in (("artifacts", ""), ("published", "published/")):
                for file in sorted((folder / "team" / name).rglob("*")):
                    if file.is_file():
                        key = prefix + file.relative_to(folder / "team" / name).as_posix()
                        assert s3.request("PUT", f"/{BUCKET}/team/{key}", file.read_bytes()) == 200
                shutil.rmtree(folder / "team" / name)
        (folder / "closed").write_text(str(LAST_BEFORE))
        team = Team(folder, services, control, data, postgres, bucket, address, environment)
        team.start_data()
        team.start_control()
        team.start_api()
        yield team


def test_a_team_whose_hosts_fail_makes_what_one_machine_makes(folder: Path, team: Team):
    chance = random.Random(SEED)
    expected = json.loads((folder / "single" / "rows.json").read_text())

    def cut_the_link() -> None:
        team.data.cut()
        time.sleep(CUT)
        team.data.connect()

    def kill_the_database() -> None:
        team.postgres.kill()
        time.sleep(AWAY)
        team.start_services()

    def take_the_bucket_away() -> None:
        """Requests are dropped, or done and not answered, as by a server that is killed at them."""
        before, dropped = len(team.bucket.requests), []
        team.bucket.fault = lambda *_: dropped.append(chance.choice(("drop", "lose"))) or dropped[-1]
        until(lambda: len(team.bucket.requests) > before, seconds=PATIENCE)
        time.sleep(AWAY)
        team.bucket.fault = lambda *_: None

    def kill_the_host() -> None:
        team.data.power_off()
        team.start_data()

    def kill_the_control_host() -> None:
        team.control.power_off()
        team.start_control()
        team.start_api()

    faults: list[Callable[[], None]] = [cut_the_link, kill_the_database, take_the_bucket_away]
    evenings = [
        faults,
        [kill_the_control_host, kill_the_host],
        *([fault] for fault in chance.choices([*faults, kill_the_host], k=10)),
    ]
    for session, fails in zip(EVENINGS, evenings, strict=False):
        (folder / "closed").write_text(str(session))
        team.wait_for_run(f"session {session}")
        for fail in fails:
            time.sleep(chance.uniform(0, 3))
            fail()
        team.wait_for_rows(expected[str(session)])
        until(lambda session=session: team.status_by_api(session) == "published", seconds=PATIENCE, pause=0.5)

    made, alone = contents(team.store), contents(Warehouse(folder / "single" / "stock_assets.duckdb"))
    assert set(made) == set(alone)
    differing = []
    for name, rows in alone.items():
        try:
            assert_frame_equal(made[name], rows, rel_tol=1e-9, abs_tol=1e-6 if name == "predictions" else 1e-12)
        except AssertionError as error:
            differing.append(f"{name}: {error}")
    assert not differing, "\n".join(differing)
    assert team.most_connections <= 60
    twice = "SELECT run_id, left(event, 300) FROM event_logs GROUP BY run_id, event HAVING count(*) > 1"
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    with team.services.within():
        assert team.postgres.execute(twice, "dagster") == []
        assert team.postgres.execute(locks) == [(1,)], "the daemon's, taken again after the restart of its database"
