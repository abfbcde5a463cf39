"""Emulated devices with a budget of their own for the day, kept by the agent's own governor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from updraft.benchmarks.budgets.play import Answer, Day
from updraft.benchmarks.budgets.scenario import NEW_TOKENS, PROMPT_TOKENS, EmulatedNode
from updraft.devices.budgets.budget import Budget, Line, Origin
from updraft.devices.budgets.costs import Costs
from updraft.devices.budgets.ledger import Ledger
from updraft.devices.budgets.point import OperatingPoint
from updraft.edge.governor import Governor
from updraft.models.manifest import Manifest

# Of what each node's answers took on a day without budgets of its own.
SHARE = 0.6

_DAY_S = 86_400.0
_MIDNIGHT_S = 20_000 * _DAY_S


class DayClock:
    """Time of a compressed day: midnight until the first prompt, then faster than real time.

    It stops just before the next midnight: prompts that still wait must not be answered from the
    budget of another day.
    """

    def __init__(self, day_s: float) -> None:
        self._speed = _DAY_S / day_s
        self._began: float | None = None

    def begin(self) -> None:
        """Let the day begin, if it has not."""
        if self._began is None:
            self._began = monotonic()

    def __call__(self) -> float:
        """Return seconds since 1970."""
        passed_s = 0.0 if self._began is None else monotonic() - self._began
        return _MIDNIGHT_S + min(self._speed * passed_s, _DAY_S - 1)


def governor(
    node: EmulatedNode, manifest: Manifest, daily_j: float, clock: DayClock, ledger: Path
) -> Governor:
    """Return what keeps a node's energy of the day; requests beyond it are refused."""
    line = Line("energy_per_day", daily_j, "refuse", Origin("benchmark", 1, f"device.{node.name}"))
    answer_j = node.prompt_j + NEW_TOKENS * node.per_token_j
    point = OperatingPoint(
        mode="full",
        exit_layer=manifest.architecture.layers,
        draft_length=0,
        power_mode="",
        quality=1.0,
        first_token_ms=node.first_token_ms,
        token_ms=node.per_token_ms,
        token_j=answer_j / NEW_TOKENS,
        power_w=node.active_w,
    )
    budget = Budget(node.name, {line.name: line})
    return Governor(budget, Ledger(ledger, clock), [point], Costs(PROMPT_TOKENS, NEW_TOKENS))


def allowances(day: Day) -> dict[str, float]:
    """Return a budget for each node that answered: a share of what its answers took."""
    spent = spent_j(day.answers)
    return {node: SHARE * joules for node, joules in spent.items()}


def spent_j(answers: Sequence[Answer]) -> dict[str, float]:
    """Return what the answers of each node took."""
    total: dict[str, float] = {}
    for answer in answers:
        if answer.node:
            total[answer.node] = total.get(answer.node, 0.0) + answer.energy_j
    return total


@dataclass(frozen=True)
class Allowed:
    """A day on which each node had a budget of its own.

    Attributes:
        daily_j: the budgets.
    """

    daily_j: Mapping[str, float]
    day: Day

    def over_requests(self, node: str) -> float:
        """Return how far a node went over its budget, in its largest answers."""
        over_j = spent_j(self.day.answers).get(node, 0.0) - self.daily_j[node]
        own = [answer.energy_j for answer in self.day.answers if answer.node == node]
        return max(0.0, over_j) / max(own, default=math.inf)
