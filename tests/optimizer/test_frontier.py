"""Quality over budgets: more is never worse, and nothing simple beats the exact solver."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from updraft.benchmarks.optimizer.instances import CATEGORIES, instance
from updraft.optimizer.frontier import (
    BEST_SINGLE,
    RANDOM,
    TOP_QUALITY,
    best_single,
    frontier,
    maximal,
    scaled_budgets,
    top_quality,
)
from updraft.optimizer.objective import value_of
from updraft.optimizer.program import formulate
from updraft.optimizer.solvers import brute

SHARES = (0.05, 0.2, 0.5, 1.0)
METHODS = ("exact", BEST_SINGLE, TOP_QUALITY, RANDOM)


def points_of(problem, axis="energy", shares=SHARES):
    points = frontier(problem, axis, shares, {"exact": brute.solve})
    return {method: [p for p in points if p.method == method] for method in METHODS}


@pytest.mark.parametrize("axis", ["energy", "delay"])
@pytest.mark.parametrize("mode", ["serial", "parallel"])
@pytest.mark.parametrize("kind", ["structured", "uniform"])
def test_exact_grows_with_the_budget_and_is_above_all_others(kind, mode, axis):
    found = points_of(instance(kind, 10, 60, 0.4, seed=1, mode=mode), axis)
    exact = found["exact"]
    assert [p.share for p in exact] == list(SHARES)
    assert all(more.quality >= less.quality for less, more in pairwise(exact))
    assert exact[-1].quality > exact[0].quality
    pairs = [pair for m in METHODS[1:] for pair in zip(exact, found[m], strict=True)]
    assert all(best.quality >= other.quality - 1e-9 for best, other in pairs)
    assert any(best.quality > other.quality for best, other in pairs)


def test_shares_are_taken_in_order():
    found = points_of(instance("uniform", 6, 20, 0.4, seed=2), shares=(0.5, 0.1))
    assert [p.share for p in found["exact"]] == [0.1, 0.5]


def test_the_whole_of_an_axis_limits_nothing():
    problem = instance("uniform", 8, 20, 0.3, seed=3)
    problem = replace(problem, budgets=scaled_budgets(problem, "energy", 1.0))
    problem = replace(problem, budgets=scaled_budgets(problem, "delay", 1.0))
    assert formulate(problem).fits(list(range(8)))


def test_the_other_axis_keeps_its_budgets():
    problem = instance("uniform", 8, 20, 0.3, seed=3)
    scaled = scaled_budgets(problem, "energy", 0.5)
    assert scaled.latency_ms == problem.budgets.latency_ms
    assert scaled.energy_j == pytest.approx(0.5 * sum(e.energy_j for e in problem.experts))
    delay = scaled_budgets(problem, "delay", 0.5)
    assert delay.energy_j == problem.budgets.energy_j
    sums = {c: sum(e.latency_ms[c] for e in problem.experts) for c in CATEGORIES}
    assert delay.latency_ms == {c: pytest.approx(0.5 * total) for c, total in sums.items()}


def test_side_by_side_delay_is_that_of_the_slowest():
    problem = instance("uniform", 8, 20, 0.3, seed=3, mode="parallel")
    slowest = {c: max(e.latency_ms[c] for e in problem.experts) for c in CATEGORIES}
    assert scaled_budgets(problem, "delay", 1.0).latency_ms == slowest


def test_a_category_without_prompts_or_with_unknown_delays_is_not_limited():
    problem = instance("uniform", 4, 20, 0.3, seed=3)
    first, *rest = problem.experts
    known = {c: 5.0 for c in CATEGORIES if c != "math"}
    experts = (replace(first, latency_ms=known), *rest)
    prompts = tuple(replace(prompt, category="code") for prompt in problem.prompts)
    budgets = replace(problem.budgets, latency_ms={})
    limited = scaled_budgets(replace(problem, experts=experts, budgets=budgets), "delay", 0.5)
    assert set(limited.latency_ms) == set(CATEGORIES) - {"math"}
    limited = scaled_budgets(replace(problem, prompts=prompts, budgets=budgets), "delay", 0.5)
    assert set(limited.latency_ms) == {"code"}


def test_energy_of_answers_counts_to_the_whole():
    problem = instance("uniform", 5, 10, 0.3, seed=4)
    query = np.full((10, 5), 2.0)
    whole = scaled_budgets(replace(problem, query_energy_j=query), "energy", 1.0).energy_j
    assert whole == pytest.approx(sum(e.energy_j for e in problem.experts) + 10 * 2.0)
    found = points_of(replace(problem, query_energy_j=query))
    assert all(more.quality >= less.quality for less, more in pairwise(found["exact"]))


def test_simple_methods_keep_the_budgets_and_leave_no_room():
    program = formulate(instance("uniform", 12, 30, 0.3, seed=5))
    for chosen in (top_quality(program), maximal(program, np.random.default_rng(0))):
        assert program.fits(chosen)
        others = set(range(12)) - set(chosen)
        assert not any(program.fits([*chosen, i]) for i in others)


def test_the_best_single_is_the_best_of_those_that_fit():
    program = formulate(instance("structured", 12, 30, 0.1, seed=6))
    (best,) = best_single(program)
    fitting = [i for i in range(12) if program.fits([i])]
    assert value_of(program, [best]) == max(value_of(program, [i]) for i in fitting)


def test_with_no_budget_at_all_nothing_is_selected():
    program = formulate(instance("structured", 5, 10, 0.0, seed=7))
    assert best_single(program) == top_quality(program) == []
