"""The name of the code that made a training or a publication."""

import subprocess
from importlib.metadata import version as installed
from pathlib import Path


def code_version(commit: str | None, changes: str | None, package: str) -> str:
    """The name of the code that made a training: the commit, with +dirty where the tree has changes, or the version of
    the package. `commit` is None outside a clone or without git.

    >>> code_version("abc", " M file", "1.0"), code_version(None, None, "1.0")
    ('abc+dirty', '1.0')
    """
    if not commit:
        return package
    return f"{commit}+dirty" if changes else commit


def read_code_version(folder: Path) -> str:
    """`code_version` of the clone whose root is `folder`; an installed package inside somebody else's clone is none."""
    root = _git(folder, "rev-parse", "--show-toplevel")
    package = installed("stock_assets")
    if root is None or Path(root).resolve() != folder.resolve():
        return package
    return code_version(_git(folder, "rev-parse", "HEAD"), _git(folder, "status", "--porcelain"), package)


def _git(folder: Path, *arguments: str) -> str | None:
    """The output of git, None where git is absent or fails."""
    try:
        answer = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, timeout=30)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
