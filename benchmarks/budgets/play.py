"""One compressed day under one planner and one budget: what was answered, and what it took."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic, sleep

import numpy as np

from updraft.benchmarks.budgets.day import HOURS, Arrival, agreement
from updraft.benchmarks.budgets.scenario import NEW_TOKENS
from updraft.benchmarks.budgets.stage import Stage
from updraft.edge.asking import FleetClient
from updraft.errors import UpdraftError

_MOST_AT_ONCE = 64
_ANSWER_TIMEOUT_S = 20


@dataclass(frozen=True)
class Budgets:
    """What the fleet may take in a run; None is no limit.

    Attributes:
        power_w: of all nodes together, on average.
        window_s: over which the power is averaged.
        per_token_ms: of each answer.
    """

    power_w: float | None
    window_s: float
    per_token_ms: float

    def as_toml(self) -> str:
        """Return the file of budgets that the coordinator reads."""
        quick = f'[fleet]\nper_token = "{self.per_token_ms:g} ms"\n'
        if self.power_w is None:
            return quick
        power = f'limit = "{self.power_w:.3f} W", window = "{self.window_s:g} s"'
        return f"{quick}[total]\naverage_power = {{ {power} }}\n"


@dataclass(frozen=True)
class Answer:
    """One prompt of the day and what became of it.

    Attributes:
        hour: in which it came.
        quality: of the expert that answered, on this prompt; 0 where there was no answer.
        agreement: share of the reference's text that the answer gives before it first differs.
        latency_ms: from when it came to the last token, or to the error, waiting included.
        attempts: nodes that failed at it.
        error: why there was no answer; empty where there was.
    """

    hour: int
    domain: str
    quality: float = 0.0
    agreement: float = 0.0
    latency_ms: float = 0.0
    tokens: int = NEW_TOKENS
    node: str = ""
    expert: str = ""
    energy_j: float = 0.0
    attempts: int = 0
    error: str = ""


@dataclass(frozen=True)
class Day:
    """A day that was played.

    Attributes:
        power_w: mean of all nodes in each hour, standby and answers.
        planning_s: of the plan that was in force at the end.
        plans: version of that plan.
    """

    policy: str
    budgets: Budgets
    seconds: float
    answers: list[Answer]
    power_w: list[float]
    planning_s: float
    plans: int
    gap: float

    @property
    def quality(self) -> float:
        """Mean over all prompts; those without an answer count as 0."""
        return float(np.mean([answer.quality for answer in self.answers]))

    @property
    def energy_j(self) -> float:
        return float(np.mean(self.power_w)) * self.seconds

    @property
    def lost(self) -> int:
        """Prompts without an answer."""
        return sum(bool(answer.error) for answer in self.answers)

    @property
    def hours_in_power(self) -> list[bool]:
        """Whether each hour kept the budget of power."""
        limit = self.budgets.power_w
        return [limit is None or power <= limit for power in self.power_w]

    @property
    def hours_in_time(self) -> list[bool]:
        """Whether the answers of each hour kept the budget of latency, on average."""
        limit = self.budgets.per_token_ms
        found = []
        for hour in range(HOURS):
            spans = [
                answer.latency_ms / answer.tokens
                for answer in self.answers
                if answer.hour == hour and not answer.error
            ]
            found.append(not spans or float(np.mean(spans)) <= limit)
        return found


def play(
    stage: Stage,
    policy: str,
    budgets: Budgets,
    day: Sequence[Arrival],
    day_s: float,
    at_noon: Callable[[], None] | None = None,
) -> Day:
    """Play a day of prompts on a fleet.

    Args:
        at_noon: called in the middle of the day, in a thread of its own.
    """
    with stage.coordinator(policy, budgets.as_toml(), len(day) / day_s) as client:
        started = monotonic()
        broken_off = threading.Event()
        with ThreadPoolExecutor(_MOST_AT_ONCE + 1) as threads:
            try:
                noon = threads.submit(_at, started + day_s / 2, at_noon, broken_off)
                waiting = []
                for arrival in day:
                    due = started + arrival.at_s
                    sleep(max(0.0, due - monotonic()))
                    hour = min(HOURS - 1, int(arrival.at_s / day_s * HOURS))
                    waiting.append(threads.submit(_ask, client, arrival, hour, due))
                sleep(max(0.0, started + day_s - monotonic()))
                answers = [answer.result() for answer in waiting]
                noon.result()
            except BaseException:  # nobody waits for the rest of the day
                broken_off.set()
                threads.shutdown(wait=False, cancel_futures=True)
                client.close()
                raise
        plan = client.plan()
        edges = started + np.linspace(0, day_s, HOURS + 1)
        power_w = np.diff(stage.spent_j(edges)) / (day_s / HOURS)
    return Day(
        policy, budgets, day_s, answers, power_w.tolist(),
        plan["planning_s"], plan["version"], plan["gap"],
    )  # fmt: skip


def _at(moment: float, act: Callable[[], None] | None, broken_off: threading.Event) -> None:
    if act is not None and not broken_off.wait(max(0.0, moment - monotonic())):
        act()


def _ask(client: FleetClient, arrival: Arrival, hour: int, due: float) -> Answer:
    asked = arrival.asked
    try:
        answered = client.answer(asked.prompt, NEW_TOKENS, timeout_s=_ANSWER_TIMEOUT_S)
    except UpdraftError as error:
        waited_ms = 1e3 * (monotonic() - due)
        return Answer(hour, asked.domain, latency_ms=waited_ms, error=f"{error.code}: {error}")
    ended = answered.ended
    return Answer(
        hour,
        asked.domain,
        asked.quality[ended.routed.expert],
        agreement(answered.text, asked.reference),
        1e3 * (monotonic() - due),
        max(1, answered.tokens),
        ended.routed.node,
        ended.routed.expert,
        ended.usage["energy_j"],
        ended.routed.attempt,
    )
