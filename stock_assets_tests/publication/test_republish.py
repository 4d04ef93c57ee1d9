"""A moved alias or a rollback is published at once: as step, as job and from the shell, and after a kill."""

# ruff: noqa: F811, the fixtures of `predictable` are parameters of the tests

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.context import ForkServerContext
from pathlib import Path
from threading import Thread

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets import files
from stock_assets.definitions import build_definitions
from stock_assets.defs.comparison import compared, events_of
from stock_assets.errors import CutoffError
from stock_assets.lifecycle.materialize.champions import follow_aliases, read_promotions, rollback
from stock_assets.market.calendar import calendar_of
from stock_assets.publication.materialize.publish import publish_sessions
from stock_assets.publication.materialize.republish import Republished, republish
from stock_assets.publication.read import Publication, open_publication, read_ledger
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.registry import NoRegistry, Registry
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.cli.conftest import Call, call, data_dir  # noqa: F401
from stock_assets_tests.effort import DRILL
from stock_assets_tests.lifecycle.predictable import (  # noqa: F401
    MODEL,
    NEWEST,
    NOW,
    SESSIONS,
    config,
    predictable_store,
    settings_of,
    versions,
    versions_at,
)
from stock_assets_tests.lifecycle.store import MemoryRegistry
from stock_assets_tests.waiting import HANG_SECONDS


def publish_evening(config: Settings) -> None:
    publish_sessions(Warehouse(config.database), config, SESSIONS, registry=NoRegistry(), now=NOW)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("republish") / "data"
    config = read_settings(**settings_of(folder))
    _, versions = predictable_store(config)
    publish_evening(config)
    return folder, versions


def go(config: Settings, registry: Registry | MemoryRegistry | None = None, minutes: int = 60) -> Republished:
    now = NOW + timedelta(minutes=minutes)
    return republish(Warehouse(config.database), config, registry or NoRegistry(), now=now)  # pyright: ignore[reportArgumentType]


def back(config: Settings, to: str, minutes: int = 30) -> None:
    now, store = NOW + timedelta(minutes=minutes), Warehouse(config.database)
    rollback(store, NoRegistry(), calendar_of(config), model=MODEL, to=to, now=now, reason="loses")


def published(config: Settings) -> Publication:
    found = open_publication(config.published)
    assert found is not None
    return found


def published_version(config: Settings, session=NEWEST) -> str:
    rows = published(config).predictions(session).filter(pl.col("model") == MODEL)
    (version,) = rows["model_version"].unique()
    return version


def test_a_moved_alias_is_published_beside_what_was_published_before(config: Settings, versions: list[str]):
    store = Warehouse(config.database)
    registry = MemoryRegistry(*versions, "ensemble-1", *versions_at(store, NEWEST).values())
    registry.runs = dict  # no run is tracked here
    follow_aliases(store, registry, [MODEL], session=NEWEST, now=NOW)
    before, entries = published(config), read_ledger(config.published)
    registry.set_alias(MODEL, "champion", versions[1])
    done = go(config, registry)
    after, ledger = published(config), read_ledger(config.published)
    assert published_version(config) == versions[1]
    assert after.pointer.champions[MODEL] == versions[1]
    assert ledger[:-1] == entries
    assert ledger[-1].reason == done.again.reason
    assert ledger[-1].reason.startswith(f"republish: {versions[1]} in place of {versions[0]} on {NEWEST}, the alias ")
    assert list(ledger[-1].files["predictions"]) == [str(NEWEST)], "sessions before it keep their files"
    for session in SESSIONS:
        assert_frame_equal(
            Publication(config.published, before.pointer).predictions(session), before.predictions(session)
        )
    assert before.pointer.files["predictions"][str(NEWEST)] != after.pointer.files["predictions"][str(NEWEST)]


def test_a_second_time_publishes_nothing(config: Settings, versions: list[str]):
    back(config, versions[1])
    first = go(config)
    second = go(config, minutes=120)
    assert second.published.pointer == first.published.pointer
    assert len(read_ledger(config.published)) == 2


def test_a_version_trained_through_the_session_publishes_nothing(config: Settings, versions: list[str]):
    back(config, versions[2])
    before = published(config).pointer
    with pytest.raises(CutoffError, match=f"trained through {NEWEST}"):
        go(config)
    assert published(config).pointer == before


