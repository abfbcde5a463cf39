"""Measure one subject and write its tables: the wire codecs, or STOP.

python benchmarks/subject.py codecs        into docs/results/codecs.md and .json
python benchmarks/subject.py stop          likewise
python benchmarks/subject.py … --quick     fewer prompts, printed only
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from updraft.benchmarks.measures import codecs, stop
from updraft.benchmarks.measures.bench import QUICK, Bench, Plan, bundle_prompts
from updraft.benchmarks.measures.report import ROOT, Section, commit, machine, terminal, write
from updraft.models.bundle import open_bundle
from updraft.models.shipped import shipped_bundle

_TITLES = {"codecs": "Wire codecs, measured", "stop": "STOP, measured"}
_CODEC_PROMPTS, _QUICK_PROMPTS, _TOKENS = 30, 4, 64
_TABLE_WIDTH = 150


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("subject", choices=_TITLES)
    parser.add_argument("--quick", action="store_true", help="fewer prompts")
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    parser.add_argument("--output", type=Path, help="folder; docs/results unless --quick")
    arguments = parser.parse_args()
    started = perf_counter()
    section = measure(arguments.subject, arguments.quick)
    found = {
        "commit": commit(),
        "machine": machine(),
        "seconds": round(perf_counter() - started),
        section.key: section.figures,
    }
    text = json.dumps(found, ensure_ascii=False, indent=1)
    if arguments.json:
        print(text)
    else:
        out = Console(width=_TABLE_WIDTH)
        for table in section.tables:
            out.print(terminal(table))
    folder = arguments.output or (None if arguments.quick else ROOT / "docs" / "results")
    if folder is not None:
        write(folder / f"{arguments.subject}.json", text + "\n")
        about = (
            f"Written by `python benchmarks/subject.py {arguments.subject}` in "
            f"{found['seconds']} s; commit {commit()[:12]}, {machine()}."
        )
        tables = "\n".join(table.markdown() for table in section.tables)
        head = f"# {_TITLES[arguments.subject]}\n\n{about}\n\n"
        write(folder / f"{arguments.subject}.md", head + tables)


def measure(subject: str, quick: bool) -> Section:
    """Measure a subject on the shipped bundle."""
    bundle = open_bundle(shipped_bundle())
    if subject == "codecs":
        count = _QUICK_PROMPTS if quick else _CODEC_PROMPTS
        return codecs.measure(bundle, bundle_prompts(bundle)[1][:count], _TOKENS)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bench = Bench(bundle, QUICK if quick else Plan(), progress)
        try:
            return stop.measure(bench)
        finally:
            bench.close()


if __name__ == "__main__":
    main()
