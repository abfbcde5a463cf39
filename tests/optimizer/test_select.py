"""A selection in the words of its user: what it takes, what limits it, why there is none."""

import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.errors import ProblemError
from updraft.optimizer.certificates.check import check
from updraft.optimizer.problem import Budgets, Expert, Problem, Prompt
from updraft.optimizer.select import SOLVERS, Share, select

made = runpy.run_path(str(Path(__file__).with_name("problems.py")))
problems, hard_problem = made["problems"], made["hard_problem"]
as_json, document = made["as_json"], made["document"]


def problem_of(quality, experts, categories=None, *, weights=None, budgets=None, **more):
    """Return a problem of these experts and the quality of each prompt's answers."""
    categories = categories or ["chat"] * len(quality)
    weights = weights or [1.0] * len(quality)
    prompts = tuple(
        Prompt(f"p{p}", category, weight)
        for p, (category, weight) in enumerate(zip(categories, weights, strict=True))
    )
    quality = np.array(quality, dtype=float)
    return Problem(tuple(experts), prompts, quality, budgets or Budgets(), **more)


def taking(*energy_j):
    return [Expert(f"e{i}", each) for i, each in enumerate(energy_j)]


def clock_of(*seconds):
    return iter(seconds).__next__


@pytest.fixture
def three():
    """`wide` is good for both prompts; `chat` and `code` are better for one; 5 J are enough for
    two of them."""
    experts = [
        Expert("wide", 3.0, {"chat": 40.0, "code": 90.0}, {"mb": 7.5}),
        Expert("chat", 2.0, {"chat": 20.0, "code": 10.0}, {"mb": 1.0, "cores": 2.0}),
        Expert("code", 2.5, {"chat": 30.0, "code": 60.0}, {"mb": 1.0}),
    ]
    quality = [[0.5, 0.9, 0.0], [0.6, 0.1, 0.7]]
    return problem_of(quality, experts, ["chat", "code"], weights=[10.0, 5.0],
                      budgets=Budgets(5.0))  # fmt: skip


# The result.


def test_every_field_of_a_selection(three):
    selection = select(three, clock=clock_of(*range(100)))
    assert selection.status == "optimal"
    assert selection.selected == ("chat", "code")
    assert selection.assignment == {"p0": [("chat", 1.0)], "p1": [("code", 1.0)]}
    assert selection.objective == pytest.approx(12.5)
    assert selection.upper_bound == selection.objective
    assert (selection.gap, selection.headroom_gap) == (0, 0)
    assert selection.spent["energy_j"] == 4.5
    assert selection.spent["latency_ms"] == {"chat": 20.0, "code": 60.0}
    assert selection.spent["resources"] == {"mb": 2.0, "cores": 2.0}
    assert selection.binding == ()
    assert selection.reason == "no other expert would add anything"
    assert selection.seconds >= 1
    assert check(document(three), as_json(selection.certificate)).holds


def test_the_document_is_json_and_says_it_all(three):
    printed = json.loads(json.dumps(select(three).as_document("proof.json"), allow_nan=False))
    assert set(printed) == {
        "status", "selected", "assignment", "objective", "upper_bound", "gap", "headroom_gap",
        "spent", "binding", "reason", "seconds", "certificate",
    }  # fmt: skip
    assert printed["selected"] == ["chat", "code"]
    assert printed["assignment"]["p1"] == [{"expert": "code", "share": 1.0}]
    assert printed["certificate"] == "proof.json"


@settings(max_examples=60)
@given(problem=problems(experts=6, prompts=6))
def test_any_document_is_json(problem):
    json.dumps(select(problem).as_document(), allow_nan=False)


