"""Cover branching: equal to trying everything, for any value that no expert lowers."""

from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.errors import ProblemError
from updraft.optimizer.objective import value_of
from updraft.optimizer.program import Layer, Program, Row
from updraft.optimizer.solvers.cover import maximise, oracle_of

seeds = st.integers(0, 2**32 - 1)


def all_selections(experts):
    return (np.arange(2**experts)[:, None] >> np.arange(experts) & 1).astype(bool)


def best_of_all(oracle, cost, limit, open_=None):
    masks = all_selections(cost.shape[1])
    fit = (masks @ cost.T <= limit).all(axis=1)
    if open_ is not None:
        fit &= ~(masks & ~open_).any(axis=1)
    return float(oracle(masks[fit]).max())


def budgets(random, experts, rows):
    """Whole costs with zeros among them, and limits from nothing to enough for all."""
    cost = random.integers(0, 12, (rows, experts)).astype(float)
    cost[random.random(cost.shape) < 0.15] = 0
    limit = np.floor(cost.sum(axis=1) * random.choice([0, 0.2, 0.4, 0.6, 1.0], rows))
    return cost, limit


def facilities(random, experts, prompts, layers=(1,)):
    value = random.random((experts, prompts)) * (random.random((experts, prompts)) < 0.6)
    steps = tuple(Layer(capacity, float(random.integers(1, 4))) for capacity in layers)
    none = np.zeros((0, experts))
    return oracle_of(Program(value, steps, none, (), np.ones(experts, dtype=bool)))


def any_monotone(random, experts):
    """The largest number written on a part of the selection; every monotone value is such."""
    written = random.integers(0, 50, 2**experts).astype(float)
    masks = all_selections(experts)
    for expert in range(experts):
        with_it = np.flatnonzero(masks[:, expert])
        written[with_it] = np.maximum(written[with_it], written[with_it - 2**expert])
    return lambda asked: written[asked @ (1 << np.arange(experts))]


def coverage(random, experts, topics, power):
    """Topics covered, to a power: above 1, experts are worth more together than alone."""
    covers = random.random((experts, topics)) < 0.3
    return lambda asked: (asked @ covers).astype(bool).sum(axis=1).astype(float) ** power


def guide_solve_judge(random, experts, prompts):
    """A solver alone, or better with a judge for its answers; one that only judges is worth 0.

    Guide and judge are worth nothing without a solver, so a second expert can add more than the
    first did: the value is not submodular.
    """
    alone = random.random((experts, prompts)) * 0.6
    alone[random.random(experts) < 0.3] = 0
    solver, judge = np.nonzero(~np.eye(experts, dtype=bool))
    lift = 0.4 * random.random((experts, experts, 1)) * random.random((experts, experts, prompts))
    paired = np.where(alone[solver] > 0, alone[solver] + lift[solver, judge], 0)

    def values(asked):
        singles = np.where(asked[:, :, None], alone, 0).max(axis=1, initial=0)
        both = asked[:, solver] & asked[:, judge]
        pairs = np.where(both[:, :, None], paired, 0).max(axis=1, initial=0)
        return np.maximum(singles, pairs).sum(axis=1)

    return values


def drawn(kind, random, experts):
    return {
        "facilities": lambda: facilities(random, experts, 12),
        "ranks": lambda: facilities(random, experts, 8, (1, 2, 3)),
        "any": lambda: any_monotone(random, experts),
        "coverage": lambda: coverage(random, experts, 9, 0.5),
        "synergy": lambda: coverage(random, experts, 9, 3.0),
        "pairs": lambda: guide_solve_judge(random, experts, 6),
    }[kind]()


kinds = st.sampled_from(["facilities", "ranks", "any", "coverage", "synergy", "pairs"])


@given(kinds, st.integers(1, 8), st.integers(0, 3), seeds)
def test_it_equals_trying_everything(kind, experts, rows, seed):
    random = np.random.default_rng(seed)
    oracle = drawn(kind, random, experts)
    cost, limit = budgets(random, experts, rows)
    open_ = random.random(experts) < 0.9
    result = maximise(oracle, cost, limit, open=open_)
    assert result.objective == pytest.approx(best_of_all(oracle, cost, limit, open_), abs=1e-9)
    selected = np.isin(np.arange(experts), result.selected)
    assert result.objective == oracle(selected[None])[0]
    assert (cost @ selected <= limit).all()
    assert open_[selected].all()
    assert 0 <= result.upper_bound - result.objective <= 1e-9 * max(1.0, result.objective)


def test_solvers_with_judges_are_chosen_together():
    random = np.random.default_rng(3)
    for experts in (9, 10):
        oracle = guide_solve_judge(random, experts, 30)
        cost = random.integers(5, 40, (2, experts)).astype(float)
        for share in (0.2, 0.35, 0.5):
            limit = np.floor(cost.sum(axis=1) * share)
            result = maximise(oracle, cost, limit)
            assert result.objective == best_of_all(oracle, cost, limit)


def test_pairs_are_not_submodular():
    """Otherwise the tests above would show nothing that other solvers do not."""
    oracle = guide_solve_judge(np.random.default_rng(3), 9, 30)
    masks = all_selections(9)
    lone = masks[masks.sum(axis=1) <= 1]
    single = oracle(lone)
    pairs = masks[masks.sum(axis=1) == 2]
    alone = np.array([single[(lone <= pair).all(axis=1)].sum() for pair in pairs])
    assert (oracle(pairs) > alone + 0.1).any()


