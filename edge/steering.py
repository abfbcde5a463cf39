"""The operating point of a device: chosen anew all the time, its clocks set accordingly."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Protocol

from updraft.devices.budgets.budget import Budget, OnExhausted
from updraft.devices.budgets.controller import Controller, Spending
from updraft.devices.budgets.costs import Cost, Costs, Measured
from updraft.devices.budgets.ledger import Ledger
from updraft.devices.budgets.point import OperatingPoint
from updraft.edge.request import GenerationRequest
from updraft.edge.ticket import may_work
from updraft.errors import ProbeError

# A point is chosen anew after each answer, and before a request after so long.
_CHOOSE_S = 1.0

_log = logging.getLogger(__name__)


class PowerModes(Protocol):
    """What can change the device's clocks."""

    def set(self, name: str) -> Any:
        """Change to a mode by its name.

        Raises:
            ProbeError: it cannot be.
        """


class Steering:
    """Owns the controller of a device and what it learns of costs; any thread may call it.

    Args:
        points: to choose from; at least one.
        costs: knows for what lengths the points are.
        idle_w: what the device draws doing nothing.
        power: changes clocks; None: they stay as they are.
    """

    def __init__(
        self,
        budget: Budget,
        ledger: Ledger,
        points: Sequence[OperatingPoint],
        costs: Costs,
        idle_w: float,
        power: PowerModes | None,
    ) -> None:
        self._ledger = ledger
        self._costs = costs
        self._idle_w = idle_w
        self._power = power
        self._lock = threading.Lock()
        self._controller = Controller(points, budget, costs, idle_w)
        self._clocks = ThreadPoolExecutor(1, "power-mode")
        self._power_mode: str | None = None
        self._point: OperatingPoint | None = None
        self._chosen_at = 0.0

    def point(self, now: float) -> OperatingPoint:
        """Return the point at which requests are worked on now.

        Args:
            now: by the ledger's clock.
        """
        if self._point is None or not 0 <= now - self._chosen_at < _CHOOSE_S:
            self._choose(now)
        assert self._point is not None, "it was chosen"
        return self._point

    def cost(self, point: OperatingPoint, request: GenerationRequest, prompt_tokens: int) -> Cost:
        """Return what a request is expected to take at a point."""
        with self._lock:
            return self._costs.cost(point, prompt_tokens, request.max_tokens)

    def nearest(self, point: OperatingPoint, request: GenerationRequest) -> OperatingPoint:
        """Return the point that a request works at which chose its mode itself."""
        clocks = self._same_clocks(point)
        same = [p for p in clocks if p.mode == request.mode]
        if same:
            wanted = request.exit_layer or max(p.exit_layer for p in same)
            return min(same, key=lambda p: abs(p.exit_layer - wanted))
        # Nothing was predicted for this mode: begin with the dearest, and learn.
        dearest = max(clocks, key=lambda p: p.token_j)
        return replace(dearest, mode=request.mode)

    def others(
        self, point: OperatingPoint, request: GenerationRequest, action: OnExhausted
    ) -> list[OperatingPoint]:
        """Return how else a request could be worked on, best first."""
        clocks = self._same_clocks(point)
        alone = [p for p in clocks if p.mode == "standalone" and may_work(request, p)]
        alone.sort(key=lambda p: -p.exit_layer)
        if action == "standalone":
            return alone
        return [p for p in alone if p.exit_layer < point.exit_layer or p.token_j < point.token_j]

    def observe(self, measured: Measured, now: float) -> None:
        """Learn from an answer, and choose anew."""
        with self._lock:
            self._controller.observe(measured, now)
        self._choose(now)

    def refused(self, line: str, now: float) -> None:
        """Take note that a line of the budget has refused a request."""
        with self._lock:
            self._controller.refused(line, now)

    def close(self) -> None:
        """Let the clocks be set as was asked last; idempotent."""
        self._clocks.shutdown()

    def _choose(self, now: float) -> None:
        at = self._ledger.standing()
        power_w = self._idle_w + at.window_j / self._ledger.window_s
        spending = Spending(power_w, at.today.usage.energy_j, self._ledger.day_left_s())
        with self._lock:
            point = self._controller.point(now, spending)
            self._point, self._chosen_at = point, now
            if self._power is not None and point.power_mode != self._power_mode:
                self._power_mode = point.power_mode
                self._clocks.submit(self._set_power_mode, self._power, point.power_mode)

    def _same_clocks(self, point: OperatingPoint) -> list[OperatingPoint]:
        return [p for p in self._controller.points if p.power_mode == point.power_mode]

    def _set_power_mode(self, power: PowerModes, name: str) -> None:
        try:
            power.set(name)
        except ProbeError as error:
            _log.warning("power mode %s: %s; the clocks stay as they are", name, error)
            self._power = None
