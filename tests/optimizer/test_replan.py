"""A changed problem solved from an earlier proof: the same optimum as from nothing, and proved."""

import runpy
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.optimizer.certificates.check import check
from updraft.optimizer.problem import Expert
from updraft.optimizer.program import formulate
from updraft.optimizer.select import select
from updraft.optimizer.solution import Fix, Leaf, Point, Proof, Solution, Split
from updraft.optimizer.solvers import exact
from updraft.optimizer.solvers.replan import carry, fits
from updraft.optimizer.solvers.stack import stack

made = runpy.run_path(str(Path(__file__).with_name("problems.py")))
problems, hard_problem = made["problems"], made["hard_problem"]
as_json, document = made["as_json"], made["document"]


def replanned(problem, previous):
    """Return the selection that goes on from `previous`, once it is as good as a new one."""
    warm, cold = select(problem, previous=previous), select(problem)
    assert (warm.status, warm.reason != "") == (cold.status, True)
    assert warm.objective == pytest.approx(cold.objective, rel=1e-9, abs=1e-9)
    assert warm.upper_bound == pytest.approx(cold.upper_bound, rel=1e-9, abs=1e-9)
    if warm.status != "infeasible":
        assert warm.status == "optimal"
        verdict = check(document(problem), as_json(warm.certificate))
        assert verdict.holds, (verdict.reason, verdict.path)
        assert float(Fraction(verdict.objective)) == pytest.approx(cold.objective)
    return warm


# Changes.


def without(problem, gone):
    """Return the problem without one expert."""
    at = [expert.id for expert in problem.experts].index(gone)
    experts = problem.experts[:at] + problem.experts[at + 1 :]
    return replace(problem, experts=experts, quality=np.delete(problem.quality, at, axis=1))


def _selected_one_gone(problem, selection):
    return without(problem, selection.selected[0])


def _other_one_gone(problem, selection):
    return without(problem, next(e.id for e in problem.experts if e.id not in selection.selected))


def _several_gone(problem, selection):
    return without(_other_one_gone(problem, selection), selection.selected[-1])


def _one_added(problem, selection, at=0):
    added = Expert("new", 3.0, {"code": 3.0}, {"mb": 3.0})
    column = np.random.default_rng(1).random(len(problem.prompts)).round(3)
    experts = (*problem.experts[:at], added, *problem.experts[at:])
    return replace(problem, experts=experts, quality=np.insert(problem.quality, at, column, axis=1))


def _one_added_last(problem, selection):
    return _one_added(problem, selection, len(problem.experts))


def _a_better_one_added(problem, selection):
    """It dominates, so that who was in every selection is no longer in any."""
    first = next(e for e in problem.experts if e.id == selection.selected[0])
    column = problem.quality.max(axis=1, keepdims=True)
    return replace(
        problem,
        experts=(*problem.experts, replace(first, id="better")),
        quality=np.hstack([problem.quality, column]),
    )


def _one_for_another(problem, selection):
    return _one_added(_selected_one_gone(problem, selection), selection)


def _reordered(problem, selection):
    order = np.random.default_rng(2).permutation(len(problem.experts))
    experts = tuple(problem.experts[i] for i in order)
    return replace(problem, experts=experts, quality=problem.quality[:, order])


def _nothing(problem, selection):
    return problem


def energy_times(factor):
    def change(problem, selection):
        energy_j = round(problem.budgets.energy_j * factor, 1)
        return replace(problem, budgets=replace(problem.budgets, energy_j=energy_j))

    change.__name__ = f"_energy_times_{factor}"
    return change


def _energy_unlimited(problem, selection):
    return replace(problem, budgets=replace(problem.budgets, energy_j=None))


def _energy_in_other_decimals(problem, selection):
    return replace(problem, budgets=replace(problem.budgets, energy_j=20.123))


def _a_quality_lower(problem, selection):
    at = [e.id for e in problem.experts].index(selection.selected[0])
    quality = problem.quality.copy()
    quality[:, at] = (quality[:, at] / 2).round(3)
    return replace(problem, quality=quality)


def _a_quality_higher(problem, selection):
    quality = problem.quality.copy()
    quality[3, 4] = 5.0
    return replace(problem, quality=quality)


def _a_quality_in_other_decimals(problem, selection):
    quality = problem.quality.copy()
    quality[2, 1] = 0.12345
    return replace(problem, quality=quality)


def _a_quality_that_is_no_decimal(problem, selection):
    quality = problem.quality.copy()
    quality[2, 1] = 1 / 3
    return replace(problem, quality=quality)


