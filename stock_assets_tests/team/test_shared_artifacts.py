"""Saved models, checkpoints and the publication in a bucket are what they are in a folder."""

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.errors import ArtifactError, BucketError
from stock_assets.lifecycle.materialize.retired_models import remove_losers
from stock_assets.lifecycle.materialize.tidy import tidy
from stock_assets.model.registry import MODELS
from stock_assets.objects import Place, delete, found_below, name_below, put
from stock_assets.platform import Platform
from stock_assets.publication.layout import LEDGER, POINTER
from stock_assets.publication.materialize.compare import lost_sessions
from stock_assets.publication.materialize.publish import publish_sessions
from stock_assets.publication.materialize.verify import problems_of
from stock_assets.publication.read import chain_to, open_publication, read_ledger
from stock_assets.serving.current import Current
from stock_assets.settings import Settings
from stock_assets.storage import artifacts
from stock_assets.storage.artifacts import (
    MODEL,
    WEIGHTS,
    Artifact,
    CheckpointFile,
    load_artifact,
    local_artifact,
    save_artifact,
)
from stock_assets.storage.registry import NoRegistry
from stock_assets.storage.verification import problems_of as problems_of_data
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.model.store import LEAVES, QUICK, model_years, only, predicted, small_settings, small_store
from stock_assets_tests.publication.folders import SESSIONS, published_folder
from stock_assets_tests.publication.markets import NOW, market, sessions_of
from stock_assets_tests.team.s3 import S3, Answer, Proxy

TENSORS = {"weights": np.arange(6, dtype=np.float32).reshape(2, 3), "mean": np.array([0.1, 1 / 3])}
ABOUT = {"kind": "test", "loss": 1 / 3}


def contents(place: Place) -> dict[str, bytes]:
    return {name_below(found.place, place): found.place.read_bytes() for found in found_below(place)}


def same(artifact: Artifact) -> bool:
    equal = (np.array_equal(artifact.tensors[name], TENSORS[name]) for name in TENSORS)
    return artifact.description == ABOUT and all(equal)


# ---------------------------------------------------------------- saved models


def test_what_is_saved_comes_back(place: Place, tmp_path: Path):
    folder = save_artifact(place / "v1", TENSORS, ABOUT, files={"curve.png": b"\x89PNG"})
    artifact = load_artifact(folder)
    assert same(artifact)
    assert artifact.files["curve.png"].read_bytes() == b"\x89PNG"
    with local_artifact(folder) as local:
        assert same(load_artifact(local))
        assert contents(local) == contents(folder)
    twin = save_artifact(tmp_path / "twin", TENSORS, ABOUT, files={"curve.png": b"\x89PNG"})
    assert contents(folder) == contents(twin), "the same bytes in a folder and in a bucket"


def test_the_same_again_changes_nothing_and_other_content_is_refused(place: Place):
    before = contents(save_artifact(place / "v1", TENSORS, ABOUT))
    save_artifact(place / "v1", TENSORS, ABOUT)
    with pytest.raises(ArtifactError, match=r"v1 already holds another artifact.*another name"):
        save_artifact(place / "v1", TENSORS, ABOUT | {"loss": 2.0})
    with pytest.raises(ArtifactError, match=r"v1 already holds another artifact"):
        save_artifact(place / "v1", TENSORS | {"mean": np.zeros(2)}, ABOUT)
    assert contents(place / "v1") == before


