"""`updraft bench`: measure Updraft on this machine."""

from __future__ import annotations

import sys
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from updraft.errors import RuntimeMissing
from updraft.models.bundle import open_bundle
from updraft.models.shipped import shipped_bundle

app = typer.Typer(help="Measure Updraft on this machine.", no_args_is_help=True)

_TABLE_WIDTH = 170
_EXTRA = ("matplotlib", "psutil")


class TierName(str, Enum):
    """How much is measured: about a minute, up to twelve minutes, hours."""

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
    if missing := [name for name in _EXTRA if find_spec(name) is None]:
        raise RuntimeMissing(
            f"{', '.join(missing)} not installed: pip install 'updraft[cpu,bench]'"
        )
    from updraft.benchmarks.collab.plan import TIERS, parse_link
    from updraft.benchmarks.collab.results import left_out, read_notes, save, to_json
    from updraft.benchmarks.collab.run import measure, over
    from updraft.benchmarks.measures.report import terminal

    plan = TIERS[tier.value]
    if links:
        plan = over(plan, [parse_link(text) for text in links])
    console = Console(stderr=True)
    results = measure(open_bundle(bundle or shipped_bundle()), plan, console)
    if as_json:
        print(to_json(results))
    else:
        out = Console(width=max(console.width, _TABLE_WIDTH))
        for table in results.tables(read_notes(output) if output else {}):
            out.print(terminal(table))
    if output is not None:
        names = save(results, output)
        console.print(f"wrote {', '.join(names)} into {output}", markup=False)
    for told in left_out(results):
        console.print(f"left out: {told}", style="yellow", markup=False)
    for fault in results.faults:
        console.print(f"FAILED {fault}", style="red", markup=False)
    sys.exit(1 if results.faults else 0)
