"""What is left out or brought together before the search changes no optimum; whole numbers."""

import runpy
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.optimizer.program import Layer
from updraft.optimizer.solvers import brute, exact
from updraft.optimizer.solvers.presolve import alike, dominated
from updraft.optimizer.solvers.stack import stack

made = runpy.run_path(str(Path(__file__).with_name("problems.py")))["program"]

ONE = (Layer(1, 1.0),)
RANKED = [ONE, (Layer(1, 2.0), Layer(3, 1.0)), (Layer(2, 2.0),)]


@st.composite
def programs(draw, experts=8, prompts=5, layers=(ONE,), most=3):
    """Numbers so small that experts are often the same, or as good and as cheap."""
    count, asked = draw(st.integers(1, experts)), draw(st.integers(1, prompts))
    few = st.integers(0, most)
    value = draw(st.lists(st.lists(few, min_size=asked, max_size=asked),
                          min_size=count, max_size=count))  # fmt: skip
    limit = draw(st.lists(st.integers(0, 9), max_size=2))
    cost = [draw(st.lists(few, min_size=count, max_size=count)) for _ in limit]
    open_ = draw(st.lists(st.sampled_from([True, True, False]), min_size=count, max_size=count))
    return made(value, cost, limit, draw(st.sampled_from(layers)), open_)


# Dominated experts.


@settings(max_examples=300)
@given(program=programs())
def test_without_the_dominated_the_optimum_is_the_same(program):
    pairs = dominated(program)
    gone = [j for j, _ in pairs]
    rest = program.open.copy()
    rest[gone] = False
    without = replace(program, open=rest)
    assert len(set(gone)) == len(gone)
    assert brute.solve(without).objective == brute.solve(program).objective
    assert rest.any() == program.open.any()
    for j, i in pairs:
        assert program.open[i]
        assert (program.value[i] >= program.value[j]).all()
        assert (program.cost[:, i] <= program.cost[:, j]).all()


@settings(max_examples=200)
@given(program=programs(experts=6, prompts=3))
def test_whoever_is_left_is_better_or_cheaper_than_each_other_one(program):
    left = np.setdiff1d(np.flatnonzero(program.open), [j for j, _ in dominated(program)])
    for j in left:
        for i in left[left != j]:
            better = (program.value[j] > program.value[i]).any()
            assert better or (program.cost[:, j] < program.cost[:, i]).any()


def test_of_twins_the_first_stays():
    assert dominated(made([[2, 1]] * 4, [[5] * 4], [9])) == ((1, 0), (2, 0), (3, 0))


def test_of_equals_in_worth_the_cheapest_stays_at_the_end_of_the_chain():
    assert dominated(made([[2], [2], [2]], [[5, 4, 5]], [9])) == ((0, 1), (2, 0))


def test_who_may_not_be_on_stands_for_nobody():
    assert dominated(made([[2], [9]], [[5, 1]], [9], open_=[True, False])) == ()


def test_one_prompt_far_back_makes_a_difference():
    value = np.ones((2, 200))
    value[0, 150] = 2
    assert dominated(made(value, [[1, 1]], [9])) == ((1, 0),)
    value[1, 199] = 2
    assert dominated(made(value, [[1, 1]], [9])) == ()


@pytest.mark.parametrize("layers", [(Layer(2, 1.0),), (Layer(1, 1.0), Layer(2, 1.0))])
def test_a_twin_that_answers_beside_its_twin_is_not_left_out(layers):
    assert dominated(made([[2], [2]], [[5, 5]], [9], layers)) == ()


def test_nobody_is_left_out_where_answers_cost_energy():
    assert dominated(made([[2], [2]], [[5, 5]], [9], query_cost=np.array([[1.0], [2.0]]))) == ()


# Like prompts.


@settings(max_examples=200)
@given(program=programs(prompts=8, most=1), with_query=st.booleans())
def test_prompts_are_one_group_if_and_only_if_their_columns_are_equal(program, with_query):
    table = program.value
    if with_query:
        query_cost = np.eye(len(table), table.shape[1])
        program = replace(program, query_cost=query_cost)
        table = np.concatenate([table, query_cost])
    first, group = alike(program)
    assert (table[:, first][:, group] == table).all()
    assert len(first) == len(np.unique(table, axis=1).T)