@settings(max_examples=80)
@given(problem=problems(experts=8, prompts=8))
def test_the_assignment_is_worth_the_objective_and_what_is_spent_is_within_the_budgets(problem):
    selection = select(problem)
    column = {expert.id: i for i, expert in enumerate(problem.experts)}
    total = 0.0
    for row, prompt in zip(problem.quality, problem.prompts, strict=True):
        shares = selection.assignment[prompt.id]
        assert {share.expert for share in shares} <= set(selection.selected)
        assert len({share.expert for share in shares}) == len(shares)
        answers = [row[column[share.expert]] for share in shares]
        assert answers == sorted(answers, reverse=True)
        ranks = problem.rank_weights[: len(answers)]
        total += prompt.weight * sum(w * q for w, q in zip(ranks, answers, strict=True))
    assert selection.objective == pytest.approx(total)
    budgets, spent = problem.budgets, selection.spent
    within = 1 + 1e-12
    assert budgets.energy_j is None or spent["energy_j"] <= budgets.energy_j * within
    for name, most in budgets.latency_ms.items():
        assert spent["latency_ms"].get(name, 0) <= most * within
    for name, most in budgets.resources.items():
        assert spent["resources"].get(name, 0) <= most * within


def test_in_series_all_that_are_on_take_time(three):
    selection = select(replace(three, latency_mode="serial"))
    assert selection.spent["latency_ms"] == {"chat": 50.0, "code": 70.0}


def test_answers_share_a_prompt_where_they_cost_energy():
    problem = problem_of(
        [[1.0, 0.4]], taking(1.0, 1.0), budgets=Budgets(4.0),
        query_energy_j=np.array([[3.0, 1.0]]),
    )  # fmt: skip
    selection = select(problem)
    # Beside both 2 J are left: half of the requests to e0 for 1.5 J, half to e1 for 0.5 J.
    # Beside e0 alone there are 3 J, just what it takes for all.
    assert selection.selected == ("e0",)
    assert selection.assignment == {"p0": [Share("e0", 1.0)]}
    assert selection.spent["energy_j"] == pytest.approx(4.0)
    both = select(replace(problem, budgets=Budgets(3.5)))
    assert both.objective == pytest.approx(5 / 6)
    assert both.assignment["p0"][0].share == pytest.approx(5 / 6)
    assert both.spent["energy_j"] == pytest.approx(3.5)
    assert both.status == "optimal"


# What limits it.


def test_a_binding_budget_is_named(three):
    selection = select(replace(three, budgets=Budgets(4.0)))
    assert selection.selected == ("chat",)
    assert selection.objective == pytest.approx(9.5)
    assert selection.binding == ("energy_j",)
    assert selection.reason == "another expert would add something but for energy_j"


def test_a_budget_that_is_used_up_but_keeps_out_nobody_useful_is_not_binding(three):
    assert select(replace(three, budgets=Budgets(4.5))).binding == ()


