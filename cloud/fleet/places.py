"""Places at nodes, and the bounded queue of requests that wait for one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from updraft.cloud.fleet.records import Plan
from updraft.cloud.fleet.registry import Member, Registry
from updraft.cloud.fleet.router import Ask, best, suits
from updraft.errors import LinkBusy, RequestError


class _Waiter(NamedTuple):
    ask: Ask
    place: asyncio.Future[Member]


class Places:
    """Gives places at nodes to requests, first come first served; lives on the event loop.

    Attributes:
        plan: says who is on; call `consider` after another was set.
    """

    def __init__(self, registry: Registry, max_waiting: int, wait_timeout_s: float) -> None:
        self.plan = Plan(0, frozenset())
        self._registry = registry
        self._max_waiting = max_waiting
        self._wait_timeout_s = wait_timeout_s
        self._waiting: dict[asyncio.Future[Member], _Waiter] = {}

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    async def take(self, ask: Ask, *, again: bool = False) -> Member:
        """Return the node that starts on a request; `give_back` it when the answer has ended.

        Args:
            again: a node was lost at it, so it waits even while nobody is there to serve it.

        Raises:
            RequestError: it asks for more than any node of the fleet can.
            LinkBusy: nobody can serve it now, too many wait, or none got free in time.
        """
        # Whoever waits already cannot use a place that is free now.
        member = best(ask, self._registry, self.plan)
        if member is not None:
            return self._occupy(member)
        if not again:
            self._check(ask)
        if len(self._waiting) >= self._max_waiting:
            raise LinkBusy(f"{self._max_waiting} requests wait for a node, the limit; try later")
        place: asyncio.Future[Member] = asyncio.get_running_loop().create_future()
        self._waiting[place] = _Waiter(ask, place)
        try:
            await asyncio.wait((place,), timeout=self._wait_timeout_s)
        except asyncio.CancelledError:
            if place.done():
                self.give_back(place.result())
            raise
        finally:
            self._waiting.pop(place, None)
        if not place.done():
            raise LinkBusy(
                f"no node became free within {self._wait_timeout_s:g} s: {self._state()}; try "
                "later, or let the budgets keep more nodes on"
            )
        return place.result()

    def give_back(self, member: Member) -> None:
        """Free a place; who waits longest and can use it gets it."""
        member.working -= 1
        if self._registry.get(member.name) is member:
            self.consider((member,))

    def consider(self, changed: Iterable[Member] | None = None) -> None:
        """Give free places to those who wait, after nodes or the plan changed.

        Args:
            changed: nodes that can do more than before; all of the fleet where not given.
        """
        if not self._waiting:
            return
        members = [m for m in self._registry if m.has_place] if changed is None else list(changed)
        for waiter in list(self._waiting.values()):
            members = [member for member in members if member.has_place]
            if not members:
                return
            member = best(waiter.ask, members, self.plan)
            if member is not None:
                del self._waiting[waiter.place]
                waiter.place.set_result(self._occupy(member))

    def _occupy(self, member: Member) -> Member:
        member.working += 1
        return member

    def _check(self, ask: Ask) -> None:
        if not len(self._registry):
            raise LinkBusy("no node is in the fleet; start one with [node] in its configuration")
        if any(suits(ask, member) for member in self._registry):
            return
        records = [m.capability for m in self._registry]
        tokens, context = (
            max(record.max_tokens for record in records),
            max(record.context_length for record in records),
        )
        if ask.max_tokens > tokens:
            raise RequestError(
                f"max_tokens is {ask.max_tokens}; nodes of this fleet give at most {tokens}"
            )
        if ask.prompt_tokens >= context:
            raise RequestError(
                f"the prompt has {ask.prompt_tokens} tokens; contexts of this fleet hold at most "
                f"{context}: shorten it by at least {ask.prompt_tokens - context + 1}"
            )
        raise LinkBusy(f"no node takes this request now: {self._state()}")

    def _state(self) -> str:
        members = list(self._registry)
        on = [member for member in members if member.name in self.plan.selected]
        exhausted = sum(member.beat.exhausted for member in members)
        ready = sum(member.beat.ready for member in on)
        return (
            f"{len(members)} nodes in the fleet, {len(on)} on by plan {self.plan.version}, "
            f"{ready} of them ready, {exhausted} out of their own budget"
        )
