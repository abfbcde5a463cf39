"""Measure how soon a fleet hears of a new plan: from a cause to the last node that is told.

python -m updraft.benchmarks.publishing                 5 to 5,000 nodes, about ten minutes
python -m updraft.benchmarks.publishing --quick         5 and 50 nodes, one repeat, nothing written
python -m updraft.benchmarks.publishing --nodes 50,500  other sizes

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
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from updraft.benchmarks.measures.report import save, terminal
from updraft.benchmarks.planning.runs import all_on
from updraft.benchmarks.publishing.rehearsal import rehearsal
from updraft.benchmarks.publishing.results import LOAD_S, Results, Run, figures, to_markdown
from updraft.benchmarks.publishing.stage import Load, Stage
from updraft.errors import RuntimeMissing

SIZES = (5, 50, 500, 5000)
# Of what the fleet takes with all on.
_AMPLE, _SCARCE, _SLIGHTLY = 0.5, 0.25, 1.001
# A site that goes down takes this share of the nodes with it.
_SITE = 0.2


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a look, nothing written")
    parser.add_argument("--json", action="store_true", help="print the figures alone")
    parser.add_argument("--nodes", type=_sizes, default=SIZES, help="sizes of the fleet: 5,50")
    parser.add_argument("--beat-ms", type=int, default=300, help="between beats, at least")
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
            for each in measure(nodes, repeats, options.beat_ms):
                runs.append(each) if isinstance(each, Run) else loads.append(each)
        except RuntimeMissing as error:
            faults.append(str(error))
        lost = sum(each.lost for each in loads if each.nodes == nodes)
        if lost:
            faults.append(f"{nodes:,} nodes: {lost} taken for dead")
        if not options.quick:  # after each size, as the large ones take long
            save("publishing", to_markdown(results), figures(results))
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
            yield stage.load(LOAD_S)
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


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