def _a_category_counts_more(problem, selection):
    weights = {"code": 3.0, "chat": 0.5}
    prompts = tuple(replace(p, weight=weights[p.category]) for p in problem.prompts)
    return replace(problem, prompts=prompts)


def _nobody_affordable(problem, selection):
    return replace(problem, budgets=replace(problem.budgets, energy_j=0.1))


CHANGES = [
    _nothing,
    _selected_one_gone,
    _other_one_gone,
    _several_gone,
    _one_added,
    _one_added_last,
    _a_better_one_added,
    _one_for_another,
    _reordered,
    *map(energy_times, [0.2, 0.9, 0.98, 1.02, 1.5, 5.0]),
    _energy_unlimited,
    _energy_in_other_decimals,
    _a_quality_lower,
    _a_quality_higher,
    _a_quality_in_other_decimals,
    _a_quality_that_is_no_decimal,
    _a_category_counts_more,
    _nobody_affordable,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__[1:])
@pytest.mark.parametrize(("seed", "ranks"), [(0, (1.0,)), (1, (1.0,)), (2, (2.0, 1.0))])
def test_after_a_change_the_optimum_is_that_of_a_new_search(change, seed, ranks):
    problem = hard_problem(seed, 11, 40, ranks=ranks)
    previous = select(problem)
    replanned(change(problem, previous), previous)


@pytest.mark.parametrize("change", CHANGES[1:-1:3], ids=lambda change: change.__name__[1:])
def test_after_a_change_the_optimum_is_that_of_a_new_search_among_many_prompts(change):
    """So many that the descent is in machine code where numba is installed."""
    problem = hard_problem(3, 10, 500)
    previous = select(problem)
    replanned(change(problem, previous), previous)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ranks", [(1.0,), (2.0, 1.0)])
def test_who_is_too_slow_by_now_is_no_longer_on(seed, ranks):
    problem = replace(
        hard_problem(seed, 11, 40, ranks=ranks), latency_mode="parallel", ineligible="strict"
    )
    before = replace(problem, budgets=replace(problem.budgets, latency_ms={"code": 10.0}))
    previous = select(before)
    slowest = max(e.latency_ms["code"] for e in problem.experts if e.id in previous.selected)
    after = replace(problem, budgets=replace(problem.budgets, latency_ms={"code": slowest - 0.1}))
    warm = replanned(after, previous)
    assert set(warm.selected) != set(previous.selected)
    replanned(before, warm)


def test_who_may_not_be_on_any_more_is_left_out_though_there_is_room():
    program = formulate(hard_problem(0, 6, 8, share=1.0))
    previous = exact.solve(program)
    assert previous.selected == (0, 1, 2, 3, 4, 5)
    value, open_ = program.value.copy(), program.open.copy()
    value[2], open_[2] = 0, False
    warm = exact.solve(replace(program, value=value, open=open_), warm=previous)
    assert warm.selected == (0, 1, 3, 4, 5)


@pytest.mark.parametrize("seed", range(4))
def test_a_split_at_someone_who_is_gone_leaves_what_was_fixed_on_both_sides_of_it(seed):
    problem = hard_problem(seed, 18, 150)
    previous = select(problem)
    for gone in [e for e in problem.experts if e.id not in previous.selected]:
        at = problem.experts.index(gone)
        left = problem.experts[:at] + problem.experts[at + 1 :]
        replanned(
            replace(problem, experts=left, quality=np.delete(problem.quality, at, 1)), previous
        )


def test_changes_may_follow_one_another():
    problem = hard_problem(3, 11, 40)
    selection = select(problem)
    for change in CHANGES[:-1]:
        here = {expert.id for expert in selection.problem.experts}
        problem = change(problem, selection) if "new" not in here else problem
        selection = replanned(problem, selection)


@settings(max_examples=80)
@given(one=problems(experts=8, prompts=10), data=st.data())
def test_whatever_was_solved_before_the_optimum_is_that_of_a_new_search(one, data):
    """The other problem has as many prompts, so its proof is taken up."""
    other = data.draw(problems(experts=8, prompts=10))
    replanned(one, select(other))


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), share=st.sampled_from([0.2, 0.5]), data=st.data())
def test_any_other_problem_of_as_many_prompts_does_no_harm(seed, share, data):
    one = hard_problem(seed, data.draw(st.integers(3, 9)), 12, share=share)
    other = hard_problem(seed + 1, data.draw(st.integers(3, 9)), 12)
    replanned(one, select(other))


