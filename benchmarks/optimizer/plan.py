"""What is measured: sizes, kinds, budgets, seeds and rivals, and how much of it in each tier."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeVar

from updraft.benchmarks.optimizer.instances import Kind

TierName = Literal["quick", "default", "long"]

# What figures are promised for. The worst case, `FLAT`, is measured beside them.
KINDS: tuple[Kind, ...] = ("structured", "uniform", "sparse", "unsaturated")
FLAT: Kind = "flat"
# Of all experts' energy.
SHARES = (0.1, 0.25, 0.5)
SEEDS = 5

HIGHS, BENDERS, CBC, CP_SAT = "HiGHS", "HiGHS, Benders", "CBC", "CP-SAT"
OURS = "Updraft"

T = TypeVar("T")
# Gives the items, and shows how far it is under a name.
Track = Callable[[Sequence[T], str], Iterator[T]]


class Case(NamedTuple):
    """One instance of a size."""

    kind: Kind
    share: float
    seed: int


@dataclass(frozen=True)
class Rival:
    """A solver beside ours, on the first `seeds` of a contest's instances of some kinds."""

    name: str
    seeds: int
    limit_s: float
    shares: tuple[float, ...] = (0.25,)
    kinds: tuple[Kind, ...] = ("structured", "uniform", "flat")

    def runs(self, case: Case) -> bool:
        """Whether it is one of its instances."""
        return case.seed < self.seeds and case.share in self.shares and case.kind in self.kinds


@dataclass(frozen=True)
class Contest:
    """One size: ours on every instance, rivals on some.

    Attributes:
        limit_s: of ours.
    """

    experts: int
    prompts: int
    kinds: tuple[Kind, ...]
    limit_s: float
    rivals: tuple[Rival, ...] = ()
    shares: tuple[float, ...] = SHARES
    seeds: int = SEEDS

    @property
    def name(self) -> str:
        """N × P."""
        return f"{self.experts} × {self.prompts}"


@dataclass(frozen=True)
class Large:
    """Thousands of experts, for greedy and its certificate."""

    experts: int
    prompts: int
    shares: tuple[float, ...]
    seeds: int


@dataclass(frozen=True)
class Growth:
    """How greedy's time grows with the number of experts, at fixed prompts."""

    experts: tuple[int, ...]
    prompts: int
    seeds: int


@dataclass(frozen=True)
class Replanning:
    """One expert gone, or one budget changed: from the last plan, and from nothing."""

    experts: int
    prompts: int
    kinds: tuple[Kind, ...]
    share: float
    seeds: int
    limit_s: float


@dataclass(frozen=True)
class Frontiers:
    """Quality over budgets, each in percent of what all experts take together."""

    experts: int
    prompts: int
    kind: Kind
    percents: tuple[int, ...]
    limit_s: float


@dataclass(frozen=True)
class Tier:
    """How much is measured.

    Attributes:
        equality: instances on which ours is compared with brute force.
        gate_seeds: problems on which the gate's regret is measured.
    """

    name: TierName
    equality: int
    contests: tuple[Contest, ...]
    large: Large
    growth: Growth
    replanning: Replanning
    frontiers: Frontiers
    gate_seeds: int


def _rivals(highs: int, others: int, limit_s: float) -> tuple[Rival, ...]:
    """Return the rivals with their seeds."""
    counts = {HIGHS: highs, BENDERS: highs, CBC: others, CP_SAT: others}
    return tuple(Rival(name, seeds, limit_s) for name, seeds in counts.items() if seeds)


def _everywhere(rivals: tuple[Rival, ...]) -> tuple[Rival, ...]:
    """Return rivals that run at every budget."""
    return tuple(replace(rival, shares=SHARES) for rival in rivals)


_BOTH: tuple[Kind, ...] = ("structured", "uniform")

TIERS: dict[TierName, Tier] = {
    "quick": Tier(
        "quick",
        equality=150,
        contests=(
            Contest(20, 1000, _BOTH, 2, _rivals(1, 1, 5), shares=(0.25,), seeds=2),
            Contest(50, 1000, _BOTH, 5, _rivals(1, 0, 5), shares=(0.25,), seeds=1),
        ),
        large=Large(2000, 1000, (0.25,), seeds=1),
        growth=Growth((1000, 2000, 4000), 300, seeds=1),
        replanning=Replanning(30, 1000, _BOTH, 0.25, seeds=1, limit_s=10),
        frontiers=Frontiers(20, 300, "structured", (5, 10, 25, 50, 100), limit_s=5),
        gate_seeds=0,
    ),
    "default": Tier(
        "default",
        equality=1200,
        contests=(
            Contest(20, 1000, (*KINDS, FLAT), 2, _rivals(1, 1, 10)),
            Contest(30, 1000, (*KINDS, FLAT), 4, _rivals(1, 0, 10)),
            Contest(50, 1000, KINDS, 6, _rivals(2, 1, 20)),
            Contest(60, 1000, _BOTH, 6, _rivals(1, 0, 10)),
            Contest(100, 1000, _BOTH, 10, _rivals(1, 0, 10)),
            Contest(100, 200, ("uniform",), 6, _rivals(2, 1, 10)),
            Contest(100, 200, (FLAT,), 6, _rivals(1, 0, 20), shares=(0.25,), seeds=3),
            Contest(50, 1000, (FLAT,), 6, _rivals(1, 0, 20), shares=(0.25,), seeds=2),
        ),
        large=Large(5000, 2000, SHARES, SEEDS),
        growth=Growth((1000, 2000, 5000, 10000), 500, seeds=2),
        replanning=Replanning(50, 1000, KINDS, 0.25, seeds=SEEDS, limit_s=3),
        frontiers=Frontiers(50, 500, "structured", (2, 5, 10, 15, 25, 35, 50, 75, 100), limit_s=10),
        gate_seeds=1,
    ),
    "long": Tier(
        "long",
        equality=5000,
        contests=(
            *(
                Contest(experts, 1000, (*KINDS, FLAT), 110, _everywhere(_rivals(SEEDS, 1, 110)))
                for experts in (20, 30, 50, 60)
            ),
            Contest(100, 1000, KINDS, 10, _everywhere(_rivals(2, 1, 110))),
            Contest(100, 200, KINDS, 110, _everywhere(_rivals(SEEDS, 1, 110))),
        ),
        large=Large(5000, 2000, SHARES, 10),
        growth=Growth((1000, 2000, 5000, 10000), 1000, seeds=SEEDS),
        replanning=Replanning(50, 1000, KINDS, 0.25, seeds=10, limit_s=110),
        frontiers=Frontiers(
            60, 1000, "structured", (2, 5, 10, 15, 25, 35, 50, 75, 100), limit_s=110
        ),
        gate_seeds=SEEDS,
    ),
}
