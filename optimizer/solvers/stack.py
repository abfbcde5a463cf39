"""A program in whole numbers, as the exact solver works on it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from updraft.optimizer.problem import Matrix
from updraft.optimizer.program import Program
from updraft.optimizer.solvers.presolve import alike

Whole = NDArray[np.integer]

_MOST_DECIMALS = 9
# How far from whole a product of decimals may come out of floating point, in units.
_ALMOST = 1e-9
_ULPS = 4 * np.finfo(np.float64).eps
_ROUNDED_BITS = 40
# Values looked at before all of them: enough to tell most numbers of decimals.
_GLANCE = 64


@dataclass(frozen=True, eq=False)
class Stack:
    """What each expert adds for each prompt, layer upon layer, in whole multiples of `unit`.

    Attributes:
        gain: (layers, N, P), step · value / unit; int32 where sums over prompts stay in it.
            P counts groups of like prompts here.
        count: (P,), how many prompts each group has; group: (prompts,), where each belongs.
        capacity: (layers,), how many experts of a prompt count in a layer.
        share: (K, N), cost as a share of its row's `measure`.
        query: (N, P), an answer's share of row 0; None where answers are free.
        exact: whether `gain` is what the program says. Otherwise it is rounded up, so that every
            bound holds, and is larger by less than one part in 2^39 of the largest gain each.
    """

    program: Program
    gain: Whole
    count: Whole
    group: NDArray[np.intp]
    capacity: NDArray[np.int64]
    unit: Fraction
    share: Matrix
    query: NDArray[np.float64] | None
    exact: bool

    @property
    def prompts(self) -> int:
        """P, the number of prompts."""
        return self.gain.shape[2]

    @property
    def grouped(self) -> bool:
        """Whether any prompts are alike."""
        return len(self.count) < len(self.group)

    @property
    def least_step(self) -> float:
        """By how much, in units, two different objectives differ at least; 0 if not known."""
        return 1.0 if self.exact and self.query is None else 0.0


def stack(program: Program) -> Stack:
    """Scale a program to whole numbers, exactly where its values are decimals."""
    first, group = alike(program)
    steps = np.array([layer.step for layer in program.layers])
    each = program.value if len(first) == len(group) else program.value[:, first]
    values = steps[:, None, None] * each
    unit, scaled, exact = _whole(values, fine=program.query_cost is not None)
    total = int(scaled.max(initial=0)) * len(group)
    dtype = np.int32 if total < 2**31 else np.int64
    shares = program.cost / program.measure[:, None]
    query = None
    if program.query_cost is not None:
        query = program.query_cost[:, first] / program.measure[0]
    capacity = np.array([layer.capacity for layer in program.layers], dtype=np.int64)
    # One expert's gains side by side in memory: the descent reads them in this order.
    gain: Whole = np.ascontiguousarray(scaled, dtype=dtype)
    count = np.bincount(group).astype(dtype)
    return Stack(program, gain, count, group, capacity, unit, shares, query, exact)


def _whole(values: Matrix, *, fine: bool) -> tuple[Fraction, Matrix, bool]:
    """`fine` asks for steps so small that rounding u to them costs nothing."""
    most = float(values.max(initial=0))
    glance = values.reshape(-1)[:_GLANCE]
    for decimals in range(0 if fine else _MOST_DECIMALS + 1):
        if not _almost_whole(glance * 10.0**decimals):
            continue
        scaled = values * 10.0**decimals
        if _almost_whole(scaled):
            return Fraction(1, 10**decimals), np.rint(scaled, out=scaled), True
    exponent = _ROUNDED_BITS - int(np.ceil(np.log2(most or 1.0)))
    unit = Fraction(2) ** -exponent
    return unit, np.ceil(np.ldexp(values, exponent)), False


def _almost_whole(values: Matrix) -> bool:
    off = np.abs(values - np.rint(values))
    if float(off.max(initial=0)) <= _ALMOST:
        return True
    return bool((off <= _ALMOST + _ULPS * np.abs(values)).all())
