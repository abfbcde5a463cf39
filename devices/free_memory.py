"""Memory that a process can still take, as the system says."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from updraft.errors import ProbeError


def free_bytes(root: Path = Path("/")) -> int:
    """Return what is left of the machine's memory and of every control group around this process.

    Args:
        root: of the system's files; another one in tests, and for a foreign tree.

    Raises:
        ProbeError: the system does not say what is free.
    """
    return min([_line(root / "proc/meminfo", "MemAvailable"), *_left_in_groups(root)])


def resident_bytes(root: Path = Path("/")) -> int:
    """Return the memory that this process holds.

    Raises:
        ProbeError: the system does not say.
    """
    return _line(root / "proc/self/status", "VmRSS")


def _line(path: Path, wanted: str) -> int:
    """Return the bytes that a line such as `MemAvailable:  123 kB` of a file tells."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ProbeError(f"{path}: cannot be read: {error}") from error
    for line in lines:
        name, _, value = line.partition(":")
        amount, _, unit = value.strip().partition(" ")
        if name == wanted and amount.isdigit() and unit.strip() == "kB":
            return 1024 * int(amount)
    raise ProbeError(f"{path}: has no line '{wanted}: N kB'")


def _left_in_groups(root: Path) -> list[int]:
    """Return the bytes left in each control group that has a limit; a file may well be missing."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    left = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if not controllers:  # version 2
            top, limit, usage, cache = "", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            top, limit, usage = "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cache = "total_inactive_file"
        else:
            continue
        mount, inner = root / "sys/fs/cgroup" / top, PurePosixPath(group.lstrip("/"))
        for folder in (inner, *inner.parents):
            most, used = _number(mount / folder / limit), _number(mount / folder / usage)
            if most is not None and used is not None:
                # What was read of files is given up before anything fails.
                freed = _stat(mount / folder / "memory.stat", cache)
                left.append(max(0, most - max(0, used - freed)))
    return left


def _number(path: Path) -> int | None:
    """Return the number in a file; None where it has none, such as `max`."""
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdigit() else None


def _stat(path: Path, name: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return 0
    values = (line.split() for line in lines)
    return next((int(v[1]) for v in values if len(v) == 2 and v[0] == name and v[1].isdigit()), 0)
