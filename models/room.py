"""Refuse bundles that will not fit into the memory that is free, before they are loaded."""

from __future__ import annotations

import logging
from pathlib import Path

from updraft.devices.fit import Load, check
from updraft.devices.free_memory import free_bytes, resident_bytes
from updraft.errors import ProbeError
from updraft.models.bundle import Bundle
from updraft.models.workload import workload_of

_log = logging.getLogger(__name__)


def require_room(
    load: Load,
    tuned: Bundle | None = None,
    limit_bytes: float | None = None,
    root: Path = Path("/"),
) -> None:
    """Refuse what is about to be loaded where it will not fit.

    Args:
        tuned: a second bundle, whose layers below the split are loaded too.
        limit_bytes: memory that this process may take in all, where a budget limits it.
        root: of the system's files.

    Raises:
        BundleError: with what is needed, what is free, and what would fit.
    """
    try:
        free, free_is = free_bytes(root), "free"
        if limit_bytes is not None:
            left = int(limit_bytes) - resident_bytes(root)
            if left < free:
                free, free_is = left, f"left of a budget of {limit_bytes / 1e6:,.0f} MB"
    except ProbeError as error:
        _log.warning("whether the bundle fits into memory is not known: %s", error)
        return
    need = check(load, free, free_is)
    if tuned is not None:
        split = tuned.manifest.split
        beside = Load(workload_of(tuned), load.contexts, split, runtime_bytes=0)
        check(beside, free - need.total, free_is)
