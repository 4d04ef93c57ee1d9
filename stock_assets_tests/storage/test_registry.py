"""The model registry on a real SQLite file: what is tracked, once, and what is said when it cannot be."""

import multiprocessing
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from importlib.metadata import version as installed
from pathlib import Path
from types import SimpleNamespace

import pytest

from stock_assets.errors import ArtifactError, RegistryError
from stock_assets.private.mlflow_tables import REVISION
from stock_assets.storage import code_version as naming
from stock_assets.storage.code_version import code_version, read_code_version
from stock_assets.storage.registry import (
    MlflowRegistry,
    NoRegistry,
    Training,
    open_registry,
)
from stock_assets.storage.revisions import revision_of
from stock_assets_tests.waiting import HANG_SECONDS

PNG = b"\x89PNG not really"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def registry(home: Path) -> Iterator[MlflowRegistry]:
    """A registry that two processes made at the same moment, after one was killed there; used without a network."""
    uri = f"sqlite:///{home}/db/mlflow.db"
    (home / "db").mkdir()
    for left_by_a_killed_one in (".tmp-mlflow.db", ".tmp-mlflow.db-journal"):
        (home / "db" / left_by_a_killed_one).write_bytes(b"half")
    start = multiprocessing.get_context("forkserver")
    start.set_forkserver_preload(["mlflow.store.tracking.sqlalchemy_store"])  # seconds, spent once for both
    together = start.Barrier(2)
    makers = [start.Process(target=make, args=(uri, home, together, name)) for name in "ab"]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join(HANG_SECONDS)
    assert [maker.exitcode for maker in makers] == [0, 0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", no_network)
        yield MlflowRegistry(uri, home / "artifacts")


def make(uri: str, home: Path, together, name: str) -> None:
    together.wait(HANG_SECONDS)
    MlflowRegistry(uri, home / "artifacts").track(training(f"maker-{name}", model="maker"))


def no_network(_socket: socket.socket, address: object) -> None:
    raise ConnectionRefusedError(f"the registry wants to talk to {address}")


def training(version: str, model: str = "rnn", **changes) -> Training:
    plain = {
        "model": model,
        "version": version,
        "model_year": 2026,
        "trained_through": date(2025, 12, 31),
        "params": {"units": 64, "rate": 0.001, "clip": None, "warm": True},
        "metrics": {"validation_log_loss": 1.02, "validation_accuracy": None},
        "code_version": "abc+dirty",
        "curve": [{"epoch": e, "loss": 1 / e, "r2": 0.1 * e} for e in (1, 2, 3)],
        "figures": {"learning_curve": PNG},
        "pca_version": "p1",
    }
    return Training(**(plain | changes))  # pyright: ignore[reportArgumentType]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    saved = tmp_path / "saved"
    saved.mkdir()
    (saved / "model.json").write_text("{}")
    (saved / "weights.safetensors").write_bytes(b"0")
    return saved


@pytest.fixture(params=["its tables", "its client"])
def asked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What of MLflow answers: its tables, or its client, as for a file of another revision."""
    if request.param == "its client":
        monkeypatch.setattr("stock_assets.storage.registry.REVISION", "another")


def versions_of(registry: MlflowRegistry, version: str) -> list:
    with registry._asking() as client:
        return list(client.search_model_versions(f"tags.version = '{version}'"))


def runs_of(registry: MlflowRegistry, version: str) -> list:
    with registry._asking() as client:
        experiment = client.get_experiment_by_name("stock_assets")
        assert experiment
        return list(client.search_runs([experiment.experiment_id], f"tags.version = '{version}'"))


def curve_of(registry: MlflowRegistry, run) -> list[tuple[int, float]]:
    with registry._asking() as client:
        return sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, "epoch/loss"))


def test_two_processes_made_one_registry_and_both_are_in_it(registry: MlflowRegistry, home: Path):
    assert [len(runs_of(registry, f"maker-{name}")) for name in "ab"] == [1, 1]
    assert registry.aliases()["maker"] == {}
    assert sorted(path.name for path in (home / "db").iterdir()) == [".mlflow.db.lock", "mlflow.db"]


def test_a_training_is_one_run_and_one_version_with_all_that_is_known_of_it(registry: MlflowRegistry, folder: Path):
    registry.track(training("rnn-2025-12-31-aaa", folder=folder))
    (run,) = runs_of(registry, "rnn-2025-12-31-aaa")
    (version,) = versions_of(registry, "rnn-2025-12-31-aaa")
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "rnn-2025-12-31-aaa"
    assert run.data.params == {"units": "64", "rate": "0.001", "clip": "None", "warm": "True"}
    assert run.data.metrics == pytest.approx({"validation_log_loss": 1.02, "epoch/loss": 1 / 3, "epoch/r2": 0.3})
    assert curve_of(registry, run) == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert run.data.tags["code_version"] == "abc+dirty"
    about = {
        "version": "rnn-2025-12-31-aaa",
        "model_year": "2026",
        "trained_through": "2025-12-31",
        "pca_version": "p1",
    }
    assert version.tags == about
    assert version.name == "rnn"
    assert version.run_id == run.info.run_id
    files = Path(version.source.removeprefix("file://"))
    assert {path.name for path in files.iterdir()} == {"model.json", "weights.safetensors"}
    assert (files.parent / "figures" / "learning_curve.png").read_bytes() == PNG


def test_a_second_time_changes_nothing(registry: MlflowRegistry):
    once = training("rnn-2025-12-31-bbb")
    registry.track(once)
    registry.track(replace(once, metrics={"validation_log_loss": 2.0}))
    (run,) = runs_of(registry, once.version)
    assert len(versions_of(registry, once.version)) == 1
    assert run.data.metrics["validation_log_loss"] == 1.02


@pytest.mark.parametrize("method", ["log_batch", "log_stream", "set_terminated", "create_model_version"])
def test_a_tracking_that_was_cut_off_is_completed_by_the_next(
    registry: MlflowRegistry, monkeypatch: pytest.MonkeyPatch, method: str
):
    cut_off = training(f"rnn-cut-off-at-{method}", curve=[{"epoch": i, "loss": 1.0} for i in range(1200)])

    def killed(*_arguments, **_named):
        raise KeyboardInterrupt

    with registry._asking() as client:
        monkeypatch.setattr(client, method, killed)
    with pytest.raises(KeyboardInterrupt):
        registry.track(cut_off)
    monkeypatch.undo()
    assert versions_of(registry, cut_off.version) == []
    registry.track(cut_off)
    (run,) = runs_of(registry, cut_off.version)
    assert (run.info.status, len(versions_of(registry, cut_off.version))) == ("FINISHED", 1)
    assert curve_of(registry, run) == [(step, 1.0) for step in range(1200)]


@pytest.mark.usefixtures("asked")
def test_an_alias_names_our_version_and_moves(registry: MlflowRegistry):
    for version in ("trees-1", "trees-2"):
        registry.track(training(version, model="trees"))
    with registry._asking() as client:
        client.delete_registered_model_alias("trees", "champion")
    assert registry.alias("trees", "champion") is None
    registry.set_alias("trees", "champion", "trees-1")
    registry.set_alias("trees", "challenger", "trees-2")
    assert registry.aliases()["trees"] == {"champion": "trees-1", "challenger": "trees-2"}
    registry.set_alias("trees", "champion", "trees-2")
    assert registry.alias("trees", "champion") == "trees-2"
    assert registry.alias("nobody", "champion") is None


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(("model", "version"), [("trees", "rnn-of-another-model"), ("unheard", "unheard-1")])
def test_an_alias_needs_a_version_that_was_registered(registry: MlflowRegistry, model: str, version: str):
    registry.track(training("rnn-of-another-model"))
    with pytest.raises(ArtifactError, match=f"{version} of {model} was never registered in sqlite:///"):
        registry.set_alias(model, "champion", version)


@pytest.mark.usefixtures("asked")
def test_an_alias_that_a_person_set_on_something_else_is_an_error(registry: MlflowRegistry):
    registry.track(training("svm-1", model="svm"))
    with registry._asking() as client:
        strange = client.create_model_version("svm", "file:///nowhere")
        client.set_registered_model_alias("svm", "champion", str(strange.version))
    said = f"the alias champion of svm .* points at version {strange.version}, which stock_assets did not"
    with pytest.raises(ArtifactError, match=said):
        registry.aliases()
    with registry._asking() as client:
        client.delete_registered_model_alias("svm", "champion")


@pytest.mark.usefixtures("asked")
def test_models_that_others_keep_on_the_same_server_are_none_of_ours(registry: MlflowRegistry):
    with registry._asking() as client:
        if not client.search_registered_models("name = 'somebody_elses'"):
            client.create_registered_model("somebody_elses")
    assert "somebody_elses" not in registry.aliases()


def test_a_training_without_its_folder_is_refused(registry: MlflowRegistry, tmp_path: Path):
    with pytest.raises(ArtifactError, match=r"rnn-lost cannot be tracked: .*gone does not exist"):
        registry.track(training("rnn-lost", folder=tmp_path / "gone"))


def test_reading_a_registry_that_is_not_there_makes_none(tmp_path: Path):
    absent = MlflowRegistry(f"sqlite:///{tmp_path}/new/mlflow.db", tmp_path)
    assert absent.aliases() == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "zeros", "text", "empty", "another"])
def test_a_damaged_registry_is_one_line_with_its_uri(
    registry: MlflowRegistry, home: Path, tmp_path: Path, damage: str, capfd: pytest.CaptureFixture[str]
):
    registry.track(training("rnn-whole"))
    whole = (home / "db" / "mlflow.db").read_bytes()
    if damage == "another":
        with sqlite3.connect(tmp_path / "mlflow.db") as connection:
            connection.execute("CREATE TABLE recipes (name)")
        connection.close()
    else:
        content = {"cut": whole[: len(whole) // 2], "zeros": b"\0" * 9000, "text": b"models", "empty": b""}[damage]
        (tmp_path / "mlflow.db").write_bytes(content)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with pytest.raises(RegistryError, match=uri) as caught:
        MlflowRegistry(uri, tmp_path).aliases()
    assert len(str(caught.value).splitlines()) == 1
    assert "Traceback" not in capfd.readouterr().err


def test_a_place_that_cannot_be_written_is_one_line(registry: MlflowRegistry, tmp_path: Path):  # noqa: ARG001
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RegistryError, match=f"sqlite:///{tmp_path}/file/mlflow.db does not answer"):
        MlflowRegistry(f"sqlite:///{tmp_path}/file/mlflow.db", tmp_path).track(training("rnn-nowhere"))


def test_a_server_that_does_not_answer_is_one_line_without_the_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError) as caught:
        MlflowRegistry("http://me:secret@127.0.0.1:9", tmp_path).aliases()
    said = str(caught.value)
    assert said.startswith("the model registry http://127.0.0.1:9/(hidden) does not answer: ")
    assert "secret" not in said
    assert len(said.splitlines()) == 1


def test_without_a_registry_everything_is_taken_and_nothing_kept(tmp_path: Path):
    off = open_registry(None, tmp_path)
    assert isinstance(off, NoRegistry)
    off.track(training("rnn-1"))
    off.set_alias("rnn", "champion", "rnn-1")
    assert (off.aliases(), off.alias("rnn", "champion"), list(tmp_path.iterdir())) == ({}, None, [])


def test_opening_a_registry_imports_nothing(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from stock_assets.storage.registry import open_registry; "
        f"print(open_registry('sqlite:///{tmp_path}/mlflow.db', Path('{tmp_path}')).aliases(), 'mlflow' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert said.stdout.strip() == "{} False"


# ---------------------------------------------------------------- the code that trained


@pytest.mark.parametrize(
    ("commit", "changes", "said"),
    [
        ("abc", "", "abc"),
        ("abc", None, "abc"),
        ("abc", " M a.py", "abc+dirty"),
        (None, " M a.py", "1.0"),
        ("", "", "1.0"),
    ],
)
def test_code_is_named_by_its_commit_or_the_version_of_the_package(commit, changes, said):
    assert code_version(commit, changes, "1.0") == said


def test_the_commit_is_that_of_the_clone_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def git(*arguments: str) -> str:
        made = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        return subprocess.run(
            ["git", "-C", tmp_path, *made, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    package = read_code_version(tmp_path)
    assert package == installed("stock_assets")
    git("init", "--quiet")
    (tmp_path / "a.py").write_text("1")
    git("add", "a.py")
    git("commit", "--quiet", "-m", "one")
    assert read_code_version(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "a.py").write_text("2")
    assert read_code_version(tmp_path) == f"{git('rev-parse', 'HEAD')}+dirty"
    (tmp_path / "inside").mkdir()
    assert read_code_version(tmp_path / "inside") == package
    monkeypatch.setattr(naming, "subprocess", SimpleNamespace(run=absent, TimeoutExpired=subprocess.TimeoutExpired))
    assert read_code_version(tmp_path) == package


def absent(*_arguments, **_named):
    raise FileNotFoundError("git")


def test_the_tables_and_the_client_give_the_same_answers(
    registry: MlflowRegistry, home: Path, monkeypatch: pytest.MonkeyPatch
):
    assert revision_of(home / "db" / "mlflow.db") == REVISION, "see private/mlflow_tables.py"
    for version in ("mlp-1", "mlp-2"):
        registry.track(training(version, model="mlp", code_version=f"code-of-{version}"))
    registry.set_alias("mlp", "champion", "mlp-1")
    of_tables = registry.aliases(), registry.runs()
    monkeypatch.setattr("stock_assets.storage.registry.REVISION", "another")
    assert (registry.aliases(), registry.runs()) == of_tables
    assert of_tables[0]["mlp"] == {"champion": "mlp-1"}
    assert of_tables[1]["mlp-2"].code_version == "code-of-mlp-2"
    with registry._asking() as client:  # a person
        client.set_registered_model_alias("mlp", "champion", "2")
        client.set_registered_model_alias("mlp", "serving", "1")
    monkeypatch.undo()
    assert registry.aliases()["mlp"] == {"champion": "mlp-2", "serving": "mlp-1"}


def test_aliases_and_runs_of_a_file_need_no_mlflow(registry: MlflowRegistry, home: Path):
    registry.track(training("light-1", model="light"))
    code = (
        "import sys; from pathlib import Path; from stock_assets.storage.registry import open_registry; "
        f"registry = open_registry('{registry.uri}', Path('{home}/artifacts')); "
        "registry.set_alias('light', 'champion', 'light-1'); "
        "print(registry.alias('light', 'champion'), 'light-1' in registry.runs(), 'mlflow' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert said.stdout.strip() == "light-1 True False"


def test_a_file_that_another_process_keeps_is_one_line(registry: MlflowRegistry, monkeypatch: pytest.MonkeyPatch):
    def busy(*_arguments):
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr("stock_assets.storage.registry.Tables.aliases", busy)
    with pytest.raises(RegistryError, match=r"sqlite:///.* does not answer: database is locked"):
        registry.aliases()


def test_a_removed_version_leaves_no_run_no_row_and_no_file(registry: MlflowRegistry, home: Path, tmp_path: Path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights.safetensors").write_bytes(b"weights")
    for name in ("goes", "stays"):
        registry.track(replace(training(f"tidied-{name}", model="tidied"), folder=model, figures={"curve": PNG}))
    assert {"tidied-goes", "tidied-stays"} <= set(registry.versions())
    files = {file for file in (home / "artifacts").rglob("*") if file.is_file()}
    assert registry.remove(["tidied-goes"]) == 1
    assert registry.remove(["tidied-goes"]) == 0
    assert {"tidied-goes", "tidied-stays"} & set(registry.versions()) == {"tidied-stays"}
    left = {file for file in (home / "artifacts").rglob("*") if file.is_file()}
    assert len(files - left) == 2, "its figure and its copy of the weights"
    registry.set_alias("tidied", "champion", "tidied-stays")
    with pytest.raises(ArtifactError, match="was never registered"):
        registry.set_alias("tidied", "champion", "tidied-goes")
