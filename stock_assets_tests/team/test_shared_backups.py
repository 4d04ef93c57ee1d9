"""A backup in a bucket is whole, costs what is new, and puts everything back, also what is in a bucket itself."""

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from polars.testing import assert_frame_equal
from rich.console import Console

from stock_assets.cli.backup import restore, verify
from stock_assets.errors import BackupError, BucketError, StockAssetsError
from stock_assets.lifecycle.materialize.backup import back_up, elsewhere_of
from stock_assets.objects import ObjectPath, Place, delete, found_below, name_below, put, put_if_absent
from stock_assets.publication.materialize.publish import publish_sessions
from stock_assets.publication.materialize.verify import problems_of as published_problems
from stock_assets.publication.read import open_publication
from stock_assets.settings import Settings
from stock_assets.storage.artifacts import load_artifact, save_artifact
from stock_assets.storage.backup import STORE
from stock_assets.storage.bucket_backup import LOCK, MANIFESTS, OBJECTS, local_backup, newest_backup_in
from stock_assets.storage.manifest import DATA, read_manifest
from stock_assets.storage.registry import NoRegistry
from stock_assets.storage.verification import problems_of
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.publication.markets import NOW, market, sessions_of
from stock_assets_tests.team.s3 import S3, Answer, Proxy

HOUR = timedelta(hours=1)


def contents(place: Place) -> dict[str, bytes]:
    return {name_below(found.place, place): found.place.read_bytes() for found in found_below(place)}


@pytest.fixture(params=["artifacts in a bucket", "artifacts in the data folder"])
def platform(request: pytest.FixtureRequest, s3: S3, tmp_path: Path) -> tuple[Settings, Warehouse]:
    """A published market with a saved model and a database of SQLite."""
    shared = {"artifacts": str(s3.bucket() / "team")} if "bucket" in request.param else {}
    settings, store = market(tmp_path / "data", 6, **shared)
    publish_sessions(store, settings, sessions_of(settings, 6), registry=NoRegistry(), now=NOW)
    save_artifact(settings.artifacts / "trained_rnn" / "2019" / "one", {"weights": np.arange(4.0)}, {"kind": "test"})
    (settings.data_dir / "dagster" / "logs").mkdir(parents=True)
    with closing(sqlite3.connect(settings.data_dir / "dagster" / "logs" / "runs.db")) as connection:
        connection.execute("CREATE TABLE runs AS SELECT 1 AS id")
        connection.commit()
    return settings, store


def made(settings: Settings, target: Place, hours: int, keep: int = 3):
    return back_up(settings, target, keep=keep, now=NOW + hours * HOUR)


def said(action) -> str:
    out = Console(file=StringIO(), width=400)
    action(out)
    return out.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]: it is a StringIO


def test_backup_destroy_everything_restore_gives_the_same(platform: tuple[Settings, Warehouse], s3: S3):
    settings, store = platform
    target = s3.bucket() / "backups"
    before, published = contents(settings.artifacts), contents(settings.published)
    published.pop(".lock", None)
    rows = store.read("predictions")
    put(settings.artifacts / "work" / "7" / "digest", b"inputs of a training that is under way")
    backup = made(settings, target, 0)
    assert backup.manifest.rows["predictions"] == rows.height
    assert backup.manifest.predicted_through == str(rows["session"].max())
    assert "is sound" in said(lambda out: verify(target, out))

    shutil.rmtree(settings.data_dir)
    if isinstance(settings.artifacts, ObjectPath):
        for found in list(found_below(settings.artifacts)):
            delete(found.place)
    elsewhere = elsewhere_of(settings)
    text = said(lambda out: restore(target, settings.data_dir, replace=False, now=NOW, out=out, elsewhere=elsewhere))
    assert f"from {target}" in text
    assert_frame_equal(Warehouse(settings.database).read("predictions"), rows)
    assert contents(settings.published) == published
    assert contents(settings.artifacts) == before
    publication = open_publication(settings.published)
    assert publication
    assert publication.pointer.sessions == sessions_of(settings, 6)
    assert load_artifact(settings.artifacts / "trained_rnn" / "2019" / "one").description == {"kind": "test"}
    assert list(published_problems(settings.data_dir, settings.published)) == []
    assert list(problems_of(settings.data_dir, artifacts=settings.artifacts)) == []
    with closing(sqlite3.connect(settings.data_dir / "dagster" / "logs" / "runs.db")) as connection:
        assert connection.execute("SELECT id FROM runs").fetchall() == [(1,)]
    if isinstance(settings.artifacts, ObjectPath):
        assert not [path for path in (settings.data_dir / "artifacts").rglob("*") if path.is_file()]


