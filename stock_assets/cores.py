"""How many processor cores this process may use."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_CGROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores(cgroups: Path = _CGROUPS, own_groups: Path = _OWN_GROUPS) -> int:
    """The cores of the machine that this process may run on, and that its container pays for: at least 1.

    `os.cpu_count` counts all cores of the machine, whatever the process may use of them. polars looks at the same
    files itself.
    """
    core_limit = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _folders(cgroups, own_groups) if (quota := _quota(folder)) is not None]
    return max(1, min(core_limit, int(min(quotas)))) if quotas else core_limit


def _folders(cgroups: Path, own_groups: Path) -> Iterator[Path]:
    """The control groups of this process, of version 2 and 1, each with those around it, which limit it as well."""
    yield from (cgroups, cgroups / "cpu")
    try:
        lines = own_groups.read_text().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = PurePosixPath(path.lstrip("/"))
        for around in (group, *group.parents):
            yield cgroups / "cpu" / around if controllers else cgroups / around


def _quota(group: Path) -> float | None:
    """The cores that a control group grants; None where it sets no limit, or is none."""
    try:
        granted, period = (group / "cpu.max").read_text().split()
    except FileNotFoundError:
        try:
            granted = (group / "cpu.cfs_quota_us").read_text().strip()
            period = (group / "cpu.cfs_period_us").read_text().strip()
        except FileNotFoundError:
            return None
    return None if granted in ("max", "-1") else int(granted) / int(period)
