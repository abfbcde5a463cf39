"""Requests that a budget lets wait until there is room."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from updraft.devices.budgets.admission import Wait
from updraft.edge.ticket import Ticket

# How often a request that waits looks whether there is room.
_LOOK_AGAIN_S = 0.05


class Waiting:
    """Asks for a ticket until there is one, in the order in which requests came.

    Args:
        length: requests that may wait at one time.
        wait_s: how long one waits at most.

    Attributes:
        count: requests that wait now.
    """

    def __init__(self, length: int, wait_s: float) -> None:
        self.count = 0
        self._length = length
        self._wait_s = wait_s
        self._turn = asyncio.Lock()

    async def admit(self, ask: Callable[[], Ticket | Wait]) -> Ticket:
        """Wait on an event loop.

        Raises:
            BudgetExceeded: as `ask` does; or too many wait, or it has waited too long.
        """
        if self.count == 0 or self.count >= self._length:
            # Where too many wait, who would have to wait is refused.
            found = ask()
            if isinstance(found, Ticket):
                return found
            if self.count >= self._length:
                raise found.refusal
        deadline = time.monotonic() + self._wait_s
        self.count += 1
        try:
            async with self._turn:
                while True:
                    if (ticket := _ask(ask, deadline)) is not None:
                        return ticket
                    await asyncio.sleep(_LOOK_AGAIN_S)
        finally:
            self.count -= 1

    def sleep(self, ask: Callable[[], Ticket | Wait]) -> Ticket:
        """Wait in a program that answers one request at a time.

        Raises:
            BudgetExceeded: as `ask` does; or it has waited too long.
        """
        deadline = time.monotonic() + self._wait_s
        while (ticket := _ask(ask, deadline)) is None:
            time.sleep(_LOOK_AGAIN_S)
        return ticket


def _ask(ask: Callable[[], Ticket | Wait], deadline: float) -> Ticket | None:
    found = ask()
    if isinstance(found, Ticket):
        return found
    if time.monotonic() >= deadline:
        raise found.refusal
    return None
