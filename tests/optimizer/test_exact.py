"""The exact solver against all selections, and its proofs against the checker."""

import runpy
from fractions import Fraction
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from updraft.optimizer.certificates.certificate import certificate
from updraft.optimizer.certificates.check import check
from updraft.optimizer.program import Layer, Program, Row, formulate
from updraft.optimizer.routing import route
from updraft.optimizer.solution import Leaf, Split
from updraft.optimizer.solvers import brute, exact

made = runpy.run_path(str(Path(__file__).with_name("problems.py")))
problems, hard_problem = made["problems"], made["hard_problem"]


def checked(problem, program, solution):
    """Check the certificate of a solution as somebody else would."""
    document = made["as_json"](certificate(problem, program, solution))
    return check(made["document"](problem), document)


def is_best(problem, within=1e-9):
    """Tell that the solver finds what brute force finds, and proves it."""
    program = formulate(problem)
    solution = exact.solve(program)
    best = brute.solve(program).objective
    little = within * max(1.0, best)
    assert program.fits(list(solution.selected))
    assert program.open[list(solution.selected)].all()
    assert solution.objective == pytest.approx(best, rel=1e-9, abs=1e-9)
    assert solution.objective == pytest.approx(route(program, solution.selected).objective)
    assert solution.objective <= solution.upper_bound <= solution.objective + little
    if not program.value.any():
        return
    verdict = checked(problem, program, solution)
    assert verdict.holds, (verdict.reason, verdict.path)
    assert float(Fraction(verdict.objective)) == pytest.approx(best, rel=1e-9, abs=1e-9)
    assert verdict.exact or float(Fraction(verdict.upper_bound)) <= best + 10 * little


def ticking():
    """Return a clock that is a second later whenever it is asked."""
    seconds = count()
    return lambda: float(next(seconds))


@settings(max_examples=400)
@given(problem=problems())
def test_it_finds_what_brute_force_finds_and_proves_it(problem):
    is_best(problem)


@settings(max_examples=120)
@given(problem=problems(experts=6, prompts=12, ranks=[(1.0,), (2.5,)], query=True))
def test_it_finds_what_brute_force_finds_where_answers_cost_energy(problem):
    # Energy is split between experts and answers in floating point.
    is_best(problem, within=1e-7)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("digits", [0, 3, 17])
@pytest.mark.parametrize("ranks", [(1.0,), (2.0, 1.0), (1.0, 0.5, 0.5)])
def test_it_finds_what_brute_force_finds_where_the_search_is_long(seed, digits, ranks):
    is_best(hard_problem(seed, digits=digits, ranks=ranks))


@pytest.mark.parametrize("digits", [0, 3, 17])
@pytest.mark.parametrize("ranks", [(1.0,), (2.0, 1.0)])
def test_it_finds_what_brute_force_finds_among_many_prompts(digits, ranks):
    """So many that the descent is in machine code where numba is installed."""
    is_best(hard_problem(7, prompts=500, digits=digits, ranks=ranks))


# What a search knows when it is stopped.


@pytest.mark.parametrize("ranks", [(1.0,), (2.0, 1.0)])
def test_a_search_that_is_stopped_knows_a_bound_and_proves_it(ranks):
    problem = hard_problem(5, ranks=ranks)
    program = formulate(problem)
    best = brute.solve(program).objective
    bounds = []
    for time_limit_s in range(40):
        solution = exact.solve(program, time_limit_s=time_limit_s, clock=ticking())
        assert program.fits(list(solution.selected))
        assert 0 < solution.objective <= best + 1e-9
        assert solution.upper_bound >= best - 1e-9
        verdict = checked(problem, program, solution)
        assert verdict.holds, (time_limit_s, verdict.reason, verdict.path)
        claimed = float(Fraction(verdict.upper_bound))
        assert claimed == pytest.approx(solution.upper_bound, rel=1e-4)
        bounds.append(solution.upper_bound)
    assert bounds[0] > best + 1e-3
    assert bounds == pytest.approx(sorted(bounds, reverse=True), rel=1e-12)
    assert exact.solve(program).upper_bound == pytest.approx(best)


@pytest.mark.parametrize(("time_limit_s", "splits"), [(0, 0), (1, 0), (2, 1), (5, 4)])
def test_the_clock_is_asked_before_each_part_is_split(time_limit_s, splits):
    program = formulate(hard_problem(5))
    solution = exact.solve(program, time_limit_s=time_limit_s, clock=ticking())
    assert sum(isinstance(step, Split) for step in solution.proof.tree) == splits


# What needs no search.


def small(value, cost, limit, open_=None):
    value, cost = np.array(value, dtype=float), np.array(cost, dtype=float)
    rows = tuple(Row(f"resources.{k}", float(most), 1.0) for k, most in enumerate(limit))
    cost = cost.reshape(len(rows), len(value))
    open_ = np.ones(len(value), dtype=bool) if open_ is None else np.array(open_)
    return Program(value, (Layer(1, 1.0),), cost, rows, open_)


def test_where_all_fit_all_are_selected_and_a_single_leaf_proves_it():
    solution = exact.solve(small([[3, 0], [0, 2]], [[1, 4]], [5]))
    assert solution.selected == (0, 1)
    assert (solution.objective, solution.upper_bound) == (5, 5)
    assert solution.proof.tree == (Leaf(None),)


def test_without_a_budget_all_that_is_open_may_be_selected():
    solution = exact.solve(small([[3, 0], [0, 2], [9, 9]], [], [], [True, True, False]))
    assert (solution.selected, solution.objective) == ((0, 1), 5)


def test_nobody_is_selected_where_nobody_is_open():
    solution = exact.solve(small([[3], [2]], [[0, 0]], [1], [False, False]))
    assert (solution.selected, solution.objective, solution.upper_bound) == ((), 0, 0)


def test_only_who_costs_nothing_is_selected_where_the_budget_is_0():
    solution = exact.solve(small([[9, 9], [4, 0], [0, 3]], [[1, 0, 0]], [0]))
    assert (solution.selected, solution.objective, solution.upper_bound) == ((1, 2), 7, 7)


def test_experts_worth_nothing_are_no_obstacle():
    solution = exact.solve(small([[0, 0], [0, 0]], [[1, 2]], [2]))
    assert (solution.objective, solution.upper_bound) == (0, 0)


def test_a_twin_is_left_out_before_the_search():
    value, cost = [[5, 1], [5, 1], [1, 4]], [[3, 3, 2]]
    assert exact.solve(small(value, cost, [5])).proof.dominated == ((1, 0),)


@pytest.mark.parametrize("largest", [2**31 - 6, 2**31, 2**40, 2**52 // 6])
def test_gains_may_be_large(largest):
    """At 2^31 they no longer fit into 32 bits."""
    rng = np.random.default_rng(0)
    value = rng.integers(0, largest, (7, 6)).astype(float)
    value[3, 3] = largest
    program = small(value, rng.integers(1, 9, (2, 7)), [13, 15])
    best = brute.solve(program).objective
    solution = exact.solve(program)
    assert (solution.objective, solution.upper_bound) == (best, best)
