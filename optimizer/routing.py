"""Which selected expert answers which prompt, also where every answer takes energy of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from updraft.errors import ProblemError
from updraft.optimizer.objective import value_of
from updraft.optimizer.problem import Matrix
from updraft.optimizer.program import Program

Choice = NDArray[np.intp]


class Shares(NamedTuple):
    """Who answers, as columns of equal length: `expert[n]` gets `share[n]` of `prompt[n]`.

    Sorted by prompt, and within a prompt the best expert first. What appears nowhere answers
    nothing.
    """

    prompt: NDArray[np.intp]
    expert: NDArray[np.intp]
    share: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Routing:
    """The best use of a selection.

    Attributes:
        query_cost: what the answers take from row 0, in its scale, on top of the experts.
        price: what one more unit of row 0 would add to the objective.
        upper_bound: the dual value at `price`, which proves the objective; they are equal but
            for rounding.
    """

    shares: Shares
    objective: float
    query_cost: float
    price: float
    upper_bound: float


def route(program: Program, selected: Sequence[int]) -> Routing:
    """Send each prompt to the best of the selected experts that the energy allows.

    Without `query_cost` a prompt goes to its best experts, as many as count. With it, what the
    selected experts leave of row 0 is spent where it adds most; a prompt stands for a stream of
    requests, so at the margin one prompt is shared between two experts (or one and nobody).
    Among equals the cheapest answers, then the one with the lowest index; an expert that is
    worth nothing to a prompt does not answer it.

    Args:
        selected: experts that keep the budgets together.

    Raises:
        ProblemError: the answers have a cost, and nothing is left to pay it from.
    """
    experts = np.unique(np.asarray(selected, dtype=np.intp))
    if program.query_cost is None:
        objective = value_of(program, experts)
        return Routing(_best(program, experts), objective, 0.0, 0.0, objective)
    if any(layer.capacity != 1 for layer in program.layers):
        raise ProblemError(["answers with an energy of their own need one expert each: top_k = 1"])
    left = float(program.limit[0] - program.cost[0, experts].sum())
    if left < 0:
        row, scale = program.rows[0].name, program.rows[0].scale
        raise ProblemError(
            [
                f"{row}: the selected experts take {(program.limit[0] - left) / scale:g} of "
                f"{program.limit[0] / scale:g}; select fewer, or raise the budget"
            ]
        )
    step = sum(layer.step for layer in program.layers)
    # Nobody stands first: a prompt without an answer has value 0 at cost 0.
    value = np.vstack([np.zeros((1, program.value.shape[1])), step * program.value[experts]])
    cost = np.vstack([np.zeros((1, program.value.shape[1])), program.query_cost[experts]])
    return _within(value, cost, left, np.append(-1, experts))


def _best(program: Program, experts: NDArray[np.intp]) -> Shares:
    """Rank after rank, the best expert that has not answered yet."""
    ranks = max((layer.capacity for layer in program.layers), default=0)
    value = program.value[experts]
    prompts = np.arange(value.shape[1])
    rows = np.empty((min(ranks, len(experts)), len(prompts)), dtype=np.intp)
    answers = np.empty(rows.shape, dtype=bool)
    for rank in range(len(rows)):
        rows[rank] = value.argmax(axis=0)
        answers[rank] = value[rows[rank], prompts] > 0
        value[rows[rank], prompts] = -1
    # By prompt first, then by rank.
    prompt, rank_of = np.nonzero(answers.T)
    return Shares(prompt, experts[rows[rank_of, prompt]], np.ones(len(prompt)))


def _within(value: Matrix, cost: Matrix, left: float, names: NDArray[np.intp]) -> Routing:
    """Solve max Σ value·z with Σ_i z_ip <= 1 and Σ cost·z <= left.

    At a price μ the best choice of a prompt has the largest value − μ·cost: a corner of the
    concave hull of its (cost, value) points. `thrifty` is best at a price so high that it keeps
    within `left`, `lavish` at one so low that it does not. At the price between where both are
    best, any mixture is: prompt after prompt goes over from thrifty to lavish while the energy
    lasts, and the last one in part.

    Args:
        value: (choices, P), of which the first is nobody.
        cost: (choices, P).
        names: (choices,), the experts.
    """
    prompts = np.arange(value.shape[1])
    thrifty = np.where(cost == 0, value, -1).argmax(axis=0)
    lavish = np.where(value == value.max(axis=0), cost, np.inf).argmin(axis=0)
    price = 0.0
    moved = np.zeros(len(prompts))  # the share of each prompt that goes over to lavish
    if cost[lavish, prompts].sum() <= left:
        moved[:] = 1
    else:
        thrifty, lavish, price = _meet(value, cost, left, thrifty, lavish)
        extra = cost[lavish, prompts] - cost[thrifty, prompts]
        room = left - cost[thrifty, prompts].sum()
        before = np.cumsum(extra) - extra
        differ = extra > 0
        moved[differ] = np.clip((room - before[differ]) / extra[differ], 0, 1)
    dual = (value - price * cost).max(axis=0).sum() + price * left

    share = np.stack([moved, 1 - moved])
    choice = np.stack([lavish, thrifty])
    prompt, side = np.nonzero(((share > 0) & (choice > 0)).T)
    row, part = choice[side, prompt], share[side, prompt]
    return Routing(
        Shares(prompt, names[row], part),
        float((part * value[row, prompt]).sum()),
        float((part * cost[row, prompt]).sum()),
        price,
        float(dual),
    )


def _meet(
    value: Matrix, cost: Matrix, left: float, thrifty: Choice, lavish: Choice
) -> tuple[Choice, Choice, float]:
    """Bring a choice within `left` and one beyond it together at the price where both are best.

    At the price that makes them equal in sum, the best choice replaces one of them, unless it is
    no better. A prompt for which both agree is settled, so the rounds get shorter and shorter.
    """
    prompts = np.arange(value.shape[1])
    thrifty, lavish = thrifty.copy(), lavish.copy()
    spent = float(cost[thrifty, prompts].sum())
    price = 0.0
    while True:
        apart = prompts[cost[lavish, prompts] > cost[thrifty, prompts]]
        if not len(apart):  # what is beyond `left` is a rounding of its sum
            return thrifty, lavish, price
        low, high = thrifty[apart], lavish[apart]
        low_cost, high_cost = cost[low, apart], cost[high, apart]
        low_value, high_value = value[low, apart], value[high, apart]
        price = float((high_value - low_value).sum() / (high_cost - low_cost).sum())
        middle = (value[:, apart] - price * cost[:, apart]).argmax(axis=0)
        # What is outside is a tie but for rounding; without it every round settles something.
        between = (cost[middle, apart] > low_cost) & (cost[middle, apart] < high_cost)
        higher = high_value - low_value > price * (high_cost - low_cost)
        middle = np.where(between, middle, np.where(higher, high, low))
        more = float((cost[middle, apart] - low_cost).sum())
        kept = spent + more <= left
        if (middle == (low if kept else high)).all():
            return thrifty, lavish, price
        if kept:
            thrifty[apart] = middle
            spent = float(cost[thrifty, prompts].sum())
        else:
            lavish[apart] = middle
