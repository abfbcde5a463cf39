"""A problem refuses what makes no sense, and names each place."""

from dataclasses import replace

import numpy as np
import pytest

from updraft.errors import ProblemError
from updraft.optimizer.problem import Budgets, Expert, Problem, Prompt


@pytest.fixture
def problem():
    """Three experts, four prompts in two categories; every kind of budget."""
    return Problem(
        experts=tuple(
            Expert(f"e{i}", 1.5 + i, {"code": 3.0, "chat": 2.0}, {"gib": 8.0}) for i in range(3)
        ),
        prompts=tuple(Prompt(f"p{i}", ("code", "chat")[i % 2]) for i in range(4)),
        quality=np.arange(12.0).reshape(4, 3) / 12,
        budgets=Budgets(4.0, {"code": 3.0}, {"gib": 16.0}),
    )


def faults_of(problem, **changes):
    with pytest.raises(ProblemError) as caught:
        replace(problem, **changes)
    return caught.value.faults


def with_cell(problem, row, column, number):
    quality = problem.quality.copy()
    quality[row, column] = number
    return quality


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (np.nan, "nan is not a number >= 0"),
        (np.inf, "inf is not a number >= 0"),
        (-0.5, "-0.5 is not a number >= 0"),
        (2.0**53, "9007199254740992.0 is 2**53 or more, where whole numbers are no longer exact"),
    ],
)
def test_a_wrong_number_is_named_with_its_place(problem, number, message):
    quality = with_cell(problem, 2, 1, number)
    place = 'row 3, column 2 (prompt "p2", expert "e1"): '
    assert faults_of(problem, quality=quality) == [f"quality {place}{message}"]
    assert faults_of(problem, query_energy_j=quality) == [f"query_energy_j {place}{message}"]
    expert = replace(problem.experts[1], energy_j=number, latency_ms={"code": number})
    assert (
        faults_of(problem, experts=(problem.experts[0], expert, problem.experts[2]))
        == [
            f'expert 2 ("e1"): energy_j: {message}',
            f'expert 2 ("e1"): latency_ms.code: {message}',
            'expert 2 ("e1"): resources.gib is missing; a budget limits it',
        ][:2]
    )
    prompts = (*problem.prompts[:3], Prompt("last", "code", number))
    assert faults_of(problem, prompts=prompts) == [f'prompt 4 ("last"): weight: {message}']
    assert faults_of(problem, budgets=Budgets(number, {"chat": number}, {"gib": number})) == [
        f"budgets: energy_j: {message}",
        f"budgets: latency_ms.chat: {message}",
        f"budgets: resources.gib: {message}",
    ]
    assert faults_of(problem, rank_weights=(1.0, number)) == [f"rank_weights: {message}"]


def test_the_largest_exact_number_and_zero_are_taken(problem):
    quality = with_cell(problem, 0, 0, 2.0**53 - 1)
    taken = replace(problem, quality=quality, budgets=Budgets(0.0, {"code": 0.0}, {"gib": 0.0}))
    assert taken.quality[0, 0] == 2.0**53 - 1


def test_of_many_faults_ten_are_told_and_the_others_counted(problem):
    faults = faults_of(problem, quality=np.full((4, 3), np.nan))
    assert len(faults) == 11
    assert faults[9].startswith('quality row 4, column 1 (prompt "p3", expert "e0")')
    assert faults[10] == "and 2 more"
    assert faults_of(problem, quality=np.full((4, 3), -1.0), rank_weights=())[10] == "and 3 more"


@pytest.mark.parametrize(
    "quality",
    [np.zeros((3, 3)), np.zeros((4, 2)), np.zeros(12), np.zeros((4, 3), dtype=np.float32)],
)
def test_a_matrix_of_another_shape_or_type_is_refused(problem, quality):
    (fault,) = faults_of(problem, quality=quality)
    assert fault.startswith("quality: float64 of 4 rows (prompts) × 3 columns (experts)")
    (fault,) = faults_of(problem, query_energy_j=quality)
    assert fault.startswith("query_energy_j: float64 of 4 rows")


def test_ids_are_there_and_differ(problem):
    first, second, third = problem.experts
    assert faults_of(problem, experts=(first, replace(second, id="e0"), replace(third, id=""))) == [
        'expert 2: the id "e0" is that of expert 1 already; ids must differ',
        "expert 3: its id is empty",
    ]
    prompts = (*problem.prompts[:3], problem.prompts[0])
    (fault,) = faults_of(problem, prompts=prompts)
    assert fault.startswith('prompt 4: the id "p0" is that of prompt 1 already')


def test_experts_and_prompts_are_needed(problem):
    assert faults_of(problem, experts=(), quality=np.zeros((4, 0)), budgets=Budgets()) == [
        "experts: there is none; at least one is needed"
    ]
    assert faults_of(problem, prompts=(), quality=np.zeros((0, 3)), budgets=Budgets()) == [
        "prompts: there is none; at least one is needed"
    ]


def test_rank_weights_do_not_rise_and_the_first_counts(problem):
    assert faults_of(problem, rank_weights=(1.0, 0.5, 0.75)) == [
        "rank_weights: number 3, 0.75, is more than 0.5 before it; they must not rise"
    ]
    for weights in ((), (0.0, 0.0)):
        assert faults_of(problem, rank_weights=weights) == [
            "rank_weights: the first must be more than 0, else no answer counts"
        ]


def test_where_answers_cost_energy_one_expert_answers(problem):
    energy = np.ones((4, 3))
    assert faults_of(problem, rank_weights=(1.0, 0.5), query_energy_j=energy) == [
        "rank_weights: with query_energy_j one expert answers a prompt, so all but the first "
        "must be 0"
    ]
    assert replace(problem, rank_weights=(0.5, 0.0), query_energy_j=energy).query_energy_j is (
        energy
    )


def test_budgets_limit_what_exists(problem):
    assert faults_of(problem, budgets=Budgets(1.0, {"caht": 1.0}, {"gibs": 1.0})) == [
        'budgets: latency_ms.caht: no prompt has this category; did you mean "chat"?',
        'budgets: resources.gibs: no expert has this resource; did you mean "gib"?',
    ]


def test_every_expert_says_what_a_budget_limits(problem):
    bare = Expert("bare", 1.0, {"chat": 1.0})
    assert faults_of(problem, experts=(*problem.experts[:2], bare)) == [
        'expert 3 ("bare"): latency_ms.code is missing; a budget limits it',
        'expert 3 ("bare"): resources.gib is missing; a budget limits it',
    ]
    assert replace(problem, experts=(bare,) * 1, quality=np.ones((4, 1)), budgets=Budgets(1.0))


def test_an_id_of_strange_characters_stays_on_one_line(problem):
    prompts = (Prompt("a\nb" + "x" * 100, "code", -1.0), *problem.prompts[1:])
    (fault,) = faults_of(problem, prompts=prompts)
    assert "\n" not in fault
    assert fault.startswith(r'prompt 1 ("a\nbxxx')
    assert len(fault) < 120