def test_all_binding_budgets_are_named():
    experts = [
        Expert(f"e{i}", energy, {"chat": ms}, {"mb": mb})
        for i, (energy, ms, mb) in enumerate([(1, 1, 1), (3, 1, 1), (1, 3, 1), (1, 1, 3)])
    ]
    quality = [[5, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    budgets = Budgets(2.0, {"chat": 2.0}, {"mb": 2.0})
    selection = select(problem_of(quality, experts, budgets=budgets, latency_mode="serial"))
    assert selection.selected == ("e0",)
    assert selection.binding == ("energy_j", "latency_ms.chat", "resources.mb")


def test_without_budgets_everyone_useful_may_be_on(three):
    selection = select(replace(three, budgets=Budgets()))
    assert set(selection.selected) >= {"chat", "code"}
    assert selection.objective == pytest.approx(12.5)
    assert selection.reason == "no budget limits which experts are on"
    assert selection.binding == ()
    assert check(document(three), as_json(selection.certificate)).holds


def test_who_is_too_slow_does_not_serve_but_may_be_on(three):
    budgets = Budgets(5.0, {"code": 50.0})
    lenient = select(replace(three, budgets=budgets))
    assert lenient.objective == pytest.approx(9.5)
    assert lenient.assignment["p1"] == [("chat", 1.0)]
    assert lenient.spent["latency_ms"]["code"] == 10.0
    strict = select(replace(three, budgets=budgets, ineligible="strict"))
    assert strict.selected == ("chat",)
    assert strict.status == "optimal"


def test_budgets_of_zero_leave_who_takes_nothing():
    problem = problem_of([[0.9, 0.5]], taking(1.0, 0.0), budgets=Budgets(0.0))
    selection = select(problem)
    assert (selection.selected, selection.status) == (("e1",), "optimal")
    assert (selection.objective, selection.binding) == (0.5, ("energy_j",))
    assert check(document(problem), as_json(selection.certificate)).holds


# Why there is none.


def none_of(problem):
    selection = select(problem)
    assert selection.status == "infeasible"
    assert selection.selected == ()
    assert set(selection.assignment) == {prompt.id for prompt in problem.prompts}
    assert not any(selection.assignment.values())
    assert (selection.objective, selection.upper_bound) == (0, 0)
    assert (selection.gap, selection.headroom_gap) == (0, 0)
    assert selection.spent == {"energy_j": 0.0, "latency_ms": {}, "resources": {}}
    assert selection.certificate is None
    json.dumps(selection.as_document(), allow_nan=False)
    return selection.reason


def test_too_little_energy_is_a_reason(three):
    assert none_of(replace(three, budgets=Budgets(1.25))) == (
        "no expert can serve within the budgets: "
        "energy_j: the cheapest expert, 'chat', takes 2, 0.75 above the 1.25 allowed"
    )


def test_too_little_of_a_resource_is_a_reason(three):
    assert none_of(replace(three, budgets=Budgets(5.0, {}, {"mb": 0.25}))) == (
        "no expert can serve within the budgets: "
        "resources.mb: the cheapest expert, 'chat', takes 1, 0.75 above the 0.25 allowed"
    )


def test_too_little_time_in_parallel_is_a_reason(three):
    assert none_of(replace(three, budgets=Budgets(5.0, {"chat": 15.0, "code": 8.0}))) == (
        "no expert can serve within the budgets: "
        "latency_ms.chat: the fastest expert, 'chat', takes 20 ms, 5 above the 15 allowed; "
        "latency_ms.code: the fastest expert, 'chat', takes 10 ms, 2 above the 8 allowed"
    )


def test_too_little_time_in_series_is_a_reason(three):
    budgets = Budgets(5.0, {"chat": 15.0})
    assert none_of(replace(three, budgets=budgets, latency_mode="serial")) == (
        "no expert can serve within the budgets: "
        "latency_ms.chat: the cheapest expert, 'chat', takes 20, 5 above the 15 allowed"
    )


def test_that_everyone_is_too_slow_for_something_is_a_reason():
    experts = [Expert("a", 1.0, {"chat": 1.0, "code": 9.0}),
               Expert("b", 1.0, {"chat": 9.0, "code": 1.0})]  # fmt: skip
    budgets = Budgets(5.0, {"chat": 5.0, "code": 5.0})
    problem = problem_of([[1, 1], [1, 1]], experts, ["chat", "code"], budgets=budgets)
    reason = none_of(replace(problem, ineligible="strict"))
    assert "every expert is too slow for some category" in reason
    assert "'lenient' would use it" in reason
    assert select(problem).objective == 2


def test_that_nobody_keeps_all_budgets_is_a_reason():
    experts = [Expert("a", 1.0, {}, {"mb": 9.0}), Expert("b", 7.0, {}, {"mb": 1.0})]
    problem = problem_of([[1, 1]], experts, budgets=Budgets(5.0, {}, {"mb": 5.0}))
    assert none_of(problem) == (
        "no expert can serve within the budgets: nobody keeps all budgets alone; 'b' comes "
        "nearest and exceeds energy_j by 2"
    )


def test_that_nobody_is_worth_anything_is_a_reason():
    problem = problem_of([[0, 0]], taking(1.0, 1.0), budgets=Budgets(5.0))
    assert none_of(problem) == "no expert is worth anything to any prompt: every quality is 0"


def test_that_the_fast_are_worth_nothing_is_a_reason():
    experts = [Expert("fast", 1.0, {"chat": 1.0}), Expert("slow", 1.0, {"chat": 9.0})]
    problem = problem_of([[0, 1]], experts, budgets=Budgets(None, {"chat": 5.0}))
    assert "no expert that may be on is worth anything" in none_of(problem)


# Solvers.


@pytest.mark.parametrize("solver", SOLVERS)
def test_each_solver_gives_the_same_but_for_greedy(solver):
    for seed in range(3):
        problem = hard_problem(seed, 8, 20)
        best = select(problem)
        selection = select(problem, solver=solver)
        assert best.status == "optimal"
        if solver == "greedy":
            assert selection.objective <= best.objective <= selection.upper_bound
            missing = selection.upper_bound - selection.objective
            assert selection.gap == pytest.approx(missing / selection.objective)
            assert selection.headroom_gap > selection.gap
            continue
        assert selection.status == "optimal"
        assert selection.objective == pytest.approx(best.objective, rel=1e-9)
        assert selection.upper_bound == selection.objective
        assert (selection.certificate is None) == (solver != "exact")


def test_a_solver_that_there_is_not_is_refused():
    with pytest.raises(ProblemError, match="no solver 'simplex'; there are exact, greedy"):
        select(hard_problem(0, 4, 4), solver="simplex")


@pytest.mark.parametrize("solver", ["exact", "brute"])
def test_a_search_that_is_stopped_says_how_far_it_is(solver):
    problem = hard_problem(5)
    best = select(problem).objective
    selection = select(problem, solver=solver, time_limit_s=0, clock=clock_of(*range(1000)))
    assert selection.status == "feasible"
    assert selection.objective <= best <= selection.upper_bound
    missing = selection.upper_bound - selection.objective
    assert selection.gap == pytest.approx(missing / selection.objective)
    if solver == "exact":
        everyone = problem.quality.max(axis=1).sum()
        assert selection.headroom_gap == pytest.approx(missing / (everyone - selection.objective))
        assert check(document(problem), as_json(selection.certificate)).holds
    json.dumps(selection.as_document(), allow_nan=False)


def test_the_time_is_that_of_the_clock():
    problem = problem_of([[1.0]], taking(1.0), budgets=Budgets(0.5))
    assert select(problem, clock=clock_of(10.0, 11.5)).seconds == 1.5


# Laws.


@settings(max_examples=60)
@given(problem=problems(experts=8, prompts=10), data=st.data())
def test_the_order_of_experts_and_prompts_does_not_matter(problem, data):
    experts = data.draw(st.permutations(range(len(problem.experts))))
    prompts = data.draw(st.permutations(range(len(problem.prompts))))
    other = replace(
        problem,
        experts=tuple(problem.experts[i] for i in experts),
        prompts=tuple(problem.prompts[p] for p in prompts),
        quality=problem.quality[np.ix_(prompts, experts)],
    )
    one, two = select(problem), select(other)
    assert one.status == two.status
    assert one.objective == pytest.approx(two.objective, rel=1e-9, abs=1e-12)


@settings(max_examples=60)
@given(problem=problems(experts=8, prompts=10), more=st.floats(1, 3))
def test_more_of_a_budget_is_never_worth_less(problem, more):
    budgets = problem.budgets
    wider = Budgets(
        None if budgets.energy_j is None else budgets.energy_j * more,
        {name: most * more for name, most in budgets.latency_ms.items()},
        {name: most * more for name, most in budgets.resources.items()},
    )
    before = select(problem).objective
    assert select(replace(problem, budgets=wider)).objective >= before * (1 - 1e-9)
