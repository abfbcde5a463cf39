"""Seeded selection problems, from what a fleet looks like to what is hardest for a solver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from updraft.optimizer.problem import Budgets, Expert, LatencyMode, Matrix, Problem, Prompt

Kind = Literal["structured", "uniform", "sparse", "unsaturated", "flat"]

CATEGORIES = ("chat", "code", "math", "translation")
# Serial delays: the share of all experts' sum. Side by side: the share of experts in time.
_LATENCY_SHARE = 0.3
_IN_TIME = 0.7
_QUALITY_DECIMALS = 4
_COST_DECIMALS = 2


class Draw(NamedTuple):
    """What is random in a problem.

    Attributes:
        quality: (P, N).
        category: (P,), the number of each prompt's category.
        energy_j: (N,).
        latency_ms: (N, categories).
    """

    quality: Matrix
    category: NDArray[np.intp]
    energy_j: Matrix
    latency_ms: Matrix


def instance(
    kind: Kind,
    experts: int,
    prompts: int,
    share: float,
    seed: int,
    mode: LatencyMode = "serial",
) -> Problem:
    """Draw a problem whose energy budget is a share of what all experts take together.

    In series, each category's delays may sum up to 30% of all experts'; side by side, its budget
    is met by 70% of the experts. Every number is a short decimal, so nothing is rounded later.
    """
    draw = DRAWS[kind](experts, prompts, np.random.default_rng(seed))
    quality = np.round(draw.quality, _QUALITY_DECIMALS)
    energy_j = np.round(draw.energy_j, _COST_DECIMALS)
    latency_ms = np.round(draw.latency_ms, _COST_DECIMALS)
    if mode == "serial":
        limits_ms = _LATENCY_SHARE * latency_ms.sum(axis=0)
    else:
        limits_ms = np.quantile(latency_ms, _IN_TIME, axis=0)
    return Problem(
        experts=tuple(
            Expert(f"e{i}", energy, dict(zip(CATEGORIES, delays, strict=True)))
            for i, (energy, delays) in enumerate(
                zip(energy_j.tolist(), latency_ms.tolist(), strict=True)
            )
        ),
        prompts=tuple(
            Prompt(f"p{i}", CATEGORIES[category]) for i, category in enumerate(draw.category)
        ),
        quality=quality,
        budgets=Budgets(
            energy_j=round(share * float(energy_j.sum()), _COST_DECIMALS),
            latency_ms={
                category: round(float(limit), _COST_DECIMALS)
                for number, (category, limit) in enumerate(zip(CATEGORIES, limits_ms, strict=True))
                if number in draw.category
            },
        ),
        latency_mode=mode,
    )


def structured(experts: int, prompts: int, rng: Generator) -> Draw:
    """A fleet of general models: larger ones are better, slower and hungrier.

    Each has a skill per category that grows with its size; a prompt has a difficulty, and the
    quality is the logistic function of skill less difficulty, as in item response theory.
    """
    category = rng.integers(len(CATEGORIES), size=prompts)
    size = rng.lognormal(0, 0.7, experts)
    skill = 0.6 * np.log(size)[:, None] + rng.normal(0, 1, (experts, len(CATEGORIES)))
    difficulty = rng.normal(0.5, 1.2, prompts)
    noise = rng.normal(0, 0.7, (prompts, experts))
    quality = 1 / (1 + np.exp(difficulty[:, None] - skill[:, category].T - noise))
    return Draw(quality, category, *_taken_by(size, rng))


def uniform(experts: int, prompts: int, rng: Generator) -> Draw:
    """Quality without any structure, so that relaxations are weak; costs grow with size."""
    category = rng.integers(len(CATEGORIES), size=prompts)
    quality = rng.random((prompts, experts))
    return Draw(quality, category, *_taken_by(rng.lognormal(0, 0.8, experts), rng))


def sparse(experts: int, prompts: int, rng: Generator) -> Draw:
    """Skills or tools that a prompt needs or not: an expert answers 8% of prompts, else none."""
    answers = rng.random((prompts, experts)) < 0.08
    drawn = uniform(experts, prompts, rng)
    return drawn._replace(quality=(0.3 + 0.7 * drawn.quality) * answers)


def flat(experts: int, prompts: int, rng: Generator) -> Draw:
    """Quality and every cost drawn apart from each other: the worst case of any bound we know.

    No fleet is like it: experts are as good as interchangeable.
    """
    drawn = uniform(experts, prompts, rng)
    return drawn._replace(
        energy_j=rng.uniform(1, 10, experts),
        latency_ms=rng.uniform(10, 100, (experts, len(CATEGORIES))),
    )


def unsaturated(experts: int, prompts: int, rng: Generator) -> Draw:
    """A library of fine-tuned specialists: far more topics than any budget admits.

    Each expert knows two topics that no other knows, and is weak elsewhere; prompts ask for
    topics with the long tail of real traffic. So each expert left out is missed, and a selection
    stays far from the quality of all.
    """
    topics = 2 * experts
    popularity = 1 / np.sqrt(1 + np.arange(topics))
    topic = rng.choice(topics, prompts, p=popularity / popularity.sum())
    owned = rng.permuted(np.arange(topics)).reshape(experts, 2)
    knows = (owned[None, :, :] == topic[:, None, None]).any(axis=2)
    quality = np.where(
        knows,
        rng.uniform(0.6, 0.98, (prompts, experts)),
        rng.uniform(0.05, 0.25, (prompts, experts)),
    )
    return Draw(quality, topic % len(CATEGORIES), *_taken_by(rng.lognormal(0, 0.4, experts), rng))


def integral(experts: int, prompts: int, rng: Generator) -> Draw:
    """Small whole numbers, many of them equal: sums are exact, and ties are everywhere."""
    return Draw(
        rng.integers(0, 12, (prompts, experts)).astype(float),
        rng.integers(len(CATEGORIES), size=prompts),
        rng.integers(0, 10, experts).astype(float),
        rng.integers(1, 10, (experts, len(CATEGORIES))).astype(float),
    )


def _taken_by(size: Matrix, rng: Generator) -> tuple[Matrix, Matrix]:
    """Return energy, in proportion to size, and delays, which batching makes grow less."""
    spread = rng.uniform(0.6, 1.4, (len(size), len(CATEGORIES)))
    return 10 * size * rng.uniform(0.7, 1.3, len(size)), 100 * size[:, None] ** 0.7 * spread


DRAWS: dict[Kind, Callable[[int, int, Generator], Draw]] = {
    "structured": structured,
    "uniform": uniform,
    "sparse": sparse,
    "unsaturated": unsaturated,
    "flat": flat,
}
