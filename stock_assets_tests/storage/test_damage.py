"""Every kind of file that a data folder holds, damaged in every way: one line that names the file and the way back, or
the file is made again by itself. A kind that is new in the folder is tried too, or this file says why not."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest

from stock_assets.errors import DamagedFileError, SettingsError, StockAssetsError
from stock_assets.files import write_file
from stock_assets.lifecycle import watch
from stock_assets.lifecycle.alert_book import AlertBook
from stock_assets.lifecycle.alerts import Alert, Record
from stock_assets.market.calendar import trading_calendar
from stock_assets.market.sources.staging import progress, staging
from stock_assets.model.trials import open_storage
from stock_assets.settings import read_settings
from stock_assets.storage import event_log, migrations
from stock_assets.storage.artifacts import CheckpointFile, load_artifact, save_artifact
from stock_assets.storage.event_log import BatchingSqliteStorage
from stock_assets.storage.registry import MlflowRegistry
from stock_assets.storage.verification import problems_of
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.tables import rows_of

DAY, NOW = date(2026, 11, 27), datetime(2026, 11, 27, tzinfo=UTC)
BARS = pl.DataFrame({"ticker": ["A"], "close": [1.0]})
HOURS = ("XNYS", date(2026, 1, 2), date(2026, 12, 31))


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def emptied(file: Path) -> None:
    os.truncate(file, 0)


def scrambled(file: Path) -> None:
    file.write_bytes(np.random.default_rng(0).bytes(max(5000, file.stat().st_size)))


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def deep(file: Path) -> None:
    file.write_text("[" * 100_000 + "]" * 100_000)


DAMAGES = (cut, emptied, scrambled, a_folder, deep)


def instance_of(folder: Path) -> Iterator[dg.DagsterInstance]:
    storage = {"base_dir": str(folder / "dagster")}
    custom = {"module": BatchingSqliteStorage.__module__, "class": BatchingSqliteStorage.__name__, "config": storage}
    (folder / "dagster").mkdir(exist_ok=True)
    overrides = {"storage": {"custom": custom}, "telemetry": {"enabled": False}}
    with dg.DagsterInstance.local_temp(str(folder / "dagster"), overrides=overrides) as instance:
        yield instance


def forget_dagster() -> None:
    """As a new process begins, and an old one ends."""
    event_log._migrated.cache_clear()
    for engine, _ in event_log._ENGINES.values():
        engine.dispose()
    event_log._ENGINES.clear()


def use_dagster(folder: Path) -> None:
    forget_dagster()
    for instance in instance_of(folder):
        instance.report_runless_asset_event(dg.AssetMaterialization("labels"))
        assert instance.get_latest_materialization_event(dg.AssetKey("labels"))
        assert instance.get_runs() == []
        assert instance.all_instigator_state() == []


def use_store(folder: Path) -> None:
    migrations._CURRENT.clear()
    store = Warehouse(folder / "stock_assets.duckdb", wait=0.1)
    assert store.read("alerts")["key"].to_list() == ["a"]


def use_registry(folder: Path) -> None:
    assert (
        MlflowRegistry(f"sqlite:///{folder / 'mlflow' / 'mlflow.db'}", folder / "mlflow" / "artifacts").alias("a", "b")
        is None
    )


def use_calendar(folder: Path) -> None:
    trading_calendar.cache_clear()
    assert trading_calendar(*HOURS, cache_dir=folder).is_session(DAY)


def use_staging(folder: Path) -> None:
    staged = staging(folder / "staged_answers", asked_on=DAY, first=DAY, last=DAY)
    progress(folder / "staged_answers")
    if staged.load("A") is None:
        staged.save("A", BARS)
    staged.expect(1)


def use_checkpoint(folder: Path) -> None:
    checkpoint = CheckpointFile(folder / "artifacts" / "trained" / ".checkpoint-rnn")
    if checkpoint.load() is None:
        checkpoint.save({"weights": np.arange(4000.0)}, {"epoch": 1})


def use_artifact(folder: Path) -> None:
    assert load_artifact(folder / "artifacts" / "trained" / "one").description == {"kind": "test"}


def use_trials(folder: Path) -> None:
    assert open_storage(folder / "artifacts" / "tuning", "rnn").trials == []


def use_look(folder: Path) -> None:
    """As a tick of `freshness` does: it tells a damaged file, and writes it anew."""
    file = watch.file_of(folder / "stock_assets.duckdb")
    with suppress(StockAssetsError, OSError):
        watch.read_look(file)
    watch.write_look(file, watch.Look(NOW))


def use_alerts(folder: Path) -> None:
    book = AlertBook.beside(folder / "stock_assets.duckdb")
    book.read("late")
    book.write(Record(Alert("late", "late", "late", None, NOW), NOW))


#: How the platform uses a file, by its path in the data folder, and whether it makes a damaged one again by itself.
KINDS: dict[str, tuple[Callable[[Path], None], bool]] = {
    "stock_assets.duckdb": (use_store, False),
    "hours-*.json": (use_calendar, True),
    "dagster/history/runs.db": (use_dagster, False),
    "dagster/history/runs/index.db": (use_dagster, False),
    "dagster/history/runs/*.db": (use_dagster, True),
    "dagster/schedules/schedules.db": (use_dagster, False),
    "mlflow/mlflow.db": (use_registry, False),
    "artifacts/trained/one/model.json": (use_artifact, False),
    "artifacts/trained/one/weights.safetensors": (use_artifact, False),
    "artifacts/trained/.checkpoint-rnn": (use_checkpoint, True),
    "artifacts/tuning/trials.sqlite": (use_trials, False),
    "last_look.json": (use_look, True),
    "alerts/*.json": (use_alerts, True),
    "staged_answers/*/A.parquet": (use_staging, True),
    "staged_answers/*/asked": (use_staging, True),
}
#: Kinds of which a damaged one is renamed, so that even a folder in its place is out of the way.
PUT_ASIDE = ("dagster/history/runs/*.db", "alerts/*.json")
#: Locks and journals, which hold nothing once nobody has the database open.
EMPTY = (".lock", "-wal", "-shm")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a file of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    Warehouse(folder / "stock_assets.duckdb").append("alerts", rows_of("alerts", pl.DataFrame({"key": ["a"]})))
    save_artifact(folder / "artifacts" / "trained" / "one", {"weights": np.arange(4000.0)}, {"kind": "test"})
    with MlflowRegistry(f"sqlite:///{folder / 'mlflow' / 'mlflow.db'}", folder / "mlflow" / "artifacts")._asking():
        pass
    for use in dict.fromkeys(use for use, _ in KINDS.values()):
        use(folder)
    forget_dagster()
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "data"))


def file_of(folder: Path, kind: str) -> Path:
    return next(
        file for file in sorted(folder.glob(kind)) if kind == "dagster/history/runs/index.db" or file.stem != "index"
    )


def test_every_file_of_a_data_folder_is_of_a_kind(whole: Path):
    files = {file for file in whole.rglob("*") if file.is_file() and not file.name.endswith(EMPTY)}
    for kind in KINDS:
        files -= set(whole.glob(kind))
    assert {file.name for file in files} <= {"dagster.yaml"}  # which every start writes anew


#: What a data folder holds besides: kinds of `KINDS` in other places, and what every run writes anew.
MORE = (
    *("artifacts/*/*/*/model.json", "artifacts/*/*/*/weights.safetensors", "artifacts/*/*.html"),
    *("mlflow/artifacts/**/*", "dagster/dagster.yaml", "stock_assets.duckdb.v*"),
)


@pytest.mark.xdist_group("market")
def test_every_file_of_a_market_is_of_a_kind(market: Path):
    files = {file for file in market.rglob("*") if file.is_file() and not file.name.endswith(EMPTY)}
    for kind in (*KINDS, *MORE):
        files -= set(market.glob(kind))
    assert not files


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_one_line_or_made_again(folder: Path, kind: str, damage: Callable[[Path], None]):
    use, made_again = KINDS[kind]
    file = file_of(folder, kind)
    damage(file)
    if made_again and (damage is not a_folder or kind in PUT_ASIDE):
        use(folder)
        use(folder)
        return
    with pytest.raises(StockAssetsError) as told:
        use(folder)
    assert "\n" not in str(told.value)
    assert file.name in str(told.value) or str(file.parent) in str(told.value)
    assert any(way in str(told.value) for way in ("stock-assets restore DIR", "remove it", "move it away"))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("staged")])
def test_verify_finds_a_damaged_file(folder: Path, kind: str):
    scrambled(file_of(folder, kind))
    problems = list(problems_of(folder))
    assert problems
    assert all("\n" not in problem for problem in problems)
    assert any(file_of(folder, kind).name in problem or "/one" in problem for problem in problems)


def test_a_whole_folder_has_no_problem(folder: Path):
    assert list(problems_of(folder)) == []


def test_what_is_no_json_in_a_description_is_told(folder: Path):
    model = folder / "artifacts" / "trained" / "one" / "model.json"
    fields = json.loads(model.read_text())
    model.write_text(json.dumps(fields | {"description": {"score": float("nan")}}))
    with pytest.raises(StockAssetsError, match="holds NaN, which is no JSON"):
        load_artifact(model.parent)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
@pytest.mark.parametrize("what", ["file", "artifact", "checkpoint", "calendar", "answer"])
def test_a_disk_that_takes_nothing_is_one_line(tmp_path: Path, what: str, number: int, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr("stock_assets.files.write_synced", refuse)
    monkeypatch.setattr("stock_assets.storage.artifacts.write_synced", refuse)
    trading_calendar.cache_clear()
    writes: dict[str, Callable[[], object]] = {
        "file": lambda: write_file(tmp_path / "report.html", b"x"),
        "artifact": lambda: save_artifact(tmp_path / "one", {"weights": np.arange(2.0)}, {}),
        "checkpoint": lambda: CheckpointFile(tmp_path / "c").save({"weights": np.arange(2.0)}, {}),
        "calendar": lambda: trading_calendar(*HOURS, cache_dir=tmp_path),
        "answer": lambda: staging(tmp_path / "s", asked_on=DAY, first=DAY, last=DAY).save("A", BARS),
    }
    with pytest.raises(DamagedFileError) as refused:
        writes[what]()
    assert "\n" not in str(refused.value)
    assert str(tmp_path) in str(refused.value)
    assert os.strerror(number) in str(refused.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]


@pytest.mark.parametrize("said", ["No space left on device", "Read-only file system", "Permission denied"])
def test_a_disk_that_refuses_the_store_is_one_line(folder: Path, said: str):
    import duckdb

    from stock_assets.storage.attached import damage_of

    way = f"{said}.*; (make room|mount its disk|give this user)"
    with pytest.raises(DamagedFileError, match=way) as refused, damage_of(folder / "stock_assets.duckdb"):
        raise duckdb.IOException(f'IO Error: Could not write file "x": {said}\nmore')
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"start = \xff\xfe", b"a = " + b"[" * 100_000, b"\0", b'start = "x'])
def test_a_settings_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "stock_assets.toml"
    file.write_bytes(content)
    monkeypatch.setenv("STOCK_ASSETS_CONFIG", str(file))
    with pytest.raises(SettingsError, match=r"stock_assets\.toml cannot be read as TOML") as refused:
        read_settings()
    assert "\n" not in str(refused.value)
