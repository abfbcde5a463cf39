"""What is measured, and how much of it in each tier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from updraft.benchmarks.engine.contenders import OURS, RIVALS, Contender
from updraft.benchmarks.engine.shapes import LLAMA32_1B, QWEN3_06B, QWEN25_05B, SMALL, Shape

TierName = Literal["quick", "default", "long"]

SEED = 0
PROMPT_TOKENS = 128


@dataclass(frozen=True)
class Case:
    """One shape.

    Attributes:
        tokens: decoded in each text.
        rounds: texts of each contender, one after another in turn.
        cold_starts: fresh processes of each contender, likewise.
    """

    shape: Shape
    tokens: int
    rounds: int
    cold_starts: int
    contenders: tuple[Contender, ...] = (*OURS, *RIVALS)

    def prompt(self, number: int) -> list[int]:
        """Return a prompt of random tokens, so that no cache of prefixes has seen it."""
        rng = np.random.default_rng((SEED, number))
        # Without the last token, which ends a text.
        return rng.integers(self.shape.vocabulary_size - 1, size=PROMPT_TOKENS).tolist()


@dataclass(frozen=True)
class Tier:
    """How much is measured."""

    name: TierName
    cases: Sequence[Case]


TIERS: dict[TierName, Tier] = {
    "quick": Tier("quick", (Case(SMALL, tokens=128, rounds=5, cold_starts=1),)),
    "default": Tier(
        "default",
        (
            Case(QWEN25_05B, tokens=65, rounds=8, cold_starts=3),
            Case(SMALL, tokens=257, rounds=12, cold_starts=2),
        ),
    ),
    "long": Tier(
        "long",
        (
            Case(QWEN25_05B, tokens=129, rounds=24, cold_starts=5),
            Case(SMALL, tokens=513, rounds=40, cold_starts=5),
            Case(QWEN3_06B, tokens=65, rounds=16, cold_starts=3),
            Case(LLAMA32_1B, tokens=65, rounds=16, cold_starts=3),
        ),
    ),
}
