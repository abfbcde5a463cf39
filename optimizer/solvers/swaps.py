"""Improve a selection by exchanging one expert for another, as long as that gains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from updraft.optimizer.objective import value_of
from updraft.optimizer.problem import Matrix
from updraft.optimizer.program import Program
from updraft.optimizer.solvers.dual import Indices

_ROUNDS = 20
# Gains below this share of the value may be rounding.
_LEAST_GAIN = 1e-9
_FREE = 1e-9


def local_search(
    program: Program,
    selected: Sequence[int],
    candidates: Indices | None = None,
    rounds: int = _ROUNDS,
) -> tuple[int, ...]:
    """Swap a selected expert for a better candidate, and fill up, until nothing gains.

    For each selected expert in turn, all candidates are compared at once: the gain of a candidate
    changes only at the prompts that the expert serves, so only those are looked at.

    Args:
        candidates: experts that may come in; by default all that may be on.
        rounds: how often at most each selected expert is tried.

    Returns:
        A selection worth at least as much, which keeps the budgets if `selected` does.
    """
    within = program.usable if candidates is None else candidates
    search = _Search(program, np.union1d(within, list(selected)).astype(np.intp), selected)
    for _ in range(rounds):
        filled = search.fill()
        swapped = [search.swap(expert) for expert in np.flatnonzero(search.inside).tolist()]
        if not filled and not any(swapped):
            break
    found = tuple(int(expert) for expert in search.experts[search.inside])
    # The search adds up differences, which round; what it found is compared in full.
    if value_of(program, found) < value_of(program, tuple(selected)):
        return tuple(selected)
    return found


class _Search:
    """A selection among some experts, and what each expert outside would add to it.

    Attributes:
        experts: (n,), which experts of the program take part; positions below refer to these.
        value: (P, n).
        best: (depth + 1, P), the largest selected values of each prompt, one more than counts.
        gain: (n,), what adding each would add.
    """

    def __init__(self, program: Program, experts: Indices, selected: Sequence[int]) -> None:
        self.layers = program.layers
        self.limit = program.limit
        self.experts = experts
        self.value = np.ascontiguousarray(program.value[experts].T)
        self.cost = np.ascontiguousarray(program.cost[:, experts])
        rows = self.limit > 0
        share = (self.cost[rows] / self.limit[rows, None]).max(axis=0, initial=0.0)
        self.unit = np.maximum(share, _FREE)
        self.inside = np.isin(experts, list(selected))
        self.used = self.cost[:, self.inside].sum(axis=1)
        depth = max(layer.capacity for layer in self.layers)
        self.best = self._largest(np.arange(len(self.value)), depth + 1)
        self.gain = self._counted(self.value, self.best)
        worth = sum(layer.step * self.best[: layer.capacity].sum() for layer in self.layers)
        self.least = _LEAST_GAIN * worth

    def fill(self) -> bool:
        """Add the candidate with the largest gain per share of a budget, while one fits."""
        filled = False
        while True:
            outside = np.flatnonzero(~self.inside & (self.gain > self.least))
            fits = (self.cost[:, outside] <= (self.limit - self.used)[:, None]).all(axis=0)
            outside = outside[fits]
            if not len(outside):
                return filled
            self._move(int(outside[(self.gain[outside] / self.unit[outside]).argmax()]), None)
            filled = True

    def swap(self, out: int) -> bool:
        """Exchange one selected expert for the candidate with the largest gain, if that gains."""
        gain = self.gain.copy()
        for layer in self.layers:
            counts, without = self.best[layer.capacity - 1], self.best[layer.capacity]
            served = np.flatnonzero(self.value[:, out] > without)
            low, high = without[served, None], counts[served, None]
            freed = np.clip(self.value[served], low, high) - low
            gain += layer.step * freed.sum(axis=0)
        better = np.flatnonzero(~self.inside & (gain > gain[out] + self.least))
        left = self.limit - self.used + self.cost[:, out]
        better = better[(self.cost[:, better] <= left[:, None]).all(axis=0)]
        if not len(better):
            return False
        self._move(int(better[gain[better].argmax()]), out)
        return True

    def _move(self, into: int, out: int | None) -> None:
        """Change the selection, and the gains at the prompts whose best values change."""
        last = self.best[-1]
        changes = self.value[:, into] > last
        self.inside[into] = True
        self.used = self.used + self.cost[:, into]
        if out is not None:
            changes |= (self.value[:, out] >= last) & (self.value[:, out] > 0)
            self.inside[out] = False
            self.used = self.used - self.cost[:, out]
        prompts = np.flatnonzero(changes)
        before = self.best[:, prompts]
        after = self._largest(prompts, len(self.best))
        self.best[:, prompts] = after
        value = self.value[prompts]
        self.gain += self._counted(value, after) - self._counted(value, before)

    def _counted(self, value: Matrix, best: Matrix) -> Matrix:
        """Return (n,), what each expert adds to these prompts."""
        found = np.zeros(value.shape[1])
        for layer in self.layers:
            over = value - best[layer.capacity - 1][:, None]
            found += layer.step * np.maximum(over, 0, out=over).sum(axis=0)
        return found

    def _largest(self, prompts: NDArray[np.intp], depth: int) -> Matrix:
        """Return (depth, prompts), the largest selected values, the largest first."""
        inside = np.flatnonzero(self.inside)
        values = self.value[np.ix_(prompts, inside)]
        found = np.zeros((depth, len(prompts)))
        kept = min(depth, len(inside))
        if kept < len(inside):
            values = np.partition(values, len(inside) - kept, axis=1)[:, -kept:]
        found[:kept] = -np.sort(-values, axis=1).T
        return found
