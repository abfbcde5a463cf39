"""The figures to reach, and whether they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from updraft.models.card import Table

Verdict = Literal["met", "in the median only", "missed", "not measured"]


@dataclass(frozen=True)
class Goal:
    """One figure to reach, in every run.

    Attributes:
        values: one a run; infinite where a run did not do what the goal asks for.
        at_least: whether more is better.
    """

    name: str
    wanted: float
    unit: str
    values: Sequence[float]
    at_least: bool = False

    @property
    def median(self) -> float:
        """The middle run."""
        return median(self.values)

    @property
    def worst(self) -> float:
        """The worst run."""
        return min(self.values) if self.at_least else max(self.values)

    @property
    def verdict(self) -> Verdict:
        """Met when the worst run meets it."""
        if not self.values:
            return "not measured"
        if self._is_met_by(self.worst):
            return "met"
        return "in the median only" if self._is_met_by(self.median) else "missed"

    def as_figures(self) -> dict[str, Any]:
        """Return the goal for programs."""
        measured = {"median": self.median, "worst": self.worst} if self.values else {}
        return {
            "goal": self.name,
            "wanted": self.wanted,
            "at_least": self.at_least,
            "unit": self.unit,
            "n": len(self.values),
            **measured,
            "verdict": self.verdict,
        }

    def as_row(self) -> tuple[str, ...]:
        """Return the goal as a row of the table."""
        shown = (
            [_show(v, self.unit) for v in (self.median, self.worst)] if self.values else ["", ""]
        )
        sign = "≥" if self.at_least else "≤"
        wanted = f"{sign} {_show(self.wanted, self.unit)}"
        return (self.name, wanted, *shown, str(len(self.values)), self.verdict)

    def _is_met_by(self, value: float) -> bool:
        return value >= self.wanted if self.at_least else value <= self.wanted


def goal_table(goals: Sequence[Goal]) -> Table:
    """Return all goals with what was reached."""
    return Table(
        "Figures to reach",
        ("figure", "wanted", "median", "worst", "runs", ""),
        [goal.as_row() for goal in goals],
        "Met: by the worst run. ∞: a run that did not prove its answer, or whose certificate was "
        "refused.",
    )


def _show(value: float, unit: str) -> str:
    if value == float("inf"):
        return "∞"
    if unit == "%":
        return f"{100 * value:.3g}%"
    return f"{value:.3g} {unit}".rstrip()
