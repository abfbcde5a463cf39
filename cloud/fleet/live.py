"""The plan, kept alive: made anew when something changed, and published at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from updraft.cloud.fleet import drift
from updraft.cloud.fleet.drift import Basis
from updraft.cloud.fleet.limits import FleetBudget
from updraft.cloud.fleet.records import Capability, Plan
from updraft.cloud.fleet.traffic import Traffic

_log = logging.getLogger(__name__)


class Planning(Protocol):
    """Decides who is on; may take its time, in a thread."""

    def plan(
        self,
        nodes: Sequence[Capability],
        traffic: Traffic,
        budget: FleetBudget,
        previous: Plan | None,
        cause: str,
    ) -> Plan: ...


class LivePlan:
    """Plans whenever there is a cause; lives on the event loop, plans in a thread.

    Causes that come together, or while a plan is being made, make one plan.

    Args:
        basis: what there is to plan with, asked when a plan is made.
        publish: takes the plan to follow after every planning, though it be the same, and what
            it was made with.
        settle_s: waits this long for further causes.

    Attributes:
        current: the plan that was published last; version 0, with nobody on, before the first.
    """

    def __init__(
        self,
        planner: Planning,
        basis: Callable[[], Basis],
        publish: Callable[[Plan, Basis], None],
        settle_s: float,
    ) -> None:
        self.current = Plan(0, frozenset())
        self._planner = planner
        self._basis = basis
        self._publish = publish
        self._settle_s = settle_s
        self._planned: Basis | None = None
        self._due = asyncio.Event()

    def note(self) -> None:
        """Ask for a plan: nodes came or went, or the budget is another."""
        self._due.set()

    def check_drift(self) -> None:
        """Ask for a plan where what the last one assumed holds no longer."""
        if self._planned is not None and drift.cause(self._planned, self._basis()):
            self._due.set()

    async def run(self) -> None:
        """Plan for ever; cancel it to end."""
        while True:
            await self._due.wait()
            await asyncio.sleep(self._settle_s)
            self._due.clear()
            try:
                await self._renew()
            except Exception:
                _log.exception("a plan could not be made; the one of before stays")

    async def _renew(self) -> None:
        basis = self._basis()
        cause = drift.cause(self._planned or _nothing(basis), basis)
        self._planned = basis
        self.current = await self._plan(basis, cause)
        self._publish(self.current, basis)

    async def _plan(self, basis: Basis, cause: str) -> Plan:
        previous = self.current if self.current.version else None
        try:
            return await asyncio.to_thread(
                self._planner.plan, basis.nodes, basis.traffic, basis.budget, previous, cause
            )
        except Exception:
            # A fault in planning must not stop the fleet: who was on stays on, or else all are.
            _log.exception("planning failed (%s)", cause)
            there = frozenset(node.node for node in basis.nodes)
            return replace(
                self.current,
                version=self.current.version + 1,
                selected=self.current.selected & there or there,
                reason=f"{cause}; planning failed: who was on stays on",
            )


def _nothing(basis: Basis) -> Basis:
    """Return what there was before there were nodes."""
    return Basis((), basis.traffic, basis.budget)
