"""How long `updraft demo` takes, from the command to the table."""

from __future__ import annotations

import json
import subprocess
import sys
from time import perf_counter
from typing import Any

from updraft.benchmarks.measures.bench import Bench
from updraft.benchmarks.measures.report import Section
from updraft.models.bundle import open_bundle
from updraft.models.card import Table
from updraft.models.shipped import shipped_bundle

_TARGET_S = 60
_TITLE = "`updraft demo`"


def measure(bench: Bench) -> Section:
    """Run the demo once as a user does, both daemons and their start included."""
    if not open_bundle(shipped_bundle()).path("prompts.jsonl").is_file():
        table = Table(_TITLE, ("not measured",), [("the shipped bundle has no prompts",)])
        return Section("demo", [table], {})
    command = [sys.executable, "-m", "updraft.cli.main", "demo", "--json"]
    started = perf_counter()
    with bench.stage("demo"):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = perf_counter() - started
    if done.returncode:
        return Section("demo", [], {}, [f"demo: exit code {done.returncode}: {done.stderr[-500:]}"])
    totals = json.loads(done.stdout)
    return Section(
        key="demo",
        tables=[_table(seconds, totals)],
        figures={"seconds": seconds, "target_s": _TARGET_S, "totals": totals},
    )


def _table(seconds: float, totals: list[dict[str, Any]]) -> Table:
    decoding = sum(total["seconds"] for total in totals)
    tokens = sum(total["tokens"] for total in totals)
    return Table(
        _TITLE,
        ("what", "seconds"),
        [
            (f"decoding, {len(totals)} modes, {tokens:,} tokens", f"{decoding:.1f}"),
            ("start-up, both daemons, the end", f"{seconds - decoding:.1f}"),
            ("**whole command**", f"**{seconds:.1f}**"),
        ],
        f"The shipped bundle, default options; target: under {_TARGET_S} s on two cores.",
    )
