"""Saved models: a folder with weights.safetensors, model.json and maybe more files, written whole or not at
all.

An artifact never changes: other content needs another name, for which `artifact_version` is made. Nothing
here is ever unpickled.

In a bucket the folder is a prefix. `model.json` is put last, and only where there is none: an artifact is there once
its `model.json` is.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from stock_assets.errors import ArtifactError, BucketError
from stock_assets.files import (
    RESTORE,
    TEMPORARY,
    disk_error,
    disk_errors_of,
    make_folder,
    sync,
    write_synced,
)
from stock_assets.objects import ObjectPath, Place, delete, held, put, put_if_absent, replace_if

#: Raised with every change of what the files hold that older code could not read.
LAYOUT = 1
WEIGHTS, MODEL = "weights.safetensors", "model.json"
#: What a killed save left behind is removed once it is this much older than the next save, in seconds.
STALE_AFTER = 3600.0


@dataclass(frozen=True)
class Artifact:
    """What was saved. `files` are the paths of the extra files by name."""

    folder: Place
    tensors: dict[str, np.ndarray]
    description: dict[str, Any]
    files: dict[str, Place]


def artifact_version(tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that name this content: equal content, equal version, on any machine."""
    return _digest(_weights(tensors) + _json(description))[:12]


def save_artifact(
    folder: Place,
    tensors: Mapping[str, np.ndarray],
    description: Mapping[str, Any],
    *,
    files: Mapping[str, bytes] | None = None,
) -> Place:
    """The folder, holding the artifact. A reader sees it complete or not at all, also after a crash.

    `description` is JSON with string keys; `files` maps plain file names to their bytes. Saving the same
    again changes nothing; an incomplete artifact of that name is replaced.

    Raises ArtifactError when the folder holds another complete artifact, when a file name is not plain, and
    when the description is no JSON; BucketError.
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
    if isinstance(folder, ObjectPath):
        return _save_objects(folder, content, model)
    with disk_errors_of(folder):
        return _save(folder, content, model)


def _save_objects(folder: ObjectPath, content: Mapping[str, bytes], model: bytes) -> ObjectPath:
    """Each file by itself, and `model.json` last: of several savers of the same, each puts what is not there yet."""
    before = held(folder / MODEL)
    if before is not None and before.content != model and _is_complete(folder):
        raise _another(folder)
    for name, blob in content.items():
        if put_if_absent(folder / name, blob):
            continue
        held_object = held(folder / name)  # of another saver of the same, or of a save that was killed
        if held_object is None or (
            held_object.content != blob and not replace_if(folder / name, blob, held_object.version)
        ):
            raise ArtifactError(f"{folder / name} is being written by another process; save the artifact again")
    is_same = before is not None and before.content == model
    if not is_same and not replace_if(folder / MODEL, model, before and before.version):
        raise _another(folder)
    return folder


def _another(folder: Place) -> ArtifactError:
    return ArtifactError(
        f"{folder} already holds another artifact; artifacts never change, so save this one under another name"
    )


def _save(folder: Path, content: Mapping[str, bytes], model: bytes) -> Path:
    make_folder(folder.parent)
    temporary = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY}{folder.name}-", dir=folder.parent))
    try:
        _remove_stale(temporary)
        if _is_complete(folder):
            if (folder / MODEL).read_bytes() == model:
                return folder
            raise _another(folder)
        for name, blob in {**content, MODEL: model}.items():
            write_synced(temporary / name, blob)
        temporary.chmod(0o755)  # mkdtemp lets only the owner in
        sync(temporary)
        if folder.exists() and not _is_complete(folder):  # nobody could load it
            folder.rename(Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=folder.parent)) / folder.name)
        try:
            temporary.rename(folder)
        except OSError:  # another saver was first
            if not _is_complete(folder):
                raise
            if (folder / MODEL).read_bytes() != model:
                raise _another(folder) from None
        sync(folder.parent)
        return folder
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@dataclass(frozen=True)
class CheckpointFile:
    """Where an interrupted training goes on from: one file, always whole, which the next epoch replaces."""

    path: Place

    def load(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """(tensors, description) as they were saved last; None when there is no file, or one that cannot be read:
        then the training begins anew, which costs time and nothing else. Raises BucketError: a bucket that does not
        answer is no reason to begin anew."""
        try:
            content = self.path.read_bytes()
            return load(content), json.loads(_metadata(content)["description"])
        except BucketError:
            raise
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError):
            return None

    def save(self, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> None:
        """Puts these in the place of the file."""
        put(self.path, _weights(tensors, {"description": _json(description).decode()}))

    def clear(self) -> None:
        """Removes the file, if there is one."""
        delete(self.path)


def _metadata(content: bytes) -> dict[str, str]:
    """The strings that stand in the header of a safetensors file (github.com/huggingface/safetensors, "Format")."""
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size])["__metadata__"]


def load_artifact(folder: Place) -> Artifact:
    """The artifact in `folder`, each file checked against its digest.

    Raises ArtifactError when the folder or a file is absent, altered or cut short, or of another layout; BucketError.
    """
    if isinstance(folder, Path) and not folder.is_dir():
        raise _no_folder(folder)
    try:
        model = json.loads((folder / MODEL).read_bytes(), parse_constant=_no_constant)
        layout = model["layout"]
        if layout != LAYOUT:
            raise ArtifactError(f"{folder} has layout {layout!r}; this version of stock_assets reads {LAYOUT}")
        digests, description, weights = model["sha256"], model["description"], b""
        for name, digest in digests.items():
            _require_plain(name)
            blob = (folder / name).read_bytes()
            weights = blob if name == WEIGHTS else weights
            if _digest(blob) != digest:
                raise ArtifactError(
                    f"{folder / name} was altered or cut short: its digest is not the one in {MODEL}; {RESTORE}"
                )
        tensors = load(weights)
    except BucketError:
        raise
    except FileNotFoundError as error:
        if isinstance(folder, ObjectPath) and not folder.is_dir():
            raise _no_folder(folder) from None
        raise ArtifactError(f"{folder} is incomplete: {Path(error.filename).name} is missing; {RESTORE}") from None
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError, RecursionError) as error:
        raise ArtifactError(f"{folder} holds no artifact: {error!r}; {RESTORE}") from error
    except OSError as error:
        raise disk_error(Path(str(folder)), error) from error
    extra = {name: folder / name for name in digests if name != WEIGHTS}
    return Artifact(folder, tensors, description, extra)


def _no_folder(folder: Place) -> ArtifactError:
    return ArtifactError(f"{folder} does not exist; expected the folder of a saved model; {RESTORE}")


@contextmanager
def local_artifact(folder: Place) -> Iterator[Path]:
    """A folder of this machine with the files of the artifact: `folder`, or a copy of what lies in a bucket, each file
    checked, which is removed afterwards. Raises ArtifactError, BucketError."""
    if isinstance(folder, Path):
        yield folder
        return
    artifact = load_artifact(folder)
    with tempfile.TemporaryDirectory(prefix="stock-assets-artifact-") as copy:
        for name in (MODEL, WEIGHTS, *artifact.files):
            Path(copy, name).write_bytes((folder / name).read_bytes())
        load_artifact(Path(copy))
        yield Path(copy)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{MODEL} holds {name}, which is no JSON")


def _require_plain(name: str) -> None:
    if Path(name).name != name or name in ("", ".", "..", MODEL):
        raise ArtifactError(f"{name!r} cannot be a file of an artifact; expected a plain file name")


def _is_complete(folder: Place) -> bool:
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
