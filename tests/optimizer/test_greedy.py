"""Lazy greedy, swaps and what they find, against plain greedy and all subsets."""

import runpy
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.optimizer.objective import value_of
from updraft.optimizer.program import Layer
from updraft.optimizer.routing import route
from updraft.optimizer.solution import Leaf
from updraft.optimizer.solvers.greedy import largest_share, lazy_greedy, solve, warm_start
from updraft.optimizer.solvers.swaps import local_search

made = runpy.run_path(str(Path(__file__).with_name("problems.py")))["program"]

ONE = (Layer(1, 1.0),)
# Rank weights (3, 1, 1) and (2, 2) as layers.
RANKED = [ONE, (Layer(1, 2.0), Layer(3, 1.0)), (Layer(2, 2.0),)]


@st.composite
def programs(draw, experts=8, prompts=6, layers=RANKED):
    """Whole numbers, so that sums are exact, with zeros and ties in values, costs and limits."""
    count, asked = draw(st.integers(1, experts)), draw(st.integers(1, prompts))
    small = st.integers(0, 9)
    value = draw(st.lists(st.lists(small, min_size=asked, max_size=asked),
                          min_size=count, max_size=count))  # fmt: skip
    limit = draw(st.lists(st.integers(0, 20), max_size=3))
    cost = [draw(st.lists(small, min_size=count, max_size=count)) for _ in limit]
    open_ = draw(st.lists(st.sampled_from([True, True, True, False]),
                          min_size=count, max_size=count))  # fmt: skip
    return made(value, cost, limit, draw(st.sampled_from(layers)), open_)


