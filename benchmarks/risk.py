"""Measure whether mode `bounded` keeps its promise; write tables and figures.

python benchmarks/risk.py                    the shipped bundle, into docs/results
python benchmarks/risk.py --bundle FOLDER    another one, with guarantees for temperature 0
python benchmarks/risk.py --quick            fewer prompts and splits, printed only

The exit code is 1 when the risk is not kept as often as promised.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from updraft.benchmarks.measures import drift, risk
from updraft.benchmarks.measures.report import ROOT, Section, commit, machine, now, terminal, write
from updraft.cli.progress import show_stages
from updraft.models.bundle import Bundle, open_bundle
from updraft.models.shipped import shipped_bundle

_TABLE_WIDTH = 150


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=shipped_bundle(), help="bundle folder")
    parser.add_argument("--quick", action="store_true", help="fewer prompts, about a minute")
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for risk.md and risk.json; docs/results by default, with --quick nothing is "
        "written unless this is given",
    )
    arguments = parser.parse_args()
    console, bundle = Console(), open_bundle(arguments.bundle)
    started = perf_counter()
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        report, quick = show_stages(progress), arguments.quick
        sections = [
            drift.measure_drift(bundle, drift.QUICK if quick else drift.DriftPlan(), report),
            risk.measure_risk(bundle, risk.QUICK if quick else risk.RiskPlan(), report),
        ]
    out = Console(width=max(console.width, _TABLE_WIDTH))
    for table in (table for section in sections for table in section.tables):
        out.print(terminal(table))
    folder = arguments.output or (None if quick else ROOT / "docs" / "results")
    if folder is not None:
        _write(folder, bundle, sections, perf_counter() - started)
        console.print(f"wrote risk.md and risk.json into {folder}")
    failures = [failure for section in sections for failure in section.failures]
    for failure in failures:
        console.print(f"FAILED {failure}", style="red", markup=False)
    sys.exit(1 if failures else 0)


def _write(folder: Path, bundle: Bundle, sections: Sequence[Section], seconds: float) -> None:
    measured = now()
    head = [
        "# The risk of mode `bounded`, measured",
        "",
        f"Bundle `{bundle.manifest.name}` {bundle.fingerprint[:12]}. Commit {commit()[:12]}, "
        f"{machine()}, {measured}, {seconds:.0f} s. Written by `python benchmarks/risk.py`; what "
        "is promised, and why so, stands in [ADR 0013](../adr/0013-risk-is-per-sequence.md).",
        "",
    ]
    tables = [table.markdown() for section in sections for table in section.tables]
    figures = {section.key: section.figures for section in sections}
    context = {"commit": commit(), "machine": machine(), "measured": measured, "seconds": seconds}
    write(folder / "risk.md", "\n".join([*head, *tables]))
    text = json.dumps({"context": context, **figures}, ensure_ascii=False, indent=1)
    write(folder / "risk.json", text + "\n")


if __name__ == "__main__":
    main()
