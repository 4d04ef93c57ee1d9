"""Saved models: a folder with weights.safetensors, model.json and maybe more files, written whole or not at
all.

An artifact never changes: other content needs another name, for which `artifact_version` is made. Nothing
here is ever unpickled.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from stock_assets.errors import ArtifactError
from stock_assets.files import (
    RESTORE,
    TEMPORARY,
    disk_error,
    disk_errors_of,
    make_folder,
    sync,
    write_file,
    write_synced,
)

#: Raised with every change of what the files hold that older code could not read.
LAYOUT = 1
WEIGHTS, MODEL = "weights.safetensors", "model.json"
#: What a killed save left behind is removed once it is this much older than the next save, in seconds.
STALE_AFTER = 3600.0


@dataclass(frozen=True)
class Artifact:
    """What was saved. `files` are the paths of the extra files by name."""

    folder: Path
    tensors: dict[str, np.ndarray]
    description: dict[str, Any]
    files: dict[str, Path]


def artifact_version(tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that name this content: equal content, equal version, on any machine."""
    return _digest(_weights(tensors) + _json(description))[:12]


def save_artifact(
    folder: Path,
    tensors: Mapping[str, np.ndarray],
    description: Mapping[str, Any],
    *,
    files: Mapping[str, bytes] | None = None,
) -> Path:
    """The folder, holding the artifact. A reader sees it complete or not at all, also after a crash.

    `description` is JSON with string keys; `files` maps plain file names to their bytes. Saving the same
    again changes nothing; an incomplete artifact of that name is replaced.

    Raises ArtifactError when the folder holds another complete artifact, when a file name is not plain, and
    when the description is no JSON.
    """
    content = {WEIGHTS: _weights(tensors), **(files or {})}
    for name in content:
        _require_plain(name)
    model = _json(
        {
            "layout": LAYOUT,
            "sha256": {name: _digest(blob) for name, blob in content.items()},
            "description": description,
        }
    )
    with disk_errors_of(folder):
        return _save(folder, content, model)


def _save(folder: Path, content: Mapping[str, bytes], model: bytes) -> Path:
    make_folder(folder.parent)
    temporary = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY}{folder.name}-", dir=folder.parent))
    try:
        _remove_stale(temporary)
        if _is_complete(folder):
            if (folder / MODEL).read_bytes() == model:
                return folder
            raise ArtifactError(
                f"{folder} already holds another artifact; artifacts never change, so save this one under another name"
            )
        for name, blob in {**content, MODEL: model}.items():
            write_synced(temporary / name, blob)
        temporary.chmod(0o755)  # mkdtemp lets only the owner in
        sync(temporary)
        if folder.exists():  # incomplete: nobody could load it
            folder.rename(Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=folder.parent)) / folder.name)
        temporary.rename(folder)
        sync(folder.parent)
        return folder
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@dataclass(frozen=True)
class CheckpointFile:
    """Where an interrupted training goes on from: one file, always whole, which the next epoch replaces."""

    path: Path

    def load(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """(tensors, description) as they were saved last; None when there is no file, or one that cannot be read:
        then the training begins anew, which costs time and nothing else."""
        try:
            with safe_open(self.path, "numpy") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return tensors, json.loads(file.metadata()["description"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError):
            return None

    def save(self, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> None:
        """Puts these in the place of the file."""
        write_file(self.path, _weights(tensors, {"description": _json(description).decode()}))

    def clear(self) -> None:
        """Removes the file, if there is one."""
        self.path.unlink(missing_ok=True)


def load_artifact(folder: Path) -> Artifact:
    """The artifact in `folder`, each file checked against its digest.

    Raises ArtifactError when the folder or a file is absent, altered or cut short, or of another layout.
    """
    if not folder.is_dir():
        raise ArtifactError(f"{folder} does not exist; expected the folder of a saved model; {RESTORE}")
    try:
        model = json.loads((folder / MODEL).read_bytes(), parse_constant=_no_constant)
        layout = model["layout"]
        if layout != LAYOUT:
            raise ArtifactError(f"{folder} has layout {layout!r}; this version of stock_assets reads {LAYOUT}")
        digests, description = model["sha256"], model["description"]
        for name, digest in digests.items():
            _require_plain(name)
            actual = _digest((folder / name).read_bytes())
            if actual != digest:
                raise ArtifactError(
                    f"{folder / name} was altered or cut short: its digest is not the one in {MODEL}; {RESTORE}"
                )
        tensors = load((folder / WEIGHTS).read_bytes())
    except FileNotFoundError as error:
        raise ArtifactError(f"{folder} is incomplete: {Path(error.filename).name} is missing; {RESTORE}") from None
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError, RecursionError) as error:
        raise ArtifactError(f"{folder} holds no artifact: {error!r}; {RESTORE}") from error
    except OSError as error:
        raise disk_error(folder, error) from error
    extra = {name: folder / name for name in digests if name != WEIGHTS}
    return Artifact(folder, tensors, description, extra)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{MODEL} holds {name}, which is no JSON")


def _require_plain(name: str) -> None:
    if Path(name).name != name or name in ("", ".", "..", MODEL):
        raise ArtifactError(f"{name!r} cannot be a file of an artifact; expected a plain file name")


def _is_complete(folder: Path) -> bool:
    try:
        load_artifact(folder)
    except ArtifactError as error:
        if "has layout" in str(error):  # complete, though not for this version to read or replace
            raise
        return False
    return True


def _remove_stale(newest: Path) -> None:
    """Removes what killed saves left beside `newest`, whose own age is the clock."""
    moment = newest.stat().st_mtime
    for leftover in newest.parent.glob(f"{TEMPORARY}*"):
        try:
            stale = moment - leftover.stat().st_mtime > STALE_AFTER
        except FileNotFoundError:  # its own save has just finished
            continue
        if stale:
            shutil.rmtree(leftover, ignore_errors=True)


def _weights(tensors: Mapping[str, np.ndarray], metadata: dict[str, str] | None = None) -> bytes:
    # sorted and contiguous, so that equal tensors are equal bytes
    return save({name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}, metadata)


def _json(value: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(value, indent=1, sort_keys=True, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"the description of an artifact is no JSON: {error}") from error


def _digest(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()
