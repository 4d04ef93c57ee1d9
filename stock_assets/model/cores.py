"""How many processor cores this process may use."""

import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def usable_cores(cgroups: Path = _CGROUPS) -> int:
    """The cores of the machine that this process may run on, and that its container pays for: at least 1.

    `os.cpu_count` counts all cores of the machine, whatever the process may use of them.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroups)
    return max(1, min(allowed, int(quota))) if quota else allowed


def _quota(cgroups: Path) -> float | None:
    """The cores that the control group of a container grants (version 2, then 1); None where it sets no limit."""
    try:
        granted, period = (cgroups / "cpu.max").read_text().split()
    except FileNotFoundError:
        try:
            granted = (cgroups / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroups / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except FileNotFoundError:
            return None
    return None if granted in ("max", "-1") else int(granted) / int(period)
