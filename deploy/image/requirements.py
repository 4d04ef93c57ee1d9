"""What the image installs, read from pyproject.toml, so that the large layer changes with that file alone.

python3 requirements.py team,cloud          prints the dependencies, those of these extras too
python3 requirements.py --require-variant cpu   ends with 1 where the torch that is installed is another one
"""

import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path


def requirements(extras: str, pyproject: Path) -> list[str]:
    """The dependencies of the package and of its `extras`, separated by commas. Raises SystemExit for an unknown one.

    >>> requirements("fast", Path("pyproject.toml"))
    Traceback (most recent call last):
    SystemExit: the extra fast is not in pyproject.toml; expected some of alpaca, ...
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    known, lines = project["optional-dependencies"], list(project["dependencies"])
    for extra in filter(None, extras.split(",")):
        if extra not in known:
            raise SystemExit(f"the extra {extra} is not in {pyproject.name}; expected some of {', '.join(known)}")
        lines += known[extra]
    return lines


def complaint(variant: str, names: set[str]) -> str | None:
    """What is wrong with the installed packages `names` for a `variant`, cpu or cuda; None where nothing is.

    >>> complaint("cpu", {"torch"}), complaint("cuda", {"torch", "nvidia-cublas"})
    (None, None)
    >>> print(complaint("cpu", {"torch", "nvidia-cublas"}))
    VARIANT=cpu, and torch brought CUDA (nvidia-cublas); name an index with torch's CPU wheels in the secret pip.conf
    """
    if variant not in ("cpu", "cuda"):
        return f"VARIANT={variant}; expected cpu or cuda"
    cuda = sorted(name for name in names if name.startswith("nvidia-"))
    if variant == "cpu" and cuda:
        advice = "name an index with torch's CPU wheels in the secret pip.conf"
        return f"VARIANT=cpu, and torch brought CUDA ({cuda[0]}); {advice}"
    if variant == "cuda" and not cuda:
        return "VARIANT=cuda, and torch came without CUDA; the secret pip.conf names an index of CPU wheels"
    return None


if __name__ == "__main__":
    if sys.argv[1] == "--require-variant":
        sys.exit(complaint(sys.argv[2], {each.metadata["Name"].lower() for each in distributions()}))
    print("\n".join(requirements(sys.argv[1], Path("pyproject.toml"))))
