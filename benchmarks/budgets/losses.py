"""A node is lost in the middle of a day: what becomes of its requests."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from updraft.benchmarks.budgets.play import Answer, Day
from updraft.benchmarks.budgets.stage import Stage

# How a node is lost, and how it is made whole for the next day.
LOSSES = {
    "killed": (Stage.kill, Stage.restart),
    "hung": (Stage.hang, Stage.resume),
}


@dataclass(frozen=True)
class Loss:
    """A day on which a node was lost at noon.

    Attributes:
        how: it was lost.
    """

    how: str
    node: str
    day: Day

    @property
    def moved(self) -> list[Answer]:
        """Answers that had begun, or waited, at the node that was lost."""
        return [answer for answer in self.day.answers if answer.attempts]

    @property
    def longest_s(self) -> float:
        """The longest time that a prompt took on that day."""
        return max((answer.latency_ms for answer in self.day.answers), default=0.0) / 1e3


def busiest(day: Day) -> str | None:
    """Return the node that answered most; None where none did."""
    counted = Counter(answer.node for answer in day.answers if answer.node)
    return max(counted, key=counted.__getitem__, default=None)