def test_several_at_once_publish_what_is_stored(config: Settings, versions: list[str]):
    back(config, versions[1])
    threads = [Thread(target=go, args=(config,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry.reason[:9] for entry in read_ledger(config.published)][1:] == ["republish"]
    assert published_version(config) == versions_at(Warehouse(config.database), NEWEST)[MODEL] == versions[1]


# ---------------------------------------------------------------- the process is killed


@pytest.fixture(scope="module")
def forked() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


@contextmanager
def counted(step: Callable[[str], None]) -> Iterator[None]:
    """Calls `step` before each commit: of the store, or of a file, with the first part of its path in the folder."""
    write, write_synced = Warehouse.write, files.write_synced

    def counted_write(store: Warehouse, changes) -> None:
        step(changes[0].table)
        write(store, changes)

    def counted_file(path: Path, content: bytes) -> None:
        step(path.parts[path.parts.index("published") + 1])
        write_synced(path, content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Warehouse, "write", counted_write)
        patch.setattr(files, "write_synced", counted_file)
        yield


def killed_at(values: Mapping[str, object], at: int) -> None:
    """Republishes in a process that ends without a word before its commit of that number."""
    done: list[str] = []

    def step(what: str) -> None:
        if len(done) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        done.append(what)

    with counted(step):
        go(read_settings(**values))


@pytest.mark.tries
def test_a_process_that_is_killed_at_any_commit_leaves_the_old_or_the_new_answer(
    filled: tuple[Path, list[str]], tmp_path: Path, forked: ForkServerContext
):
    folder, versions = filled

    def market(name: str) -> dict[str, object]:
        values = settings_of(shutil.copytree(folder, tmp_path / name))
        back(read_settings(**values), versions[1])
        return values

    commits: list[str] = []
    whole = read_settings(**market("whole"))
    with counted(commits.append):
        go(whole)
    assert commits[0] == "predictions", "the decision is in the same transaction"
    assert commits[-2].startswith(".tmp-"), "the pointer is written after every other file"
    assert commits[-1] == "publication", "and the store's record of it last"
    firsts = sorted({what.rpartition("-")[2]: at for at, what in reversed(list(enumerate(commits)))}.values())
    for at in range(len(commits)) if DRILL else firsts:
        config = read_settings(**(values := market(str(at))))
        before = {session: published(config).predictions(session) for session in SESSIONS}
        process = forked.Process(target=killed_at, args=(values, at))
        process.start()
        process.join(HANG_SECONDS)
        assert process.exitcode == -signal.SIGKILL
        half = published(config).predictions(NEWEST)
        assert published_version(config) == (versions[1] if at == len(commits) - 1 else versions[0])
        assert half.equals(before[NEWEST]) or at == len(commits) - 1
        go(config, minutes=70)
        assert published_version(config) == versions[1]
        assert versions_at(Warehouse(config.database), NEWEST)[MODEL] == versions[1]
        assert read_promotions(Warehouse(config.database)).height == 2
        for session in SESSIONS[:-1]:
            assert_frame_equal(published(config).predictions(session), before[session])
        reasons = [entry.reason for entry in read_ledger(config.published)]
        assert reasons[-1].startswith("republish: ")


# ---------------------------------------------------------------- as job, and from the shell


def test_the_job_publishes_and_dagster_and_the_store_still_hold_the_same(config: Settings, versions: list[str]):
    definitions = build_definitions(config)
    assert "stock-assets republish" in (definitions.resolve_job_def("republish").description or "")
    back(config, versions[1])
    keys = {"predictions": [str(day) for day in SESSIONS], "publication": [str(day) for day in SESSIONS]}
    with dg.DagsterInstance.ephemeral() as instance:
        store = Warehouse(config.database)
        for event in events_of(compared(instance, store, keys).unreported):
            instance.report_runless_asset_event(event)
        clock = dg.ResourceDefinition.hardcoded_resource(lambda: NOW + timedelta(hours=1))
        job = definitions.resolve_job_def("republish")
        resources = {**(definitions.resources or {}), "clock": clock}
        assert job.execute_in_process(instance=instance, resources=resources).success
        found = compared(instance, store, keys)
        assert (dict(found.lost), dict(found.unreported)) == ({}, {})
        event = instance.get_latest_materialization_event(dg.AssetKey("predictions"))
        assert event is not None
        assert event.asset_materialization is not None
        assert event.asset_materialization.partition == str(NEWEST)
        assert "loses" in str(event.asset_materialization.metadata["reason"].value)
    assert published_version(config) == versions[1]


@pytest.mark.usefixtures("own_process")
def test_the_shell_says_what_serves_and_as_what_it_is_published(
    call: Call,
    config: Settings,
    versions: list[str],
    monkeypatch: pytest.MonkeyPatch,
):
    for name, value in settings_of(config.data_dir).items():
        monkeypatch.setenv(f"STOCK_ASSETS_{name.upper()}", str(value))
    assert call("rollback", MODEL, "--to", versions[1], "--reason", "[loses]")[0] == 0
    code, said, _ = call("republish", MODEL)
    assert code == 0
    entry = published(config).pointer.entry
    assert said == (f"republish: {versions[1]} in place of {versions[0]} on {NEWEST}, [loses]; published as {entry}\n")
    code, _, complaint = call("republish", "rnm")
    assert code == 2
    assert "there is no model rnm with a version for 2019" in complaint
