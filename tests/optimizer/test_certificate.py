"""Certificates of solutions: exact, complete, and refused once anything in them is changed."""

import json
import runpy
from copy import deepcopy
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from updraft.optimizer.certificates.certificate import FORMAT, certificate
from updraft.optimizer.certificates.check import check
from updraft.optimizer.problem import Budgets, Expert, Problem, Prompt
from updraft.optimizer.program import formulate
from updraft.optimizer.solvers import brute, exact, greedy

made = runpy.run_path(str(Path(__file__).with_name("problems.py")))
hard_problem, as_json, document = made["hard_problem"], made["as_json"], made["document"]


def certified(problem, solve=exact.solve, **how):
    program = formulate(problem)
    return as_json(certificate(problem, program, solve(program, **how)))


def with_twin(problem):
    """Add an expert that is as good as the last one and takes more."""
    last = problem.experts[-1]
    twin = replace(last, id="twin", energy_j=last.energy_j + 1)
    quality = np.hstack([problem.quality, problem.quality[:, -1:]])
    return replace(problem, experts=(*problem.experts, twin), quality=quality)


@pytest.fixture(scope="module")
def proved():
    """A problem with splits, fixes and a dominated expert in its certificate; both as JSON."""
    problem = with_twin(hard_problem(2))
    claims = certified(problem)
    kinds = {next(iter(step)) for step in claims["tree"]}
    assert kinds == {"split", "fix", "leaf"}
    assert claims["dominated"] == [["twin", "e11"]]
    asked = document(problem)
    assert check(asked, claims).holds
    return asked, claims


# What it says.


def one_prompt(quality, weight, *, energy_j=None, query_energy_j=None, ranks=(1.0,)):
    count = len(quality)
    return Problem(
        tuple(Expert(f"e{i}", 1.0) for i in range(count)),
        (Prompt("p0", "", weight),),
        np.array([quality]),
        Budgets(energy_j),
        ranks,
        query_energy_j=None if query_energy_j is None else np.array([query_energy_j]),
    )


@pytest.mark.parametrize(
    ("quality", "weight", "ranks", "objective"),
    [
        ([0.1], 3.0, (1.0,), "3/10"),
        ([0.1], 0.1, (1.0,), "1/100"),
        ([0.1, 0.7], 3.0, (1.0,), "21/10"),
        ([0.1, 0.7, 0.2], 1.0, (0.7, 0.1), "51/100"),
        ([1 / 3], 1.0, (1.0,), "3333333333333333/10000000000000000"),
        ([0.0], 1.0, (1.0,), "0"),
        ([0.5], 0.0, (1.0,), "0"),
    ],
)
def test_its_objective_is_that_of_the_decimals_as_they_are_written(
    quality, weight, ranks, objective
):
    problem = one_prompt(quality, weight, ranks=ranks)
    claims = certified(problem)
    assert claims["objective"] == objective
    assert Fraction(claims["upper_bound"]) >= Fraction(objective)
    assert check(document(problem), claims).holds


def test_it_names_experts_by_their_ids_and_numbers_exactly(proved):
    asked, claims = proved
    ids = {expert["id"] for expert in asked["experts"]}
    assert claims["format"] == FORMAT
    assert set(claims["selected"]) < ids
    assert {step["split"] for step in claims["tree"] if "split" in step} < ids
    assert Fraction(claims["unit"]) == Fraction(1, 1000)
    for point in claims["points"]:
        assert [len(u) for u in point["u"]] == [len(asked["prompts"])]
        assert all(type(multiple) is int for u in point["u"] for multiple in u)
        assert set(point["prices"]) <= {"energy_j", "latency_ms.code", "resources.mb"}
        assert all(Fraction(price) > 0 for price in point["prices"].values())
    assert "assignment" not in claims


def test_a_proof_of_rank_weights_has_a_list_for_each_step():
    problem = hard_problem(2, ranks=(2.0, 1.0))
    assert {len(point["u"]) for point in certified(problem)["points"]} == {2}


def test_where_answers_cost_energy_it_says_who_answers_what():
    problem = one_prompt([0.9, 0.4], 2.0, energy_j=2.0, query_energy_j=[3.0, 0.5])
    claims = certified(problem)
    # There is 1 J left beside one of them: e0 answers a sixth of the requests for it, e1 all.
    assert claims["selected"] == ["e1"]
    assert claims["assignment"] == {"p0": [["e1", "1"]]}
    assert claims["objective"] == "4/5"
    assert check(document(problem), claims).holds
    more = {"p0": [["e1", "1"], ["e0", "1"]]}
    assert not check(document(problem), claims | {"assignment": more}).holds


def test_a_share_of_a_prompt_never_passes_the_budget():
    problem = one_prompt([0.9], 1.0, energy_j=1.7, query_energy_j=[0.9])
    claims = certified(problem)
    [[_, share]] = claims["assignment"]["p0"]
    assert Fraction(7, 9) * (1 - Fraction(1, 10**11)) < Fraction(share) < Fraction(7, 9)
    assert check(document(problem), claims).holds


def test_a_solver_without_a_proof_gives_none():
    problem = hard_problem(2)
    program = formulate(problem)
    assert certificate(problem, program, brute.solve(program)) is None


