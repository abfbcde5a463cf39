"""CPU seconds: of this process, and of the solvers that it starts."""

from __future__ import annotations

import resource
from collections.abc import Callable
from time import process_time
from typing import TypeVar

T = TypeVar("T")


def timed(act: Callable[[], T]) -> tuple[float, T]:
    """Return the CPU seconds that a call took in this process, and what it returned."""
    started = process_time()
    result = act()
    return process_time() - started, result


def children_cpu_s() -> float:
    """Return the CPU seconds of all child processes that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime
