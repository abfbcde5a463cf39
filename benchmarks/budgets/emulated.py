"""An emulated device: a real expert at the pace and the power that its node declares."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, sleep

from updraft.benchmarks.budgets.allowance import DayClock
from updraft.benchmarks.budgets.scenario import PROMPT_TOKENS, EmulatedNode
from updraft.devices.meters.meter import Energy
from updraft.edge.engine import Engine
from updraft.edge.expert import Answer, EngineExpert, Give, Work
from updraft.edge.governor import Governor
from updraft.models.bundle import Bundle
from updraft.models.runtime import RuntimeOptions


class EmulatedMeter:
    """Draws `active_w` while anything is answered, and `standby_w` while the expert is ready.

    Answers at the same time share what they draw evenly; standby is no answer's.
    """

    def __init__(
        self, active_w: float, standby_w: float, clock: Callable[[], float] = monotonic
    ) -> None:
        self.method = f"emulated: {active_w:.3g} W above idle while the device answers"
        self.idle_w = standby_w
        self._active_w = active_w
        self._clock = clock
        self._lock = threading.Lock()
        self._on = False
        self._open = 0
        self._since = clock()
        self._spent_j = self._share_j = 0.0

    @property
    def spent_j(self) -> float:
        """Everything that the device drew since it was made, standby included."""
        with self._lock:
            self._advance()
            return self._spent_j

    def switch(self, on: bool) -> None:
        """Take note of whether the expert is ready."""
        with self._lock:
            self._advance()
            self._on = on

    def begin(self, busy_s: Callable[[], float] | None = None) -> _Span:
        with self._lock:
            self._advance()
            self._open += 1
            return _Span(self, self._share_j)

    def power_w(self) -> float:
        return self._on * self.idle_w + bool(self._open) * self._active_w

    def close(self) -> None:
        """Nothing to stop."""

    def end(self, share_j: float) -> Energy:
        """End a span that began at `share_j`."""
        with self._lock:
            self._advance()
            self._open -= 1
            return Energy(self._share_j - share_j, self.method)

    def _advance(self) -> None:
        now = self._clock()
        elapsed_s = now - self._since
        self._spent_j += self.power_w() * elapsed_s
        if self._open:
            self._share_j += self._active_w * elapsed_s / self._open
        self._since = now


@dataclass(frozen=True)
class _Span:
    meter: EmulatedMeter
    share_j: float

    def end(self, busy_s: float) -> Energy:
        return self.meter.end(self.share_j)


class EmulatedExpert:
    """An expert whose tokens come no sooner than the emulated device would give them.

    Args:
        governor: keeps the device's own budget; none: there is none.
        clock: of that budget's day, which begins with the first prompt.
    """

    def __init__(
        self,
        node: EmulatedNode,
        bundle: Bundle,
        governor: Governor | None = None,
        clock: DayClock | None = None,
    ) -> None:
        self.meter = EmulatedMeter(node.active_w, node.standby_w)
        self._node = node
        self._clock = clock
        self._engine = Engine(bundle, RuntimeOptions(), self.meter, whole_model=True)
        self._expert = EngineExpert(self._engine, "full", governor)

    @property
    def exhausted(self) -> bool:
        """Whether its budget of the day is used up."""
        return self._expert.exhausted

    def load(self) -> None:
        """Make ready."""
        self._expert.load()
        self.meter.switch(on=True)

    def park(self) -> None:
        """Give up what being ready takes."""
        self._expert.park()
        self.meter.switch(on=False)

    def answer(self, work: Work, give: Give, cancelled: threading.Event) -> Answer:
        """Answer a request at the device's pace."""
        if self._clock is not None:
            self._clock.begin()
        node, tokens = self._node, len(self._engine.tokenizer.encode(work.prompt))
        due = monotonic() + node.first_token_ms / 1e3 * tokens / PROMPT_TOKENS

        def give_in_time(text: str) -> None:
            nonlocal due
            sleep(max(0.0, due - monotonic()))
            due += node.per_token_ms / 1e3
            give(text)

        return self._expert.answer(work, give_in_time, cancelled)