def test_a_second_backup_costs_what_is_new(platform: tuple[Settings, Warehouse], s3: S3):
    settings, store = platform
    target = s3.bucket() / "backups"
    first = made(settings, target, 0)
    again = made(settings, target, 1)
    assert again.new_bytes < first.new_bytes / 20
    assert again.manifest.files.keys() == first.manifest.files.keys()
    publish_sessions(store, settings, sessions_of(settings, 6)[:1], registry=NoRegistry(), now=NOW + HOUR)
    third = made(settings, target, 2)
    newest = newest_backup_in(target)
    assert newest
    assert newest.folder.name == third.folder.name == "2019-03-02T00-00-00Z"
    with local_backup(target / first.folder.name) as folder:
        assert list(problems_of(folder, published_problems)) == []
        assert read_manifest(folder) == first.manifest


def test_the_oldest_go_with_what_only_they_have(platform: tuple[Settings, Warehouse], s3: S3):
    settings, _ = platform
    target = s3.bucket() / "backups"
    (settings.data_dir / "note.txt").write_text("of the first alone")
    made(settings, target, 0, keep=2)
    (settings.data_dir / "note.txt").unlink()
    put(target / OBJECTS / ("0" * 64), b"of a backup that was killed")
    for hours in (1, 2):
        made(settings, target, hours, keep=2)
    assert len(list(found_below(target / MANIFESTS))) == 2
    objects = contents(target / OBJECTS)
    assert b"of the first alone" not in objects.values()
    assert b"of a backup that was killed" not in objects.values()
    assert not (target / LOCK).exists()
    assert "is sound" in said(lambda out: verify(target, out))


def test_two_at_once_are_one_and_a_killed_one_is_passed(platform: tuple[Settings, Warehouse], s3: S3):
    settings, _ = platform
    target = s3.bucket() / "backups"
    put_if_absent(target / LOCK, f"{NOW.isoformat()} someone".encode())
    with pytest.raises(BackupError, match=r"another backup to s3://.* is under way since 2019-03-01T22"):
        made(settings, target, 1)
    assert list(found_below(target / MANIFESTS)) == []
    made(settings, target, 7)
    assert not (target / LOCK).exists()


@pytest.mark.parametrize("damage", ["altered", "gone"])
def test_a_damaged_backup_is_refused_and_nothing_is_put_anywhere(
    platform: tuple[Settings, Warehouse], s3: S3, tmp_path: Path, damage: str
):
    settings, _ = platform
    target = s3.bucket() / "backups"
    block = target / OBJECTS / made(settings, target, 0).manifest.files[STORE].blocks[0]
    if damage == "gone":
        delete(block)
    else:
        put(block, block.read_bytes()[::-1])
    with pytest.raises(BackupError, match=f"{block} (is gone|was altered or cut short); take another backup"):
        said(lambda out: restore(target, tmp_path / "new", replace=False, now=NOW, out=out))
    assert not (tmp_path / "new").exists()
    with pytest.raises(StockAssetsError, match="take another backup"):
        said(lambda out: verify(target, out))


def test_a_backup_that_is_cut_off_leaves_the_one_before(platform: tuple[Settings, Warehouse], s3: S3, proxy: Proxy):
    settings, _ = platform
    target = s3.bucket() / "backups"
    first = made(settings, target, 0)
    (settings.data_dir / "note.txt").write_text("new")
    proxy.fault = lambda method, path: Answer(403) if method == "PUT" and f"/{MANIFESTS}/" in path else None
    with pytest.raises(BucketError, match="refuses access"):
        made(settings, target, 1)
    proxy.fault = lambda _method, _path: None
    newest = newest_backup_in(target)
    assert newest
    assert newest.manifest == first.manifest
    made(settings, target, 2)
    with local_backup(target) as folder:
        assert (folder / DATA / "note.txt").read_text() == "new"


def test_no_backup_is_no_backup(s3: S3, tmp_path: Path):
    target = s3.bucket() / "backups"
    assert newest_backup_in(target) is None
    with pytest.raises(BackupError, match="there is no backup in s3://"):
        said(lambda out: restore(target, tmp_path / "new", replace=False, now=datetime.now(UTC), out=out))
