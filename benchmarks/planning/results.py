"""What the runs of the planner gave: as tables, Markdown and figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import mean, median

from updraft.benchmarks.measures.report import commit, machine, where
from updraft.benchmarks.planning.rivals import RIVALS
from updraft.benchmarks.planning.runs import (
    FEW,
    FEW_GROUPS,
    GROUPS,
    LOADS,
    SHARES,
    Contest,
    Run,
)
from updraft.models.card import Table

MOST_S = {50: 0.7, 5000: 2.0}
LEAST_QUALITY, AT_SHARE = 0.97, 0.5
# Routing is a heuristic: rivals that are better by less than this are as good.
_SAME = 0.002


@dataclass(frozen=True)
class Results:
    """Everything that was measured."""

    runs: Sequence[Run]
    contests: Sequence[Contest]

    def failures(self) -> list[str]:
        """Return the figures to reach that were missed."""
        return [*_too_slow(self.runs), *_too_poor(self.runs), *_beaten(self.contests)]

    def tables(self) -> list[Table]:
        """Return all tables."""
        return [_size_table(self.runs), _budget_table(self.runs), _rival_table(self.contests)]

    def figures(self) -> dict[str, object]:
        """Return everything for programs."""
        return {
            **where(),
            "runs": [asdict(run) for run in self.runs],
            "contests": [asdict(contest) for contest in self.contests],
            "failures": self.failures(),
        }

    def markdown(self) -> str:
        """Return the page."""
        text = "\n".join(table.markdown() for table in self.tables())
        command = "python -m updraft.benchmarks.planning"
        head = f"# Planning\n\n{machine()}, commit {commit()[:12]}; `{command}`\n"
        failures = self.failures()
        missed = "\n".join(["### Missed", "", *(f"- {failure}" for failure in failures), ""])
        return "\n".join([head, text, *([missed] if failures else [])])


def _size_table(runs: Sequence[Run]) -> Table:
    """Return seconds and gaps by size."""
    rows = []
    for size in dict.fromkeys(run.nodes for run in runs):
        here = [run for run in runs if run.nodes == size]
        gaps = [run.gap for run in here]
        rows.append(
            (
                f"{size:,}",
                f"{median(run.on for run in here):.0f}",
                f"{median(run.cpu_s for run in here):.2f}",
                f"{max(run.cpu_s for run in here):.2f}",
                f"{median(run.wall_s for run in here):.2f}",
                f"{max(run.wall_s for run in here):.2f}",
                f"{median(gaps):.2%}",
                f"{max(gaps):.2%}",
            )
        )
    header = ("nodes", "on", "CPU s", "worst", "wall s", "worst", "proved gap", "worst")
    note = (
        f"{GROUPS} groups of prompts; budgets {_list(SHARES)} of what all on takes; load "
        f"{_list(LOADS)} of all nodes' time. Median and worst. Gap: relative to quality; what is "
        "proved, the true one is smaller. To reach: 0.7 s for 50, 2 s for 5,000."
    )
    return Table("Planning by the size of the fleet", header, rows, note)


def _budget_table(runs: Sequence[Run]) -> Table:
    """Return the quality that is kept at each budget."""
    rows = []
    for size in dict.fromkeys(run.nodes for run in runs):
        for load in LOADS:
            here = [run for run in runs if (run.nodes, run.load) == (size, load)]
            kept = [mean(_kept(here, share)) for share in SHARES]
            most = mean(run.most / run.all_on for run in here if run.share == AT_SHARE)
            cells = (*(f"{value:.1%}" for value in kept), f"{min(most, 1):.1%}")
            rows.append((f"{size:,}, load {load:.0%}", *cells))
    return Table(
        "Quality of the plan, of that of all on, by budget",
        (
            "nodes",
            *(f"{share:.0%} of the energy" for share in SHARES),
            f"no plan exceeds, {AT_SHARE:.0%}",
        ),
        rows,
        "All on asks the best expert for each prompt whatever it costs, however busy it is. To "
        f"reach: {LEAST_QUALITY:.0%} at {AT_SHARE:.0%}.",
    )


def _rival_table(contests: Sequence[Contest]) -> Table:
    """Return what others lose against the best."""
    names = list(contests[0].worth)[:-1]
    rows = []
    for name in names:
        lost = {
            share: [
                1 - each.worth[name] / each.worth["best"]
                for each in contests
                if each.share == share
            ]
            for share in SHARES
        }
        rows.append((name, *(f"{mean(some):.2%} / {max(some):.2%}" for some in lost.values())))
    return Table(
        "Worth lost against the best selection there is, mean / worst",
        ("who chooses", *(f"{share:.0%} of the energy" for share in SHARES)),
        rows,
        f"{_list(FEW)} nodes, {FEW_GROUPS} groups; the best by HiGHS, proved. Worth: quality, and "
        "1 for an answer. Whoever chooses, the same routing keeps budget and capacity. Optimizer: "
        "exact selection that knows no capacity, with the energy of each answer, or at a price.",
    )


def _kept(runs: Sequence[Run], share: float) -> list[float]:
    return [run.quality / run.all_on for run in runs if run.share == share]


def _too_slow(runs: Sequence[Run]) -> Iterator[str]:
    for size, most_s in MOST_S.items():
        worst = max((run.cpu_s for run in runs if run.nodes == size), default=0.0)
        if worst > most_s:
            yield f"{size} nodes: {worst:.2f} s of CPU at worst, to reach {most_s}"


def _too_poor(runs: Sequence[Run]) -> Iterator[str]:
    for size in dict.fromkeys(run.nodes for run in runs):
        for load in LOADS:
            here = [run for run in runs if (run.nodes, run.load) == (size, load)]
            kept = mean(_kept(here, AT_SHARE))
            most = mean(run.most / run.all_on for run in here if run.share == AT_SHARE)
            if kept < LEAST_QUALITY:
                yield (
                    f"{size} nodes, load {load:.0%}: {kept:.1%} of the quality at half the energy, "
                    f"to reach {LEAST_QUALITY:.0%}; no plan exceeds {most:.1%}"
                )


def _beaten(contests: Sequence[Contest]) -> Iterator[str]:
    for each in contests:
        for name in RIVALS:
            if each.worth[name] > each.worth["ours"] * (1 + _SAME):
                yield (
                    f"{each.nodes} nodes, load {each.load:.0%}, {each.share:.0%}, seed "
                    f"{each.seed}: {name} {each.worth[name]:.4f}, ours {each.worth['ours']:.4f}"
                )


def _list(shares: Sequence[float]) -> str:
    return ", ".join(f"{share:.0%}" if share < 1 else f"{share:g}" for share in shares)
