"""What one run of the benchmark gave: as tables, JSON, Markdown and plots."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from updraft.benchmarks.gate.results import Row, regret_table
from updraft.benchmarks.measures.goals import Goal, goal_table
from updraft.benchmarks.measures.report import commit, machine, now, write
from updraft.benchmarks.optimizer.contests import Heat, contest_table
from updraft.benchmarks.optimizer.equality import Difference, equality_table
from updraft.benchmarks.optimizer.instances import Kind
from updraft.benchmarks.optimizer.large import Grown, LargeRun, growth_table, large_table, slope
from updraft.benchmarks.optimizer.plan import BENDERS, FLAT, HIGHS, KINDS, Tier
from updraft.benchmarks.optimizer.replanning import Replan, replan_table
from updraft.models.card import Table
from updraft.optimizer.frontier import FrontierPoint

_PACKAGES = ("numpy", "numba", "highspy", "pulp")
_GAP_AT_100 = 0.0005


@dataclass(frozen=True)
class Setting:
    """Where figures come from: without it they cannot be compared."""

    tier: str
    commit: str
    machine: str
    versions: dict[str, str]
    seed: str = "0, 1, … for each kind, size and budget"
    measured: str = field(default_factory=now)

    @classmethod
    def here(cls, tier: Tier) -> Setting:
        return cls(tier.name, commit(), machine(), dict(_versions()))


@dataclass
class Results:
    """Everything that one run measured.

    Attributes:
        warm_up_s: what compiling our kernels took, before anything was timed.
        gate: one gate against retrained ones, a row for each selection.
        left_out: what could not be measured, and why.
    """

    setting: Setting
    warm_up_s: float
    equality: list[Difference]
    heats: list[Heat]
    large: list[LargeRun]
    growth: list[Grown]
    replans: list[Replan]
    gate: list[Row]
    frontiers: list[FrontierPoint]
    left_out: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def faults(self) -> list[str]:
        """What was to be exact and is not."""
        return [
            *(each.fault for each in self.equality if each.fault),
            *(fault for heat in self.heats for fault in heat.faults),
            *(fault for run in self.large for fault in run.faults),
            *(fault for replan in self.replans for fault in replan.faults),
        ]

    def goals(self) -> list[Goal]:
        """Return the figures to reach, with what was reached."""
        different = sum(bool(each.fault) for each in self.equality)
        goals = [
            Goal(
                f"different from brute force, of {len(self.equality)} instances",
                0,
                "",
                [float(different)] if self.equality else [],
            )
        ]
        for experts, wanted_s in ((20, 0.1), (30, 0.2), (50, 1.5), (60, 3.0)):
            seconds = [heat.ours_s for heat in self._heats(experts)]
            goals.append(Goal(f"{experts} × 1000 proved and checked", wanted_s, "s", seconds))
        goals += [
            Goal(f"50 × 1000, {name} ÷ ours", 10, "×", self._ratios(50, 1000, rivals), True)
            for name, rivals in (
                ("HiGHS", (HIGHS,)),
                ("the faster HiGHS, plain or Benders,", (HIGHS, BENDERS)),
            )
        ]
        gaps = [heat.ours.gap for heat in self._heats(100)]
        goals.append(Goal("100 × 1000, gap after 10 s at most", _GAP_AT_100, "%", gaps))
        large = self.large
        return [
            *goals,
            *(
                Goal(
                    f"100 × 200 {kind}, the faster HiGHS ÷ ours (to report)",
                    1,
                    "×",
                    self._ratios(100, 200, (HIGHS, BENDERS), (kind,)),
                    at_least=True,
                )
                for kind in ("uniform", FLAT)
            ),
            Goal("thousands: greedy", 0.2, "s", [run.greedy_s for run in large]),
            Goal(
                "thousands: naive evaluations ÷ greedy's",
                10,
                "×",
                [run.naive_evaluations / run.evaluations for run in large],
                at_least=True,
            ),
            Goal("thousands: certificate", 2, "s", [run.certificate_s for run in large]),
            Goal("thousands: gap", 0.01, "%", [run.gap for run in large]),
            Goal("thousands: headroom gap", 0.1, "%", [run.headroom_gap for run in large]),
            Goal("slope of greedy's time over experts, log-log", 1.2, "", _slopes(self.growth)),
            Goal("re-planning, warm ÷ cold", 0.2, "%", [each.ratio for each in self.replans]),
            Goal(
                "gate: loss of restricting to retraining",
                0.01,
                "%",
                [1 - row.restricted / row.retrained for row in self.gate],
            ),
            Goal(
                "gate: loss to the best of all ways to retrain",
                0.01,
                "%",
                [row.regret for row in self.gate],
            ),
        ]

    def tables(self) -> list[Table]:
        """Return all tables, the figures to reach first."""
        return [
            goal_table(self.goals()),
            contest_table(self.heats),
            large_table(self.large),
            *([growth_table(self.growth)] if self.growth else []),
            replan_table(self.replans),
            equality_table(self.equality),
            *([regret_table(self.gate)] if self.gate else []),
            *(_frontier_table(self.frontiers, axis) for axis in ("energy", "delay")),
        ]

    def _ratios(
        self,
        experts: int,
        prompts: int,
        rivals: tuple[str, ...],
        kinds: tuple[Kind, ...] = KINDS,
    ) -> list[float]:
        """Return how many times as long as ours the fastest of some rivals took."""
        heats = self._heats(experts, prompts, kinds)
        pairs = [(heat.fastest_s(rivals), heat.ours_s) for heat in heats]
        return [theirs / ours for theirs, ours in pairs if theirs is not None]

    def _heats(
        self, experts: int, prompts: int = 1000, kinds: tuple[Kind, ...] = KINDS
    ) -> list[Heat]:
        return [
            heat
            for heat in self.heats
            if (heat.contest.experts, heat.contest.prompts) == (experts, prompts)
            and heat.case.kind in kinds
        ]


def save(results: Results, folder: Path) -> list[str]:
    """Write tables, figures and plots; returns the names of the files."""
    from updraft.benchmarks.optimizer.plots import draw  # noqa: PLC0415  # needs the bench extra

    plots = draw(folder, results)
    write(folder / "optimizer.json", to_json(results) + "\n")
    write(folder / "optimizer.md", _to_markdown(results, plots))
    return ["optimizer.md", "optimizer.json", *plots]


def to_json(results: Results) -> str:
    """Return all figures for programs."""
    figures: dict[str, Any] = {
        "setting": asdict(results.setting),
        "seconds": results.seconds,
        "warm_up_s": results.warm_up_s,
        "left_out": results.left_out,
        "faults": results.faults,
        "goals": [goal.as_figures() for goal in results.goals()],
        "equality": {
            "instances": len(results.equality),
            "different": sum(bool(each.fault) for each in results.equality),
        },
        "contests": [
            {
                "experts": heat.contest.experts,
                "prompts": heat.contest.prompts,
                **heat.case._asdict(),
                "runs": [asdict(run) | {"gap": run.gap} for run in heat.outcomes.values()],
            }
            for heat in results.heats
        ],
        "large": [asdict(run) for run in results.large],
        "growth": [asdict(each) for each in results.growth],
        "replanning": [{**asdict(each), "case": each.case._asdict()} for each in results.replans],
        "gate": [asdict(row) | {"regret": row.regret} for row in results.gate],
        "frontiers": [
            {
                "axis": point.axis,
                "share": point.share,
                "method": point.method,
                "quality": point.quality,
                "upper_bound": point.upper_bound,
                "experts": len(point.selected),
            }
            for point in results.frontiers
        ],
    }
    return json.dumps(_finite(figures), ensure_ascii=False, indent=1, allow_nan=False)


def _finite(figures: Any) -> Any:
    """JSON has no infinity: null stands for it."""
    if isinstance(figures, dict):
        return {name: _finite(each) for name, each in figures.items()}
    if isinstance(figures, (list, tuple)):
        return [_finite(each) for each in figures]
    return None if isinstance(figures, float) and not np.isfinite(figures) else figures


def _to_markdown(results: Results, plots: Sequence[str]) -> str:
    setting = results.setting
    versions = ", ".join(f"{name} {number}" for name, number in setting.versions.items())
    verdict = "All that is to be exact is exact." if not results.faults else "**Failed:**"
    return "\n".join(
        [
            "# Expert selection, measured",
            "",
            "Seeded instances; CPU seconds on one thread, all solvers in the same run. "
            f"Seeds: {setting.seed}. Commit {setting.commit[:12]}, {setting.machine}, {versions}, "
            f"{setting.measured}, {results.seconds:.0f} s. Written by `updraft bench optimizer "
            f"--tier {setting.tier}`.",
            "",
            f"Compiling our kernels, or loading them compiled, took {results.warm_up_s:.2f} s "
            "once, before anything was timed.",
            "",
            verdict,
            *(f"- {fault}" for fault in results.faults),
            "",
            *(f"- Left out: {told}." for told in results.left_out),
            "",
            *(f"![{name.removesuffix('.png').replace('-', ' ')}]({name})" for name in plots),
            "",
            *(table.markdown() for table in results.tables()),
        ]
    )


def _frontier_table(points: Sequence[FrontierPoint], axis: str) -> Table:
    here = [point for point in points if point.axis == axis]
    methods = list(dict.fromkeys(point.method for point in here))
    rows = []
    for share in dict.fromkeys(point.share for point in here):
        at = {point.method: point for point in here if point.share == share}
        bound = at[methods[0]].upper_bound or 0.0
        rows.append((f"{share:.0%}", *(f"{at[m].quality:.2f}" for m in methods), f"{bound:.2f}"))
    return Table(
        f"Quality over the {axis} budget",
        ("budget", *methods, "bound"),
        rows,
        "Budget: of what all experts take together. Random: the mean of 20 random selections to "
        "which nothing can be added.",
    )


def _slopes(growth: Sequence[Grown]) -> list[float]:
    return [slope(growth)] if growth else []


def _versions() -> list[tuple[str, str]]:
    found = [("Python", platform.python_version())]
    for package in _PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            continue
    return found
