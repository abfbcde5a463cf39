"""The dual descent, in numpy and in machine code, against all selections of a part."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.optimizer.objective import value_of
from updraft.optimizer.program import Layer, Program, Row
from updraft.optimizer.routing import route
from updraft.optimizer.solvers import descent
from updraft.optimizer.solvers.descent import Pace, Part, Start
from updraft.optimizer.solvers.stack import stack

ONE = (Layer(1, 1.0),)
LAYERS = [ONE, (Layer(1, 0.5), Layer(3, 0.25)), (Layer(2, 2.0),)]


def compiled(stacked, part, start, target, pace):
    """Descend in machine code, however small the problem."""
    pytest.importorskip("numba")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(descent, "_WORTH_LOADING", 0)
        return descent.descend(stacked, part, start, target, pace)


@pytest.fixture(params=[descent._descend, compiled], ids=["numpy", "numba"])
def descend(request):
    """One of the two implementations."""
    return request.param


def random_program(seed, experts, prompts, *, layers=ONE, digits=2, query=False):
    """Return a program of decimals, or of doubles with 17 digits, and a row nobody takes from."""
    rng = np.random.default_rng(seed)
    value = rng.random((experts, prompts)) * (rng.random((experts, prompts)) < 0.8)
    value = value if digits > 15 else value.round(digits)
    cost = rng.integers(0, 9, (3, experts)).astype(float)
    cost[2] = 0
    limit = [*(cost[:2].sum(axis=1) * rng.choice([0.3, 0.6])).round(), 1]
    rows = tuple(Row(f"resources.{k}", float(most), 1.0) for k, most in enumerate(limit))
    query_cost = rng.integers(0, 3, value.shape).astype(float) if query else None
    return Program(value, layers, cost, rows, np.ones(experts, dtype=bool), query_cost)


def random_part(seed, stacked, *, raised=False):
    """Return a part of the search with somebody in and somebody out.

    Args:
        raised: u at or above what those that are in give; they then count for nothing else.
    """
    rng = np.random.default_rng(seed)
    program = stacked.program
    inside, undecided = [], []
    for i in rng.permutation(program.experts).tolist():
        side = rng.choice(["in", "out", "undecided", "undecided"])
        if side == "in" and program.fits([*inside, i]):
            inside.append(i)
        elif side == "undecided":
            undecided.append(i)
    left = program.limit - program.cost[:, inside].sum(axis=1)
    undecided = [i for i in undecided if (program.cost[:, i] <= left).all()]
    floor = np.zeros((len(stacked.capacity), stacked.prompts), stacked.gain.dtype)
    if raised and inside:
        floor = stacked.gain[:, inside].max(axis=1)
    # A share of the measure that `stacked.share` is a share of.
    share = left / program.measure
    held = np.array([] if raised else inside, dtype=np.int64)
    return inside, Part(held, np.array(undecided, dtype=np.int64), share, floor)


def random_start(seed, stacked, part):
    rng = np.random.default_rng(seed)
    most = stacked.gain.max(axis=1)
    u = (most * rng.random(most.shape) * 1.2).astype(stacked.gain.dtype)
    each = stacked.gain.sum() / len(stacked.capacity) / stacked.program.experts
    return Start(np.maximum(u, part.floor), rng.random(len(stacked.share)) * each)


def pace(stacked, steps, *, patience=None, least_share=0.0):
    width = (0.01 * stacked.gain.max(axis=1) / stacked.count).astype(np.float32)
    price_width = 0.1 * float(stacked.gain.sum()) / stacked.program.experts
    return Pace(steps, patience or steps, least_share, width, price_width)


def bound_at(stacked, part, u, prices):
    """Return the dual bound and the profits of the undecided, from their definition."""
    gain = stacked.gain.astype(float)
    if stacked.query is not None:
        gain = gain - prices[0] * stacked.query
    worth = (np.maximum(gain - u[:, None], 0) * stacked.count).sum(axis=(0, 2))
    profit = worth[part.undecided] - prices @ stacked.share[:, part.undecided]
    base = (stacked.capacity[:, None] * stacked.count * u).sum() + prices @ part.left
    return float(base + worth[part.inside].sum() + np.maximum(profit, 0).sum()), profit


def best_of_part(program, inside, undecided):
    """Return the largest value among the selections of a part, trying all."""
    best = 0.0
    for size in range(len(undecided) + 1):
        for some in combinations(undecided.tolist(), size):
            selected = [*inside, *some]
            if program.fits(selected) and program.query_cost is None:
                best = max(best, value_of(program, selected))
            elif program.fits(selected):
                best = max(best, route(program, selected).objective)
    return best


kinds = st.fixed_dictionaries(
    {
        "experts": st.integers(1, 7),
        "prompts": st.integers(1, 9),
        "layers": st.sampled_from(LAYERS),
        "digits": st.sampled_from([0, 2, 17]),
    }
)


@pytest.mark.parametrize("raised", [False, True])
def test_every_bound_on_the_way_holds(descend, raised):
    @settings(max_examples=100)
    @given(kind=kinds, seed=st.integers(0, 2**32), steps=st.integers(1, 60))
    def law(kind, seed, steps):
        if raised:
            kind = kind | {"layers": ONE}
        stacked = stack(random_program(seed, **kind))
        inside, part = random_part(seed, stacked, raised=raised)
        best = best_of_part(stacked.program, inside, part.undecided) / float(stacked.unit)
        start = random_start(seed, stacked, part)
        # The lowest bound met is at least the best of the part, so every one is.
        found = descend(stacked, part, start, 0.0, pace(stacked, steps))
        assert found.bound >= best * (1 - 1e-12)
        bound, profit = bound_at(stacked, part, found.u, found.prices)
        assert found.bound == pytest.approx(bound, rel=1e-12)
        assert found.profit == pytest.approx(profit, rel=1e-9, abs=1e-9 * (1 + bound))
        assert (found.u >= part.floor).all()
        assert found.u.dtype == stacked.gain.dtype
        assert (found.prices >= 0).all()
        assert ((found.active >= 0) & (found.active <= 1)).all()
        assert found.bound <= bound_at(stacked, part, *start)[0] * (1 + 1e-12)

    law()


@settings(max_examples=100)
@given(seed=st.integers(0, 2**32), experts=st.integers(1, 5), steps=st.integers(1, 40))
def test_every_bound_on_the_way_holds_where_answers_cost_energy(seed, experts, steps):
    stacked = stack(random_program(seed, experts, 5, query=True))
    inside, part = random_part(seed, stacked)
    best = best_of_part(stacked.program, inside, part.undecided) / float(stacked.unit)
    start = random_start(seed, stacked, part)
    found = descent.descend(stacked, part, start, 0.0, pace(stacked, steps))
    assert found.bound >= best * (1 - 1e-9)
    bound, profit = bound_at(stacked, part, found.u, found.prices)
    assert found.bound == pytest.approx(bound, rel=1e-12)
    assert found.profit == pytest.approx(profit, rel=1e-9, abs=1e-9 * (1 + bound))


# Both implementations do the same.


@settings(max_examples=60)
@given(kind=kinds, seed=st.integers(0, 2**32))
def test_both_implementations_begin_the_same(kind, seed):
    stacked = stack(random_program(seed, **kind))
    _, part = random_part(seed, stacked)
    start = random_start(seed, stacked, part)
    one = descent._descend(stacked, part, start, 0.0, pace(stacked, 1))
    other = compiled(stacked, part, start, 0.0, pace(stacked, 1))
    assert one.bound == pytest.approx(other.bound, rel=1e-15)
    assert one.profit == pytest.approx(other.profit, rel=1e-13, abs=1e-15 * one.bound)
    for found in (one, other):
        assert found.steps == 1
        assert (found.u == start.u).all()
        assert (found.prices == start.prices).all()


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("seed", range(5))
def test_both_implementations_go_the_same_way(seed, layers):
    stacked = stack(random_program(seed, 12, 40, layers=layers, digits=4))
    _, part = random_part(seed, stacked)
    start = random_start(seed, stacked, part)
    few = pace(stacked, 6)
    one = descent._descend(stacked, part, start, 0.0, few)
    other = compiled(stacked, part, start, 0.0, few)
    # Steps are of 32-bit numbers in one of them.
    assert one.bound == pytest.approx(other.bound, rel=1e-4)
    assert one.active == pytest.approx(other.active)
    assert one.bound < bound_at(stacked, part, *start)[0]


@pytest.mark.parametrize("least", [0, 10**9], ids=["numba", "numpy"])
@settings(max_examples=60)
@given(kind=kinds, seed=st.integers(0, 2**32))
def test_worths_are_what_experts_give_above_u(least, kind, seed):
    stacked = stack(random_program(seed, **kind))
    _, part = random_part(seed, stacked)
    u = random_start(seed, stacked, part).u
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(descent, "_WORTH_LOADING", least)
        worth = descent.worths(stacked, u)
    above = np.maximum(stacked.gain.astype(float) - u[:, None], 0) * stacked.count
    assert worth == pytest.approx(above.sum(axis=(0, 2)), rel=1e-12)


# Where it ends.


def everyone(stacked):
    program = stacked.program
    nobody = np.zeros(0, dtype=np.int64)
    floor = np.zeros((len(stacked.capacity), stacked.prompts), stacked.gain.dtype)
    left = program.limit / program.measure
    return Part(nobody, np.arange(program.experts), left, floor)


def from_above(stacked):
    """Begin where u pays for all: the bound is the value of all experts together."""
    most = stacked.gain.max(axis=1)
    return Start(most, np.zeros(len(stacked.share)))


def disjoint():
    """Three of six alike experts fit, each good for prompts of its own: nothing is lost to the
    relaxation."""
    value = np.kron(np.eye(6), [[5.0, 3.0, 1.0]])
    rows = (Row("resources.mb", 3.0, 1.0),)
    return Program(value, ONE, np.ones((1, 6)), rows, np.ones(6, dtype=bool))


def test_it_comes_near_the_least_bound(descend):
    stacked = stack(disjoint())
    start = from_above(stacked)
    found = descend(stacked, everyone(stacked), start, 27.0, pace(stacked, 300))
    assert 27 <= found.bound <= 27.5
    assert bound_at(stacked, everyone(stacked), *start)[0] == 54


def test_it_stops_below_its_target(descend):
    stacked = stack(disjoint())
    part, start = everyone(stacked), from_above(stacked)
    assert descend(stacked, part, start, 54.0, pace(stacked, 300)).steps == 1
    found = descend(stacked, part, start, 30.0, pace(stacked, 300))
    assert found.bound <= 30
    assert 1 < found.steps < 100
    # One step less is not enough.
    assert descend(stacked, part, start, 30.0, pace(stacked, found.steps - 1)).bound > 30


def test_it_gives_up_where_there_is_little_headway(descend):
    stacked = stack(random_program(1, 12, 40, digits=4))
    part, start = everyone(stacked), from_above(stacked)
    impatient = pace(stacked, 100, patience=7, least_share=0.01)
    assert descend(stacked, part, start, 0.0, impatient).steps == 7
    content = pace(stacked, 20, patience=7, least_share=1.0)
    assert descend(stacked, part, start, 0.0, content).steps == 20


def test_a_start_is_not_written_to(descend):
    stacked = stack(random_program(1, 12, 40, digits=4))
    start = from_above(stacked)
    descend(stacked, everyone(stacked), start, 0.0, pace(stacked, 20))
    assert (start.u == stacked.gain.max(axis=1)).all()
    assert (start.prices == 0).all()
