"""Keeps an expert as its role says: ready or parked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from updraft.edge.expert import Expert
from updraft.errors import UpdraftError

# After a load that failed, the next try.
_AGAIN_S = 5.0
# A parked expert that the device itself has woken is parked again after this time.
_PARK_AGAIN_S = 60.0

_log = logging.getLogger(__name__)


class Readiness:
    """Loads and parks in a thread; lives on the node's event loop.

    Attributes:
        ready: the expert can start on an answer at once.
        failed: it could not be loaded; that is tried again.
        running: answers that it works on, which parking waits for.
    """

    def __init__(self, expert: Expert, on_change: Callable[[], None]) -> None:
        self.ready = False
        self.failed = False
        self.running = 0
        self._expert = expert
        self._on_change = on_change
        self._on: bool | None = None
        self._told = asyncio.Event()

    def take_role(self, on: bool) -> None:
        """Take a role; it is followed in the background."""
        self._on = on
        self._told.set()

    def end_one(self) -> None:
        """Count an answer that has ended."""
        self.running -= 1
        if not self.running:
            self._told.set()

    async def follow(self) -> None:
        """Do what the role says, for ever; cancel it to end."""
        while True:
            wait_s = None
            if self._on and not self.ready:
                wait_s = await self._load()
            elif self._on is False and not self.running:
                wait_s = await self._park()
            try:
                await asyncio.wait_for(self._told.wait(), wait_s)
            except asyncio.TimeoutError:
                continue
            self._told.clear()

    async def _load(self) -> float | None:
        try:
            await asyncio.to_thread(self._expert.load)
        except UpdraftError as error:
            _log.error("the expert cannot be made ready, next try in %g s: %s", _AGAIN_S, error)
            self.failed = True
        else:
            self.ready, self.failed = True, False
        self._on_change()
        return _AGAIN_S if self.failed else None

    async def _park(self) -> float:
        # Told first, so that no work comes meanwhile.
        if self.ready:
            self.ready = False
            self._on_change()
        await asyncio.to_thread(self._expert.park)
        return _PARK_AGAIN_S
