import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.errors import ProblemError
from updraft.optimizer.objective import value_of
from updraft.optimizer.problem import Budgets, Expert, Problem, Prompt
from updraft.optimizer.program import Layer, Program, Row, formulate
from updraft.optimizer.routing import route
from updraft.optimizer.solvers import brute, mip

RANK_WEIGHTS = [(1.0,), (2.0, 1.0), (1.0, 1.0), (4.0, 2.0, 1.0), (3.0, 0.0), (1.0, 1.0, 0.0)]
RIVALS = list(itertools.product(["highs", "cbc"], ["plain", "benders"]))


@st.composite
def programs(draw, experts=8, prompts=6):
    n = draw(st.integers(1, experts))
    p = draw(st.integers(1, prompts))
    rows = draw(st.integers(0, 3))
    whole = st.integers(0, 9)
    value = np.array(draw(st.lists(whole, min_size=n * p, max_size=n * p)), dtype=float)
    cost = np.array(draw(st.lists(whole, min_size=n * rows, max_size=n * rows)), dtype=float)
    limits = draw(st.lists(st.integers(0, 3 * n), min_size=rows, max_size=rows))
    ranks = draw(st.sampled_from(RANK_WEIGHTS))
    below = (*ranks[1:], 0.0)
    layers = [Layer(j, a - b) for j, (a, b) in enumerate(zip(ranks, below, strict=True), 1)]
    return Program(
        value=value.reshape(n, p),
        layers=tuple(layer for layer in layers if layer.step > 0),
        cost=cost.reshape(rows, n),
        rows=tuple(Row(f"resources.{k}", float(limit), 1.0) for k, limit in enumerate(limits)),
        open=np.array(
            draw(st.lists(st.sampled_from([True, True, True, False]), min_size=n, max_size=n))
        ),
    )


def with_query_cost(program: Program, seed: int) -> Program:
    drawn = np.random.default_rng(seed)
    query_cost = drawn.integers(0, 4, program.value.shape).astype(float)
    limit = float(drawn.integers(0, 20))
    spent = drawn.integers(0, 5, (1, program.experts)).astype(float)
    return Program(
        program.value,
        (Layer(1, 1.0),),
        np.concatenate([spent, program.cost]),
        (Row("energy_j", limit, 1.0), *program.rows),
        program.open,
        query_cost,
    )


def every_selection(program: Program) -> float:
    """Return the best value, from nothing but the definition."""
    best = 0.0
    of_open = np.flatnonzero(program.open)
    for size in range(len(of_open) + 1):
        for some in itertools.combinations(of_open, size):
            selected = list(some)
            if any(
                sum(cost[selected]) > row.limit
                for cost, row in zip(program.cost, program.rows, strict=True)
            ):
                continue
            if program.query_cost is not None:
                best = max(best, route(program, selected).objective)
                continue
            ranked = -np.sort(-program.value[selected], axis=0)
            best = max(
                best, sum(each.step * ranked[: each.capacity].sum() for each in program.layers)
            )
    return best


