"""`updraft bench`: measure Updraft on this machine."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from updraft.errors import RequestError, RuntimeMissing
from updraft.models.bundle import open_bundle
from updraft.models.card import Table
from updraft.models.shipped import shipped_bundle

app = typer.Typer(help="Measure Updraft on this machine.", no_args_is_help=True)

_TABLE_WIDTH = 170
_EXTRA = ("matplotlib", "psutil")
_OPTIMIZER_EXTRA = ("matplotlib", "pulp", "highspy")
# Numpy's libraries read these once, when they are loaded.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class TierName(str, Enum):
    """How much is measured: about a minute, about a quarter of an hour, hours."""

    quick = "quick"
    default = "default"
    long = "long"


@app.callback()
def bench() -> None:
    """Measure Updraft on this machine."""


@app.command()
def collab(
    tier: Annotated[TierName, typer.Option(help="How much is measured.")] = TierName.default,
    links: Annotated[
        list[str] | None,
        typer.Option(
            help="RTT/MBIT or RTT/MBIT/LOSS in ms, Mbit/s, percent, in place of the tier's."
        ),
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle to run.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for collab.md, collab.json and plots; none: nothing is written."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of tables.")] = False,
) -> None:
    """Decode collaboratively beside CE-CoLLM and others, over emulated links.

    The exit code is 1 when anything that is to be exact is not.
    """
    _require(_EXTRA, "cpu,bench")
    from updraft.benchmarks.collab.plan import TIERS, parse_link
    from updraft.benchmarks.collab.results import left_out, read_notes, save, to_json
    from updraft.benchmarks.collab.run import measure, over

    plan = TIERS[tier.value]
    if links:
        plan = over(plan, [parse_link(text) for text in links])
    console = Console(stderr=True)
    results = measure(open_bundle(bundle or shipped_bundle()), plan, console)
    if as_json:
        print(to_json(results))
    else:
        _print(results.tables(read_notes(output) if output else {}), console)
    written = [] if output is None else save(results, output)
    _end(console, written, output, left_out(results), results.faults)


@app.command()
def optimizer(
    tier: Annotated[TierName, typer.Option(help="How much is measured.")] = TierName.default,
    cp_sat_python: Annotated[
        Path | None,
        typer.Option(
            help="A Python that has OR-Tools and numpy, to measure CP-SAT too; OR-Tools cannot be "
            "installed beside Updraft."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder for optimizer.md, optimizer.json and plots; none: nothing is written."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of tables.")] = False,
) -> None:
    """Select experts beside brute force, HiGHS, CBC and CP-SAT, on one thread.

    The exit code is 1 when anything that is to be exact is not.
    """
    _require(_OPTIMIZER_EXTRA, "optimizer,bench")
    _run_on_one_thread()
    from updraft.benchmarks.optimizer.plan import TIERS
    from updraft.benchmarks.optimizer.results import save, to_json
    from updraft.benchmarks.optimizer.run import measure

    console = Console(stderr=True)
    results = measure(TIERS[tier.value], cp_sat_python, console)
    if as_json:
        print(to_json(results))
    else:
        _print(results.tables(), console)
    written = [] if output is None else save(results, output)
    _end(console, written, output, results.left_out, results.faults)


@app.command()
def budgets(
    tier: Annotated[TierName, typer.Option(help="How much is measured.")] = TierName.default,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder for budgets.md, budgets.json and plots; none: nothing is written."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of tables.")] = False,
) -> None:
    """Serve days of prompts by emulated devices, under budgets of energy and delay.

    The exit code is 1 when a request is lost with a node.
    """
    _require(_EXTRA, "cpu,bench")
    from updraft.benchmarks.budgets.plan import TIERS
    from updraft.benchmarks.budgets.results import save, to_json
    from updraft.benchmarks.budgets.run import measure

    console = Console(stderr=True)
    results = measure(TIERS[tier.value], console)
    if as_json:
        print(to_json(results))
    else:
        _print(results.tables(), console)
    written = [] if output is None else save(results, output)
    _end(console, written, output, [], results.faults)


@app.command()
def engine(
    tier: Annotated[TierName, typer.Option(help="How much is measured.")] = TierName.default,
    rivals_python: Annotated[
        Path | None,
        typer.Option(
            help="A Python that has other runtimes, as onnxruntime-genai, llama-cpp-python, "
            "openvino-genai, ctranslate2, transformers; this one by default."
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Of every runtime; as many as there are cores by default.")
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps converted models for the next run; gigabytes."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for engine.md, engine.json and plots; none: nothing is written."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of tables.")] = False,
) -> None:
    """Decode beside onnxruntime-genai, llama.cpp, OpenVINO GenAI and others, on random weights.

    The exit code is 1 when one model decodes otherwise cut than whole.
    """
    _require((*_EXTRA, "onnx", "torch"), "cpu,train,bench")
    from updraft.benchmarks.engine.plan import TIERS
    from updraft.benchmarks.engine.results import save, to_json
    from updraft.benchmarks.engine.run import measure

    if threads is not None and threads < 1:
        raise RequestError(f"--threads {threads}: at least 1 is needed")
    if rivals_python is not None and not rivals_python.is_file():
        raise RequestError(f"--rivals-python {rivals_python}: there is no such file")
    console = Console(stderr=True)
    results = measure(
        TIERS[tier.value],
        work or Path(tempfile.gettempdir()) / "updraft-bench-engine",
        rivals_python or Path(sys.executable),
        threads or _usable_cores(),
        console,
    )
    if as_json:
        print(to_json(results))
    else:
        _print(results.tables(), console)
    written = [] if output is None else save(results, output)
    _end(console, written, output, results.left_out, results.faults)


def _usable_cores() -> int:
    """Return the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _require(modules: Sequence[str], extras: str) -> None:
    if missing := [name for name in modules if find_spec(name) is None]:
        raise RuntimeMissing(f"{', '.join(missing)} not installed: pip install 'updraft[{extras}]'")


def _print(tables: Sequence[Table], console: Console) -> None:
    from updraft.benchmarks.measures.report import terminal

    out = Console(width=max(console.width, _TABLE_WIDTH))
    for table in tables:
        out.print(terminal(table))


def _end(
    console: Console,
    written: Sequence[str],
    folder: Path | None,
    left_out: Sequence[str],
    faults: Sequence[str],
) -> NoReturn:
    """Say what was written, what was not measured and what is wrong; exit with 1 if anything is."""
    if written:
        console.print(f"wrote {', '.join(written)} into {folder}", markup=False)
    for told in left_out:
        console.print(f"left out: {told}", style="yellow", markup=False)
    for fault in faults:
        console.print(f"FAILED {fault}", style="red", markup=False)
    sys.exit(1 if faults else 0)


def _run_on_one_thread() -> None:
    """Start this command anew where numpy may compute on several threads."""
    if any(os.environ.get(name) != value for name, value in _ONE_THREAD.items()):
        command = [sys.executable, "-m", "updraft.cli.main", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | _ONE_THREAD)  # noqa: S606
