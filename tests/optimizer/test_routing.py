"""Routing: which expert answers which prompt, proved by the dual and by counting all cases."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from updraft.errors import ProblemError
from updraft.optimizer.problem import Budgets, Expert, Problem, Prompt
from updraft.optimizer.program import Layer, Program, Row, formulate
from updraft.optimizer.routing import route

ONE = Layer(1, 1.0)


def ranked(value, layers=(ONE,)):
    """A program whose answers cost nothing."""
    value = np.array(value, dtype=float)
    experts = len(value)
    return Program(value, tuple(layers), np.zeros((0, experts)), (), np.ones(experts, dtype=bool))


def paid(value, query_cost, limit, cost=None):
    """A program whose answers are paid from row 0."""
    value = np.array(value, dtype=float)
    experts = len(value)
    return Program(
        value,
        (ONE,),
        np.zeros((1, experts)) if cost is None else np.array([cost], dtype=float),
        (Row("energy_j", float(limit), 1.0),),
        np.ones(experts, dtype=bool),
        np.array(query_cost, dtype=float),
    )


def everyone(program):
    return range(program.experts)


def as_list(routing):
    return [
        (int(prompt), int(expert), float(share))
        for prompt, expert, share in zip(*routing.shares, strict=True)
    ]


def close(left, right):
    return abs(left - right) <= 1e-9 * max(1.0, abs(left), abs(right))


@st.composite
def paid_programs(draw, numbers=None, experts=5, prompts=6):
    """Instances with zero costs, ties and worthless pairs; `numbers` fills value and cost."""
    numbers = st.floats(0, 1e3).map(lambda x: round(x, 3)) if numbers is None else numbers
    shape = (draw(st.integers(1, experts)), draw(st.integers(1, prompts)))
    value, cost = (
        draw(arrays(float, shape, elements=numbers)),
        draw(arrays(float, shape, elements=numbers)),
    )
    limit = draw(st.integers(0, 100)) / 100 * cost.max(axis=0).sum()
    return paid(value, cost, np.floor(limit))


small_numbers = st.integers(0, 4).map(float)
rank_layers = st.lists(st.integers(0, 3), min_size=1, max_size=4).map(
    lambda steps: [Layer(rank, float(step)) for rank, step in enumerate(steps, 1) if step]
)


# Answers that cost nothing


def test_the_best_selected_expert_answers():
    program = ranked([[0.9, 0.1, 0.3], [0.5, 0.6, 0.2], [1.0, 1.0, 1.0]])
    routing = route(program, [1, 0])
    assert as_list(routing) == [(0, 0, 1.0), (1, 1, 1.0), (2, 0, 1.0)]
    assert routing.objective == routing.upper_bound == pytest.approx(0.9 + 0.6 + 0.3)
    assert routing.price == routing.query_cost == 0


def test_of_equals_the_lowest_index_answers_and_who_is_worth_nothing_does_not():
    program = ranked([[0.5, 0, 0], [0.5, 0, 0.2], [0.5, 0, 0.2]], [Layer(2, 1.0)])
    expected = [(0, 0, 1.0), (0, 1, 1.0), (2, 1, 1.0), (2, 2, 1.0)]
    assert as_list(route(program, [2, 0, 1])) == expected


def test_nobody_selected_answers_nothing():
    for program in (ranked([[1.0, 2.0]]), paid([[1.0, 2.0]], [[0.0, 1.0]], 5)):
        routing = route(program, [])
        assert as_list(routing) == []
        assert routing.objective == routing.upper_bound == routing.query_cost == 0


@given(arrays(float, (4, 5), elements=small_numbers), rank_layers, st.sets(st.integers(0, 3)))
def test_ranks_are_what_sorting_gives(value, layers, selected):
    program = ranked(value, layers)
    routing = route(program, sorted(selected))
    ranks = max((layer.capacity for layer in layers), default=0)
    expected = [
        (prompt, expert, 1.0)
        for prompt in range(5)
        for expert in sorted(selected, key=lambda i, p=prompt: (-value[i, p], i))[:ranks]
        if value[expert, prompt] > 0
    ]
    assert as_list(routing) == expected
    weights = [sum(layer.step for layer in layers if layer.capacity > r) for r in range(ranks)]
    by_hand = 0.0
    for prompt in range(5):
        best = sorted((value[i, prompt] for i in selected), reverse=True)
        by_hand += sum(w * v for w, v in zip(weights, best, strict=False))
    assert routing.objective == by_hand


# Answers that are paid from the budget of energy


def best_by_counting(program):
    """The LP's value in rationals: a vertex shares at most one prompt, between two choices."""
    left = Fraction(program.limit[0])
    _, prompts = program.value.shape
    options = [
        [(Fraction(0), Fraction(0))]
        + [
            (Fraction(c), Fraction(v))
            for c, v in zip(program.query_cost[:, p], program.value[:, p], strict=True)
        ]
        for p in range(prompts)
    ]
    best = Fraction(0)
    for chosen in product(*options):
        cost, value = sum(c for c, _ in chosen), sum(v for _, v in chosen)
        if cost > left:
            continue
        best = max(best, value)
        for p in range(prompts):
            for other_cost, other_value in options[p]:
                more = other_cost - chosen[p][0]
                if cost + more > left:
                    share = (left - cost) / more
                    best = max(best, value + share * (other_value - chosen[p][1]))
    return best


