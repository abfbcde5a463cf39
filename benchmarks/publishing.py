"""Measure how soon a fleet hears of a new plan: from a cause to the last node that is told.

python benchmarks/publishing.py                 5, 50, 500 and 5,000 nodes, about ten minutes
python benchmarks/publishing.py --quick         5 and 50 nodes, one repeat, nothing written
python benchmarks/publishing.py --nodes 50,500  other sizes

A coordinator's process with the fleet's service as it is; nodes are bare streams in two further
processes, each over a connection of its own, that beat and note their roles. Writes
docs/results/publishing.{md,json} after each size, unless --quick. The exit code is 1 when a figure
to reach is missed or a living node is taken for dead.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

from rich.console import Console

from updraft.benchmarks.measures.goals import Goal, goal_table
from updraft.benchmarks.measures.report import ROOT, commit, machine, terminal, write
from updraft.benchmarks.planning import all_on
from updraft.benchmarks.publishing_fleet import rehearsal
from updraft.benchmarks.publishing_stage import Load, Stage, Told
from updraft.errors import RuntimeMissing
from updraft.models.card import Table

SIZES = (5, 50, 500, 5000)
WANTED_S = {50: 1.0, 5000: 3.0}
# Of what the fleet takes with all on.
_AMPLE, _SCARCE, _SLIGHTLY = 0.5, 0.25, 1.001
# A site that goes down takes this share of the nodes with it.
_SITE = 0.2
_LOAD_S = 10.0
# A larger fleet beats less often.
_MOST_BEATS_PER_S = 2500


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


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a look, nothing written")
    parser.add_argument("--json", action="store_true", help="print the figures alone")
    parser.add_argument("--nodes", type=_sizes, default=SIZES, help="sizes of the fleet: 5,50")
    parser.add_argument("--beat-ms", type=int, default=300, help="between beats of a node")
    parser.add_argument("--repeats", type=int, default=3, help="of each cause")
    options = parser.parse_args()
    sizes, repeats = (SIZES[:2], 1) if options.quick else (options.nodes, options.repeats)
    before = os.getloadavg()[0]
    runs: list[Run] = []
    loads: list[Load] = []
    faults: list[str] = []
    results = Results(runs, loads, faults, before)
    for nodes in sizes:
        try:
            for each in measure(nodes, repeats, _beat_ms(nodes, options.beat_ms)):
                runs.append(each) if isinstance(each, Run) else loads.append(each)
        except RuntimeMissing as error:
            faults.append(str(error))
        lost = sum(each.lost for each in loads if each.nodes == nodes)
        if lost:
            faults.append(f"{nodes:,} nodes: {lost} taken for dead")
        if not options.quick:  # after each size, as the large ones take long
            folder = ROOT / "docs" / "results"
            write(folder / "publishing.md", to_markdown(results))
            write(folder / "publishing.json", json.dumps(figures(results), indent=1) + "\n")
    if options.json:
        print(json.dumps(figures(results), indent=1))
    else:
        console = Console(width=150)
        for table in results.tables():
            console.print(terminal(table))
        for fault in faults:
            console.print(f"[red]{fault}")
    missed = any(goal.values and goal.verdict != "met" for goal in results.goals())
    return 1 if missed or faults else 0


def measure(nodes: int, repeats: int, beat_ms: int) -> Iterator[Run | Load]:
    """Start a fleet, watch its beats, and let one thing after another happen to it."""
    fleet = rehearsal(nodes)
    full_w, _ = all_on(fleet.nodes, fleet.traffic)
    names = [node.node for node in fleet.nodes]
    site = names[: max(2, int(_SITE * nodes))]
    with tempfile.TemporaryDirectory(prefix="updraft-publishing-") as folder:
        stage = Stage(Path(folder), nodes, beat_ms, _AMPLE * full_w)
        try:
            yield stage.load(_LOAD_S)
            for _ in range(repeats):
                yield Run(nodes, "less power", stage.set_budget(_SCARCE * full_w))
                little = stage.set_budget(_SCARCE * _SLIGHTLY * full_w)
                yield Run(nodes, "a little more power", little)
                yield Run(nodes, "more power", stage.set_budget(_AMPLE * full_w))
                yield Run(nodes, "one node leaves", stage.leave(names[:1]))
                stage.join(names[:1])
                yield Run(nodes, "a fifth of the nodes leave", stage.leave(site))
                stage.join(site)
        finally:
            stage.close()


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
        f"Over {_LOAD_S:g} s. Late: how long the event loop's worst wait was beyond what it should "
        "have been.",
    )


def figures(results: Results) -> dict[str, object]:
    """Return everything for programs."""
    return {
        "commit": commit(),
        "machine": machine(),
        "measured": _now(),
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
            f"{results.busy:.1f} before, {os.getloadavg()[0]:.1f} after, {_now()}. Written by "
            "`python benchmarks/publishing.py`.",
            "",
            *(f"- **Failed:** {fault}" for fault in results.faults),
            "",
            *(table.markdown() for table in results.tables()),
        ]
    )


def _spread(values: Sequence[float], digits: int = 2) -> str:
    return f"{median(values):,.{digits}f} / {max(values):,.{digits}f}"


def _beat_ms(nodes: int, least_ms: int) -> int:
    return max(least_ms, 1000 * nodes // _MOST_BEATS_PER_S)


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in text.split(","))


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


if __name__ == "__main__":
    sys.exit(main())
