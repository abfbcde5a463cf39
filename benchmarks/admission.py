"""What admission and the ledger take of a request's time; writes a table.

python benchmarks/admission.py            20,000 requests, into docs/results
python benchmarks/admission.py --quick    1,000 requests, printed only

Every line of a budget is set and none is exhausted, so that each is looked at; three other
requests are being worked on. Admission is timed as the agent calls it: the state of the device,
the controller's choice, the cost of the request and the look at every line. Recording is not part
of it: it happens when the answer is out, on the thread that decoded it. On a machine that others
use too, the processor's time says more than the clock's. The exit code is 1 when a goal is
missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter, thread_time

from rich.console import Console

from updraft.benchmarks.measures.goals import Goal
from updraft.benchmarks.measures.report import save, terminal, where
from updraft.devices.budgets.budget import Budget, Line, LineName, Origin
from updraft.devices.budgets.costs import Costs
from updraft.devices.budgets.entry import Entry
from updraft.devices.budgets.ledger import Ledger
from updraft.devices.budgets.point import OperatingPoint
from updraft.devices.usage import Usage
from updraft.edge.governor import Governor
from updraft.edge.request import GenerationRequest
from updraft.edge.ticket import Ticket
from updraft.models.card import Table

_WANTED_US = 100.0
_ADMISSION, _BUSY, _RECORD = "admission", "admission, of the processor", "recording"
_BESIDE = 3
_HERE = Origin("budgets.toml", 1, "device.bench")
_LIMITS: dict[LineName, float] = {
    "energy_per_request": 1e6,
    "energy_per_day": 1e12,
    "average_power": 1e9,
    "first_token": 1e6,
    "per_token": 1e6,
    "uplink_per_day": 1e15,
    "cloud_tokens_per_hour": 1e15,
}


def _budget() -> Budget:
    lines = {
        name: Line(name, limit, "shallower_exits", _HERE, 60.0 if name == "average_power" else None)
        for name, limit in _LIMITS.items()
    }
    return Budget("bench", lines)


def _points() -> list[OperatingPoint]:
    """Return twelve points, as many as a board with four power modes and three exits has."""
    return [
        OperatingPoint(
            "full" if layer == 8 else "standalone",
            layer,
            0,
            f"{watts}W",
            layer / 8 - 1 / watts,
            20.0 * layer,
            layer * 30 / watts,
            0.1 * layer,
            watts,
        )
        for watts in (7, 15, 25, 40)
        for layer in (2, 3, 8)
    ]


def _times(governor: Governor, ledger: Ledger, count: int) -> dict[str, list[float]]:
    """Return microseconds of admission, by the clock and of the processor, and of recording."""
    request = GenerationRequest("def main(", "standalone", max_tokens=64)
    beside = [governor.try_admit(request, 64, own_mode=False) for _ in range(_BESIDE)]
    found: dict[str, list[float]] = {_ADMISSION: [], _BUSY: [], _RECORD: []}
    for number in range(count):
        started, busy = perf_counter(), thread_time()
        ticket = governor.try_admit(request, 64, own_mode=False)
        found[_BUSY].append(1e6 * (thread_time() - busy))
        found[_ADMISSION].append(1e6 * (perf_counter() - started))
        assert isinstance(ticket, Ticket), "nothing is exhausted"
        now = ledger.now()
        usage = Usage(600.0, 5.0, 20_000, 300, 90)
        entry = Entry(f"request-{number}", now - 0.6, now, usage, 64, 20.0, "full", "modelled")
        started = perf_counter()
        ledger.record(entry)
        found[_RECORD].append(1e6 * (perf_counter() - started))
        governor.release(ticket)
    for ticket in beside:
        assert isinstance(ticket, Ticket), "nothing is exhausted"
        governor.release(ticket)
    return found


def main() -> None:
    """Measure, print, and write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a look, nothing written")
    quick = parser.parse_args().quick
    count = 1_000 if quick else 20_000
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.sqlite", time.time)
        governor = Governor(_budget(), ledger, _points(), Costs(64, 64), 4.0)
        parts = _times(governor, ledger, count)
        governor.close()
    rows = {name: _row(times) for name, times in parts.items()}
    table = Table(
        "What a request takes beside its answer",
        ["", "median", "mean", "99%", "largest"],
        [[name, *(f"{value:,.0f} µs" for value in row.values())] for name, row in rows.items()],
        f"{count:,} requests, each beside {_BESIDE} others, {len(_LIMITS)} lines, "
        f"{len(_points())} operating points. Recording ends when the disk has it.",
    )
    goals = [
        Goal(f"{name}, {part}", _WANTED_US, "µs", [rows[name][key]])
        for name in (_ADMISSION, _BUSY)
        for part, key in (("median", "median_us"), ("99%", "p99_us"))
    ]
    Console().print(terminal(table), *map(_said, goals), sep="\n")
    if not quick:
        _write(table, goals, rows)
    sys.exit(0 if all(goal.verdict == "met" for goal in goals) else 1)


def _said(goal: Goal) -> str:
    wanted = f"at most {goal.wanted:g} {goal.unit} wanted"
    return f"{goal.name}: {wanted}, {goal.worst:.0f} seen: {goal.verdict}."


def _write(table: Table, goals: list[Goal], rows: dict[str, dict[str, float]]) -> None:
    here = where()
    text = (
        "# Admission, measured\n\n"
        f"Commit {here['commit'][:12]}, {here['machine']}, {here['measured']}. Written by "
        "`python benchmarks/admission.py`. What is timed, and what it keeps, stands in "
        "[spending.md](../guides/spending.md).\n\n"
        + "\n".join(f"- {_said(goal)}" for goal in goals)
        + f"\n\n{table.markdown()}"
    )
    figures = {
        **here,
        "goals": [goal.as_figures() for goal in goals],
        "us": rows,
    }
    save("admission", text, figures)


def _row(times: list[float]) -> dict[str, float]:
    return {
        "median_us": median(times),
        "mean_us": sum(times) / len(times),
        "p99_us": quantiles(times, n=100)[98],
        "largest_us": max(times),
    }


if __name__ == "__main__":
    main()
