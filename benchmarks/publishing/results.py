"""What was measured of publishing: as tables, Markdown and figures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median

from updraft.benchmarks.measures.goals import Goal, goal_table
from updraft.benchmarks.measures.report import commit, machine, now, where
from updraft.benchmarks.publishing.stage import Load, Told
from updraft.models.card import Table

WANTED_S = {50: 1.0, 5000: 3.0}
LOAD_S = 10.0


@dataclass(frozen=True)
class Run:
    """One cause in a fleet of some size."""

    nodes: int
    cause: str
    told: Told


@dataclass(frozen=True)
class Results:
    """Everything that was measured.

    Attributes:
        busy: processes that wanted to run before the first, on average over a minute.
        faults: fleets that did not come up, living nodes that were taken for dead.
    """

    runs: list[Run]
    loads: list[Load]
    faults: list[str]
    busy: float

    def goals(self) -> list[Goal]:
        """Return the figures to reach, with what was reached."""
        return [
            Goal(
                f"{nodes:,} nodes: planning and publishing",
                wanted_s,
                "s",
                [run.told.seconds for run in self.runs if run.nodes == nodes],
            )
            for nodes, wanted_s in WANTED_S.items()
        ]

    def tables(self) -> list[Table]:
        """Return all tables, the figures to reach first."""
        return [goal_table(self.goals()), told_table(self.runs), load_table(self.loads)]


def told_table(runs: Sequence[Run]) -> Table:
    """Return seconds by size and cause."""
    rows = []
    for nodes, cause in dict.fromkeys((run.nodes, run.cause) for run in runs):
        here = [run.told for run in runs if (run.nodes, run.cause) == (nodes, cause)]
        rows.append(
            (
                f"{nodes:,}: {cause}",
                _spread([each.changed for each in here], 0),
                _spread([each.waiting for each in here]),
                _spread([each.planning for each in here]),
                _spread([each.planning_cpu for each in here]),
                _spread([each.publishing for each in here], 3),
                _spread([each.seconds for each in here]),
            )
        )
    return Table(
        "From a cause to the last node that is told, seconds: median / worst",
        (
            "nodes, cause", "other roles", "waiting", "planning", "its CPU time", "publishing",
            "planning and publishing",
        ),
        rows,
        "Waiting: a budgets file is looked at every second, and a plan waits 50 ms for further "
        "causes. Its CPU time: of the planning thread alone. Publishing: until the process of the "
        "last node whose role is another has read it.",
    )  # fmt: skip


def load_table(loads: Sequence[Load]) -> Table:
    """Return what beats take."""
    rows = [
        (
            f"{load.nodes:,}",
            f"{load.wanted_per_s:,.0f}",
            f"{load.sent_per_s:,.0f}",
            f"{load.cpu:.0%}",
            f"{load.memory_mb:.0f} MB",
            f"{1e3 * load.late_s:.0f} ms",
            f"{load.lost}",
        )
        for load in loads
    ]
    return Table(
        "Coordinator while nothing but beats comes",
        ("nodes", "beats/s asked for", "sent", "of a core", "memory", "late", "taken for dead"),
        rows,
        f"Over {LOAD_S:g} s. Late: how long the event loop's worst wait was beyond what it should "
        "have been.",
    )


def figures(results: Results) -> dict[str, object]:
    """Return everything for programs."""
    return {
        **where(),
        "load_average": [results.busy, os.getloadavg()[0]],
        "goals": [goal.as_figures() for goal in results.goals()],
        "runs": [
            {"nodes": run.nodes, "cause": run.cause, **asdict(run.told)} for run in results.runs
        ],
        "loads": [asdict(load) for load in results.loads],
        "faults": results.faults,
    }


def to_markdown(results: Results) -> str:
    """Return the page."""
    return "\n".join(
        [
            "# Publishing a plan, measured",
            "",
            "A coordinator's process with the fleet's service, and nodes that are streams over a "
            "connection each, in two further processes on the same machine. Commit "
            f"{commit()[:12]}, {machine()}, {os.cpu_count()} cores; load average "
            f"{results.busy:.1f} before, {os.getloadavg()[0]:.1f} after, {now()}. Written by "
            "`python -m updraft.benchmarks.publishing`.",
            "",
            *(f"- **Failed:** {fault}" for fault in results.faults),
            "",
            *(table.markdown() for table in results.tables()),
        ]
    )


def _spread(values: Sequence[float], digits: int = 2) -> str:
    return f"{median(values):,.{digits}f} / {max(values):,.{digits}f}"
