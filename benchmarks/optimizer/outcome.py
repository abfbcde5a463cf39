"""What one solver made of one instance."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """One run.

    Attributes:
        seconds: of CPU, on one thread.
        proved: the bound meets the objective.
        check_s: CPU seconds of the certificate's check; None: the solver gives none.
    """

    solver: str
    seconds: float
    objective: float
    upper_bound: float
    limit_s: float
    proved: bool
    check_s: float | None = None

    @classmethod
    def of(
        cls,
        solver: str,
        seconds: float,
        objective: float,
        upper_bound: float,
        limit_s: float,
        tolerance: float,
    ) -> Outcome:
        proved = upper_bound - objective <= tolerance * max(1.0, objective)
        return cls(solver, seconds, objective, upper_bound, limit_s, proved)

    @property
    def gap(self) -> float:
        """(UB − LB) / LB."""
        return gap(self.objective, self.upper_bound)


def gap(objective: float, upper_bound: float) -> float:
    """Return (UB − LB) / LB: small where little is missing from what was found."""
    missing = upper_bound - objective
    return missing / objective if missing > 0 else 0.0


def headroom_gap(objective: float, upper_bound: float, of_all: float) -> float:
    """Return (UB − LB) / (F(all) − LB): small only where little is left to gain.

    F(all) is a bound itself, and counts where it is the lower one.
    """
    missing = min(upper_bound, of_all) - objective
    return missing / (of_all - objective) if missing > 0 else 0.0
