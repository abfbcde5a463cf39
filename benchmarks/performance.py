"""Predict how long bundles of three sizes take on this machine, measure it, and compare.

python benchmarks/performance.py             into docs/results
python benchmarks/performance.py --quick     two rounds, printed only

Each round calibrates anew and then measures, so that what is predicted and what is measured have
seen the same neighbours on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from updraft.benchmarks.measures.goals import Goal, goal_table
from updraft.benchmarks.measures.prediction import Kind, Point, Subject, learning, memory, points
from updraft.benchmarks.measures.random_bundle import parameters, write_random_bundle
from updraft.benchmarks.measures.report import (
    ROOT,
    Spread,
    commit,
    machine,
    terminal,
    where,
    write,
)
from updraft.devices.catalog.device import Device, Measured
from updraft.devices.catalog.entries import load_catalog
from updraft.devices.performance import bandwidth_at
from updraft.models.bundle import open_bundle
from updraft.models.card import Table
from updraft.models.host import calibrate
from updraft.models.manifest import Architecture
from updraft.models.shipped import shipped_bundle

_TARGET = 0.2
_ROUNDS, _QUICK_ROUNDS = 9, 2
_TOKENS = 48
_CHUNKS = (4, 32, 128)
_ANSWERS = 40
_STAGES = ((0, 1), (1, 5), (5, 20), (20, 40))
_SMALL = Architecture(
    vocabulary_size=4096, width=128, layers=4, heads=4, kv_heads=2, ffn_width=320,
    context_length=512,
)  # fmt: skip
_LARGE = Architecture(
    vocabulary_size=4096, width=768, layers=8, heads=12, kv_heads=4, ffn_width=2048,
    context_length=512,
)  # fmt: skip
# Ways to know the machine; the last one is what Updraft does.
_SHEET, _FLAT, _OURS = "data sheet", "one bundle, one bandwidth", "calibrated"


@dataclass(frozen=True)
class Results:
    """Everything that was measured.

    Attributes:
        errors: subject → the error that each answer was predicted with while the correction
            learned, starting from the data sheet.
        memory: subject → bytes, predicted and held.
        load: mean number of processes that wanted a core, this one counted.
    """

    subjects: Sequence[Subject]
    device: Device
    points: Sequence[Point]
    errors: dict[str, list[float]]
    memory: dict[str, tuple[int, int]]
    rounds: int
    seconds: float
    load: float


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="two rounds, printed only")
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    parser.add_argument("--output", type=Path, help="folder; docs/results unless --quick")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder, Progress(console=console) as progress:
        rounds = _QUICK_ROUNDS if arguments.quick else _ROUNDS
        results = measure(Path(folder), rounds, progress)
        tables = [goal_table(_goals(results)), *_tables(results)]
    figures = json.dumps(_figures(results), ensure_ascii=False, indent=1)
    if arguments.json:
        print(figures)
    else:
        for table in tables:
            Console(width=150).print(terminal(table))
    output = arguments.output or (None if arguments.quick else ROOT / "docs" / "results")
    if output is not None:
        write(output / "performance.json", figures + "\n")
        write(output / "performance.md", _markdown(results, tables))


def measure(folder: Path, rounds: int, progress: Progress) -> Results:
    """Build two bundles into a folder, and measure them and the one that ships."""
    started = perf_counter()
    subjects = [
        Subject(open_bundle(shipped_bundle())),
        Subject(write_random_bundle(folder / "small", "small", _SMALL, (2,))),
        Subject(write_random_bundle(folder / "large", "large", _LARGE, (2, 4))),
    ]
    sheet, seen, loads = load_catalog()["x86"], [], []
    task = progress.add_task("measure", total=rounds + 2 * len(subjects))
    for _ in range(rounds):
        host = calibrate(sheet, subjects[0].bundle, token_overhead_s=subjects[0].loop_s())
        ways = {_SHEET: sheet, _FLAT: _flat(host, subjects[0]), _OURS: host}
        seen += [point for subject in subjects for point in points(subject, ways, _TOKENS, _CHUNKS)]
        loads.append(os.getloadavg()[0])
        progress.advance(task)
    errors, held = {}, {}
    for subject in subjects:
        errors[subject.name] = list(learning(subject, sheet, _ANSWERS, _TOKENS))
        progress.advance(task)
        held[subject.name] = memory(subject)
        progress.advance(task)
    seconds = perf_counter() - started
    return Results(subjects, host, seen, errors, held, rounds, seconds, sum(loads) / rounds)


def _flat(host: Device, subject: Subject) -> Device:
    """Return the device as if one bandwidth, seen with one bundle, held for every size."""
    assert host.measured is not None, "it has just been calibrated"
    pieces = [*subject.workload.partitions, subject.workload.head]
    size = sum(piece.weight_bytes for piece in pieces)
    values = host.measured.model_dump() | {"bandwidth": ((size, bandwidth_at(host, size)),)}
    return host.model_copy(update={"measured": Measured(**values)})


def _goals(results: Results) -> list[Goal]:
    return [
        Goal(
            f"decode latency of {subject.name}, predicted against measured, relative",
            _TARGET,
            "%",
            [abs(p.error(_OURS)) for p in _of(results.points, subject.name, "answer")],
        )
        for subject in results.subjects
    ]


def _of(seen: Iterable[Point], subject: str, *kinds: Kind) -> list[Point]:
    return [point for point in seen if point.subject == subject and point.kind in kinds]


def _tables(results: Results) -> list[Table]:
    names = [subject.name for subject in results.subjects]
    return [
        _answers(results),
        _ways(results, names),
        _parts(results, "step", "One token, by depth and context"),
        _parts(results, "chunk", "Several positions at one time, as in a prompt"),
        _learned(results, names),
        _held(results, names),
    ]


def _answers(results: Results) -> Table:
    rows = []
    for subject in results.subjects:
        seen = _of(results.points, subject.name, "answer")
        size = parameters(subject.bundle.manifest.architecture)
        wall, cpu = (
            Spread.of([getattr(p.measured, name) for p in seen]) for name in ("wall_s", "cpu_s")
        )
        predicted = Spread.of([p.predicted_s[_OURS] for p in seen])
        rows.append(
            (
                f"{subject.name}, {size / 1e6:.1f} M",
                predicted.show(1e3, 3),
                wall.show(1e3, 3),
                cpu.show(1e3, 3),
                _signed(median(p.error(_OURS) for p in seen)),
                _signed(median(p.cpu_error(_OURS) for p in seen)),
            )
        )
    return Table(
        "A token of an answer at full depth, ms",
        ("bundle", "predicted", "measured", "CPU time", "error", "error to CPU time"),
        rows,
        f"Median and quartiles of {results.rounds} rounds, and the median error of a round. "
        f"Calibrated with {results.subjects[0].name} alone. Where CPU time is less than what was "
        "measured, other processes took turns.",
    )


def _ways(results: Results, names: Sequence[str]) -> Table:
    rows = []
    for way in (_SHEET, _FLAT, _OURS):
        errors = [[abs(p.error(way)) for p in _of(results.points, n, "answer")] for n in names]
        rows.append((way, *(f"{median(values):.0%}" for values in errors)))
    return Table(
        "Ways to know the machine: median error of a token of an answer",
        ("", *names),
        rows,
        "Data sheet: the catalog's `x86`. One bundle: as calibrated, but with the bandwidth that "
        f"{names[0]} saw in place of the curve over working sets.",
    )


def _parts(results: Results, kind: Kind, title: str) -> Table:
    rows = []
    for subject in results.subjects:
        seen = _of(results.points, subject.name, kind)
        for what in dict.fromkeys(point.what for point in seen):
            same = [point for point in seen if point.what == what]
            rows.append(
                (
                    f"{subject.name}, {what}",
                    f"{1e3 * median(p.predicted_s[_OURS] for p in same):.3f}",
                    f"{1e3 * median(p.measured.wall_s for p in same):.3f}",
                    _signed(median(p.error(_OURS) for p in same)),
                    _signed(median(p.cpu_error(_OURS) for p in same)),
                )
            )
    header = ("", "predicted, ms", "measured, ms", "error", "error to CPU time")
    return Table(title, header, rows)


def _learned(results: Results, names: Sequence[str]) -> Table:
    rows = [
        (name, *(f"{np.median(np.abs(results.errors[name][a:b])):.0%}" for a, b in _STAGES))
        for name in names
    ]
    stages = [f"answer {a + 1}" if b == a + 1 else f"{a + 1} to {b}" for a, b in _STAGES]
    return Table(
        "The correction learns, from the data sheet on: median error of a token",
        ("bundle", *stages),
        rows,
    )


def _held(results: Results, names: Sequence[str]) -> Table:
    rows = []
    for name in names:
        need, held = results.memory[name]
        rows.append((name, f"{need / 1e6:.0f}", f"{held / 1e6:.0f}", _signed(need / held - 1)))
    return Table(
        "Memory of one text at full length and full depth, MB",
        ("bundle", "said to be needed", "taken by a process while it loads and decodes", ""),
        rows,
        "What is said must not be less: it decides whether a bundle is loaded.",
    )


def _signed(share: float) -> str:
    return f"{share:+.0%}"


def _figures(results: Results) -> dict[str, Any]:
    return {
        **where(),
        "seconds": round(results.seconds),
        "load": round(results.load, 2),
        "goals": [goal.as_figures() for goal in _goals(results)],
        "device": results.device.model_dump(),
        "points": [asdict(point) for point in results.points],
        "learning": results.errors,
        "memory_bytes": results.memory,
    }


def _markdown(results: Results, tables: Sequence[Table]) -> str:
    about = (
        f"Written by `python benchmarks/performance.py` in {results.seconds:.0f} s, one thread; "
        f"commit {commit()[:12]}, {machine()}, {os.cpu_count()} cores, load "
        f"{results.load:.1f}: above 1, other processes took turns, caches and memory bandwidth."
    )
    head = ["# Predicted and measured latency", "", about, ""]
    return "\n".join([*head, *(table.markdown() for table in tables)])


if __name__ == "__main__":
    main()