@pytest.mark.parametrize("solver", ["greedy", "brute", "pulp-highs"])
def test_a_selection_of_another_solver_is_a_start(solver):
    problem = hard_problem(1, 11, 40)
    replanned(problem, select(problem, solver=solver))


def test_a_selection_of_a_search_that_was_stopped_is_a_start():
    problem = hard_problem(1, 11, 40)
    seconds = iter(range(1000))
    stopped = select(problem, time_limit_s=3, clock=lambda: float(next(seconds)))
    assert stopped.status == "feasible"
    replanned(problem, stopped)


def test_an_infeasible_problem_is_a_start():
    problem = hard_problem(1, 11, 40)
    replanned(problem, select(_nobody_affordable(problem, None)))


def test_a_proof_of_other_prompts_is_no_obstacle():
    problem = hard_problem(1, 11, 40)
    replanned(problem, select(hard_problem(2, 11, 41)))


@pytest.mark.parametrize("seed", range(3))
def test_where_answers_cost_energy_changes_are_solved_as_well(seed):
    problem = hard_problem(seed, 6, 12)
    query = np.random.default_rng(seed).integers(0, 20, problem.quality.shape) / 10
    problem = replace(problem, query_energy_j=query)
    previous = select(problem)
    replanned(problem, previous)
    replanned(energy_times(0.8)(problem, previous), previous)
    replanned(energy_times(1.3)(problem, previous), previous)


# What is taken up.


def test_of_the_same_problem_the_whole_proof_is_taken_up():
    program = formulate(hard_problem(4))
    cold = exact.solve(program)
    warm = exact.solve(program, warm=cold)
    assert cold.proof.dominated == ()
    assert any(isinstance(step, Fix) for step in cold.proof.tree)
    assert any(isinstance(step, Split) for step in cold.proof.tree)
    assert [type(step) for step in warm.proof.tree] == [type(step) for step in cold.proof.tree]
    assert len(warm.proof.points) <= len(cold.proof.points)
    us = {point.u.tobytes() for point in cold.proof.points}
    assert all(point.u.tobytes() in us for point in warm.proof.points)


def test_after_a_small_change_most_points_are_those_of_before():
    problem = hard_problem(4, 12, 100)
    previous = select(problem)
    changed = energy_times(0.99)(problem, previous)
    before = {str(point["u"]) for point in previous.certificate["points"]}
    warm = replanned(changed, previous).certificate["points"]
    assert sum(str(point["u"]) in before for point in warm) > len(warm) / 2


def solved(tree, selected=(0, 2), points=1):
    u = np.zeros((1, 4), dtype=np.int32)
    proof = Proof(Fraction(1), (Point(u, np.zeros(1)),) * points, tree, Fraction(9))
    return Solution(selected, 3.0, 4.0, proof)


def test_a_solution_is_carried_by_the_names_of_experts():
    tree = (Split(0), Fix((1,), (2,), 0), Leaf(0), Leaf(None))
    carried = carry(solved(tree), ("a", "b", "c"), ("c", "x", "a", "b"))
    assert carried.selected == (2, 0)
    assert carried.proof.tree == (Split(2), Fix((3,), (0,), 0), Leaf(0), Leaf(None))
    assert (carried.objective, carried.upper_bound) == (3.0, 4.0)


def test_who_is_gone_gets_a_number_that_nobody_has():
    tree = (Split(0), Split(1), Fix((2,), (), 0), Leaf(0), Leaf(0), Leaf(0))
    carried = carry(solved(tree), ("a", "b", "c"), ("c",))
    assert carried.selected == (0,)
    gone = {carried.proof.tree[0].expert, carried.proof.tree[1].expert}
    assert len(gone) == 2
    assert min(gone) >= 1
    assert carried.proof.tree[2] == Fix((0,), (), 0)


def test_there_is_nothing_to_carry_without_a_proof():
    assert carry(Solution((0,), 1.0, 1.0), ("a",), ("a",)) is None


def test_a_proof_fits_as_many_prompts_and_layers():
    assert fits(exact.solve(formulate(hard_problem(0, 5, 8))).proof, stack_of(5, 8))
    assert not fits(exact.solve(formulate(hard_problem(0, 5, 8))).proof, stack_of(5, 9))
    ranked = exact.solve(formulate(hard_problem(0, 5, 8, ranks=(2.0, 1.0)))).proof
    assert not fits(ranked, stack_of(5, 8))
    assert not fits(solved((Leaf(None),), points=0).proof, stack_of(5, 8))


def stack_of(experts, prompts):
    return stack(formulate(hard_problem(1, experts, prompts)))