def sized(seed: int, experts: int, prompts: int, ranks=((1, 1.0),)) -> Program:
    drawn = np.random.default_rng(seed)
    cost = drawn.integers(1, 1000, (3, experts)).astype(float)
    return Program(
        drawn.integers(0, 10_000, (experts, prompts)) / 10_000,
        tuple(Layer(*rank) for rank in ranks),
        cost,
        tuple(Row(f"resources.{k}", float(limit), 1.0) for k, limit in enumerate(cost.sum(1) // 3)),
        np.ones(experts, dtype=bool),
    )


def holds(program: Program, solution) -> bool:
    value = route(program, list(solution.selected)).objective
    return (
        program.fits(list(solution.selected))
        and bool(program.open[list(solution.selected)].all())
        and solution.objective == pytest.approx(value, rel=1e-12, abs=1e-12)
        and solution.upper_bound >= solution.objective
    )


@given(programs())
@settings(max_examples=300)
def test_brute_equals_the_definition(program):
    solution = brute.solve(program)
    assert holds(program, solution)
    assert solution.objective == every_selection(program)
    assert solution.upper_bound == solution.objective


@given(programs(experts=5, prompts=4), st.integers(0, 10**6))
@settings(max_examples=60)
def test_brute_equals_the_definition_where_answers_cost_energy(program, seed):
    program = with_query_cost(program, seed)
    solution = brute.solve(program)
    assert holds(program, solution)
    assert solution.objective == pytest.approx(every_selection(program), abs=1e-9)


@pytest.mark.parametrize(("engine", "formulation"), RIVALS)
def test_a_rival_equals_brute_force(engine, formulation):
    @given(programs())
    @settings(max_examples=40)
    def law(program):
        solution = mip.solve(program, engine=engine, formulation=formulation)
        assert holds(program, solution)
        assert solution.objective == brute.solve(program).objective
        assert solution.upper_bound == pytest.approx(solution.objective, rel=1e-6, abs=1e-6)

    law()


@pytest.mark.parametrize(("engine", "formulation"), RIVALS)
@pytest.mark.parametrize("ranks", [((1, 1.0),), ((1, 0.4), (2, 0.6)), ((1, 0.2), (3, 0.3))])
def test_a_rival_equals_brute_force_on_more_prompts_than_blocks(engine, formulation, ranks):
    program = sized(7, 7, 205, ranks)
    solution = mip.solve(program, engine=engine, formulation=formulation)
    assert holds(program, solution)
    assert solution.objective == pytest.approx(brute.solve(program).objective, rel=1e-9)


@pytest.mark.parametrize("engine", ["highs", "cbc"])
def test_a_rival_equals_brute_force_where_answers_cost_energy(engine):
    @given(programs(experts=6, prompts=4), st.integers(0, 10**6))
    @settings(max_examples=25)
    def law(program, seed):
        program = with_query_cost(program, seed)
        solution = mip.solve(program, engine=engine)
        assert holds(program, solution)
        assert solution.objective == pytest.approx(brute.solve(program).objective, abs=1e-6)

    law()


@pytest.mark.parametrize(("engine", "formulation"), RIVALS)
@pytest.mark.parametrize("weight", [1e-7, 1e7])
def test_the_unit_of_weights_and_costs_does_not_matter(engine, formulation, weight):
    program = sized(3, 10, 12)
    expected = brute.solve(program)
    larger = Program(
        program.value * weight,
        program.layers,
        program.cost * 2.0**30,
        tuple(Row(row.name, row.limit * 2.0**30, row.scale) for row in program.rows),
        program.open,
    )
    solution = mip.solve(larger, engine=engine, formulation=formulation)
    assert solution.selected == expected.selected


@pytest.mark.parametrize(("engine", "formulation"), RIVALS)
def test_what_overruns_within_a_tolerance_is_dropped(engine, formulation):
    # Together the two overrun by 2 of 2**50, less than a solver looks at.
    program = Program(
        np.array([[0.9, 0.1], [0.1, 0.8]]),
        (Layer(1, 1.0),),
        np.full((1, 2), 2.0**49 + 1),
        (Row("energy_j", 2.0**50, 1.0),),
        np.ones(2, dtype=bool),
    )
    solution = mip.solve(program, engine=engine, formulation=formulation)
    assert (solution.selected, solution.objective) == ((0,), 1.0)
    assert solution.upper_bound == pytest.approx(1.7)


@pytest.mark.parametrize(("engine", "formulation"), RIVALS)
def test_a_strictly_closed_expert_stays_out(engine, formulation):
    problem = Problem(
        experts=(
            Expert("best", 1.0, {"chat": 90.0}),
            Expert("good", 1.0, {"chat": 40.0}),
            Expert("fair", 1.0, {"chat": 30.0}),
        ),
        prompts=(Prompt("a", "chat"), Prompt("b", "chat", 2.0)),
        quality=np.array([[0.9, 0.8, 0.1], [0.9, 0.1, 0.7]]),
        budgets=Budgets(2.0, {"chat": 50.0}),
        ineligible="strict",
    )
    program = formulate(problem)
    assert brute.solve(program).selected == (1, 2)
    assert mip.solve(program, engine=engine, formulation=formulation).selected == (1, 2)


def test_brute_refuses_what_it_could_never_finish():
    with pytest.raises(ProblemError, match="19 experts are too many"):
        brute.solve(sized(1, 19, 3))
    with pytest.raises(ProblemError, match="13 experts are too many"):
        brute.solve(with_query_cost(sized(1, 13, 3), 1))


def test_only_open_experts_count_as_too_many():
    program = sized(1, 19, 3)
    program.open[4] = False
    assert 4 not in brute.solve(program).selected


def test_benders_refuses_answers_that_cost_energy():
    program = with_query_cost(sized(1, 4, 3), 1)
    with pytest.raises(ProblemError, match="use the plain formulation"):
        mip.solve(program, engine="highs", formulation="benders")


@pytest.mark.parametrize("ticks", [0, 1, 5])
@pytest.mark.parametrize("routed", [False, True])
def test_brute_stops_at_the_time_limit_with_what_it_has(ticks, routed):
    program = sized(5, 10, 300 if not routed else 5)
    if routed:
        program = with_query_cost(program, 5)
    time = itertools.count()
    solution = brute.solve(program, time_limit_s=ticks + 0.5, clock=lambda: float(next(time)))
    assert holds(program, solution)
    assert solution.upper_bound == pytest.approx(value_of(program, range(10)))


@pytest.mark.parametrize(("engine", "formulation"), RIVALS)
@pytest.mark.parametrize("time_limit_s", [0.0, 0.3])
def test_a_rival_stops_at_the_time_limit_with_a_bound(engine, formulation, time_limit_s):
    program = sized(2, 18, 150)
    solution = mip.solve(program, engine=engine, formulation=formulation, time_limit_s=time_limit_s)
    assert holds(program, solution)
    assert solution.upper_bound >= brute.solve(program).objective - 1e-6
    assert solution.upper_bound <= value_of(program, range(18)) + 1e-9


@pytest.mark.parametrize(
    ("engine", "module"), [("highs", "pulp"), ("cbc", "pulp"), ("highs", "highspy")]
)
def test_a_missing_extra_is_named(engine, module):
    script = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "import numpy as np\n"
        "from updraft.errors import RuntimeMissing\n"
        "from updraft.optimizer.solvers import mip\n"
        "from updraft.optimizer.program import Layer, Program\n"
        "one = Program(np.ones((1, 1)), (Layer(1, 1.0),), np.zeros((0, 1)), (), np.ones(1, bool))\n"
        "try:\n"
        f"    mip.solve(one, engine={engine!r})\n"
        "except RuntimeMissing as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip().endswith("pip install 'updraft[optimizer]'")
