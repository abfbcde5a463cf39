"""The value of a selection, and what one more expert would add."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from updraft.optimizer.problem import Matrix
from updraft.optimizer.program import Layer, Program

Selected = NDArray[np.intp] | list[int] | tuple[int, ...]


def value_of(program: Program, selected: Selected) -> float:
    """Return value(S), without what answers cost; see `routing` for that."""
    return sum(
        layer.step * float(best_sum(program.value[list(selected)], layer).sum())
        for layer in program.layers
    )


def best_sum(values: Matrix, layer: Layer) -> Matrix:
    """Return per prompt the sum of its `capacity` largest of (experts, P) values."""
    if len(values) <= layer.capacity:
        return values.sum(axis=0)
    if layer.capacity == 1:
        return values.max(axis=0)
    kept: Matrix = np.partition(values, -layer.capacity, axis=0)[-layer.capacity :].sum(axis=0)
    return kept