def random_program(seed, experts, prompts, share, rows=3, layers=ONE):
    rng = np.random.default_rng(seed)
    cost = rng.integers(1, 100, (rows, experts))
    return made(rng.random((experts, prompts)), cost, share * cost.sum(axis=1) // 1, layers)


def feasible(program):
    """Every selection that keeps the budgets."""
    experts = np.flatnonzero(program.open).tolist()
    for size in range(len(experts) + 1):
        for subset in combinations(experts, size):
            if program.fits(list(subset)):
                yield subset


def naive_greedy(program):
    """Look at all that fit before each choice."""
    unit, selected, evaluations = largest_share(program), [], 0
    while True:
        best, best_rate = None, 0.0
        for i in np.flatnonzero(program.open).tolist():
            if i not in selected and program.fits([*selected, i]):
                evaluations += 1
                gain = value_of(program, [*selected, i]) - value_of(program, selected)
                if gain / unit[i] > best_rate:
                    best, best_rate = i, gain / unit[i]
        if best is None:
            return tuple(selected), evaluations
        selected.append(best)


def allowed(program, selected):
    return (
        len(set(selected)) == len(selected)
        and bool(program.open[list(selected)].all())
        and program.fits(list(selected))
    )


@given(programs())
def test_lazy_greedy_picks_what_greedy_picks(program):
    assert lazy_greedy(program).selected == naive_greedy(program)[0]


@given(programs(), st.data())
def test_greedy_goes_on_from_a_selection(program, data):
    start = data.draw(st.sampled_from(list(feasible(program))))
    picked = lazy_greedy(program, start=start).selected
    assert picked[: len(start)] == start
    assert allowed(program, picked)
    for i in np.flatnonzero(program.open).tolist():
        if i not in picked and program.fits([*picked, i]):
            assert value_of(program, [*picked, i]) == value_of(program, picked)


def test_greedy_picks_among_the_named_only():
    program = random_program(0, 20, 10, 0.5)
    assert set(lazy_greedy(program, among=np.array([3, 5, 8])).selected) <= {3, 5, 8}


def test_lazy_greedy_evaluates_a_tenth_of_what_greedy_does():
    program = random_program(1, 1000, 200, 0.3)
    lazy = lazy_greedy(program)
    without_shortcut = sum(
        sum(program.fits([*lazy.selected[:count], i]) for i in range(0, 1000, 50)) * 50 - count
        for count in range(len(lazy.selected))
    )
    assert lazy.evaluations * 10 <= without_shortcut


@given(programs())
def test_swaps_keep_budgets_and_lose_nothing(program):
    picked = lazy_greedy(program).selected
    found = local_search(program, picked)
    assert allowed(program, found)
    assert value_of(program, found) >= value_of(program, picked)


@given(programs(), st.data())
def test_no_single_swap_is_left(program, data):
    found = local_search(program, data.draw(st.sampled_from(list(feasible(program)))))
    outside = [i for i in np.flatnonzero(program.open).tolist() if i not in found]
    for into in outside:
        for rest in [found, *(tuple(j for j in found if j != out) for out in found)]:
            if program.fits([*rest, into]):
                assert value_of(program, [*rest, into]) <= value_of(program, found)


def test_swaps_bring_in_candidates_only():
    program = made([[1, 0], [5, 5], [3, 3]], [[1, 1, 1]], [1])
    assert local_search(program, (0,), np.array([2])) == (2,)
    assert local_search(program, (0,)) == (1,)


def test_swaps_free_what_serves_nobody():
    # Expert 0 is worth nothing beside 1, and 2 does not fit beside both.
    program = made([[4, 0], [5, 0], [0, 1]], [[2, 1, 2]], [3])
    assert local_search(program, (0, 1)) == (1, 2)


@settings(max_examples=60)
@given(programs())
def test_solution_lies_between_the_best_single_expert_and_its_bound(program):
    found = solve(program)
    assert allowed(program, found.selected)
    assert found.objective == pytest.approx(value_of(program, found.selected))
    assert found.proof.bound >= Fraction(found.objective)
    best = max(value_of(program, subset) for subset in feasible(program))
    single = max((value_of(program, [i]) for i in range(program.experts)
                  if program.open[i] and program.fits([i])), default=0.0)  # fmt: skip
    assert found.objective >= single
    assert found.upper_bound >= best


@settings(max_examples=40)
@given(programs(), st.randoms(use_true_random=False))
def test_order_of_experts_and_prompts_is_no_matter(program, random):
    experts, prompts = list(range(program.experts)), list(range(program.value.shape[1]))
    random.shuffle(experts)
    random.shuffle(prompts)
    shuffled = replace(
        program,
        value=program.value[np.ix_(experts, prompts)],
        cost=program.cost[:, experts],
        open=program.open[experts],
    )
    # Ties may fall differently; each bound holds for both.
    first, second = solve(program), solve(shuffled)
    assert first.objective <= second.upper_bound
    assert second.objective <= first.upper_bound


def test_a_thousand_experts_come_out_with_a_small_gap():
    found = solve(random_program(2, 1000, 100, 0.02))
    assert len(found.proof.points) == 1
    assert found.proof.tree == (Leaf(0),)
    assert found.upper_bound / found.objective < 1.01


def test_greedy_picks_the_same_in_any_order_of_experts():
    program = random_program(3, 600, 40, 0.05)
    order = np.random.default_rng(0).permutation(program.experts)
    shuffled = replace(
        program, value=program.value[order], cost=program.cost[:, order], open=program.open[order]
    )
    picked = lazy_greedy(shuffled).selected
    assert tuple(order[list(picked)].tolist()) == lazy_greedy(program).selected


def test_nothing_fits():
    program = made([[1, 2], [3, 1]], [[1, 2]], [0])
    found = solve(program)
    assert found.selected == ()
    assert (found.objective, found.upper_bound) == (0, 0)


def test_an_empty_budget_lets_free_experts_on():
    program = made([[1, 2], [3, 1], [9, 9]], [[0, 0, 1]], [0])
    found = solve(program)
    assert found.selected == (0, 1)
    assert found.upper_bound == pytest.approx(5)


def test_all_experts_are_free():
    program = made(np.random.default_rng(0).random((9, 5)), np.zeros((2, 9)), [4, 0])
    found = solve(program)
    assert found.objective == pytest.approx(program.value.max(axis=0).sum())
    assert found.upper_bound == pytest.approx(found.objective, rel=1e-9)


def test_no_budgets_at_all():
    program = made([[1, 5], [2, 3]], layers=RANKED[2])
    assert solve(program).objective == 2 * (1 + 5 + 2 + 3)


def test_a_single_expert():
    assert solve(made([[2, 3]], [[1]], [1])).selected == (0,)
    assert solve(made([[2, 3]], [[2]], [1])).selected == ()


def test_worthless_experts_are_left_out():
    assert solve(made(np.zeros((3, 4)), [[1, 1, 1]], [2])).selected == ()


def test_closed_experts_stay_out():
    program = made([[9, 9], [1, 1]], [[1, 1]], [2], open_=[False, True])
    found = solve(program)
    assert found.selected == (1,)
    assert found.upper_bound == pytest.approx(2, rel=1e-6)


def test_time_limit_leaves_greedy_and_its_bound():
    program = random_program(4, 700, 50, 0.05)
    times = iter(range(10**6))
    found = solve(program, time_limit_s=0, clock=lambda: float(next(times)))
    assert set(found.selected) == set(lazy_greedy(program).selected)
    assert solve(program).objective >= found.objective
    assert found.upper_bound >= solve(program).objective


@given(programs())
def test_warm_start_is_no_worse_than_greedy(program):
    warm = warm_start(program)
    assert allowed(program, warm)
    assert value_of(program, warm) >= value_of(program, lazy_greedy(program).selected)


def test_answers_that_cost_energy_are_routed():
    rng = np.random.default_rng(5)
    program = made(
        rng.random((30, 20)),
        rng.integers(5, 30, (1, 30)),
        [60],
        query_cost=rng.random((30, 20)) * 4,
    )
    found = solve(program)
    assert program.fits(list(found.selected))
    assert found.objective == pytest.approx(route(program, found.selected).objective)
    best = max(
        route(program, subset).objective
        for size in range(3)
        for subset in combinations(range(30), size)
        if program.fits(list(subset))
    )
    assert found.objective >= 0.97 * best
    assert found.upper_bound >= best
