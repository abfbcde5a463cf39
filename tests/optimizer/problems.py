"""Small selection problems at random, for tests that compare a solver with all selections."""

import json

import numpy as np

from updraft.optimizer.document import document_of
from updraft.optimizer.problem import Budgets, Expert, Problem, Prompt

CATEGORIES = ("chat", "code")
WEIGHTS = {0: (1, 2, 5), 1: (1, 0.5, 3), 3: (1, 0, 0.125), 17: (1, 0.3, 1 / 3)}


def random_problem(
    seed, experts, prompts, *, digits=1, ranks=(1.0,), mode="parallel", strict=False, query=False
):
    """Return a problem with about half of its experts affordable, many ties and many zeros.

    Args:
        digits: decimals of qualities and costs; 17 for doubles that are no short decimals.
        query: whether answers cost energy.
    """
    rng = np.random.default_rng(seed)
    number = _numbers(rng, digits)
    quality = number((prompts, experts)) * (rng.random((prompts, experts)) < 0.8)
    taken = number((4, experts)) * (rng.random((4, experts)) < 0.9)
    _repeat(rng, [quality, taken], axis=1)
    _repeat(rng, [quality], axis=0)
    categories = [str(rng.choice(CATEGORIES)) for _ in range(prompts)]
    share = rng.choice([0, 0.2, 0.5, 0.5, 0.8, 2])
    limit = (taken.sum(axis=1) * share).round(min(digits, 3)).tolist()
    latency = {name: limit[k] for k, name in enumerate(CATEGORIES) if rng.random() < 0.7}
    if mode == "parallel":
        latency = {name: float(np.quantile(taken[0], 0.8)) for name in latency}
    on = rng.random(2) < 0.8
    return Problem(
        tuple(
            Expert(f"e{i}", float(energy), dict(zip(CATEGORIES, both, strict=True)), {"mb": mb})
            for i, (*both, energy, mb) in enumerate(taken.T.tolist())
        ),
        tuple(
            Prompt(f"p{p}", category, float(rng.choice(WEIGHTS[digits])))
            for p, category in enumerate(categories)
        ),
        quality,
        Budgets(
            limit[2] if on[0] or query else None,
            {name: most for name, most in latency.items() if name in categories},
            {"mb": limit[3]} if on[1] else {},
        ),
        ranks,
        mode,
        "strict" if strict else "lenient",
        number((prompts, experts)) if query else None,
    )


def as_json(document):
    """Return a document as it comes back from a file."""
    return json.loads(json.dumps(document))


def document(problem):
    """Return the problem's document, as it comes back from a file."""
    return as_json(document_of(problem))


def _numbers(rng, digits):
    if digits == 0:
        return lambda shape: rng.integers(0, 10, shape).astype(float)
    if digits > 15:
        return rng.random
    return lambda shape: rng.random(shape).round(digits)


def _repeat(rng, tables, axis):
    """Make a third of the rows or columns copies of others."""
    size = tables[0].shape[axis]
    copies = np.where(rng.random(size) < 0.3, rng.integers(0, size, size), np.arange(size))
    for table in tables:
        table[:] = table.take(copies, axis=axis)