@given(paid_programs(small_numbers, experts=3, prompts=4))
def test_it_is_the_best_of_all_vertices(program):
    routing = route(program, everyone(program))
    assert close(routing.objective, float(best_by_counting(program)))


@given(paid_programs())
def test_the_shares_are_what_is_claimed(program):
    routing = route(program, everyone(program))
    given_away = np.zeros(program.value.shape)
    for prompt, expert, share in as_list(routing):
        assert given_away[expert, prompt] == 0
        assert 0 < share <= 1
        assert program.value[expert, prompt] > 0
        given_away[expert, prompt] = share
    assert (given_away.sum(axis=0) <= 1 + 1e-12).all()
    assert close(routing.objective, (given_away * program.value).sum())
    assert close(routing.query_cost, (given_away * program.query_cost).sum())
    assert routing.query_cost <= program.limit[0] * (1 + 1e-12)
    in_part = {prompt for prompt, _, share in as_list(routing) if share < 1}
    assert len(in_part) <= 1
    assert ((given_away > 0).sum(axis=0) <= 2).all()


@given(paid_programs(), st.floats(0, 1e3))
def test_every_price_bounds_it_and_its_own_price_proves_it(program, other):
    def dual(price):
        profit = np.maximum((program.value - price * program.query_cost).max(axis=0), 0)
        return profit.sum() + price * program.limit[0]

    routing = route(program, everyone(program))
    assert routing.price >= 0
    assert close(routing.upper_bound, dual(routing.price))
    assert close(routing.objective, routing.upper_bound)
    assert dual(other) >= routing.objective * (1 - 1e-12)


@given(paid_programs(), st.integers(0, 2000))
def test_the_price_is_the_worth_of_energy(program, limit):
    routing = route(program, everyone(program))
    other = paid(program.value, program.query_cost, limit)
    foreseen = routing.objective + routing.price * (limit - program.limit[0])
    slack = 1e-9 * max(1.0, routing.objective, routing.price * limit)
    assert route(other, everyone(other)).objective <= foreseen + slack


@given(paid_programs(), st.integers(0, 100))
def test_more_energy_never_hurts(program, more):
    larger = paid(program.value, program.query_cost, program.limit[0] + more)
    before = route(program, everyone(program)).objective
    assert route(larger, everyone(larger)).objective >= before * (1 - 1e-12)


@given(paid_programs(), st.data())
def test_an_expert_that_takes_nothing_itself_never_hurts(program, data):
    some = data.draw(st.sets(st.integers(0, program.experts - 1)))
    fewer = route(program, sorted(some)).objective
    assert route(program, everyone(program)).objective >= fewer * (1 - 1e-12)


