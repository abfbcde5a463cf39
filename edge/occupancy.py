"""Which of those who share a device had it to themselves."""

from __future__ import annotations

import threading


class Occupancy:
    """Counts who is in; any thread may enter."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: set[Stay] = set()

    def enter(self) -> Stay:
        """Come in, until `Stay.end`."""
        with self._lock:
            stay = Stay(self, alone=not self._inside)
            for other in self._inside:
                other.alone = False
            self._inside.add(stay)
            return stay

    def leave(self, stay: Stay) -> None:
        """Go out; idempotent."""
        with self._lock:
            self._inside.discard(stay)


class Stay:
    """The time of one of them.

    Attributes:
        alone: nobody else was in at any moment of it.
    """

    def __init__(self, occupancy: Occupancy, alone: bool) -> None:
        self.alone = alone
        self._occupancy = occupancy

    def end(self) -> None:
        """Go out; idempotent."""
        self._occupancy.leave(self)
