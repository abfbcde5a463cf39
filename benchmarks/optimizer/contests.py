"""Ours and its rivals on the same instances, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from updraft.benchmarks.optimizer import ours
from updraft.benchmarks.optimizer.instances import Kind, instance
from updraft.benchmarks.optimizer.outcome import Outcome
from updraft.benchmarks.optimizer.plan import OURS, Case, Contest, Track
from updraft.benchmarks.optimizer.rivals import Run
from updraft.models.card import Table
from updraft.optimizer.program import formulate

# Two that both proved their answer may differ by this, relative: MILP solvers are not exact.
_AGREED = 1e-5


@dataclass(frozen=True)
class Heat:
    """All runs on one instance, by the name of the solver."""

    contest: Contest
    case: Case
    outcomes: dict[str, Outcome]
    faults: tuple[str, ...]

    @property
    def ours(self) -> Outcome:
        """Our run."""
        return self.outcomes[OURS]

    @property
    def ours_s(self) -> float:
        """Our seconds; infinite where nothing was proved or the certificate was refused."""
        return self.ours.seconds if self.ours.proved and not self.faults else float("inf")

    def fastest_s(self, rivals: Sequence[str]) -> float | None:
        """Seconds of the fastest of some rivals; a run out of time took at least its seconds."""
        runs = [self.outcomes[name] for name in rivals if name in self.outcomes]
        proved = [run.seconds for run in runs if run.proved]
        return min(proved or [run.seconds for run in runs], default=None)


def measure(contest: Contest, rivals: dict[str, Run], track: Track[Case]) -> list[Heat]:
    """Run a contest on all its instances."""
    cases = [
        Case(kind, share, seed)
        for kind in contest.kinds
        for share in contest.shares
        for seed in range(contest.seeds)
    ]
    return [_heat(contest, case, rivals) for case in track(cases, f"{contest.name}, exact")]


def contest_table(heats: Sequence[Heat]) -> Table:
    """Return seconds of all solvers by size, kind and budget."""
    names = list(dict.fromkeys(name for heat in heats for name in heat.outcomes))
    groups: dict[tuple[str, Kind, float], list[Heat]] = {}
    for heat in heats:
        groups.setdefault((heat.contest.name, heat.case.kind, heat.case.share), []).append(heat)
    rows = []
    for (size, kind, share), group in groups.items():
        seconds = [heat.ours.seconds for heat in group]
        checks = [heat.ours.check_s for heat in group if heat.ours.check_s is not None]
        proved = sum(heat.ours.proved for heat in group)
        rows.append(
            (
                f"{size}, {kind}, {share:.0%}",
                f"{median(seconds):.3f}",
                f"{max(seconds):.3f}",
                f"{proved}/{len(group)}",
                f"{max(heat.ours.gap for heat in group):.3%}",
                f"{median(checks):.2f}" if checks else "",
                *(_rival_cell(group, name) for name in names if name != OURS),
            )
        )
    return Table(
        "Exact selection: CPU seconds, one thread",
        ("N × P, kind, energy", "median", "worst", "proved", "worst gap", "check",
         *(name for name in names if name != OURS)),
        rows,
        "The first five are ours; certificates are checked in exact arithmetic, which takes "
        "the seconds under `check` on top: all that prove an answer, and of runs out of time "
        "those with the first seed. Rivals: the median over the first of the same "
        "instances, in brackets how many of them; `>`: at least half ran out of time, and the "
        "gap that was left. Only what a solver computes itself counts, not the making of its "
        f"model. {_limits(heats)}",
    )  # fmt: skip


def _heat(contest: Contest, case: Case, rivals: dict[str, Run]) -> Heat:
    problem = instance(case.kind, contest.experts, contest.prompts, case.share, case.seed)
    program = formulate(problem)
    first = case.seed == 0
    run = ours.solve(problem, program, contest.limit_s, checks_all=first)
    outcomes = {OURS: run.outcome}
    for rival in contest.rivals:
        if rival.name in rivals and rival.runs(case):
            outcomes[rival.name] = rivals[rival.name](program, rival.limit_s)
    where = f"{contest.name}, {case.kind}, {case.share:.0%}, seed {case.seed}"
    faults = [f"{where}: certificate refused: {run.refused}"] if run.refused else []
    faults += [f"{where}: {told}" for told in _contradictions(outcomes)]
    return Heat(contest, case, outcomes, tuple(faults))


def _contradictions(outcomes: dict[str, Outcome]) -> list[str]:
    """Return what a rival found or ruled out that ours says the contrary of."""
    mine = outcomes[OURS]
    slack = _AGREED * max(1.0, mine.objective)
    return [
        f"{name} has {other.objective:.6f} to {other.upper_bound:.6f}, "
        f"ours {mine.objective:.6f} to {mine.upper_bound:.6f}"
        for name, other in outcomes.items()
        if other.objective > mine.upper_bound + slack or mine.objective > other.upper_bound + slack
    ]


def _rival_cell(group: Sequence[Heat], name: str) -> str:
    runs = [heat.outcomes[name] for heat in group if name in heat.outcomes]
    if not runs:
        return ""
    middle = sorted(runs, key=lambda run: (not run.proved, run.seconds))[len(runs) // 2]
    count = f" ({len(runs)})"
    if middle.proved:
        return f"{middle.seconds:.2f}{count}"
    return f"> {middle.seconds:.0f}, {middle.gap:.2%}{count}"


def _limits(heats: Sequence[Heat]) -> str:
    limits = {
        rival.limit_s for heat in heats for rival in heat.contest.rivals if rival.name != OURS
    }
    return f"Limits of rivals: {', '.join(f'{limit:g} s' for limit in sorted(limits))}."
