"""Measure the slice from edge to cloud: exactness, bytes, modes, overhead, load and memory.

python benchmarks/first_light.py                    the shipped bundle, into docs/results
python benchmarks/first_light.py --bundle FOLDER    another one
python benchmarks/first_light.py --quick            fewer prompts, printed only

With torch and onnx installed (extra `train`) tokens are also compared with a plain forward pass.
The exit code is 1 when anything that is to be exact is not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from updraft.benchmarks.measures import demo, exactness, lightness, load, modes, overhead, payload
from updraft.benchmarks.measures.bench import QUICK, Bench, Plan
from updraft.benchmarks.measures.report import (
    ROOT,
    Context,
    Section,
    commit,
    machine,
    terminal,
    write,
)
from updraft.models.bundle import open_bundle
from updraft.models.shipped import shipped_bundle

_MEASURES = (exactness, payload, modes, overhead, load, lightness, demo)
_TABLE_WIDTH = 150
_SEED = "greedy needs none; sampled generations take the prompt's number"


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=shipped_bundle(), help="bundle folder")
    parser.add_argument("--quick", action="store_true", help="fewer prompts, about a minute")
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for first-light.md and first-light.json; docs/results by default, with "
        "--quick nothing is written unless this is given",
    )
    arguments = parser.parse_args()
    console = Console(stderr=True)
    context, sections, seconds = measure(arguments.bundle, arguments.quick, console)
    text = _to_json(context, sections, seconds)
    if arguments.json:
        print(text)
    else:
        out = Console(width=max(console.width, _TABLE_WIDTH))
        for table in (table for section in sections for table in section.tables):
            out.print(terminal(table))
    folder = arguments.output or (None if arguments.quick else ROOT / "docs" / "results")
    if folder is not None:
        write(folder / "first-light.md", _to_markdown(context, sections, seconds))
        write(folder / "first-light.json", text + "\n")
        console.print(f"wrote first-light.md and first-light.json into {folder}")
    failures = [failure for section in sections for failure in section.failures]
    for failure in failures:
        console.print(f"FAILED {failure}", style="red", markup=False)
    sys.exit(1 if failures else 0)


def measure(
    folder: Path, quick: bool, console: Console
) -> tuple[Context, list[Section], dict[str, float]]:
    """Measure everything; returns where, the sections, and how long each took."""
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    sections, seconds = [], {}
    with Progress(*columns, console=console) as progress:
        bench = Bench(open_bundle(folder), QUICK if quick else Plan(), progress)
        try:
            for module in _MEASURES:
                started = perf_counter()
                section = module.measure(bench)
                sections.append(section)
                seconds[section.key] = round(perf_counter() - started, 1)
        finally:
            bench.close()
    bundle = bench.bundle
    context = Context(
        commit=commit(),
        machine=machine(),
        cores=str(bench.cores),
        bundle=f"{bundle.manifest.name} ({bundle.manifest.quantization.weights})",
        fingerprint=bundle.fingerprint,
        prompts=bench.prompt_source,
        seed=_SEED,
        quick=quick,
    )
    return context, sections, seconds


def _to_json(context: Context, sections: Sequence[Section], seconds: dict[str, float]) -> str:
    result = {
        "context": asdict(context),
        "seconds": seconds,
        "failures": [failure for section in sections for failure in section.failures],
        **{section.key: section.figures for section in sections},
    }
    return json.dumps(result, ensure_ascii=False, indent=1)


def _to_markdown(context: Context, sections: Sequence[Section], seconds: dict[str, float]) -> str:
    failures = [failure for section in sections for failure in section.failures]
    verdict = "Everything that is to be exact is exact." if not failures else "**Failed:**"
    head = [
        "# First light, measured",
        "",
        f"Bundle `{context.bundle}` {context.fingerprint[:12]}, {context.prompts}; "
        f"{context.cores}. Seed: {context.seed}. Commit {context.commit[:12]}, {context.machine}, "
        f"{context.measured}, {sum(seconds.values()):.0f} s. Written by "
        f"`python benchmarks/first_light.py{' --quick' if context.quick else ''}`.",
        "",
        verdict,
        *(f"- {failure}" for failure in failures),
        "",
    ]
    tables = [table.markdown() for section in sections for table in section.tables]
    return "\n".join([*head, *tables])


if __name__ == "__main__":
    main()
