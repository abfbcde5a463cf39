"""Leaves a server alone that has just failed, so that nobody waits for its timeouts."""

from __future__ import annotations

import random
from collections.abc import Callable
from time import monotonic

from updraft.errors import LinkBroken

_FAILURES = 3
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0


class Breaker:
    """Opens after three failures in a row; after a pause one request may try, then all or none.

    The pause doubles from 0.5 s to 30 s while the tries fail.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._pause_s = _FIRST_PAUSE_S
        self._until = 0.0
        self._reason = ""

    @property
    def closed(self) -> bool:
        """Whether requests go through."""
        return self._failures < _FAILURES

    def check(self) -> None:
        """Let a request through, or refuse it.

        Raises:
            LinkBroken: the server has failed and is left alone for a while.
        """
        if self.closed:
            return
        left_s = self._until - self._clock()
        if left_s > 0:
            raise LinkBroken(f"{self._reason}; it is tried again in {left_s:.1f} s")
        self._begin_pause()  # this one tries; others wait for what becomes of it

    def failed(self, reason: str) -> None:
        """Note a failure, and what it was."""
        self._failures += 1
        self._reason = reason
        if self._failures == _FAILURES:
            self._begin_pause()

    def succeeded(self) -> None:
        """Note that the server answers."""
        self._failures, self._pause_s = 0, _FIRST_PAUSE_S

    def _begin_pause(self) -> None:
        self._until = self._clock() + self._pause_s * random.uniform(0.75, 1.25)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
