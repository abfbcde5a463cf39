"""How many cores this process may compute on."""

from __future__ import annotations

import os
from math import ceil
from pathlib import Path


def usable_cores(root: Path = Path("/")) -> int:
    """Count the cores that this process may use: two threads of one core are one.

    A control group's limit on processor time counts too: where it allows two cores' worth, more
    threads than two would only wait for each other.

    Args:
        root: of the system's files.
    """
    try:
        mine = os.sched_getaffinity(0)
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1
    cores = {_core(root, cpu) for cpu in mine}
    return max(1, min(len(cores), _quota(root)))


def _core(root: Path, cpu: int) -> str:
    """Return what a processor has in common with the others of its core."""
    topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
    try:
        return (topology / "thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _quota(root: Path) -> int:
    """Return how many cores' worth of time the control group may take."""
    try:
        limit, period = (root / "sys/fs/cgroup/cpu.max").read_text().split()
        return ceil(int(limit) / int(period))
    except (OSError, ValueError):  # no control group, or "max"
        return len(os.sched_getaffinity(0))
