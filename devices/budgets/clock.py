"""A clock that notices when somebody sets it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

# A clock that moves by more than this against time that passed was set; less is its drift.
SET_S = 5.0


class Reading(NamedTuple):
    """A time, and by how many seconds the clock was set since the last reading."""

    now: float
    set_by_s: float


class WatchedClock:
    """Reads a clock; unless it is set, time never goes back.

    Args:
        clock: seconds since 1970.
        steady: seconds that pass, which nobody sets; None: a clock that is set forward looks
            like time that passed.
    """

    def __init__(
        self, clock: Callable[[], float], steady: Callable[[], float] | None = None
    ) -> None:
        self._clock = clock
        self._steady = steady
        self._last = clock()
        self._last_steady = 0.0 if steady is None else steady()

    def read(self) -> Reading:
        """Return the time now."""
        now, expected = self._clock(), self._last
        if self._steady is not None:
            steady = self._steady()
            expected += steady - self._last_steady
            self._last_steady = steady
        jump = now - expected
        if jump < -SET_S or (jump > SET_S and self._steady is not None):
            self._last = now
            return Reading(now, jump)
        self._last = max(self._last, now)
        return Reading(self._last, 0.0)