def test_one_of_the_greedy_solver_has_one_leaf_and_holds():
    problem = hard_problem(2)
    claims = certified(problem, greedy.solve)
    assert claims["tree"] == [{"leaf": 0}]
    verdict = check(document(problem), claims)
    assert verdict.holds
    assert not verdict.exact


# What is changed is refused.


def parts(claims, asked):
    """Give the place in the tree of each step, and who is out and in there, by name."""
    order = [expert["id"] for expert in asked["experts"]]
    waiting = [(set(), set())]
    for place, step in enumerate(claims["tree"]):
        out, into = waiting.pop()
        yield place, step, _path(order, out, into)
        if "split" in step:
            one = {step["split"]}
            waiting += [(out, into | one), (out | one, into)]
        elif "fix" in step:
            waiting.append((out | {*step["fix"]["out"]}, into | {*step["fix"]["in"]}))


def _path(order, out, into):
    sides = [
        f"{word}: {', '.join(sorted(side, key=order.index))}"
        for word, side in (("out", out), ("in", into))
        if side
    ]
    return " / ".join(sides) or "the whole problem"


def refused(asked, claims):
    verdict = check(asked, as_json(claims))
    assert not verdict.holds
    assert verdict.reason
    return verdict


def test_the_path_names_each_part_that_is_not_bounded(proved):
    asked, claims = proved
    prompts = len(asked["prompts"])
    nothing = {"u": [[0] * prompts], "prices": {}}
    leaves = 0
    for place, step, path in parts(claims, asked):
        if "leaf" not in step:
            continue
        changed = deepcopy(claims)
        # At u = 0 every expert counts for all that it is worth.
        changed["points"].append(nothing)
        changed["tree"][place] = {"leaf": len(claims["points"])}
        verdict = check(asked, changed)
        if verdict.holds:  # nobody may be on here any more
            continue
        leaves += 1
        assert verdict.path == f"{path} (tree entry {place})"
        assert "above upper_bound" in verdict.reason
    assert leaves >= 3


def test_the_path_names_an_expert_that_is_fixed_without_a_reason(proved):
    asked, claims = proved
    fixes = [(place, path) for place, step, path in parts(claims, asked) if "fix" in step]
    place, path = fixes[0]
    changed = deepcopy(claims)
    fix = changed["tree"][place]["fix"]
    fix["in"], fix["out"] = fix["out"], fix["in"]
    verdict = refused(asked, changed)
    assert verdict.path.endswith(f"(tree entry {place})")
    fixed = (fix["in"] + fix["out"])[0]
    assert fixed in verdict.path
    assert fixed not in path


def test_a_part_that_is_left_out_is_named(proved):
    asked, claims = proved
    *_, (place, _, path) = parts(claims, asked)
    changed = deepcopy(claims)
    del changed["tree"][place]
    assert refused(asked, changed).path == path


def test_a_part_too_many_is_refused(proved):
    asked, claims = proved
    changed = deepcopy(claims)
    changed["tree"].append({"leaf": "all"})
    assert "tree goes on" in refused(asked, changed).reason


def _lower_bound(claims):
    claims["upper_bound"] = claims["objective"]


def _higher_objective(claims):
    claims["objective"] = str(Fraction(claims["objective"]) + Fraction(1, 10**6))
    claims["upper_bound"] = str(Fraction(claims["upper_bound"]) + Fraction(1, 10**6))


def _one_less_selected(claims):
    claims["selected"].pop()


def _all_selected(claims):
    claims["selected"] = [f"e{i}" for i in range(12)]


def _free_of_charge(claims):
    for point in claims["points"]:
        point["prices"] = {}


def _lower_u(claims):
    for point in claims["points"]:
        point["u"] = [[0] * len(u) for u in point["u"]]


def _finer_unit(claims):
    claims["unit"] = str(Fraction(claims["unit"]) / 2)


def _other_dominated(claims):
    claims["dominated"] = [["e11", "twin"]]


def _one_leaf(claims):
    claims["tree"] = [{"leaf": 0}]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_lower_bound, "above upper_bound"),
        (_higher_objective, "selected is worth"),
        (_one_less_selected, "selected is worth"),
        (_all_selected, "more than the budget"),
        (_free_of_charge, "above upper_bound"),
        (_lower_u, "above upper_bound"),
        (_finer_unit, "above upper_bound"),
        (_other_dominated, "takes less of a budget"),
        (_one_leaf, "above upper_bound"),
    ],
)
def test_a_changed_certificate_is_refused(proved, change, reason):
    asked, claims = proved
    changed = deepcopy(claims)
    change(changed)
    assert reason in refused(asked, changed).reason


def _more_energy(asked):
    asked["budgets"]["energy_j"] += 20


def _better(asked):
    for row in asked["quality"]:
        row[5] = 1


def _heavier(asked):
    asked["prompts"][0]["weight"] = 2


@pytest.mark.parametrize("change", [_more_energy, _better, _heavier])
def test_a_certificate_of_another_problem_is_refused(proved, change):
    asked, claims = proved
    other = json.loads(json.dumps(asked))
    change(other)
    refused(other, claims)
