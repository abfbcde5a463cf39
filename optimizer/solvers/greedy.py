"""A good selection among thousands of experts, with a bound on how much better any other can be.

Lazy greedy selects what adds most for the share of the budgets that it takes. Adding an expert
never gains more later than now, so an old gain is a bound, and few need to be looked at again.
The dual bound (`dual`) then says which experts are worth their cost at its prices: that gives two
more selections to begin with, and the experts among which swaps are tried.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from time import perf_counter

import numpy as np

from updraft.optimizer.objective import value_of
from updraft.optimizer.problem import Matrix
from updraft.optimizer.program import Program
from updraft.optimizer.routing import route
from updraft.optimizer.solution import Leaf, Proof, Solution
from updraft.optimizer.solvers.dual import Bound, Indices, minimise, surplus
from updraft.optimizer.solvers.swaps import local_search

__all__ = ["Picked", "largest_share", "lazy_greedy", "local_search", "solve", "warm_start"]

# An expert that takes less than this share of every budget is as good as free.
_FREE = 1e-9
# Old gains are looked at again in growing batches; numpy is slow at one by one.
_MOST_AT_ONCE = 32
_ROUNDING = 1e-12
# Swaps are tried among the selected and this many more, the most profitable at the dual's prices.
_SWAPPED = 500
# Shares of the energy that experts may take where answers take energy too.
_KEPT_ON = (0.2, 0.35, 0.5, 0.65, 0.8)


@dataclass(frozen=True)
class Picked:
    """What greedy picked, in that order, and how many times it worked out an expert's gain.

    Attributes:
        single: the expert that alone adds most to what greedy began with.
    """

    selected: tuple[int, ...]
    evaluations: int
    single: tuple[int, ...]


def solve(
    program: Program,
    *,
    time_limit_s: float | None = None,
    clock: Callable[[], float] = perf_counter,
) -> Solution:
    """Select by lazy greedy, bound it by the dual, and improve what was selected.

    Where answers cost energy of their own, experts are selected by what they are worth less the
    price of their answers, for some prices and some shares of the energy left for answers; what a
    selection is worth is then found by routing.

    Args:
        time_limit_s: past it, what has not begun is left out; greedy and one bound always run.
    """
    deadline = np.inf if time_limit_s is None else clock() + time_limit_s
    worth = value_of if program.query_cost is None else _routed
    quick = program.query_cost is not None or len(program.usable) <= _SWAPPED
    best = warm_start(program) if quick else _by_cost(program)
    objective = worth(program, best)
    bound = minimise(program, best, objective)
    for attempt in _guided(program, bound):
        if clock() > deadline:
            break
        selected = attempt()
        reached = worth(program, selected)
        if reached > objective:
            best, objective = selected, reached
    if program.query_cost is None and clock() <= deadline:
        best = local_search(program, best, _near(bound, len(best)))
        objective = value_of(program, best)
    return _with_proof(program, tuple(sorted(best)), objective, bound)


def warm_start(program: Program) -> tuple[int, ...]:
    """Return a good selection of few experts within milliseconds: greedy, then swaps."""
    if program.query_cost is not None:
        return max(_first(program), key=lambda selected: _routed(program, selected))
    found = [local_search(program, selected) for selected in _first(program)]
    return max(found, key=lambda selected: value_of(program, selected))


def lazy_greedy(
    program: Program,
    unit: Matrix | None = None,
    start: Sequence[int] = (),
    among: Indices | None = None,
) -> Picked:
    """Add to `start` the expert with the largest gain per unit that still fits, until none gains.

    Picks what greedy without the shortcut picks; of equals the one with the lowest index.

    Args:
        unit: (N,), what an expert counts as taking; by default its largest share of a budget.
        among: the experts to pick from; by default all that may be on.
    """
    unit = largest_share(program) if unit is None else unit
    selected = list(start)
    left = program.left(selected)
    best = _Best(program, selected)
    experts = np.setdiff1d(program.usable if among is None else among, selected)
    evaluations = len(experts)
    gains = surplus(program, experts, best.counting)
    single = (int(experts[gains.argmax()]),) if len(experts) else ()
    rates = gains / unit[experts]
    heap = [(-rate, i) for rate, i in zip(rates.tolist(), experts.tolist(), strict=True) if rate]
    heapq.heapify(heap)
    fresh: set[int] = set()  # whose gain is that with what is selected now
    at_once = 1
    while heap:
        rate, expert = heap[0]
        if expert in fresh:
            if rate >= 0:
                break
            heapq.heappop(heap)
            selected.append(expert)
            left = left - program.cost[:, expert]
            best.add(expert)
            # The next choice takes about as many looks as this one.
            at_once = min(1 + len(fresh) // 2, _MOST_AT_ONCE)
            fresh.clear()
            continue
        popped: list[int] = []
        while heap and len(popped) < at_once and heap[0][1] not in fresh:
            popped.append(heapq.heappop(heap)[1])
        experts = np.array(popped)
        experts = experts[(program.cost[:, experts] <= left[:, None]).all(axis=0)]
        evaluations += len(experts)
        rates = surplus(program, experts, best.counting) / unit[experts]
        for rate, expert in zip(rates.tolist(), experts.tolist(), strict=True):
            heapq.heappush(heap, (-rate, expert))
            fresh.add(expert)
        at_once = _MOST_AT_ONCE
    return Picked(tuple(selected), evaluations, single)


def largest_share(program: Program) -> Matrix:
    """Return (N,), the largest share of a budget that each expert takes alone."""
    rows = program.limit > 0
    share = program.cost[rows] / program.limit[rows, None]
    return np.maximum(share.max(axis=0, initial=0.0), _FREE)


class _Best:
    """The largest values of each prompt in a growing selection, as many as count.

    Attributes:
        counting: (layers, P), what a further expert must be worth, times step, to count.
    """

    def __init__(self, program: Program, selected: Sequence[int]) -> None:
        self.program = program
        prompts = program.value.shape[1]
        self.values = np.zeros((max(layer.capacity for layer in program.layers), prompts))
        self.counting = np.zeros((len(program.layers), prompts))
        for expert in selected:
            self.add(expert)

    def add(self, expert: int) -> None:
        rest = self.program.value[expert]
        for row in self.values:
            rest, row[:] = np.minimum(row, rest), np.maximum(row, rest)
        for layer, counting in zip(self.program.layers, self.counting, strict=True):
            np.multiply(self.values[layer.capacity - 1], layer.step, out=counting)


def _by_cost(program: Program) -> tuple[int, ...]:
    """Greedy per share of a budget, or the best expert alone: neither may be far off by itself."""
    picked = lazy_greedy(program)
    return max(picked.selected, picked.single, key=lambda selected: value_of(program, selected))


def _first(program: Program) -> list[tuple[int, ...]]:
    """Return selections that need no prices: greedy per share of a budget, and greedy by gain.

    The latter begins with the best expert alone.
    """
    if program.query_cost is not None:
        program = _reduced(program, 0.0, 0.5)
    orders = largest_share(program), np.ones(program.experts)
    return [lazy_greedy(program, unit).selected for unit in orders]


def _guided(program: Program, bound: Bound) -> Iterator[Callable[[], tuple[int, ...]]]:
    """Yield ways to select by the dual's prices, the quickest first.

    Greedy per priced cost; and the same, but profitable experts come before all others. Where the
    relaxation is nearly whole, the profitable are nearly the best selection.
    """
    profitable = np.flatnonzero(bound.profits > 0)
    if program.query_cost is None:
        unit = _priced(program, bound.point.prices)
        yield partial(_in_one, program, unit)
        yield partial(_in_two, program, unit, profitable)
        return
    near = _near(bound, len(profitable))
    for share in _KEPT_ON:
        reduced = _reduced(program, float(bound.point.prices[0]), share)
        unit = _priced(reduced, bound.point.prices)
        first = np.intersect1d(profitable, reduced.usable)
        within = np.intersect1d(near, reduced.usable)
        for selected in (_in_one(reduced, unit), _in_two(reduced, unit, first)):
            yield partial(local_search, reduced, selected, within)


def _near(bound: Bound, selected: int) -> Indices:
    """Return the most profitable experts, some more than are selected."""
    near = np.argsort(-bound.profits, kind="stable")[: selected + _SWAPPED]
    return near[np.isfinite(bound.profits[near])]


def _in_one(program: Program, unit: Matrix) -> tuple[int, ...]:
    return lazy_greedy(program, unit).selected


def _in_two(program: Program, unit: Matrix, first: Indices) -> tuple[int, ...]:
    before = lazy_greedy(program, unit, among=first)
    return lazy_greedy(program, unit, start=before.selected).selected


def _priced(program: Program, prices: Matrix) -> Matrix:
    """What each expert costs at these prices, and a little for budgets that have none."""
    rows = program.limit > 0
    shares = program.cost[rows] / program.limit[rows, None]
    worth = prices[rows] * program.limit[rows]
    if not worth.any():
        return largest_share(program)
    unit: Matrix = (worth + 0.05 * worth.mean()) @ shares
    return np.maximum(unit, _FREE * worth.sum())


def _reduced(program: Program, price: float, share: float) -> Program:
    """Return the program without a cost of answers: their price is taken from their value.

    Args:
        share: of row 0, that the selected experts may take; the rest is for answers.
    """
    assert program.query_cost is not None
    value = np.maximum(program.value - price * program.query_cost, 0)
    energy = replace(program.rows[0], limit=float(np.floor(share * program.rows[0].limit)))
    return replace(program, value=value, rows=(energy, *program.rows[1:]), query_cost=None)


def _routed(program: Program, selected: Sequence[int]) -> float:
    return route(program, selected).objective


def _with_proof(
    program: Program, selected: tuple[int, ...], objective: float, bound: Bound
) -> Solution:
    """Bound by the dual, or, where the budgets hardly matter, by the value of all experts."""
    all_ = np.flatnonzero(np.isfinite(bound.profits))
    everything = value_of(program, all_) * (1 + _ROUNDING)
    if everything <= bound.upper_bound:
        proof = Proof(Fraction(1), (), (Leaf(None),), Fraction(everything))
    else:
        unit, upper_bound = Fraction(bound.unit), Fraction(bound.upper_bound)
        proof = Proof(unit, (bound.point,), (Leaf(0),), upper_bound)
    return Solution(selected, objective, float(proof.bound), proof)
