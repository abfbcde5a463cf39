"""What keeps a fleet up to date without being asked: silence, budgets, drift, and the plan."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic

from updraft.cloud.fleet.budgets import FleetBudgets
from updraft.cloud.fleet.config import FleetLimits
from updraft.cloud.fleet.drift import Basis
from updraft.cloud.fleet.live import LivePlan, Planning
from updraft.cloud.fleet.outlook import Outlook
from updraft.cloud.fleet.registry import Registry
from updraft.cloud.fleet.roster import Roster
from updraft.cloud.fleet.traffic_log import TrafficLog

# Silence is looked for this many times between two beats.
_LOOKS = 4
_BUDGETS_CHECK_S = 1.0

_log = logging.getLogger(__name__)


class Upkeep:
    """Tasks on the event loop, from `start` to `close`."""

    def __init__(
        self, limits: FleetLimits, planner: Planning, traffic: TrafficLog, budgets: FleetBudgets
    ) -> None:
        self._limits = limits
        self._planner = planner
        self._traffic = traffic
        self._budgets = budgets
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, roster: Roster, registry: Registry) -> None:
        """Begin to look after a fleet; call on the event loop."""
        limits = self._limits
        live = LivePlan(
            self._planner, lambda: self._basis(registry), roster.publish, limits.settle_ms / 1000
        )
        roster.live = live
        again = (
            (lambda: roster.sweep(monotonic()), limits.beat_interval_ms / 1000 / _LOOKS),
            (lambda: self._check_budgets(live), _BUDGETS_CHECK_S),
            (live.check_drift, limits.drift_check_s),
        )
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(live.run())]
        self._tasks += [loop.create_task(_repeat(look, every_s)) for look, every_s in again]

    def observe(self, outlook: Outlook, new_tokens: int) -> None:
        """Count a prompt, as part of the traffic to plan for.

        Args:
            new_tokens: of its answer; as many as it asked for where it got none.
        """
        self._traffic.record(outlook.quality, outlook.prompt_tokens, new_tokens, monotonic())

    def close(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()

    def _basis(self, registry: Registry) -> Basis:
        """Return what there is to plan with now."""
        nodes = tuple(member.capability for member in registry if member.takes_work)
        budget = self._budgets.of(node.node for node in nodes)
        return Basis(nodes, self._traffic.traffic(monotonic()), budget)

    def _check_budgets(self, live: LivePlan) -> None:
        if self._budgets.changed():
            live.note()


async def _repeat(look: Callable[[], None], every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            look()
        except Exception:
            _log.exception("looking after the fleet failed; it is tried again")
