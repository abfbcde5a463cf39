"""The dual bound: above every selection, wherever it is evaluated, and close to the best."""

from dataclasses import replace
from fractions import Fraction
from itertools import combinations

import numpy as np
import pulp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.optimizer.objective import value_of
from updraft.optimizer.problem import Budgets, Expert, Problem, Prompt
from updraft.optimizer.program import Layer, Program, Row, formulate
from updraft.optimizer.routing import route
from updraft.optimizer.solvers.dual import minimise, surplus, thresholds
from updraft.optimizer.solvers.greedy import lazy_greedy

RANKED = [(Layer(1, 1.0),), (Layer(1, 2.0), Layer(3, 1.0)), (Layer(2, 0.5),)]


def made(value, cost, limit, layers=RANKED[0], query_cost=None):
    value, cost = np.array(value, dtype=float), np.array(cost, dtype=float)
    rows = tuple(Row(f"resources.{k}", float(most), 1.0) for k, most in enumerate(limit))
    return Program(value, layers, cost, rows, np.ones(len(value), dtype=bool), query_cost)


@st.composite
def programs(draw):
    """Up to ten experts; values are decimals, some of them 0."""
    seed, experts = draw(st.integers(0, 2**32)), draw(st.integers(1, 10))
    rng = np.random.default_rng(seed)
    rows = draw(st.integers(1, 3))
    value = rng.integers(0, 10**4, (experts, draw(st.integers(1, 12)))) / 1e4
    value *= rng.random(value.shape) < draw(st.sampled_from([0.3, 1.0]))
    cost = rng.integers(0, 100, (rows, experts))
    limit = np.floor(draw(st.sampled_from([0.0, 0.2, 0.5, 1.0])) * cost.sum(axis=1))
    return made(value, cost, limit, draw(st.sampled_from(RANKED)))


def large(seed, kind="uniform", share=0.05):
    rng = np.random.default_rng(seed)
    value = np.round(rng.random((1500, 80)), 4)
    if kind == "sparse":
        value *= rng.random(value.shape) < 0.05
    cost = rng.integers(1, 100, (3, 1500))
    return made(value, cost, np.floor(share * cost.sum(axis=1)))


def best_of(program):
    return max(
        value_of(program, subset)
        for size in range(program.experts + 1)
        for subset in combinations(range(program.experts), size)
        if program.fits(list(subset))
    )


def bound_at(program, u, prices):
    """D of the definition, with experts that do not fit alone left out."""
    capacity = np.array([layer.capacity for layer in program.layers])
    profit = -(prices @ program.cost)
    for layer, over in zip(program.layers, u, strict=True):
        profit = profit + np.maximum(layer.step * program.value - over, 0).sum(axis=1)
    fits = (program.cost <= program.limit[:, None]).all(axis=0)
    return capacity @ u.sum(axis=1) + prices @ program.limit + np.maximum(profit, 0)[fits].sum()


def exact_bound(program, bound):
    """D in fractions, at the point that is written down."""
    unit = Fraction(bound.unit)
    prices = [Fraction(price) for price in bound.point.prices.tolist()]
    u = [[unit * each for each in row] for row in bound.point.u.tolist()]
    total = sum(price * int(row.limit) for price, row in zip(prices, program.rows, strict=True))
    total += sum(layer.capacity * sum(row) for layer, row in zip(program.layers, u, strict=True))
    for i in program.usable.tolist():
        profit = -sum(p * int(c) for p, c in zip(prices, program.cost[:, i], strict=True))
        for layer, row in zip(program.layers, u, strict=True):
            values = [Fraction(str(each)) for each in program.value[i].tolist()]
            step = Fraction(str(layer.step))
            profit += sum(max(step * v - o, 0) for v, o in zip(values, row, strict=True))
        total += max(profit, 0)
    return total


def bound_of(program):
    picked = lazy_greedy(program).selected
    return minimise(program, picked, value_of(program, picked))


@settings(max_examples=60)
@given(programs(), st.integers(0, 2**32))
def test_any_point_bounds_every_selection(program, seed):
    rng = np.random.default_rng(seed)
    u = rng.random((len(program.layers), program.value.shape[1])) * rng.choice([0.1, 1, 3])
    prices = rng.random(len(program.rows)) * rng.choice([0, 0.01, 1])
    assert bound_at(program, u, prices) >= best_of(program) * (1 - 1e-12)


@settings(max_examples=60)
@given(programs())
def test_the_bound_found_is_above_the_best_and_that_of_its_point(program):
    bound = bound_of(program)
    assert bound.upper_bound >= best_of(program)
    at = bound_at(program, bound.unit * bound.point.u, bound.point.prices)
    assert bound.upper_bound == pytest.approx(at, rel=1e-9, abs=1e-12)


@settings(max_examples=40)
@given(programs())
def test_the_bound_covers_its_own_rounding(program):
    bound = bound_of(program)
    exact = exact_bound(program, bound)
    assert exact <= Fraction(bound.upper_bound)
    assert Fraction(bound.upper_bound) <= exact * (1 + Fraction(1, 10**10)) + Fraction(1, 10**300)


def test_bound_of_many_experts_covers_its_rounding():
    program = large(0)
    bound = bound_of(program)
    assert 0 <= Fraction(bound.upper_bound) - exact_bound(program, bound) <= Fraction(1, 10**8)


@settings(max_examples=40)
@given(programs())
def test_profits_bound_what_holds_an_expert(program):
    bound = bound_of(program)
    for i in range(program.experts):
        for j in range(program.experts):
            pair = sorted({i, j})
            if program.fits(pair):
                most = bound.upper_bound + min(bound.profits[i], 0)
                assert value_of(program, pair) <= most + 1e-9


