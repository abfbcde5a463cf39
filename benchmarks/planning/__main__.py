"""Measure the planner: seconds and proved gap by size of the fleet, and quality against rivals.

python -m updraft.benchmarks.planning            some minutes
python -m updraft.benchmarks.planning --quick    fewer fleets
python -m updraft.benchmarks.planning --json     the figures alone, for programs

Writes docs/results/planning.{md,json}, unless --quick. The exit code is 1 when a figure to reach
is missed: 0.7 s for 50 nodes and 2 s for 5,000 by the processor's clock; 97% of the quality of all
nodes at half their energy; no rival better at any budget.
"""

from __future__ import annotations

import argparse
import json
import sys

from rich.console import Console

from updraft.benchmarks.measures.report import save, terminal
from updraft.benchmarks.planning.results import Results
from updraft.benchmarks.planning.runs import SIZES, contend, measure


def main() -> int:
    """Run it."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    seeds = range(1) if options.quick else range(3)
    runs = list(measure(SIZES[:3] if options.quick else SIZES, seeds))
    results = Results(runs, list(contend(seeds)))
    figures = results.figures()
    if options.json:
        print(json.dumps(figures, indent=1))
    else:
        console = Console(width=140)
        for table in results.tables():
            console.print(terminal(table))
        for failure in results.failures():
            console.print(f"[red]{failure}")
    if not options.quick:
        save("planning", results.markdown(), figures)
    return 1 if results.failures() else 0


if __name__ == "__main__":
    sys.exit(main())
