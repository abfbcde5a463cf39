"""Taking up an earlier proof under changed budgets, values or experts.

A point of the dual bounds whatever it is asked about, so each part of the old proof is bounded
anew by its old point: most stay closed, and the search goes on in the others.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from updraft.optimizer.objective import value_of
from updraft.optimizer.solution import Fix, Leaf, Proof, Solution, Split
from updraft.optimizer.solvers.descent import Start, worths
from updraft.optimizer.solvers.stack import Stack
from updraft.optimizer.solvers.tree import Node, Points

Experts = NDArray[np.int64]

# An earlier proof is taken up if at least this share of its steps still closes or fixes something,
# and not many parts would have to be opened for those.
_LEAST_KEPT = 0.15
_MOST_REOPENED = 0.1


class Search(Protocol):
    """What taking up a proof needs of a search."""

    @property
    def target(self) -> float:
        """A part whose bound is no higher is closed."""

    def open(self, node: Node, inside: Experts, undecided: Experts, start: Start) -> None:
        """Bound a part by a descent from `start`; close it or keep it for later."""


def carry(solution: Solution, old: tuple[str, ...], new: tuple[str, ...]) -> Solution | None:
    """Say a solution in the numbers of another list of experts.

    Experts that are gone stay in the proof's tree as numbers that nobody has, so that the parts
    without them are found. None where there is no proof to carry.
    """
    if solution.proof is None:
        return None
    number = {name: at for at, name in enumerate(new)}
    where = [number.get(name, len(new) + at) for at, name in enumerate(old)]
    proof = solution.proof
    steps: list[Fix | Split | Leaf] = []
    for step in proof.tree:
        if isinstance(step, Split):
            steps.append(Split(where[step.expert]))
        elif isinstance(step, Fix):
            inside = tuple(where[i] for i in step.inside)
            steps.append(Fix(inside, tuple(where[i] for i in step.outside), step.point))
        else:
            steps.append(step)
    selected = tuple(where[i] for i in solution.selected if where[i] < len(new))
    carried = Proof(proof.unit, proof.points, tuple(steps), proof.bound)
    return Solution(selected, solution.objective, solution.upper_bound, carried)


def fits(proof: Proof, stacked: Stack) -> bool:
    """Whether a proof speaks of as many prompts, layers and budgets as this problem has."""
    levels, rows = (len(stacked.capacity), len(stacked.group)), (len(stacked.share),)
    fit = (point.u.shape == levels and point.prices.shape == rows for point in proof.points)
    return bool(proof.points) and all(fit)


def take_up(
    search: Search, stacked: Stack, points: Points, proof: Proof, root: Node, undecided: Experts
) -> bool:
    """Walk an earlier proof; keep what it still closes, and open the rest in `search`.

    Returns:
        Whether that was worth it: where much of the proof no longer holds, a new search is quicker,
        and nothing is opened.
    """
    old = _Old(stacked, points, proof, undecided)
    closed = old.closed(search.target)
    reopened: list[tuple[Node, int, int]] = []
    kept = 0
    waiting: list[Node | None] = [root]  # None: a part that no longer exists or is open already
    for at, step in enumerate(proof.tree):
        node = waiting.pop()
        if node is not None and old.overrun[at]:
            node = None
        if isinstance(step, Split):
            waiting += _halves(old, at, step, node)
            continue
        if node is not None and not closed[at]:
            reopened.append((node, at, step.point or 0))
            node = None
        kept += node is not None
        if isinstance(step, Fix):
            waiting.append(_fixed(old, at, step, node))
        elif node is not None:
            node.point = None if step.point is None else old.number(step.point)
    if kept < _LEAST_KEPT * len(proof.tree) or len(reopened) > _MOST_REOPENED * kept + 1:
        return False
    for node, at, point in reopened:
        search.open(node, *old.part(at), old.start(point))
    return True


def _halves(old: _Old, at: int, step: Split, node: Node | None) -> tuple[Node | None, Node | None]:
    """The part with an expert and the one without, which is all where that one cannot be on."""
    if node is None:
        return None, None
    if not old.free[at, step.expert : step.expert + 1].any():
        return None, node
    without, having = Node(), Node()
    node.split, node.parts = Split(step.expert), (without, having)
    return having, without


def _fixed(old: _Old, at: int, step: Fix, node: Node | None) -> Node | None:
    """The part that goes on below a fix that still holds."""
    if node is None:
        return None
    if old.missing(at, step):
        node.point = old.number(step.point)
        return None
    node.fixes += (old.fix(at, step),)
    return node


class _Old:
    """The parts of an earlier proof, one row per step of its tree, in today's program.

    Attributes:
        inside: (steps, N), who is in; free: (steps, N), who is undecided and fits beside them.
        overrun: (steps,), whether those that are in overrun a budget or may not be on.
    """

    def __init__(self, stacked: Stack, points: Points, proof: Proof, undecided: Experts) -> None:
        self._stack, self._points, self._proof = stacked, points, proof
        self._adopted = points.adopt(proof)
        self._numbers: dict[int, int] = {}
        program = stacked.program
        inside, outside = _sides(proof, program.experts)
        left = program.limit - inside @ program.cost.T
        allowed = np.zeros(program.experts, dtype=bool)
        allowed[undecided] = True
        fits = np.ones_like(outside)
        for row, cost in enumerate(program.cost):
            fits &= cost <= left[:, row : row + 1]
        self.inside = inside
        self.free = allowed & fits & ~inside & ~outside
        self.overrun = (left < 0).any(axis=1) | (inside & ~program.open).any(axis=1)
        self._left = left / program.measure

    def closed(self, target: float) -> NDArray[np.bool_]:
        """(steps,), whether a leaf's bound, or each fixed expert's opposite, is within target."""
        stacked, tree = self._stack, self._proof.tree
        at = np.array([-1 if isinstance(s, Split) or s.point is None else s.point for s in tree])
        us = [u for u, _ in self._adopted]
        prices = np.array([prices for _, prices in self._adopted])
        worth = np.array([worths(stacked, u) for u in us])
        count = stacked.count.astype(np.float64)
        base = np.array([float(stacked.capacity @ (u @ count)) for u in us])
        profit = worth[at] - (prices @ stacked.share)[at]
        bound = base[at] + (prices[at] * self._left).sum(axis=1)
        bound += (worth[at] * self.inside).sum(axis=1)
        bound += (np.maximum(profit, 0) * self.free).sum(axis=1)
        closed = (bound <= target) & (at >= 0)
        for row, step in enumerate(tree):
            if isinstance(step, Fix) and not self.missing(row, step):
                into, out = self._fixed(row, step)
                worst = bound[row] - np.append(profit[row, into], -profit[row, out])
                closed[row] = bool((worst <= target).all())
            elif isinstance(step, Leaf) and step.point is None and not self.overrun[row]:
                closed[row] = self._all(row) <= target
        return closed

    def missing(self, at: int, step: Fix) -> bool:
        """Whether someone fixed inside cannot be on now: what is left is the part without them."""
        free = self.free[at]
        return not all(i < len(free) and free[i] for i in step.inside)

    def part(self, at: int) -> tuple[Experts, Experts]:
        """Who is in and who is undecided."""
        return np.flatnonzero(self.inside[at]), np.flatnonzero(self.free[at])

    def fix(self, at: int, step: Fix) -> Fix:
        """Return a step that fixes what of it is still undecided."""
        into, out = self._fixed(at, step)
        return Fix(tuple(into), tuple(out), self.number(step.point))

    def start(self, point: int) -> Start:
        """Where a descent goes on."""
        return Start(*self._adopted[point])

    def number(self, point: int) -> int:
        """Return the number that a point has in the new proof."""
        if point not in self._numbers:
            self._numbers[point] = self._points.keep(*self._adopted[point])
        return self._numbers[point]

    def _fixed(self, at: int, step: Fix) -> tuple[list[int], list[int]]:
        free = self.free[at]
        return list(step.inside), [i for i in step.outside if i < len(free) and free[i]]

    def _all(self, at: int) -> float:
        members = self.inside[at] | self.free[at]
        worth = value_of(self._stack.program, np.flatnonzero(members))
        return worth / float(self._stack.unit)


def _sides(proof: Proof, experts: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Who is in and who is out at each step, (steps, N) each."""
    inside = np.zeros((len(proof.tree), experts), dtype=bool)
    outside = np.zeros_like(inside)
    waiting: list[tuple[tuple[int, ...], tuple[int, ...]]] = [((), ())]
    for at, step in enumerate(proof.tree):
        into, out = waiting.pop()
        inside[at, [i for i in into if i < experts]] = True
        outside[at, [i for i in out if i < experts]] = True
        if isinstance(step, Split):
            waiting += (((*into, step.expert), out), (into, (*out, step.expert)))
        elif isinstance(step, Fix):
            waiting.append(((*into, *step.inside), (*out, *step.outside)))
    return inside, outside
