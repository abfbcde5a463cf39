"""The best selection for any monotone value, also where experts are worth more together.

Discrete monotonic optimisation on {0, 1}^N, as MoE² proposes, as a best-first branch and bound
with cover branching. Its only bound is that nothing is worth more than all that may still be on,
so it needs nothing of the value but that one more expert never lowers it. Meant for up to 30
experts; where all are worth about the same, 25 take seconds. `exact` goes further where experts do
not add to each other.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from updraft.errors import ProblemError
from updraft.optimizer.objective import value_of
from updraft.optimizer.problem import Matrix
from updraft.optimizer.program import Program

Mask = NDArray[np.bool_]
Oracle = Callable[[Mask], NDArray[np.float64]]

# Of the objective: below this, two values differ only by the rounding of their sums.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class CoverResult:
    """The best selection found; none is worth more than `upper_bound`.

    Attributes:
        evaluations: selections that the oracle was asked for.
    """

    selected: tuple[int, ...]
    objective: float
    upper_bound: float
    evaluations: int


def oracle_of(program: Program) -> Oracle:
    """Return value(S) of a program as an oracle, budgets aside.

    Raises:
        ProblemError: answers have a cost of their own. An expert more then leaves less to pay
            for answers, so the value is not monotone.
    """
    if program.query_cost is not None:
        raise ProblemError(
            ["cover branching needs a value that no expert lowers: leave query_energy_j out"]
        )

    def values(masks: Mask) -> NDArray[np.float64]:
        return np.array([value_of(program, np.flatnonzero(mask)) for mask in masks])

    return values


def maximise(
    oracle: Oracle,
    cost: Matrix,
    limit: Matrix,
    *,
    open: Mask | None = None,  # noqa: A002  # as in Program
    incumbent: Sequence[int] = (),
    time_limit_s: float | None = None,
    clock: Callable[[], float] = perf_counter,
) -> CoverResult:
    """Find the selection within the budgets that is worth most to a monotone oracle.

    Args:
        oracle: takes (M, N) selections and returns their (M,) values. Adding an expert must
            never lower the value; nothing else is asked of it. Where it does, that is an error
            if the search comes across it; if not, the best may be missed.
        cost: (K, N), whole numbers >= 0, so that their sums are exact.
        limit: (K,).
        open: (N,), whether an expert may be on at all; by default all may.
        incumbent: a selection to start from, which keeps the budgets.
        time_limit_s: after this the best so far is returned, with the bound that is proved.

    Raises:
        ProblemError: `incumbent` breaks a budget or is not open, a value is not finite, or a
            selection is worth less than a part of it.
    """
    deadline = None if time_limit_s is None else clock() + time_limit_s
    return _Search(oracle, cost, limit, open, incumbent).run(deadline, clock)


class _Part(NamedTuple):
    """All selections that have `inside` on and, beyond it, only experts of `rest`.

    Each expert of `rest` fits beside `inside`.
    """

    inside: Mask
    rest: Mask


class _Search:
    """One run of the branch and bound: the oracle, the budgets and the best so far."""

    def __init__(
        self,
        oracle: Oracle,
        cost: Matrix,
        limit: Matrix,
        open_: Mask | None,
        incumbent: Sequence[int],
    ) -> None:
        self.oracle, self.cost, self.limit = oracle, cost, limit
        self.open = np.ones(cost.shape[1], dtype=bool) if open_ is None else open_
        self.evaluations = 0
        # How much of its scarcest budget an expert takes; with a limit of 0 it takes nothing.
        some = np.broadcast_to(limit[:, None] > 0, cost.shape)
        share = np.divide(cost, limit[:, None], out=np.zeros(cost.shape), where=some)
        self.share = share.max(axis=0, initial=0)
        self.best = np.zeros(cost.shape[1], dtype=bool)
        self.best[list(incumbent)] = True
        if not self.fits(self.best) or (self.best & ~self.open).any():
            start = _names(self.best)
            raise ProblemError([f"start from a selection that is open and fits, not {start}"])
        self.objective = float(self.ask(self.best[None])[0])

    def run(self, deadline: float | None, clock: Callable[[], float]) -> CoverResult:
        """Split the part with the largest bound until none promises more than the best."""
        number = itertools.count()
        parts: list[tuple[float, int, _Part]] = []

        def add(part: _Part, bound: float) -> None:
            union = part.inside | part.rest
            if bound <= self.objective:
                return
            if self.fits(union):
                self.best, self.objective = union, bound
            else:
                # Among equal bounds the latest first: it is the deepest.
                heapq.heappush(parts, (-bound, -next(number), part))

        nothing = np.zeros_like(self.best)
        everything = self.fitting(nothing, self.open)
        bound = float(self.ask(everything[None])[0])
        self.confirm(everything, bound, self.best[None], np.array([self.objective]))
        add(_Part(nothing, everything), bound)
        while parts and -parts[0][0] - self.objective > _ROUNDING * max(1.0, self.objective):
            if deadline is not None and clock() >= deadline:
                break
            negative, _, part = heapq.heappop(parts)
            for child, bound in self.split(part, -negative):
                add(child, bound)
        upper = max(self.objective, -parts[0][0]) if parts else self.objective
        selected = tuple(int(expert) for expert in np.flatnonzero(self.best))
        return CoverResult(selected, self.objective, upper, self.evaluations)

    def split(self, part: _Part, bound: float) -> list[tuple[_Part, float]]:
        """Return the children of a part, and what bounds each."""
        union = part.inside | part.rest
        rest = np.flatnonzero(part.rest)
        without = np.repeat(union[None], len(rest), axis=0)
        without[np.arange(len(rest)), rest] = False
        worth = self.ask(without)
        self.confirm(union, bound, without, worth)
        known = {mask.tobytes(): float(value) for mask, value in zip(without, worth, strict=True)}

        # What costs most of both comes first: without it the bound drops most, and beside it the
        # least fits. Measured against value, cost and value per cost.
        order = np.lexsort((-self.share[rest], -(bound - worth) * self.share[rest]))
        children = self.children(part, rest[order])
        unions = [child.inside | child.rest for child in children]
        new = np.array([mask for mask in unions if mask.tobytes() not in known])
        if len(new):
            worth = self.ask(new)
            self.confirm(union, bound, new, worth)
            known |= {mask.tobytes(): float(value) for mask, value in zip(new, worth, strict=True)}
        return [
            (child, known[mask.tobytes()]) for child, mask in zip(children, unions, strict=True)
        ]

    def children(self, part: _Part, order: NDArray[np.intp]) -> list[_Part]:
        """Branch on a cover: experts r1, r2, … of `rest` that do not all fit beside `inside`.

        One of them must be out, so the parts are: r1 out; r1 in and r2 out; r1 and r2 in and
        r3 out; … With each one that comes in, what no longer fits beside it drops out; as soon
        as all that remains fits together, it is the best of the last part.
        """
        inside, rest = part.inside.copy(), part.rest.copy()
        found = []
        for expert in order:
            if not rest[expert]:
                continue
            rest[expert] = False
            found.append(_Part(inside.copy(), rest.copy()))
            inside[expert] = True
            rest = self.fitting(inside, rest)
            if self.fits(inside | rest):
                break
        found.append(_Part(inside, rest))
        return found

    def fits(self, selected: Mask) -> bool:
        return bool((self.cost[:, selected].sum(axis=1) <= self.limit).all())

    def fitting(self, inside: Mask, rest: Mask) -> Mask:
        """Return those of `rest` that each fit beside `inside`."""
        left = self.limit - self.cost[:, inside].sum(axis=1)
        kept: Mask = rest & (self.cost <= left[:, None]).all(axis=0)
        return kept

    def ask(self, masks: Mask) -> NDArray[np.float64]:
        values = np.asarray(self.oracle(masks), dtype=np.float64)
        self.evaluations += len(masks)
        if values.shape != (len(masks),):
            raise ProblemError(
                [f"the oracle gave values of shape {values.shape} for {len(masks)} selections"]
            )
        if not np.isfinite(values).all():
            wrong = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ProblemError(
                [f"the oracle gave {values[wrong]} for the selection {_names(masks[wrong])}"]
            )
        return values

    def confirm(self, whole: Mask, value: float, parts: Mask, worth: NDArray[np.float64]) -> None:
        """Check that no part of a selection is worth more than the whole."""
        most = int(worth.argmax())
        if worth[most] - value > _ROUNDING * max(1.0, abs(value)):
            raise ProblemError(
                [
                    f"the value is not monotone: selection {_names(parts[most])} is worth "
                    f"{worth[most]:g}, and with more experts, {_names(whole)}, only {value:g}; "
                    "cover branching needs a value that no expert lowers"
                ]
            )


def _names(mask: Mask) -> list[int]:
    return [int(expert) for expert in np.flatnonzero(mask)]