@settings(max_examples=100)
@given(program=programs(layers=RANKED, most=9), data=st.data())
def test_prompts_that_come_again_change_nothing_but_the_sum(program, data):
    asked = program.value.shape[1]
    times = np.array(data.draw(st.lists(st.integers(1, 3), min_size=asked, max_size=asked)))
    order = data.draw(st.permutations(range(times.sum())))
    several = replace(program, value=program.value.repeat(times, axis=1)[:, order])
    weighted = replace(program, value=program.value * times)
    assert stack(several).count.sum() == times.sum()
    assert len(stack(several).count) == len(np.unique(program.value, axis=1).T)
    best = brute.solve(weighted).objective
    assert brute.solve(several).objective == best
    solution = exact.solve(several)
    assert (solution.objective, solution.upper_bound) == (best, best)


# Whole numbers.


def as_fractions(program):
    """Return step · value of the decimals that stand for them, (layers, N, P)."""
    value = [[Fraction(repr(v)) for v in row] for row in program.value.tolist()]
    steps = [Fraction(repr(layer.step)) for layer in program.layers]
    return np.array([[[step * v for v in row] for row in value] for step in steps])


def as_stacked(program):
    stacked = stack(program)
    return np.vectorize(Fraction)(stacked.gain[:, :, stacked.group]) * stacked.unit


@settings(max_examples=200)
@given(
    decimals=st.integers(0, 4),
    numbers=st.lists(st.integers(0, 10**4), min_size=6, max_size=6),
    steps=st.sampled_from([(1.0,), (0.5, 0.1, 0.1), (0.25,), (3.0, 0.01)]),
)
def test_decimals_become_exact_multiples_of_the_unit(decimals, numbers, steps):
    value = np.array(numbers).reshape(2, 3) / 10**decimals
    program = made(value, layers=[Layer(k, step) for k, step in enumerate(steps, 1)])
    stacked = stack(program)
    assert stacked.exact
    assert stacked.least_step == 1
    assert 10**9 % stacked.unit.denominator == 0
    assert (as_stacked(program) == as_fractions(program)).all()


@settings(max_examples=200)
@given(
    scale=st.sampled_from([1e-7, 1.0, 3.0, 1e6]),
    step=st.sampled_from([1.0, 1 / 3]),
    seed=st.integers(0, 2**32),
)
def test_what_is_no_short_decimal_is_rounded_up_a_little(scale, step, seed):
    value = np.random.default_rng(seed).random((3, 70)) * scale
    program = made(value, layers=[Layer(1, step)])
    stacked = stack(program)
    assert not stacked.exact
    assert stacked.least_step == 0
    # One rounding of step · value to a double comes before.
    rounded = np.vectorize(Fraction)(step * value)
    more = as_stacked(program)[0] - rounded
    assert (more >= 0).all()
    assert more.max() < Fraction(step * value.max()) / 2**39


def test_one_number_far_back_is_seen():
    value = np.arange(400.0).reshape(2, 200)
    assert stack(made(value)).exact
    value[1, 199] = 1 / 3
    assert not stack(made(value)).exact


def test_where_answers_cost_energy_the_unit_is_fine_whatever_the_values():
    program = made([[1, 2]], [[1]], [9], query_cost=np.array([[3.0, 4.5]]))
    stacked = stack(program)
    assert stacked.unit <= Fraction(1, 10**9)
    assert stacked.least_step == 0
    assert (stacked.query[:, stacked.group] == [[3 / 9, 4.5 / 9]]).all()


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ([[2**31 - 1]], np.int32),
        ([[2**31]], np.int64),
        ([[2**30 - 1, 7]], np.int32),
        ([[2**30, 7]], np.int64),
        ([[2**30, 2**30]], np.int64),
    ],
)
def test_gains_take_32_bits_where_sums_over_prompts_fit(value, kind):
    stacked = stack(made(value))
    assert (stacked.gain.dtype, stacked.count.dtype) == (kind, kind)
    assert (as_stacked(made(value)) == as_fractions(made(value))).all()


def test_costs_are_shares_of_their_limits():
    assert (
        stack(made([[1], [1]], [[1, 3], [2, 5]], [4, 10])).share == [[0.25, 0.75], [0.2, 0.5]]
    ).all()
