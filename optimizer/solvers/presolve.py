"""What can be left out before the search: experts that others dominate, prompts that are alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from updraft.optimizer.problem import Matrix
from updraft.optimizer.program import Program

# Prompts looked at before all of them: enough to tell most pairs of experts apart.
_GLANCE = 32
_MOST_EXPERTS = 500


def dominated(program: Program) -> tuple[tuple[int, int], ...]:
    """Return pairs (j, i): whoever selects expert j does as well with i, at no more cost.

    Only where one expert answers a prompt and answers are free: then j adds nothing beside i,
    and replacing j by i keeps every budget. Beyond 500 experts nothing is looked for.
    """
    single = len(program.layers) == 1 and program.layers[0].capacity == 1
    if not single or program.query_cost is not None or program.experts > _MOST_EXPERTS:
        return ()
    value, cost = program.value, program.cost
    total = value.sum(axis=1)
    pairs = []
    for j in np.flatnonzero(program.open):
        better = program.open & (total >= total[j]) & (cost <= cost[:, j : j + 1]).all(axis=0)
        better[j] = False
        for i in np.flatnonzero(better):
            if (value[i, :_GLANCE] < value[j, :_GLANCE]).any() or (value[i] < value[j]).any():
                continue
            same = (value[i] == value[j]).all() and (cost[:, i] == cost[:, j]).all()
            if not same or i < j:
                pairs.append((int(j), int(i)))
                break
    return tuple(pairs)


def alike(program: Program) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Group prompts that no expert tells apart.

    Returns:
        The first prompt of each group, (groups,), and the group of each prompt, (P,).
    """
    columns: list[Matrix] = [program.value]
    if program.query_cost is not None:
        columns.append(program.query_cost)
    table = np.concatenate(columns)
    # Equal columns have equal sums whatever the weights, if they are added up in the same order.
    signs = np.zeros(table.shape[1])
    for weight, row in zip(np.random.default_rng(0).random(len(table)), table, strict=True):
        signs += weight * row
    _, first, group = np.unique(signs, return_index=True, return_inverse=True)
    each = np.arange(table.shape[1])
    if len(first) == len(group) or not (table[:, first[group]] == table).all():
        return each, each
    return first, group
