"""What a meter reads: a sensor of watts or of joules, and files that hold one number."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from updraft.devices.catalog.device import MeterKind
from updraft.errors import ProbeError

_NUMBER_BYTES = 64


class Sensor(Protocol):
    """Something of a device that says what it draws.

    Attributes:
        kind: as the catalog calls it.
        rail: for people: what exactly is read.
        counts: a reading is joules since some moment and never less than the last; else it is
            the watts of this moment.
        most_w: more than that, or than that on average, is nonsense.
        fastest_hz: reading more often would cost more than it tells.
    """

    kind: MeterKind
    rail: str
    counts: bool
    most_w: float
    fastest_hz: float

    def read(self) -> float:
        """Return watts or joules.

        Raises:
            ProbeError: it cannot be read, or not understood.
        """
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class NumberFile:
    """A file of the system that holds one number and is read again and again.

    It stays open: the kernel makes the number anew at every read from its start, and opening it
    each time would cost more than all the rest.

    Raises:
        ProbeError: it cannot be opened; says `remedy` where permission is missing.
    """

    def __init__(self, path: Path, remedy: str = "") -> None:
        self._path = path
        self._descriptor = -1
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError as error:
            raise ProbeError(f"{path}: permission denied: {remedy}") from error
        except OSError as error:
            raise ProbeError(f"{path}: cannot be opened: {error.strerror}") from error

    def read(self) -> int:
        """Return the number.

        Raises:
            ProbeError: the file is gone, its driver fails, or it holds no whole number.
        """
        try:
            return int(os.pread(self._descriptor, _NUMBER_BYTES, 0))
        except OSError as error:
            raise ProbeError(f"{self._path}: cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise ProbeError(f"{self._path}: holds no whole number: {error}") from error

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
