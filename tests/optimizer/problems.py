"""Small selection problems at random, for tests that compare a solver with all selections."""

import json

import numpy as np
from hypothesis import strategies as st

from updraft.optimizer.document import document_of
from updraft.optimizer.problem import Budgets, Expert, Problem, Prompt
from updraft.optimizer.program import Layer, Program, Row

CATEGORIES = ("chat", "code")
RANKS = ((1.0,), (3.0, 0.0), (2.0, 1.0), (1.0, 1.0), (0.7, 0.2, 0.1), (1.0, 0.5, 0.5))
ONE_LAYER = (Layer(1, 1.0),)
# Weights of prompts by the decimals of a problem.
WEIGHTS = {0: (1, 2, 5), 1: (1, 0.5, 3), 3: (1, 0, 0.125), 17: (1, 0.3, 1 / 3)}


def program(value, cost=(), limit=(), layers=ONE_LAYER, open_=None, query_cost=None):
    """Return a program whose costs are whole units."""
    value = np.array(value, dtype=float)
    cost = np.array(cost, dtype=float).reshape(len(limit), len(value))
    rows = tuple(Row(f"resources.{k}", float(most), 1.0) for k, most in enumerate(limit))
    open_ = np.ones(len(value), dtype=bool) if open_ is None else np.array(open_)
    return Program(value, tuple(layers), cost, rows, open_, query_cost)


@st.composite
def problems(draw, experts=12, prompts=20, digits=(0, 1, 3, 17), ranks=RANKS, query=False):
    """Give problems of all kinds; with 17 digits numbers are no short decimals."""
    count = draw(st.integers(1, experts))
    return random_problem(
        draw(st.integers(0, 2**32)),
        count,
        draw(st.integers(1, prompts)),
        digits=draw(st.sampled_from(digits)),
        ranks=draw(st.sampled_from([weights for weights in ranks if len(weights) <= count])),
        mode=draw(st.sampled_from(["parallel", "serial"])),
        ineligible=draw(st.sampled_from(["lenient", "strict"])),
        query=query,
    )


def random_problem(
    seed,
    experts,
    prompts,
    *,
    digits=1,
    ranks=(1.0,),
    mode="parallel",
    ineligible="lenient",
    query=False,
):
    """Return a problem with twin experts and prompts, zeros, and budgets from none to plenty."""
    rng = np.random.default_rng(seed)
    number = _numbers(rng, digits)
    quality = number((prompts, experts)) * (rng.random((prompts, experts)) < 0.8)
    taken = number((4, experts)) * (rng.random((4, experts)) < 0.9)
    _repeat(rng, [quality, taken], axis=1)
    _repeat(rng, [quality], axis=0)
    limit = [_limit(rng, row, digits) for row in taken]
    categories = [str(rng.choice(CATEGORIES)) for _ in range(prompts)]
    latency = {name: limit[k] for k, name in enumerate(CATEGORIES) if name in categories}
    if mode == "parallel":
        latency = {name: float(rng.choice(np.sort(taken[0])[experts // 2 :])) for name in latency}
    limited = rng.random(4) < 0.7
    return Problem(
        tuple(
            Expert(f"e{i}", energy, dict(zip(CATEGORIES, both, strict=True)), {"mb": mb})
            for i, (*both, energy, mb) in enumerate(taken.T.tolist())
        ),
        tuple(
            Prompt(f"p{p}", category, float(rng.choice(WEIGHTS[digits])))
            for p, category in enumerate(categories)
        ),
        quality,
        Budgets(
            limit[2] if limited[2] or query else None,
            {name: most for k, (name, most) in enumerate(latency.items()) if limited[k]},
            {"mb": limit[3]} if limited[3] else {},
        ),
        ranks,
        mode,
        ineligible,
        number((prompts, experts)) if query else None,
    )


def hard_problem(seed, experts=12, prompts=60, *, digits=3, ranks=(1.0,), share=0.4):
    """Return a problem whose search is long: experts differ little, and three budgets are tight."""
    rng = np.random.default_rng(seed)
    quality = _numbers(rng, digits)((prompts, experts))
    taken = rng.integers(20, 100, (3, experts)) / 10
    energy, code, memory = (taken.sum(axis=1) * share).round(1).tolist()
    return Problem(
        tuple(
            Expert(f"e{i}", energy_j, {"code": code_ms}, {"mb": mb})
            for i, (energy_j, code_ms, mb) in enumerate(taken.T.tolist())
        ),
        tuple(Prompt(f"p{p}", CATEGORIES[p % 2], 1.0) for p in range(prompts)),
        quality,
        Budgets(energy, {"code": code}, {"mb": memory}),
        ranks,
        "serial",
    )


def as_json(document):
    """Return a document as it comes back from a file."""
    return json.loads(json.dumps(document, allow_nan=False))


def document(problem):
    """Return a problem's document as it comes back from a file."""
    return as_json(document_of(problem))


def _numbers(rng, digits):
    if digits == 0:
        return lambda shape: rng.integers(0, 10, shape).astype(float)
    if digits > 15:
        return rng.random
    return lambda shape: rng.random(shape).round(digits)


def _limit(rng, taken, digits):
    """Return a share of what all take, or just what some of them take."""
    if rng.random() < 0.7:
        return float((taken.sum() * rng.choice([0, 0.2, 0.5, 0.8, 1.1])).round(min(digits, 3)))
    some = rng.permutation(len(taken))[: 1 if digits > 15 else max(1, len(taken) // 2)]
    return float(taken[some].sum().round(digits))


def _repeat(rng, tables, axis):
    """Make a third of the rows or columns copies of others."""
    size = tables[0].shape[axis]
    copies = np.where(rng.random(size) < 0.3, rng.integers(0, size, size), np.arange(size))
    for table in tables:
        table[:] = table.take(copies, axis=axis)
