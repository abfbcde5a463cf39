"""What a solver found, and the proof that it may bring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from updraft.optimizer.program import Program


@dataclass(frozen=True, eq=False)
class Point:
    """A point (u, λ) of the dual; any point with u, λ >= 0 bounds every selection from above.

    Attributes:
        u: (layers, P), whole multiples of the proof's `unit`.
        prices: (K,), λ: objective per whole unit of each row's cost.
    """

    u: NDArray[np.integer]
    prices: NDArray[np.float64]


@dataclass(frozen=True)
class Split:
    """Two parts: first where `expert` is out, then where it is in."""

    expert: int


@dataclass(frozen=True)
class Fix:
    """`point` bounds all that differs in one of these experts; one part goes on, with them so."""

    inside: tuple[int, ...]
    outside: tuple[int, ...]
    point: int


@dataclass(frozen=True)
class Leaf:
    """`point` bounds this part; with None its bound is the value of all that may still be on."""

    point: int | None


Step = Split | Fix | Leaf


@dataclass(frozen=True, eq=False)
class Proof:
    """Why nothing is better: a binary tree over fixed experts, in the order of its visit.

    In each part, experts that no longer fit beside those that are in are out without a word.

    Attributes:
        bound: what every part is bounded by.
        dominated: pairs (j, i): expert i is worth at least as much as j for every prompt, and
            costs no more in any row, so j can be left out.
    """

    unit: Fraction
    points: tuple[Point, ...]
    tree: tuple[Step, ...]
    bound: Fraction
    dominated: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, eq=False)
class Solution:
    """A selection that keeps the budgets, and a bound on every other one."""

    selected: tuple[int, ...]
    objective: float
    upper_bound: float
    proof: Proof | None = None


class Solver(Protocol):
    """Anything that selects; it stops at the time limit with the best that it has."""

    def __call__(
        self, program: Program, *, time_limit_s: float | None, clock: Callable[[], float]
    ) -> Solution: ...