@pytest.mark.parametrize("name", [WEIGHTS, MODEL, "curve.png"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_what_is_incomplete_is_refused_and_then_replaced(place: Place, name: str, damage: str):
    folder = save_artifact(place / "v1", TENSORS, ABOUT, files={"curve.png": b"\x89PNG"})
    if damage == "gone":
        delete(folder / name)
    else:
        put(folder / name, (folder / name).read_bytes()[:3])
    with pytest.raises(ArtifactError, match=r"incomplete|cut short|holds no artifact"):
        load_artifact(folder)
    save_artifact(folder, TENSORS, ABOUT, files={"curve.png": b"\x89PNG"})
    assert same(load_artifact(folder))


def test_what_is_absent_is_named(place: Place):
    with pytest.raises(ArtifactError, match="nowhere does not exist; expected the folder of a saved model"):
        load_artifact(place / "nowhere")


def test_a_saver_that_comes_second_moves_nothing_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Else a reader would meet no artifact for a moment, and what was moved would stay."""
    sync, folder = artifacts.sync, tmp_path / "v1"

    def saved_meanwhile(path: Path) -> None:
        monkeypatch.setattr(artifacts, "sync", sync)
        save_artifact(folder, TENSORS, ABOUT)
        inode.append(folder.stat().st_ino)
        sync(path)

    inode: list[int] = []
    monkeypatch.setattr(artifacts, "sync", saved_meanwhile)
    assert save_artifact(folder, TENSORS, ABOUT) == folder
    assert inode == [folder.stat().st_ino]
    assert [path.name for path in tmp_path.iterdir()] == ["v1"]


def test_eight_racing_savers_make_one_set_of_objects(place: Place):
    start = threading.Barrier(8)

    def one(_number: int) -> Place:
        start.wait()
        return save_artifact(place / "v1", TENSORS, ABOUT, files={"curve.png": b"\x89PNG"})

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(8))) == {place / "v1"}
    assert sorted(contents(place)) == sorted(f"v1/{name}" for name in ("curve.png", MODEL, WEIGHTS))
    assert same(load_artifact(place / "v1"))


KILLED_SAVER = """
import os, signal, sys
import numpy as np
from stock_assets import buckets
from stock_assets.objects import place_of
from stock_assets.storage.artifacts import save_artifact
left, put_if_absent = int(sys.argv[2]), buckets.put_if_absent
def counted(*about):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return put_if_absent(*about)
buckets.put_if_absent = counted
place = place_of(sys.argv[1])
tensors = {"weights": np.arange(6, dtype=np.float32).reshape(2, 3), "mean": np.array([0.1, 1 / 3])}
save_artifact(place, tensors, {"kind": "test", "loss": 1 / 3}, files={"curve.png": b"PNG"})
"""


@pytest.mark.parametrize("puts", [0, 1, 2])
def test_a_saver_killed_between_puts_leaves_what_is_replaced(s3: S3, puts: int):
    place = s3.bucket() / "v1"
    killed = subprocess.run([sys.executable, "-c", KILLED_SAVER, str(place), str(puts)], check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert len(contents(place)) == puts
    with pytest.raises(ArtifactError):
        load_artifact(place)
    save_artifact(place, TENSORS, ABOUT, files={"curve.png": b"PNG"})
    assert same(load_artifact(place))
    assert sorted(contents(place)) == sorted(["curve.png", MODEL, WEIGHTS])


def test_a_checkpoint_is_whole_or_none(place: Place):
    checkpoint = CheckpointFile(place / "trained_rnn" / "2018" / ".checkpoint-rnn-2017-12-29")
    assert checkpoint.load() is None
    for epoch in range(3):
        checkpoint.save(TENSORS, {"epoch": epoch})
    found = checkpoint.load()
    assert found
    assert found[1] == {"epoch": 2}
    assert np.array_equal(found[0]["weights"], TENSORS["weights"])
    put(checkpoint.path, checkpoint.path.read_bytes()[:-1])
    assert checkpoint.load() is None
    checkpoint.clear()
    checkpoint.clear()
    assert list(found_below(place)) == []


def test_a_bucket_that_does_not_answer_is_no_reason_to_begin_a_training_anew(s3: S3, proxy: Proxy):
    checkpoint = CheckpointFile(s3.bucket() / ".checkpoint-rnn")
    checkpoint.save(TENSORS, {"epoch": 1})
    proxy.fault = lambda _method, _path: Answer(403)
    for attempt in (checkpoint.load, lambda: load_artifact(checkpoint.path.parent / "v1")):
        with pytest.raises(BucketError, match="refuses access"):
            attempt()


# ---------------------------------------------------------------- the publication


def test_a_publication_is_the_same_objects(place: Place, tmp_path: Path):
    pointer = published_folder(place)
    assert published_folder(tmp_path / "twin") == pointer
    assert {name: blob for name, blob in contents(place).items() if name != ".lock"} == {
        name: blob for name, blob in contents(tmp_path / "twin").items() if name != ".lock"
    }
    before = contents(place)
    assert published_folder(place) == pointer
    assert contents(place) == before, "what is published already is not published again"
    publication = open_publication(place)
    assert publication
    assert publication.predictions(SESSIONS[0]).height > 0
    assert lost_sessions(place, list(map(str, SESSIONS))) == frozenset()


def test_of_several_publishers_none_is_lost(place: Place):
    """Each publishes a session of its own at the same moment: the pointer names all, and every entry leads to it."""
    start = threading.Barrier(len(SESSIONS))

    def one(session: date) -> None:
        start.wait()
        published_folder(place, sessions=[session], labelled=0)

    with ThreadPoolExecutor(len(SESSIONS)) as pool:
        list(pool.map(one, SESSIONS))
    publication = open_publication(place)
    assert publication
    assert publication.pointer.sessions == SESSIONS
    ledger = read_ledger(place)
    assert len(chain_to(ledger, publication.pointer.entry)) == len(ledger) == len(SESSIONS)


def test_a_pointer_whose_answer_is_lost_is_published_once(s3: S3, proxy: Proxy):
    place, lost = s3.bucket() / "published", []

    def fault(method: str, path: str) -> str | None:
        if method == "PUT" and path.endswith(POINTER) and len(lost) < 1:
            lost.append(path)
            return "lose"
        return None

    proxy.fault = fault
    pointer = published_folder(place)
    assert lost
    publication = open_publication(place)
    assert publication
    assert publication.pointer == pointer
    assert [entry.id for entry in read_ledger(place)] == [pointer.entry]


@pytest.mark.parametrize("puts", [6, "ledger", "pointer"])
def test_a_publisher_that_is_cut_off_leaves_the_publication_before(s3: S3, proxy: Proxy, puts: int | str):
    place = s3.bucket() / "published"
    before = published_folder(place, sessions=SESSIONS[:3])
    done: list[str] = []

    def fault(method: str, path: str) -> Answer | None:
        if method != "PUT":
            return None
        here = f"/{LEDGER}/" in path if puts == "ledger" else path.endswith(POINTER) if puts == "pointer" else False
        if here or len(done) == puts:
            return Answer(403)
        done.append(path)
        return None

    proxy.fault = fault
    with pytest.raises(BucketError):
        published_folder(place)
    found = open_publication(place)
    assert found
    assert found.pointer == before
    proxy.fault = lambda _method, _path: None
    after = published_folder(place)
    found = open_publication(place)
    assert found
    assert found.pointer == after
    assert after.sessions == SESSIONS


def test_a_reader_sees_one_publication_or_the_next(place: Place):
    first, over, seen = published_folder(place), threading.Event(), set()

    def write() -> None:
        for number in range(1, 9):
            moment = datetime(2026, 11, 23, 22, tzinfo=UTC) + timedelta(minutes=number)
            published_folder(place, sector=f"Sector {number}", now=moment)
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not over.is_set():
        publication = open_publication(place)
        assert publication
        sectors = {publication.bars(session)["sector"][0] for session in SESSIONS}
        assert len(sectors) == 1
        seen |= sectors
    writer.join()
    assert len(read_ledger(place)) == 9
    assert "Technology" in seen or len(seen) > 1
    assert first.entry == read_ledger(place)[0].id


def test_the_api_serves_a_bucket_and_goes_on_while_it_is_away(s3: S3, proxy: Proxy):
    place, now = s3.bucket() / "published", datetime(2026, 11, 23, tzinfo=UTC)
    current = Current(place, lambda: now)
    current.look()
    assert current.served is None
    published_folder(place, sessions=SESSIONS[:4])
    assert current.look()
    assert current.served
    assert current.served.sessions == SESSIONS[:4]
    assert not current.changed()
    published_folder(place)
    proxy.fault = lambda _method, _path: Answer(500, "InternalError")
    assert not current.look()
    assert current.served.sessions == SESSIONS[:4]
    assert "500 InternalError" in (current.trouble or "")
    proxy.fault = lambda _method, _path: None
    now += timedelta(seconds=10)
    assert current.look()
    assert current.served.sessions == SESSIONS
    assert current.trouble is None


# ---------------------------------------------------------------- whole steps


def published_market(folder: Path, **overrides: object) -> tuple[Settings, Warehouse]:
    settings, store = market(folder, 12, **overrides)
    for hours, count in enumerate((11, 12)):
        sessions = sessions_of(settings, count)
        publish_sessions(store, settings, sessions, registry=NoRegistry(), now=NOW + timedelta(hours=hours))
    return settings, store


def test_a_market_is_published_to_a_bucket_as_to_a_folder(s3: S3, tmp_path: Path):
    root = s3.bucket() / "team"
    single, _ = published_market(tmp_path / "single")
    team, store = published_market(tmp_path / "team", artifacts=str(root))
    left, right = contents(single.published), contents(team.published)
    assert right.keys() == left.keys() - {".lock"}
    assert {name: blob for name, blob in left.items() if name in right} == right
    assert not list((tmp_path / "team" / "published").rglob("*.parquet"))
    assert list(problems_of(team.data_dir, team.published)) == []
    assert list(problems_of_data(team.data_dir, artifacts=team.artifacts)) == []
    assert_frame_equal(Platform(single).published(), Platform(team).published())
    before = open_publication(team.published)
    assert before
    delete(team.published / POINTER)
    sessions = list(map(str, sessions_of(team, 12)))
    assert lost_sessions(team.published, sessions) == set(sessions)
    publish_sessions(store, team, sessions_of(team, 12), registry=NoRegistry(), now=NOW + timedelta(hours=1))
    assert list(problems_of(team.data_dir, team.published)) == []
    found = open_publication(team.published)
    assert found
    assert found.pointer.files == before.pointer.files, "they follow from the ledger"


def test_models_in_a_bucket_predict_what_those_in_a_folder_do(s3: S3, tmp_path: Path):
    root, answers = s3.bucket() / "team", []
    baselines = [entry for entry in MODELS.values() if entry.table == "trained_baselines"]
    for settings in (
        small_settings(tmp_path / "single", mlflow="off"),
        small_settings(tmp_path / "team", mlflow="off", artifacts=str(root)),
    ):
        store = small_store(settings)
        with only(QUICK, *baselines):
            model_years(store, settings, 2018)
            predicted(store, settings, [LEAVES])
        answers.append((settings, store))
    (single, there), (team, here) = answers
    for table in ("trained_rnn", "trained_baselines", "trained_ensemble", "predictions"):
        assert_frame_equal(there.read(table), here.read(table), check_row_order=False, abs_tol=1e-9, rel_tol=0)
    assert contents(single.artifacts) == contents(team.artifacts)
    assert not (team.data_dir / "artifacts").exists()
    assert any(name.endswith(MODEL) for name in contents(root))
    # what no row names goes once it is old, and nothing else
    save_artifact(root / "trained_rnn" / "2018" / "rnn-of-nobody", TENSORS, ABOUT)
    kept = contents(single.artifacts)
    assert remove_losers(here, team, NoRegistry(), before=datetime(2020, 1, 1, tzinfo=UTC)) == (0, 0)
    count, freed = remove_losers(here, team, NoRegistry(), before=datetime.now(UTC) + timedelta(days=1))
    assert count == 1
    assert freed > 0
    assert contents(root) == kept
    CheckpointFile(root / "trained_rnn" / "2018" / ".checkpoint-rnn-2017-12-29").save(TENSORS, ABOUT)
    tidying = tidy(here, team, NoRegistry(), now=datetime.now(UTC) + timedelta(days=400))
    assert [one.count for one in tidying.removed if one.kind == "checkpoints of trainings"] == [1]
    assert contents(root).keys() <= kept.keys()
    assert pl.DataFrame(here.read("predictions")).height > 0