def test_an_oracle_of_a_program_is_its_value():
    random = np.random.default_rng(0)
    layers = (Layer(1, 2.0), Layer(3, 0.5))
    program = Program(random.random((5, 7)), layers, np.zeros((0, 5)), (), np.ones(5, dtype=bool))
    masks = all_selections(5)
    expected = [value_of(program, np.flatnonzero(mask)) for mask in masks]
    assert oracle_of(program)(masks).tolist() == expected


def test_paid_answers_make_no_monotone_oracle():
    row = (Row("energy_j", 5.0, 1.0),)
    one = np.ones((1, 2))
    program = Program(one.T, (Layer(1, 1.0),), one, row, np.ones(2, dtype=bool), one.T)
    with pytest.raises(ProblemError, match="leave query_energy_j out"):
        oracle_of(program)


def test_far_fewer_selections_are_asked_for_than_there_are():
    random = np.random.default_rng(5)
    asked = []

    def counting(masks):
        asked.append(len(masks))
        return oracle(masks)

    oracle = facilities(random, 18, 60)
    cost = random.integers(20, 120, (2, 18)).astype(float)
    result = maximise(counting, cost, np.floor(cost.sum(axis=1) * 0.3))
    assert result.evaluations == sum(asked) < 2**18 / 20


@given(kinds, st.integers(2, 8), seeds, st.integers(0, 12))
def test_a_time_limit_gives_the_best_so_far_with_a_valid_bound(kind, experts, seed, ticks):
    random = np.random.default_rng(seed)
    oracle = drawn(kind, random, experts)
    cost, limit = budgets(random, experts, 2)
    clock = count()
    result = maximise(oracle, cost, limit, time_limit_s=ticks, clock=lambda: float(next(clock)))
    best = best_of_all(oracle, cost, limit)
    assert result.objective <= best <= result.upper_bound + 1e-9 * max(1.0, best)
    selected = np.isin(np.arange(experts), result.selected)
    assert (cost @ selected <= limit).all()
    assert next(clock) <= ticks + 2  # asked for the time at most once after it was over


def test_more_time_narrows_the_gap():
    random = np.random.default_rng(2)
    oracle = facilities(random, 14, 40)
    cost = random.integers(20, 120, (2, 14)).astype(float)
    limit = np.floor(cost.sum(axis=1) * 0.4)
    bounds, objectives = [], []
    for ticks in (0, 2, 10, 100, 10_000):
        clock = count()
        result = maximise(oracle, cost, limit, time_limit_s=ticks, clock=lambda c=clock: next(c))
        bounds.append(result.upper_bound)
        objectives.append(result.objective)
    assert bounds == sorted(bounds, reverse=True)
    assert objectives == sorted(objectives)
    assert objectives[0] == 0 < objectives[1] < bounds[1] < bounds[0]
    assert bounds[-1] - objectives[-1] <= 1e-9 * objectives[-1]


def test_an_incumbent_is_where_it_starts():
    random = np.random.default_rng(4)
    oracle = facilities(random, 10, 20)
    cost, limit = np.ones((1, 10)), np.array([3.0])
    started = maximise(oracle, cost, limit, incumbent=[7, 2], time_limit_s=0, clock=lambda: 0.0)
    assert started.selected == (2, 7)
    best = maximise(oracle, cost, limit)
    again = maximise(oracle, cost, limit, incumbent=best.selected)
    assert again.objective == best.objective
    assert again.selected == best.selected


@pytest.mark.parametrize("incumbent", [[0, 1, 2, 3], [9]])
def test_an_incumbent_that_is_no_selection_is_refused(incumbent):
    open_ = np.arange(10) != 9
    oracle = facilities(np.random.default_rng(4), 10, 20)
    with pytest.raises(ProblemError, match=r"open and fits, not \[" + str(incumbent[0])):
        maximise(oracle, np.ones((1, 10)), np.array([3.0]), open=open_, incumbent=incumbent)


def test_a_value_that_an_expert_lowers_is_found_out():
    def crowded(masks):
        return masks.sum(axis=1) - 2.0 * (masks[:, 0] & masks[:, 3])

    message = r"selection \[1, 2, 3\] is worth 3, and with more experts, \[0, 1, 2, 3\], only 2"
    with pytest.raises(ProblemError, match=message):
        maximise(crowded, np.ones((1, 4)), np.array([2.0]))


def test_a_selection_worth_more_than_all_is_found_out():
    def pair(masks):
        return np.where(masks @ [1, 1, 4, 4] == 2, 9.0, masks.sum(axis=1))

    message = r"selection \[0, 1\] is worth 9, and with more experts, \[0, 1, 2, 3\], only 4"
    with pytest.raises(ProblemError, match=message):
        maximise(pair, np.ones((1, 4)), np.array([2.0]))


def test_a_value_lowered_deep_in_the_tree_is_found_out():
    worth = np.array([8.0, 4.0, 3.9, 3.8, 3.7])

    def dips(masks):
        values = masks @ worth
        values[(masks == [True, False, True, True, True]).all(axis=1)] = 15
        return values

    with pytest.raises(ProblemError, match=r"with more experts, \[0, 2, 3, 4\], only 15"):
        maximise(dips, np.ones((1, 5)), np.array([2.0]))


def test_an_oracle_that_answers_nonsense_is_named():
    cost, limit = np.ones((1, 3)), np.array([1.0])
    with pytest.raises(ProblemError, match=r"nan for the selection \[0, 1, 2\]"):
        maximise(lambda masks: np.where(masks.all(axis=1), np.nan, 0.0), cost, limit)
    with pytest.raises(ProblemError, match=r"shape \(\) for 1 selections"):
        maximise(lambda masks: np.float64(3), cost, limit)
