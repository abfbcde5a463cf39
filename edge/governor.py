"""Keeps a device's budget around its generations: asked before each, told after each."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol, cast

from updraft.devices.budgets.admission import Admission, Admitted, Wait
from updraft.devices.budgets.budget import UNITS, Budget, LineName, OnExhausted
from updraft.devices.budgets.controller import Controller, Spending
from updraft.devices.budgets.costs import Cost, Costs, Measured
from updraft.devices.budgets.entry import Entry
from updraft.devices.budgets.ledger import Ledger
from updraft.devices.budgets.point import OperatingPoint
from updraft.devices.usage import Usage
from updraft.edge.engine import Engine
from updraft.edge.generation import Generation
from updraft.edge.request import STOPPING_MODES, GeneratedToken, GenerationRequest, Mode
from updraft.errors import BudgetExceeded, LedgerError, ProbeError

# A point is chosen anew after each answer, and before a request after so long.
_CHOOSE_S = 1.0
# How often a request that waits looks whether there is room.
_LOOK_AGAIN_S = 0.05

_log = logging.getLogger(__name__)


class PowerModes(Protocol):
    """What can change the device's clocks."""

    def set(self, name: str) -> Any:
        """Change to a mode by its name.

        Raises:
            ProbeError: it cannot be.
        """


@dataclass(frozen=True)
class Limits:
    """What becomes of requests that a budget holds up.

    Attributes:
        queue_length: requests that may wait at one time, where a line says `queue`.
        queue_wait_s: how long one waits at most.
        on_ledger_fault: what happens while what is spent cannot be written down.
    """

    queue_length: int = 16
    queue_wait_s: float = 30.0
    on_ledger_fault: Literal["serve", "refuse"] = "serve"


@dataclass(frozen=True)
class Ticket:
    """Leave to work on a request: `start` it and `follow` it, or `release` it.

    Attributes:
        request: how it is to be worked on.
        started_at: by the ledger's clock; `began_s` by that which measures latency.
    """

    request: GenerationRequest
    admitted: Admitted
    prompt_tokens: int
    started_at: float
    began_s: float
    request_id: str


