"""The search tree while it grows, and the proof that it becomes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from updraft.optimizer.problem import Matrix
from updraft.optimizer.solution import Fix, Leaf, Point, Proof, Split, Step
from updraft.optimizer.solvers.stack import Stack, Whole


@dataclass(slots=True)
class Node:
    """A part of the search: what was fixed in it, in order, then how it was closed or split.

    An open node has neither a step nor a point yet, or the point of its last bound.
    """

    fixes: tuple[Fix, ...] = ()
    split: Split | None = None
    parts: tuple[Node, Node] | None = None
    point: int | None = None

    def steps(self) -> Iterator[Step]:
        """Give the tree below in the order of a proof: a part, the one without, the one with."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield from node.fixes
            if node.split is None or node.parts is None:
                yield Leaf(node.point)
            else:
                yield node.split
                without, having = node.parts
                waiting += (having, without)


@dataclass(frozen=True)
class Points:
    """The points of the dual that a proof refers to, in the stack's units."""

    stack: Stack
    kept: list[tuple[Whole, Matrix]] = field(default_factory=list)

    def keep(self, u: Whole, prices: Matrix) -> int:
        """Keep a point and return its number."""
        self.kept.append((u, prices))
        return len(self.kept) - 1

    def slack(self) -> float:
        """By how much a bound may be off, in units, because costs were rounded up to whole ones."""
        program = self.stack.program
        off = program.rounding / program.measure * (1 + program.experts)
        return max((float(prices @ off) for _, prices in self.kept), default=0.0)

    def publish(self) -> tuple[Point, ...]:
        """Return them per prompt of the problem, priced per whole unit of cost."""
        scale = float(self.stack.unit) / self.stack.program.measure
        group = self.stack.group if self.stack.grouped else slice(None)
        rows = len(self.kept), len(scale)
        prices = np.array([prices for _, prices in self.kept]).reshape(rows) * scale
        return tuple(Point(u[:, group], at) for (u, _), at in zip(self.kept, prices, strict=True))

    def adopt(self, proof: Proof) -> list[tuple[Whole, Matrix]]:
        """Read the points of an earlier proof: u in this stack's units, per group of prompts."""
        stacked = self.stack
        scale = stacked.program.measure / float(stacked.unit)
        first = np.zeros(len(stacked.count), dtype=np.intp)
        first[stacked.group] = np.arange(len(stacked.group))
        group = first if stacked.grouped else slice(None)
        kind, ratio = stacked.gain.dtype, float(proof.unit / stacked.unit)
        return [
            (
                point.u[:, group].astype(kind, copy=False)
                if ratio == 1
                else np.ceil(point.u[:, group] * ratio).astype(kind),
                point.prices * scale,
            )
            for point in proof.points
        ]
