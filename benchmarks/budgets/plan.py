"""What is measured: planners, budgets, lengths of days, and how much of it in each tier."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from updraft.benchmarks.budgets.policies import OURS

TierName = Literal["quick", "default", "long"]

ALL_ON = "all on"
RIVALS = ("greedy", "top-k", "best single", "random")
# Of the power that all experts on draw; at this one the quality is promised.
HALF = 0.5


class Cell(NamedTuple):
    """One day to play.

    Attributes:
        share: of the power of `ALL_ON`; None: no limit.
        per_token_ms: budget of latency.
    """

    policy: str
    share: float | None
    per_token_ms: float


@dataclass(frozen=True)
class Tier:
    """How much is measured.

    Attributes:
        budgets: (per_token_ms, shares of power) to sweep.
        seeds: days with other prompts at other times.
    """

    name: TierName
    day_s: float
    prompts: int
    budgets: tuple[tuple[float, tuple[float, ...]], ...]
    rivals: tuple[str, ...] = RIVALS
    seeds: int = 1

    def references(self) -> Iterator[Cell]:
        """Give the days without a limit of power; what shares are of comes first."""
        for per_token_ms, _ in self.budgets:
            yield Cell(ALL_ON, None, per_token_ms)
            yield Cell(OURS, None, per_token_ms)

    def cells(self) -> Iterator[Cell]:
        """Give the days of the sweep."""
        for per_token_ms, shares in self.budgets:
            for share in shares:
                for policy in (OURS, *self.rivals):
                    yield Cell(policy, share, per_token_ms)


# Every device is quick enough for the first budget of latency, one is not for the second, and
# only the largest are for the third.
_LOOSE_MS, _MIDDLE_MS, _TIGHT_MS = 40.0, 12.0, 6.0

TIERS: dict[TierName, Tier] = {
    "quick": Tier("quick", 24, 200, ((_LOOSE_MS, (HALF,)),), rivals=("greedy",)),
    "default": Tier(
        "default",
        30,
        300,
        (
            (_LOOSE_MS, (0.25, 0.35, HALF, 0.7)),
            (_MIDDLE_MS, (HALF,)),
        ),
    ),
    "long": Tier(
        "long",
        120,
        1200,
        (
            (_LOOSE_MS, (0.15, 0.2, 0.25, 0.3, 0.4, HALF, 0.6, 0.8)),
            (_MIDDLE_MS, (0.2, 0.3, 0.4, HALF, 0.7)),
            (_TIGHT_MS, (0.3, HALF)),
        ),
        seeds=3,
    ),
}