class Governor:
    """Owns the ledger, admission and the controller of one device; any thread may call it.

    A request that names no mode works at the controller's point. One that does keeps it, unless a
    line is exhausted and says otherwise.

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
        idle_w: float = 0.0,
        limits: Limits | None = None,
        power: PowerModes | None = None,
    ) -> None:
        self.budget = budget
        self.ledger = ledger
        self.admission = Admission(budget, ledger, idle_w)
        self._costs = costs
        self._idle_w = idle_w
        self._limits = limits or Limits()
        self._power = power
        self._lock = threading.Lock()  # of the controller
        self._controller = Controller(points, budget, costs, idle_w)
        self._clocks = ThreadPoolExecutor(1, "power-mode")
        self._power_mode: str | None = None
        self._point: OperatingPoint | None = None
        self._chosen_at = 0.0
        self._turn = asyncio.Lock()  # waiting requests go in the order in which they came
        self._queued = 0

    def point(self) -> OperatingPoint:
        """Return the point at which requests are worked on now."""
        return self._point_at(self.ledger.now())

    def _point_at(self, now: float) -> OperatingPoint:
        if self._point is None or not 0 <= now - self._chosen_at < _CHOOSE_S:
            self._choose(now)
        assert self._point is not None, "it was chosen"
        return self._point

    def _choose(self, now: float) -> None:
        at = self.ledger.standing()
        power_w = self._idle_w + at.window_j / self.ledger.window_s
        spending = Spending(power_w, at.today.usage.energy_j, self.ledger.day_left_s())
        with self._lock:
            point = self._controller.point(now, spending)
            self._point, self._chosen_at = point, now
            if self._power is not None and point.power_mode != self._power_mode:
                self._power_mode = point.power_mode
                self._clocks.submit(self._set_power_mode, self._power, point.power_mode)

    @property
    def exhausted(self) -> bool:
        """Whether a line that ends in refusal has nothing left."""
        left = self.admission.left()
        return any(
            left.get(name, 1.0) <= 0
            for name, line in self.budget.lines.items()
            if line.on_exhausted == "refuse"
        )

    def try_admit(
        self, request: GenerationRequest, prompt_tokens: int, *, own_mode: bool
    ) -> Ticket | Wait:
        """Reserve what a request takes and say how to work on it; takes microseconds.

        Args:
            own_mode: the request chose its mode itself.

        Raises:
            BudgetExceeded: the budget refuses it.
            LedgerError: nothing is served while what is spent cannot be written down.
        """
        self._check_ledger()
        now = self.ledger.now()
        point = self._point_at(now)
        own_mode = own_mode or not _may_work(request, point)
        if own_mode:
            point = self._nearest(point, request)

        def others(action: OnExhausted) -> Iterator[Cost]:
            for other in self._others(point, request, action):
                yield self._cost(other, request, prompt_tokens)

        try:
            admitted = self.admission.admit(self._cost(point, request, prompt_tokens), others)
        except BudgetExceeded as refusal:
            with self._lock:
                self._controller.refused(refusal.line, self.ledger.now())
            raise
        if isinstance(admitted, Wait):
            return admitted
        if admitted.because is not None or not own_mode:
            request = _at(request, admitted.cost.point)
        return Ticket(
            request,
            admitted,
            prompt_tokens,
            now,
            time.perf_counter(),
            uuid.uuid4().hex,
        )

    async def admit(
        self, request: GenerationRequest, prompt_tokens: int, *, own_mode: bool
    ) -> Ticket:
        """Do as `try_admit`, and wait for room where the budget says to queue.

        Raises:
            BudgetExceeded: the budget refuses it, the queue is full, or it has waited too long.
            LedgerError: see `try_admit`.
        """
        if self._queued == 0 or self._queued >= self._limits.queue_length:
            # Where the queue is full, who would have to wait is refused.
            found = self.try_admit(request, prompt_tokens, own_mode=own_mode)
            if isinstance(found, Ticket):
                return found
            if self._queued >= self._limits.queue_length:
                raise found.refusal
        deadline = time.monotonic() + self._limits.queue_wait_s
        self._queued += 1
        try:
            async with self._turn:
                while True:
                    found = self.try_admit(request, prompt_tokens, own_mode=own_mode)
                    if isinstance(found, Ticket):
                        return found
                    if time.monotonic() >= deadline:
                        raise found.refusal
                    await asyncio.sleep(_LOOK_AGAIN_S)
        finally:
            self._queued -= 1

    def admit_or_sleep(
        self, request: GenerationRequest, prompt_tokens: int, *, own_mode: bool
    ) -> Ticket:
        """Do as `admit`, for a program that answers one request at a time.

        Raises:
            BudgetExceeded: the budget refuses it, or it has waited too long.
            LedgerError: see `try_admit`.
        """
        deadline = time.monotonic() + self._limits.queue_wait_s
        while True:
            found = self.try_admit(request, prompt_tokens, own_mode=own_mode)
            if isinstance(found, Ticket):
                return found
            if time.monotonic() >= deadline:
                raise found.refusal
            time.sleep(_LOOK_AGAIN_S)

    def start(self, engine: Engine, ticket: Ticket, prompt: list[int]) -> Generation:
        """Start an admitted request; go through it with `follow`.

        Raises:
            RequestError: it can never be served as asked; what was reserved is given back.
        """
        try:
            return engine.start(ticket.request, prompt)
        except BaseException:
            self.release(ticket)
            raise

    def follow(self, ticket: Ticket, generation: Generation) -> Iterator[GeneratedToken]:
        """Iterate as `Generation.settled`, and record what was spent, however it ends."""
        first_ms: float | None = None
        try:
            for token in generation.settled():
                if first_ms is None:
                    first_ms = 1e3 * (time.perf_counter() - ticket.began_s)
                yield token
        finally:
            self.settle(ticket, generation, first_ms)

    def settle(self, ticket: Ticket, generation: Generation, first_token_ms: float | None) -> None:
        """Record what a generation took, however it ended; writes to the disk."""
        result = generation.result
        seconds = result.total_s or time.perf_counter() - ticket.began_s
        usage = Usage(
            1e3 * seconds,
            result.energy.joules,
            result.uplink_bytes,
            result.downlink_bytes,
            result.cloud_positions,
        )
        tokens, now = len(result.tokens), self.ledger.now()
        try:
            self.ledger.record(
                Entry(
                    ticket.request_id,
                    ticket.started_at,
                    now,
                    usage,
                    tokens,
                    first_token_ms,
                    result.mode,
                    result.energy.method,
                )
            )
        finally:
            self.release(ticket)
        point = ticket.admitted.cost.point
        if result.degraded or point.mode != ticket.request.mode:
            return  # says nothing about the point
        measured = Measured(
            point,
            ticket.prompt_tokens,
            ticket.request.max_tokens,
            tokens,
            usage,
            first_token_ms,
        )
        with self._lock:
            self._controller.observe(measured, now)
        self._choose(now)

    def release(self, ticket: Ticket) -> None:
        """Give back what was reserved; for requests that nothing was spent on. Idempotent."""
        self.admission.settle(ticket.admitted)

    def statement(self, ticket: Ticket) -> dict[str, Any]:
        """Return what an answer says of the budget: what is left, and what it has changed."""
        said: dict[str, Any] = {"left": _rounded(self.admission.left())}
        if (because := ticket.admitted.because) is not None:
            said["changed_by"] = {"line": because.name, "on_exhausted": because.on_exhausted}
        if self.ledger.fault is not None:
            said["ledger_fault"] = self.ledger.fault
        return said

    def state(self) -> dict[str, Any]:
        """Return everything about the budget, as `GET /v1/budget` shows it."""
        today, left = self.ledger.today(), self.admission.left()
        return {
            "device": self.budget.device,
            "lines": [
                {
                    "name": name,
                    "limit": line.limit,
                    "unit": UNITS[name],
                    "on_exhausted": line.on_exhausted,
                    "window_s": line.window_s,
                    "from": str(line.origin),
                    "left": _rounded(left).get(name),
                }
                for name, line in self.budget.lines.items()
            ],
            "today": {
                "requests": today.requests,
                "tokens": today.tokens,
                **asdict(today.usage),
                "left_s": round(self.ledger.day_left_s()),
            },
            "reserved": asdict(self.admission.reserved()),
            "waiting": self._queued,
            "point": asdict(self.point()),
            "ledger": {
                "path": None if self.ledger.path is None else str(self.ledger.path),
                "fault": self.ledger.fault,
                "warning": self.ledger.warning,
            },
        }

    def close(self) -> None:
        """Write down what is not yet written; idempotent."""
        self._clocks.shutdown()
        self.ledger.close()

    def _check_ledger(self) -> None:
        if self._limits.on_ledger_fault == "serve" or self.ledger.fault is None:
            return
        self.ledger.flush()
        if self.ledger.fault is not None:
            raise LedgerError(
                f'{self.ledger.fault}; on_ledger_fault = "refuse" lets nothing be spent until '
                "it can be written down"
            )

    def _cost(self, point: OperatingPoint, request: GenerationRequest, prompt: int) -> Cost:
        with self._lock:
            return self._costs.cost(point, prompt, request.max_tokens)

    def _nearest(self, point: OperatingPoint, request: GenerationRequest) -> OperatingPoint:
        """Return the point that a request works at which chose its mode itself."""
        clocks = [p for p in self._controller.points if p.power_mode == point.power_mode]
        same = [p for p in clocks if p.mode == request.mode]
        if same:
            wanted = request.exit_layer or max(p.exit_layer for p in same)
            return min(same, key=lambda p: abs(p.exit_layer - wanted))
        # Nothing was predicted for this mode: begin with the dearest, and learn.
        dearest = max(clocks, key=lambda p: p.token_j)
        return replace(dearest, mode=request.mode)

    def _others(
        self, point: OperatingPoint, request: GenerationRequest, action: OnExhausted
    ) -> list[OperatingPoint]:
        """Return how else a request could be worked on, best first."""
        clocks = [p for p in self._controller.points if p.power_mode == point.power_mode]
        alone = [p for p in clocks if p.mode == "standalone" and _may_work(request, p)]
        alone.sort(key=lambda p: -p.exit_layer)
        if action == "standalone":
            return alone
        return [p for p in alone if p.exit_layer < point.exit_layer or p.token_j < point.token_j]

    def _set_power_mode(self, power: PowerModes, name: str) -> None:
        try:
            power.set(name)
        except ProbeError as error:
            _log.warning("power mode %s: %s; the clocks stay as they are", name, error)
            self._power = None


def _may_work(request: GenerationRequest, point: OperatingPoint) -> bool:
    """Whether a request allows the mode of a point."""
    if request.stop_at is None:
        return True
    return point.mode in STOPPING_MODES and (
        request.on_stop == "abstain" or point.mode != "standalone"
    )


def _at(request: GenerationRequest, point: OperatingPoint) -> GenerationRequest:
    """Return a request as it is worked on at a point."""
    return replace(
        request,
        mode=cast("Mode", point.mode),
        exit_layer=point.exit_layer if point.mode == "standalone" else None,
        draft_length=request.draft_length or point.draft_length or None,
    )


def _rounded(left: Mapping[LineName, float]) -> dict[LineName, float]:
    return {name: round(value, 6) for name, value in left.items()}