@given(paid_programs(), st.randoms(use_true_random=False))
def test_the_order_of_experts_and_prompts_does_not_matter(program, random):
    experts, prompts = list(range(program.experts)), list(range(program.value.shape[1]))
    random.shuffle(experts)
    random.shuffle(prompts)
    other = paid(
        program.value[experts][:, prompts],
        program.query_cost[experts][:, prompts],
        program.limit[0],
    )
    routing = route(program, everyone(program))
    assert close(route(other, everyone(other)).objective, routing.objective)
    assert as_list(route(program, experts)) == as_list(routing)


def test_one_prompt_is_shared_where_the_energy_ends():
    program = paid([[1.0, 1.5], [4.0, 3.0]], [[1.0, 1.0], [2.0, 3.0]], 4)
    routing = route(program, [0, 1])
    # Expert 1 for prompt 0 leaves 2: half of prompt 1 for each.
    assert as_list(routing) == [(0, 1, 1.0), (1, 1, 0.5), (1, 0, 0.5)]
    assert (routing.objective, routing.query_cost, routing.price) == (6.25, 4.0, 0.75)


def test_of_equals_the_cheapest_answers_when_there_is_enough():
    routing = route(paid([[2.0], [2.0], [2.0]], [[5.0], [3.0], [3.0]], 9), [0, 1, 2])
    assert as_list(routing) == [(0, 1, 1.0)]
    assert (routing.query_cost, routing.price) == (3.0, 0.0)


def test_without_energy_only_free_answers_are_given():
    routing = route(paid([[1.0, 1.0], [5.0, 0.0]], [[0.0, 2.0], [1.0, 0.0]], 0), [0, 1])
    assert as_list(routing) == [(0, 0, 1.0)]
    assert routing.price == 4.0  # of all that is out of reach, the most per unit


def test_many_prompts_are_proved_too():
    random = np.random.default_rng(7)
    size = random.random((40, 1))
    cost = (0.2 + size) * random.lognormal(0, 0.5, (1, 800))
    value = np.clip(size + random.normal(0, 0.3, (40, 800)), 0, 1)
    for limit in (1, 40, 300):
        program = paid(value, cost, limit)
        routing = route(program, everyone(program))
        assert close(routing.objective, routing.upper_bound)
        assert routing.query_cost == pytest.approx(limit)


def test_the_experts_themselves_are_paid_first():
    problem = Problem(
        experts=(Expert("a", 0.25), Expert("b", 1.5)),
        prompts=(Prompt("p", "", weight=2.0),),
        quality=np.array([[0.5, 0.75]]),
        budgets=Budgets(energy_j=2.0),
        rank_weights=(0.5,),
        query_energy_j=np.array([[0.5, 0.5]]),
    )
    program = formulate(problem)
    routing = route(program, [1])
    # 1.5 of 2 J is taken; an answer to both requests of the prompt would take 1 J.
    assert as_list(routing) == [(0, 1, 0.5)]
    assert routing.objective == 0.5 * 2 * 0.75 * 0.5  # rank weight, weight, quality, share
    assert routing.query_cost == 0.5 * program.rows[0].scale
    assert as_list(route(program, [0])) == [(0, 0, 1.0)]


def test_a_selection_that_takes_too_much_is_refused_with_both_figures():
    program = paid([[1.0], [1.0]], [[1.0], [1.0]], 5, cost=[3, 4])
    with pytest.raises(ProblemError, match="energy_j: the selected experts take 7 of 5"):
        route(program, [0, 1])


def test_paid_answers_of_several_experts_are_refused():
    program = paid([[1.0]], [[1.0]], 5)
    several = Program(
        program.value,
        (Layer(2, 1.0),),
        program.cost,
        program.rows,
        program.open,
        program.query_cost,
    )
    with pytest.raises(ProblemError, match="top_k = 1"):
        route(several, [0])
