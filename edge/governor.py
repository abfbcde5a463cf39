"""Keeps a device's budget around its generations: asked before each, told after each."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from updraft.devices.budgets.admission import Admission, Wait
from updraft.devices.budgets.budget import Budget, OnExhausted
from updraft.devices.budgets.costs import Cost, Costs, Measured
from updraft.devices.budgets.entry import Entry
from updraft.devices.budgets.ledger import Ledger
from updraft.devices.budgets.point import OperatingPoint
from updraft.edge import statement
from updraft.edge.engine import Engine
from updraft.edge.generation import Generation
from updraft.edge.request import GeneratedToken, GenerationRequest
from updraft.edge.steering import PowerModes, Steering
from updraft.edge.ticket import Ticket, at_point, may_work
from updraft.edge.waiting import Waiting
from updraft.errors import BudgetExceeded, LedgerError


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
        self._limits = limits or Limits()
        self._steering = Steering(budget, ledger, points, costs, idle_w, power)
        self._waiting = Waiting(self._limits.queue_length, self._limits.queue_wait_s)

    def point(self) -> OperatingPoint:
        """Return the point at which requests are worked on now."""
        return self._steering.point(self.ledger.now())

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
        steering, now = self._steering, self.ledger.now()
        point = steering.point(now)
        own_mode = own_mode or not may_work(request, point)
        if own_mode:
            point = steering.nearest(point, request)

        def others(action: OnExhausted) -> Iterator[Cost]:
            for other in steering.others(point, request, action):
                yield steering.cost(other, request, prompt_tokens)

        try:
            admitted = self.admission.admit(steering.cost(point, request, prompt_tokens), others)
        except BudgetExceeded as refusal:
            steering.refused(refusal.line, self.ledger.now())
            raise
        if isinstance(admitted, Wait):
            return admitted
        if admitted.because is not None or not own_mode:
            request = at_point(request, admitted.cost.point)
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
        return await self._waiting.admit(
            lambda: self.try_admit(request, prompt_tokens, own_mode=own_mode)
        )

    def admit_or_sleep(
        self, request: GenerationRequest, prompt_tokens: int, *, own_mode: bool
    ) -> Ticket:
        """Do as `admit`, for a program that answers one request at a time.

        Raises:
            BudgetExceeded: the budget refuses it, or it has waited too long.
            LedgerError: see `try_admit`.
        """
        return self._waiting.sleep(
            lambda: self.try_admit(request, prompt_tokens, own_mode=own_mode)
        )

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
        usage = result.usage
        if not result.total_s:  # it did not come to its end
            usage = replace(usage, latency_ms=1e3 * (time.perf_counter() - ticket.began_s))
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
        self._steering.observe(measured, now)

    def release(self, ticket: Ticket) -> None:
        """Give back what was reserved; for requests that nothing was spent on. Idempotent."""
        self.admission.settle(ticket.admitted)

    def statement(self, ticket: Ticket) -> dict[str, Any]:
        """Return what an answer says of the budget: what is left, and what it has changed."""
        return statement.with_answer(self.admission, self.ledger, ticket.admitted.because)

    def state(self) -> dict[str, Any]:
        """Return everything about the budget, as `GET /v1/budget` shows it."""
        return statement.state(
            self.budget, self.admission, self.ledger, self.point(), self._waiting.count
        )

    def close(self) -> None:
        """Write down what is not yet written; idempotent."""
        self._steering.close()
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
