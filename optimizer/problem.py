"""A selection problem in the words of its user: experts, prompts, quality and budgets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from updraft.optimizer.faults import Faults, quoted, suggestion, wrong_number

Matrix = NDArray[np.float64]
LatencyMode = Literal["parallel", "serial"]
Ineligible = Literal["lenient", "strict"]


@dataclass(frozen=True)
class Expert:
    """A whole model on a node, and what keeping it on takes.

    Attributes:
        latency_ms: by category; how long it takes for one prompt.
        resources: by name, in whatever unit the budget of that name has.
    """

    id: str
    energy_j: float
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Prompt:
    """A prompt, or a group of like prompts whose number or importance is `weight`."""

    id: str
    category: str
    weight: float = 1.0


@dataclass(frozen=True)
class Budgets:
    """What the selected experts may take together; what is not named is not limited.

    Attributes:
        latency_ms: by category. In parallel, what one expert may take; in serial, all together.
    """

    energy_j: float | None = None
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Problem:
    """Which experts to keep on, and which serves which prompt, for the most quality.

    Attributes:
        quality: (P, N), calibrated probability that expert i answers prompt p well, or any
            reward >= 0 that adds up over prompts.
        rank_weights: what the best, second best, … selected expert of a prompt counts;
            non-increasing, as many as experts answer one prompt (`top_k`).
        latency_mode: whether the experts of a prompt work side by side or one after another.
        ineligible: what becomes of an expert that is too slow for a category when experts work
            side by side: it does not serve that category (lenient), or it is not used (strict).
        query_energy_j: (P, N), joules that one answer takes, on top of an expert's own; the
            budget of energy then holds for both. None: answers cost nothing extra.
    """

    experts: tuple[Expert, ...]
    prompts: tuple[Prompt, ...]
    quality: Matrix
    budgets: Budgets
    rank_weights: tuple[float, ...] = (1.0,)
    latency_mode: LatencyMode = "parallel"
    ineligible: Ineligible = "lenient"
    query_energy_j: Matrix | None = None

    def __post_init__(self) -> None:
        """Check that the problem makes sense.

        Raises:
            ProblemError: with every fault and its place; rows are counted from 1.
        """
        faults = Faults()
        for kind, things in (("expert", self.experts), ("prompt", self.prompts)):
            _check_ids(kind, things, faults)
        _check_numbers(self, faults)
        for name, matrix in (("quality", self.quality), ("query_energy_j", self.query_energy_j)):
            if matrix is not None:
                _check_matrix(name, matrix, self, faults)
        _check_ranks(self, faults)
        _check_budgets(self, faults)
        faults.raise_any()


def expert_place(number: int, expert: str) -> str:
    """Name an expert to people; `number` counts from 0."""
    return f"expert {number + 1} ({quoted(expert)})"


def prompt_place(number: int, prompt: str) -> str:
    """Name a prompt to people; `number` counts from 0."""
    return f"prompt {number + 1} ({quoted(prompt)})"


def cell_place(name: str, row: int, column: int, prompt: str, expert: str) -> str:
    """Name a cell of a matrix to people; `row` and `column` count from 0."""
    where = f"(prompt {quoted(prompt)}, expert {quoted(expert)})"
    return f"{name} row {row + 1}, column {column + 1} {where}"


def _check_ids(kind: str, things: Sequence[Expert | Prompt], faults: Faults) -> None:
    if not things:
        faults.add(f"{kind}s: there is none; at least one is needed")
    first: dict[str, int] = {}
    for number, thing in enumerate(things):
        if not thing.id:
            faults.add(f"{kind} {number + 1}: its id is empty")
        elif thing.id in first:
            faults.add(
                f"{kind} {number + 1}: the id {quoted(thing.id)} is that of {kind} "
                f"{first[thing.id] + 1} already; ids must differ"
            )
        first.setdefault(thing.id, number)


def _check_numbers(problem: Problem, faults: Faults) -> None:
    """Check every number outside the matrices."""

    def check(place: str, numbers: Mapping[str, float]) -> None:
        for name, number in numbers.items():
            if fault := wrong_number(number):
                faults.add(f"{place}: {name}: {fault}")

    for number, expert in enumerate(problem.experts):
        check(expert_place(number, expert.id), _numbers_of(expert))
    for number, prompt in enumerate(problem.prompts):
        if fault := wrong_number(prompt.weight):
            faults.add(f"{prompt_place(number, prompt.id)}: weight: {fault}")
    check("budgets", _numbers_of(problem.budgets))


def _numbers_of(amounts: Expert | Budgets) -> dict[str, float]:
    """Return energy, latencies and resources by the names of their rows."""
    energy = {} if amounts.energy_j is None else {"energy_j": amounts.energy_j}
    latencies = {f"latency_ms.{name}": value for name, value in amounts.latency_ms.items()}
    return energy | latencies | {f"resources.{k}": v for k, v in amounts.resources.items()}


def _check_matrix(name: str, matrix: Matrix, problem: Problem, faults: Faults) -> None:
    experts, prompts = problem.experts, problem.prompts
    if matrix.dtype != np.float64 or matrix.shape != (len(prompts), len(experts)):
        faults.add(
            f"{name}: float64 of {len(prompts)} rows (prompts) × {len(experts)} columns (experts) "
            f"is expected, not {matrix.dtype} of {' × '.join(map(str, matrix.shape))}"
        )
        return
    faults.add_matrix(
        matrix,
        lambda row, column: cell_place(name, row, column, prompts[row].id, experts[column].id),
    )


def _check_ranks(problem: Problem, faults: Faults) -> None:
    weights = problem.rank_weights
    wrong = [fault for fault in map(wrong_number, weights) if fault]
    for fault in wrong:
        faults.add(f"rank_weights: {fault}")
    if wrong:
        return
    if not weights or weights[0] == 0:
        faults.add("rank_weights: the first must be more than 0, else no answer counts")
    for rank in range(1, len(weights)):
        if weights[rank] > weights[rank - 1]:
            faults.add(
                f"rank_weights: number {rank + 1}, {weights[rank]:g}, is more than "
                f"{weights[rank - 1]:g} before it; they must not rise"
            )
    if problem.query_energy_j is not None and any(weights[1:]):
        faults.add(
            "rank_weights: with query_energy_j one expert answers a prompt, so all but the first "
            "must be 0"
        )


def _check_budgets(problem: Problem, faults: Faults) -> None:
    """Check that what a budget limits exists, and that every expert says how much it takes."""
    budgets, experts = problem.budgets, problem.experts
    categories = dict.fromkeys(prompt.category for prompt in problem.prompts)
    for name in budgets.latency_ms:
        place = f"latency_ms.{name}"
        if name not in categories:
            faults.add(
                f"budgets: {place}: no prompt has this category; {suggestion(name, categories)}"
            )
        else:
            _check_given(place, name, (expert.latency_ms for expert in experts), problem, faults)
    resources = dict.fromkeys(name for expert in experts for name in expert.resources)
    for name in budgets.resources:
        place = f"resources.{name}"
        if name not in resources:
            faults.add(
                f"budgets: {place}: no expert has this resource; {suggestion(name, resources)}"
            )
        else:
            _check_given(place, name, (expert.resources for expert in experts), problem, faults)


def _check_given(
    place: str, name: str, given: Iterable[Mapping[str, float]], problem: Problem, faults: Faults
) -> None:
    for number, (expert, amounts) in enumerate(zip(problem.experts, given, strict=True)):
        if name not in amounts:
            faults.add(f"{expert_place(number, expert.id)}: {place} is missing; a budget limits it")
