import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stock_assets.errors import ArtifactError
from stock_assets.storage.artifacts import (
    LAYOUT,
    MODEL,
    STALE_AFTER,
    WEIGHTS,
    artifact_version,
    load_artifact,
    save_artifact,
)

TENSORS = {"weights": np.arange(6, dtype=np.float32).reshape(2, 3), "mean": np.array([0.1, 1 / 3])}
DESCRIPTION = {"kind": "test", "features": ["a", "b"], "cutoff": "2018-12-31", "loss": 1 / 3}


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_comes_back_exactly(tmp_path: Path):
    folder = save_artifact(tmp_path / "deep" / "v1", TENSORS, DESCRIPTION, files={"curve.png": b"\x89PNG"})
    artifact = load_artifact(folder)
    assert artifact.description == DESCRIPTION
    assert artifact.tensors.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert artifact.tensors[name].dtype == value.dtype
        assert np.array_equal(artifact.tensors[name], value)
    assert artifact.files["curve.png"].read_bytes() == b"\x89PNG"
    assert entries(tmp_path / "deep") == ["v1"]
    assert entries(folder) == sorted(["curve.png", MODEL, WEIGHTS])


def test_arrays_that_are_not_contiguous_keep_their_values(tmp_path: Path):
    transposed = TENSORS["weights"].T
    saved = load_artifact(save_artifact(tmp_path / "v1", {"w": transposed}, {}))
    assert np.array_equal(saved.tensors["w"], transposed)


def test_equal_content_has_an_equal_version_and_other_content_another():
    version = artifact_version(TENSORS, DESCRIPTION)
    reordered = dict(reversed(TENSORS.items())), dict(reversed(DESCRIPTION.items()))
    assert len(version) == 12
    assert artifact_version(*reordered) == version
    assert artifact_version(TENSORS | {"mean": np.array([0.1, 0.3])}, DESCRIPTION) != version
    assert artifact_version(TENSORS, DESCRIPTION | {"cutoff": "2019-12-31"}) != version


def test_saving_the_same_again_changes_nothing(tmp_path: Path):
    folder = save_artifact(tmp_path / "v1", TENSORS, DESCRIPTION)
    before = [(path.name, path.stat().st_ino) for path in sorted(folder.iterdir())]
    assert save_artifact(tmp_path / "v1", TENSORS, DESCRIPTION) == folder
    assert [(path.name, path.stat().st_ino) for path in sorted(folder.iterdir())] == before
    assert entries(tmp_path) == ["v1"]


def test_other_content_under_the_same_name_is_refused(tmp_path: Path):
    folder = save_artifact(tmp_path / "v1", TENSORS, DESCRIPTION)
    with pytest.raises(ArtifactError, match=r"v1 already holds another artifact.*another name"):
        save_artifact(folder, TENSORS, DESCRIPTION | {"loss": 2.0})
    assert load_artifact(folder).description == DESCRIPTION
    assert entries(tmp_path) == ["v1"]


def test_an_incomplete_artifact_is_refused_and_then_replaced(tmp_path: Path):
    folder = save_artifact(tmp_path / "v1", TENSORS, DESCRIPTION)
    (folder / WEIGHTS).unlink()
    with pytest.raises(ArtifactError, match=f"incomplete: {WEIGHTS} is missing"):
        load_artifact(folder)
    save_artifact(folder, TENSORS, DESCRIPTION)
    assert load_artifact(folder).description == DESCRIPTION


def test_an_absent_folder_and_an_empty_one_are_named(tmp_path: Path):
    with pytest.raises(ArtifactError, match="nowhere does not exist"):
        load_artifact(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match=f"incomplete: {MODEL} is missing"):
        load_artifact(tmp_path)


@pytest.mark.parametrize("kept", [0, 7, 40, -1])
def test_weights_cut_short_are_refused(tmp_path: Path, kept: int):
    folder = save_artifact(tmp_path / "v1", TENSORS, DESCRIPTION)
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ArtifactError, match="altered or cut short"):
        load_artifact(folder)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"layout": 1}', b"\xff\xfe"])
def test_a_description_that_is_none_is_refused(tmp_path: Path, text: bytes):
    folder = save_artifact(tmp_path / "v1", TENSORS, DESCRIPTION)
    (folder / MODEL).write_bytes(text)
    with pytest.raises(ArtifactError, match="holds no artifact"):
        load_artifact(folder)


def test_another_layout_is_refused_and_never_overwritten(tmp_path: Path):
    folder = save_artifact(tmp_path / "v1", TENSORS, DESCRIPTION)
    model = folder / MODEL
    model.write_text(model.read_text().replace(f'"layout": {LAYOUT}', f'"layout": {LAYOUT + 1}'))
    for attempt in (lambda: load_artifact(folder), lambda: save_artifact(folder, TENSORS, DESCRIPTION)):
        with pytest.raises(
            ArtifactError, match=f"has layout {LAYOUT + 1}; this version of stock_assets reads {LAYOUT}"
        ):
            attempt()


def test_nothing_is_ever_unpickled(tmp_path: Path):
    class Bomb:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "exploded"),)

    folder = save_artifact(tmp_path / "v1", TENSORS, DESCRIPTION)
    for name in (WEIGHTS, MODEL):
        (folder / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(ArtifactError):
            load_artifact(folder)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".", "..", MODEL, "/etc/evil"])
def test_a_file_cannot_leave_its_folder(tmp_path: Path, name: str):
    with pytest.raises(ArtifactError, match="expected a plain file name"):
        save_artifact(tmp_path / "v1", TENSORS, DESCRIPTION, files={name: b""})
    assert entries(tmp_path) == []


def test_a_digest_list_that_points_outside_is_refused(tmp_path: Path):
    folder = save_artifact(tmp_path / "v1", TENSORS, DESCRIPTION)
    (tmp_path / "secret").write_bytes(b"")
    model = folder / MODEL
    model.write_text(model.read_text().replace(f'"{WEIGHTS}"', '"../secret"'))
    with pytest.raises(ArtifactError, match="expected a plain file name"):
        load_artifact(folder)


@pytest.mark.parametrize("description", [{"a": float("nan")}, {"a": {1, 2}}])
def test_a_description_that_is_no_json_is_refused(tmp_path: Path, description: dict):
    with pytest.raises(ArtifactError, match="no JSON"):
        save_artifact(tmp_path / "v1", TENSORS, description)


def test_a_save_that_is_killed_leaves_no_artifact_and_is_cleaned_up_later(tmp_path: Path):
    script = """
import os, sys
from pathlib import Path
import numpy as np
from stock_assets.storage import artifacts

artifacts.sync = lambda _: os._exit(9)  # dies after the files are written, before the rename
artifacts.save_artifact(Path(sys.argv[1]), {"w": np.ones(3)}, {})
"""
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "v1")], check=False)
    assert killed.returncode == 9
    (leftover,) = tmp_path.iterdir()
    assert leftover.name.startswith(".tmp-v1-")
    with pytest.raises(ArtifactError, match="does not exist"):
        load_artifact(tmp_path / "v1")

    save_artifact(tmp_path / "v2", TENSORS, DESCRIPTION)
    assert leftover.exists(), "a save may still be at work there"
    old = (tmp_path / "v2").stat().st_mtime - STALE_AFTER - 60
    os.utime(leftover, (old, old))
    save_artifact(tmp_path / "v1", TENSORS, DESCRIPTION)
    assert entries(tmp_path) == ["v1", "v2"]
