"""The exact solver: best-first branch and bound with dual bounds, and a proof of what it found.

Each part of the search is bounded by a descent in the dual (`descent`), which starts where the
part above it ended. Experts whose profit alone exceeds the gap are fixed. Of those whose profit is
nearest to zero, about whom the dual tells least, the part is split at the one that takes the
largest share of a budget, which decides most about the others.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from fractions import Fraction
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from updraft.optimizer.objective import value_of
from updraft.optimizer.problem import Matrix
from updraft.optimizer.program import Program
from updraft.optimizer.routing import route
from updraft.optimizer.solution import Fix, Leaf, Proof, Solution, Split
from updraft.optimizer.solvers.descent import Descent, Pace, Part, Start, descend
from updraft.optimizer.solvers.greedy import local_search, warm_start
from updraft.optimizer.solvers.presolve import dominated
from updraft.optimizer.solvers.replan import fits, take_up
from updraft.optimizer.solvers.stack import Stack, Whole, stack
from updraft.optimizer.solvers.tree import Node, Points

Experts = NDArray[np.int64]

# On decimals, a part is closed when it cannot reach the next higher objective. The margin, in
# units, is far above what rounding does to a bound.
_MARGIN = 1e-3
# Elsewhere, when it cannot gain more than this share of the objective.
_TOLERANCE = 5e-10

_ROOT_STEPS = 300
_PART_STEPS = 30
# A part that has not come a fifth of the way to being closed after eight steps is split at once.
_PATIENCE = 8
_LEAST_SHARE = 0.8
# How far u moves at first, as a share of a prompt's largest gain, and the prices beside it, as a
# share of what one selected expert is worth.
_WIDTH = 0.01
_PRICE_WIDTH = 0.2
_START_U = 0.9
_START_PRICE = 0.5
# A part is split among the third, or at least so many, of the experts with the least profit.
_NEAR = 4
# Every how many parts the relaxation's favourites are tried as a selection.
_TRY_EVERY = 8


class _Open(NamedTuple):
    """A part that is bounded but not closed."""

    bound: float
    inside: Experts
    undecided: Experts
    start: Start
    profit: Matrix
    active: Matrix
    node: Node


def solve(
    program: Program,
    *,
    time_limit_s: float | None = None,
    clock: Callable[[], float] = perf_counter,
    warm: Solution | None = None,
) -> Solution:
    """Find the best selection and prove it; at the time limit, the best found and a bound.

    Args:
        warm: a solution of the same experts and prompts under other budgets, values or openings:
            its selection and its proof are taken up where they still hold.

    Source: MoE² (arXiv 2501.09410) for the problem; the bound is the linear relaxation's dual
    (docs/expert-selection.md). Differs: the paper bounds by monotonicity alone.
    """
    deadline = np.inf if time_limit_s is None else clock() + time_limit_s
    pairs = dominated(program) if warm is None else ()
    stacked = stack(program)
    if not stacked.gain.any():
        nothing = Proof(stacked.unit, (), (Leaf(None),), Fraction(0))
        return Solution((), 0.0, 0.0, nothing)
    search = _Search(stacked, pairs, clock, deadline)
    if warm is not None:
        search.improve(_mended(program, warm.selected))
    search.run(warm.proof if warm is not None else None)
    return search.solution()


class _Search:
    """The state of one search."""

    def __init__(
        self,
        stacked: Stack,
        pairs: tuple[tuple[int, int], ...],
        clock: Callable[[], float],
        deadline: float,
    ) -> None:
        self._stack = stacked
        self._program = stacked.program
        self._clock, self._deadline = clock, deadline
        self._dominated = pairs
        self._allowed = np.flatnonzero(stacked.program.open)
        self._points = Points(stacked)
        self._root = Node()
        self._heap: list[tuple[float, int, _Open]] = []
        self._parts = 0
        # The highest bound of a part that holds one selection only and is still above it.
        self._loosest = 0.0
        self._best: tuple[int, ...] = ()
        self._value = 0.0
        self._simple = len(stacked.capacity) == 1 and int(stacked.capacity[0]) == 1
        self._simple &= stacked.query is None
        self._share = stacked.share.max(axis=0, initial=0)
        most = stacked.gain.max(axis=1)
        self._width = (_WIDTH * most / stacked.count).astype(np.float32)

    @property
    def target(self) -> float:
        """A part whose bound is no higher holds nothing better than what is known."""
        if self._stack.least_step:
            return self._value + self._stack.least_step - _MARGIN
        return self._value * (1 + _TOLERANCE)

    def improve(self, selected: tuple[int, ...]) -> None:
        """Keep a selection that keeps the budgets, if it is the best so far."""
        self._keep(selected, self._value_of(selected))

    def _keep(self, selected: tuple[int, ...], value: float) -> None:
        if value > self._value:
            self._value, self._best = value, selected

    def run(self, earlier: Proof | None) -> None:
        """Search until all is closed or time is up."""
        gone = [j for j, _ in self._dominated]
        undecided = np.setdiff1d(self._allowed, gone)
        taken_up = (
            earlier is not None
            and fits(earlier, self._stack)
            and take_up(self, self._stack, self._points, earlier, self._root, undecided)
        )
        if not taken_up:
            self._root = Node()
            self._points.kept.clear()
            self.improve(warm_start(self._program))
            nobody = np.zeros(0, np.int64)
            self.open(self._root, nobody, undecided, self._start(), _ROOT_STEPS)
        while self._heap and self._clock() < self._deadline:
            bound, _, part = heapq.heappop(self._heap)
            if -bound <= self.target:
                # The rest is no higher; each stays in the proof with the point that bounds it.
                self._heap.clear()
                return
            self._split(part)

    def solution(self) -> Solution:
        """Return the best selection, the bound on all others, and the proof."""
        objective = self._worth(self._best)
        open_bound = max([self._loosest, *(-bound for bound, _, _ in self._heap)])
        bound = max(open_bound * (1 + 1e-12), self.target + _MARGIN / 2) + self._points.slack()
        closed = open_bound <= self.target
        proof = Proof(
            self._stack.unit,
            self._points.publish(),
            tuple(self._root.steps()),
            Fraction(bound) * self._stack.unit,
            self._dominated,
        )
        upper_bound = objective if closed else bound * float(self._stack.unit)
        return Solution(tuple(sorted(self._best)), objective, upper_bound, proof)

    @property
    def _query_free(self) -> bool:
        return self._stack.query is None

    def _value_of(self, selected: tuple[int, ...]) -> float:
        """Return a selection's value in units."""
        value = self._worth(selected) / float(self._stack.unit)
        return float(np.rint(value)) if self._stack.exact and self._query_free else value

    def _worth(self, selected: tuple[int, ...]) -> float:
        if self._query_free:
            return value_of(self._program, selected)
        return route(self._program, selected).objective

    def _start(self) -> Start:
        stacked, best = self._stack, list(self._best)
        u = np.zeros((len(stacked.capacity), stacked.prompts), stacked.gain.dtype)
        if best:
            u[:] = stacked.gain[:, best].max(axis=1) * _START_U
        rows = len(stacked.share)
        each = self._value / max(len(best), 1)
        return Start(u, np.full(rows, _START_PRICE * each / max(rows, 1)))

    def open(
        self,
        node: Node,
        inside: Experts,
        undecided: Experts,
        start: Start,
        steps: int = _PART_STEPS,
    ) -> None:
        """Bound a part: close it, or keep it for later with what can be fixed in it fixed."""
        program = self._program
        left = program.left(inside)
        undecided = undecided[(program.cost[:, undecided] <= left[:, None]).all(axis=0)]
        if self._query_free and (program.cost[:, undecided].sum(axis=1) <= left).all():
            self.improve(tuple(np.concatenate([inside, undecided]).tolist()))
            return
        part = self._part(inside, undecided, left)
        begin = Start(np.maximum(start.u, part.floor), start.prices)
        if not self._query_free:
            begin = self._nearer(part, begin)
        found = descend(self._stack, part, begin, self.target, self._pace(steps))
        node.point = self._points.keep(found.u, found.prices)
        if found.bound <= self.target:
            return
        if len(undecided):
            self._fix(node, inside, undecided, found)
        else:
            self._loosest = max(self._loosest, found.bound)

    def _fix(self, node: Node, inside: Experts, undecided: Experts, found: Descent) -> None:
        """Fix whose opposite the bound excludes, and keep what is left for later."""
        cost, target = self._program.cost, self.target
        profit, active = found.profit, found.active
        fixed_in = (profit > 0) & (found.bound - profit <= target)
        fixed_out = (profit < 0) & (found.bound + profit <= target)
        if fixed_in.any() or fixed_out.any():
            into, out = undecided[fixed_in], undecided[fixed_out]
            assert node.point is not None, "a part is fixed by its own point"
            node.fixes += (Fix(tuple(into.tolist()), tuple(out.tolist()), node.point),)
            inside = np.concatenate([inside, into])
            left = self._program.left(inside)
            if (left < 0).any():
                return
            rest = ~(fixed_in | fixed_out)
            rest[rest] = (cost[:, undecided[rest]] <= left[:, None]).all(axis=0)
            undecided, profit, active = undecided[rest], profit[rest], active[rest]
            if not len(undecided) and not self._query_free:
                self._close(node, inside, left)
                return
        self._parts += 1
        start = Start(found.u, found.prices)
        opened = _Open(found.bound, inside, undecided, start, profit, active, node)
        heapq.heappush(self._heap, (-found.bound, self._parts, opened))

    def _pace(self, steps: int) -> Pace:
        patience = _PATIENCE if steps < _ROOT_STEPS else steps
        each = self._value / max(len(self._best), 1)
        return Pace(steps, patience, _LEAST_SHARE, self._width, _PRICE_WIDTH * each)

    def _close(self, node: Node, inside: Experts, left: Matrix) -> None:
        """Bound a part that holds one selection by the dual of its routing: they are equal."""
        part = self._part(inside, inside[:0], left)
        only = self._nearer(part, self._start())
        found = descend(self._stack, part, only, self.target, Pace(1, 1, 0.0, self._width, 0.0))
        node.point = self._points.keep(found.u, found.prices)
        self._loosest = max(self._loosest, found.bound)

    def _nearer(self, part: Part, start: Start) -> Start:
        """Where answers cost energy: the dual of the best routing, if it bounds more closely.

        With nobody undecided it is the exact bound, which steps would only come near to.
        """
        stacked, program = self._stack, self._program
        assert stacked.query is not None, "answers cost energy"
        chosen = program.fill(part.undecided, part.inside.tolist())
        routing = route(program, chosen)
        self._keep(tuple(chosen), routing.objective / float(stacked.unit))
        price = routing.price * program.measure[0] / float(stacked.unit)
        prices = np.zeros(len(stacked.share))
        prices[0] = price
        worth = stacked.gain[0, chosen] - price * stacked.query[chosen]
        u = np.ceil(np.maximum(worth.max(axis=0, initial=0), 0)).astype(stacked.gain.dtype)
        routed = Start(u[None], prices)
        once = Pace(1, 1, 0.0, self._width, 0.0)
        starts = (routed, start)
        return min(starts, key=lambda at: descend(stacked, part, at, 0.0, once).bound)

    def _part(self, inside: Experts, undecided: Experts, left: Matrix) -> Part:
        stacked = self._stack
        share = left / self._program.measure
        floor: Whole = np.zeros((len(stacked.capacity), stacked.prompts), stacked.gain.dtype)
        if not self._simple:
            return Part(inside, undecided, share, floor)
        if len(inside):
            # At or above what `inside` gives, u leaves those experts no profit.
            floor = stacked.gain[:, inside].max(axis=1)
        return Part(inside[:0], undecided, share, floor)

    def _split(self, part: _Open) -> None:
        if not len(part.undecided):
            self.improve(tuple(part.inside.tolist()))
            part.node.point = None
            return
        if self._parts % _TRY_EVERY == 1:
            self._try(part)
        near = np.argsort(np.abs(part.profit))[: max(_NEAR, len(part.profit) // 3)]
        at = int(near[self._share[part.undecided[near]].argmax()])
        expert = part.undecided[at : at + 1]
        rest = np.delete(part.undecided, at)
        without, having = Node(), Node()
        part.node.split, part.node.parts = Split(int(expert[0])), (without, having)
        self.open(without, part.inside, rest, part.start)
        self.open(having, np.concatenate([part.inside, expert]), rest, part.start)

    def _try(self, part: _Open) -> None:
        """Select what the relaxation selects, most of it first, as far as the budgets go."""
        wish = part.active + 1e-6 * np.sign(part.profit)
        order = part.undecided[np.argsort(-wish, kind="stable")]
        chosen = self._program.fill(order, part.inside.tolist())
        if (value := self._value_of(tuple(chosen))) > self._value:
            self._keep(tuple(chosen), value)
            if self._query_free:
                self.improve(tuple(local_search(self._program, chosen)))


def _mended(program: Program, selected: tuple[int, ...]) -> tuple[int, ...]:
    """Leave out what is not open or does not fit any more, and use what room there is."""
    kept = [i for i in selected if program.open[i]]
    while kept and not program.fits(kept):
        without = [value_of(program, kept[:at] + kept[at + 1 :]) for at in range(len(kept))]
        del kept[int(np.argmax(without))]
    left = program.left(kept)
    room = program.open & (program.cost <= left[:, None]).all(axis=0)
    room[kept] = False
    if kept and (len(kept) < len(selected) or room.any()):
        return local_search(program, kept)
    return tuple(kept)