@given(programs())
@settings(max_examples=40)
def test_experts_that_do_not_fit_have_no_profit(program):
    fits = (program.cost <= program.limit[:, None]).all(axis=0)
    assert (np.isfinite(bound_of(program).profits) == fits).all()


@settings(max_examples=30)
@given(programs())
def test_bound_is_hardly_above_the_value_of_all(program):
    free = replace(program, rows=tuple(replace(r, limit=float(10**6)) for r in program.rows))
    everything = value_of(free, range(free.experts))
    assert bound_of(free).upper_bound <= everything * (1 + 1e-6)


def test_more_budget_never_lowers_the_best_below_an_older_bound():
    # The bound of a larger budget holds for every smaller one.
    shares = [0.02, 0.05, 0.1, 0.3]
    uppers = [bound_of(large(1, share=share)).upper_bound for share in shares]
    worths = [value_of(p, lazy_greedy(p).selected) for p in (large(1, share=s) for s in shares)]
    for larger in range(len(shares)):
        assert max(worths[: larger + 1]) <= uppers[larger]


def relaxation(program):
    """The value of the linear program in which an expert may be on by halves."""
    experts, prompts = program.value.shape
    linear = pulp.LpProblem("relaxation", pulp.LpMaximize)
    on = [linear.add_variable(f"y{i}", 0, 1) for i in range(experts)]
    z = [[linear.add_variable(f"z{i}_{p}", 0, 1) for p in range(prompts)] for i in range(experts)]
    linear += pulp.lpSum(
        program.value[i, p] * z[i][p] for i in range(experts) for p in range(prompts)
    )
    for i in range(experts):
        for p in range(prompts):
            linear += z[i][p] <= on[i]
    for p in range(prompts):
        linear += pulp.lpSum(z[i][p] for i in range(experts)) <= 1
    for costs, limit in zip(program.cost, program.limit, strict=True):
        linear += pulp.lpSum(cost * y for cost, y in zip(costs, on, strict=True)) <= limit
    linear.solve(pulp.HiGHS(msg=False))
    return pulp.value(linear.objective)


@pytest.mark.parametrize("density", [1, 0.2])
def test_the_bound_comes_close_to_the_relaxation(density):
    rng = np.random.default_rng(3)
    value = rng.random((40, 30)) * (rng.random((40, 30)) < density)
    cost = rng.integers(1, 100, (2, 40))
    program = made(value, cost, np.floor(0.15 * cost.sum(axis=1)))
    picked = lazy_greedy(program).selected
    bound = minimise(program, picked, value_of(program, picked), iterations=500)
    assert relaxation(program) <= bound.upper_bound <= relaxation(program) * 1.005


@pytest.mark.parametrize("kind", ["uniform", "sparse"])
def test_experts_left_out_of_the_descent_are_counted(kind):
    program = large(4, kind, share=0.01)
    bound = bound_of(program)
    at = bound_at(program, bound.unit * bound.point.u, bound.point.prices)
    assert bound.upper_bound == pytest.approx(at, rel=1e-9)


def test_the_bound_covers_rounded_costs():
    rng = np.random.default_rng(8)
    energy = (rng.random(40) / 3).tolist()
    # The budget is just what expert 0 takes: it fits, though its cost is rounded up.
    for limit in (energy[0], sum(energy) / 7):
        problem = Problem(
            tuple(Expert(f"e{i}", each) for i, each in enumerate(energy)),
            tuple(Prompt(f"p{p}", "any") for p in range(12)),
            rng.random((12, 40)).round(4),
            Budgets(energy_j=limit),
        )
        program = formulate(problem)
        bound = bound_of(program)
        price = Fraction(float(bound.point.prices[0])) * Fraction(program.rows[0].scale)
        u = [Fraction(bound.unit) * each for each in bound.point.u[0].tolist()]
        exact = sum(u) + price * Fraction(str(limit))
        for i, each in enumerate(energy):
            if each <= limit:
                values = [Fraction(str(value)) for value in problem.quality[:, i].tolist()]
                gained = sum(max(v - o, 0) for v, o in zip(values, u, strict=True))
                exact += max(gained - price * Fraction(str(each)), 0)
        assert exact <= Fraction(bound.upper_bound) <= exact * (1 + Fraction(1, 10**8))


def test_no_experts_fit():
    bound = minimise(made([[1, 2]], [[3]], [2]), (), 0.0)
    assert bound.upper_bound == 0
    assert (bound.profits == -np.inf).all()


def test_nothing_is_worth_anything():
    assert bound_of(made(np.zeros((3, 4)), [[1, 1, 1]], [2])).upper_bound == 0


def test_answers_that_cost_are_bounded_too():
    rng = np.random.default_rng(6)
    value, query = rng.random((6, 8)), rng.random((6, 8)) * 3
    program = made(value, rng.integers(1, 9, (1, 6)), [18], query_cost=query)
    best = max(
        route(program, subset).objective
        for size in range(7)
        for subset in combinations(range(6), size)
        if program.fits(list(subset))
    )
    bound = minimise(program, (0, 1), 0.9 * best)
    assert best <= bound.upper_bound < value.max(axis=0).sum()


def test_surplus_over_thresholds_is_the_gain():
    rng = np.random.default_rng(7)
    for layers in RANKED:
        program = made(rng.random((90, 5)), np.ones((1, 90)), [9], layers)
        for selected in ([], [4], [4, 80, 7, 33]):
            gains = surplus(program, np.arange(90), thresholds(program, selected))
            for i in (1, 70, 89):
                gain = value_of(program, [*selected, i]) - value_of(program, selected)
                assert gains[i] == pytest.approx(gain)
