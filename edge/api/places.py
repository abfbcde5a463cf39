"""Places for answers that run, and the queue of requests before them."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque

from updraft.errors import Busy, ShuttingDown

# How much the newest answer counts in what an answer usually takes.
_NEWEST = 0.2


class Place:
    """Leave to work on one request, until `free`."""

    def __init__(self, places: Places) -> None:
        self._places: Places | None = places
        self._since = time.monotonic()

    def free(self) -> None:
        """Give it back; idempotent."""
        if self._places is not None:
            places, self._places = self._places, None
            places.take_back(time.monotonic() - self._since)


class Places:
    """Gives places in the order in which requests came; lives on one event loop.

    Args:
        count: requests that are worked on at one time.
        queue_length: requests that may wait.
        wait_s: how long one waits at most.

    Attributes:
        taken: places that are not free.
    """

    def __init__(self, count: int, queue_length: int, wait_s: float) -> None:
        self.taken = 0
        self._count = count
        self._queue_length = queue_length
        self._wait_s = wait_s
        self._queue: deque[asyncio.Future[Place]] = deque()
        self._usual_s = 1.0
        self._closed = False

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._queue)

    async def take(self) -> Place:
        """Return a place, as soon as there is one.

        Raises:
            Busy: too many wait already, or it has waited too long.
            ShuttingDown: no new request is begun.
        """
        if self._closed:
            raise _shutting_down()
        if self.taken < self._count:
            return self._give()
        if len(self._queue) >= self._queue_length:
            raise self._busy(
                f"{self.taken} requests are answered and {len(self._queue)} wait, the limits of "
                "this agent ([api] max_generations, queue_length)"
            )
        turn: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await asyncio.wait((turn,), timeout=self._wait_s)
        except asyncio.CancelledError:
            self._withdraw(turn)
            raise
        if not turn.done():
            self._withdraw(turn)
            raise self._busy(f"no place became free within {self._wait_s:g} s ([api] queue_wait_s)")
        return turn.result()

    def take_back(self, held_s: float) -> None:
        """Give a place that became free to whoever has waited longest."""
        self.taken -= 1
        self._usual_s += _NEWEST * (held_s - self._usual_s)
        if self._queue:
            self._queue.popleft().set_result(self._give())

    def close(self) -> None:
        """Begin no new request: refuse who waits, and whoever comes."""
        self._closed = True
        while self._queue:
            self._queue.popleft().set_exception(_shutting_down())

    def _give(self) -> Place:
        self.taken += 1
        return Place(self)

    def _withdraw(self, turn: asyncio.Future[Place]) -> None:
        if not turn.done():
            self._queue.remove(turn)
        elif turn.exception() is None:
            turn.result().free()

    def _busy(self, message: str) -> Busy:
        ahead = (len(self._queue) + 1) / self._count
        return Busy(f"{message}; try again later", max(1, math.ceil(ahead * self._usual_s)))


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("the agent is shutting down; try again when it is back")
