"""The fleet's budgets, from a file that people may change while the coordinator runs."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from updraft.cloud.fleet.limits import FleetBudget
from updraft.devices.budgets.budget import Budget
from updraft.devices.budgets.read import read_budgets
from updraft.devices.catalog.entries import load_catalog
from updraft.errors import ConfigError

_OF_AN_ANSWER = frozenset({"first_token", "per_token"})

_log = logging.getLogger(__name__)


class FleetBudgets:
    """What the file says now; a change that makes no sense is logged and changes nothing.

    Args:
        path: None: nothing is limited.
        own_devices: file or folder that adds to the catalog.

    Raises:
        ConfigError: with every fault of the file.
    """

    def __init__(self, path: Path | None, own_devices: Path | None = None) -> None:
        self._path = path
        self._own_devices = own_devices
        self._stamp = self._look()
        self._file = None if path is None else read_budgets(path, load_catalog(self._own_devices))

    def changed(self) -> bool:
        """Read the file again where it was written; True where other budgets hold now."""
        stamp = self._look()
        if self._path is None or stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            file = read_budgets(self._path, load_catalog(self._own_devices))
        except ConfigError as error:
            _log.error("the budgets of before still hold: %s", error)
            return False
        before, self._file = self._file, file
        return file != before

    def of(self, nodes: Iterable[str]) -> FleetBudget:
        """Return what the fleet and each of these nodes may take."""
        if self._file is None:
            return FleetBudget()
        file = self._file
        each = file.fleet()
        # What all may spend together is a section of its own; how quick an answer must be is not.
        quick = {name: line for name, line in each.lines.items() if name in _OF_AN_ANSWER}
        together = Budget("total", {**quick, **file.total().lines})
        own = {node: file.budget(node) if node in file.devices else each for node in nodes}
        return FleetBudget.of(together, own)

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = None if self._path is None else self._path.stat()
        except OSError:
            return None
        return found and (found.st_mtime_ns, found.st_ino, found.st_size)
