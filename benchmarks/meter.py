"""Measure what metering costs, and how well short requests are measured; write docs/results.

python benchmarks/meter.py             into docs/results
python benchmarks/meter.py --quick     shorter, printed only
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter, process_time, sleep
from typing import NamedTuple

from rich.console import Console

from updraft.benchmarks.measures.goals import Goal
from updraft.benchmarks.measures.report import (
    Spread,
    save,
    terminal,
    where,
)
from updraft.devices.catalog.device import MeterKind
from updraft.devices.meters.baseline import Baseline
from updraft.devices.meters.choose import MeterSettings, open_meter
from updraft.devices.meters.meter import Meter
from updraft.devices.meters.modelled import ModelledMeter
from updraft.devices.meters.sampled import SampledMeter
from updraft.models.card import Table

_TARGET_SHARE = 0.01
_SPANS = 5000
_OPEN = 16
# What a device does in the simulation: watts at rest and at work.
_REST_W, _WORK_W = 5.0, 15.0
_LENGTHS_S = (0.02, 0.1, 0.5, 2.0)
_RATES_HZ = (10.0, 25.0, 50.0)

# Changes every file a hundred times a second, as a driver would, in a process of its own: what it
# takes does not count.
_WRITER = """
import sys, time
from pathlib import Path
files = [(open(name, "r+b", buffering=0), "energy" in name) for name in sys.argv[1:]]
for turn in range(10**9):
    for file, counts in files:
        value = (turn * 600_000) if counts else 5000 + turn % 100
        file.seek(0)
        file.write(b"%15d\\n" % value)
    time.sleep(0.01)
"""


class Case(NamedTuple):
    """A meter at work.

    Attributes:
        share: of one core, per repeat, processes that it starts included.
    """

    name: str
    method: str
    share: list[float]


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="seconds in place of minutes")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    seconds, repeats, requests = (1.0, 2, 40) if arguments.quick else (10.0, 5, 400)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _make_boards(root)
        cases = [
            measure_share(root, kind, rate, seconds, repeats, console) for kind, rate in _meters()
        ]
        spans = measure_spans(root)
    errors = simulate(requests)
    tables = [_shares(cases, seconds), _spans(spans), _errors(errors, requests)]
    goals = [
        Goal(f"{case.name}: share of one core", _TARGET_SHARE, "%", case.share)
        for case in cases
        if case.name != "none"
    ]
    tables.insert(
        0,
        Table(
            "Figures to reach",
            ("figure", "wanted", "median", "worst", "runs", ""),
            [goal.as_row() for goal in goals],
            "Met: by the worst run.",
        ),
    )
    for table in tables:
        console.print(terminal(table))
    if not arguments.quick:
        _write(tables, goals, cases, spans, errors)
        console.print("wrote meter.md and meter.json into docs/results")


def measure_share(
    root: Path,
    kind: MeterKind | None,
    rate_hz: float,
    seconds: float,
    repeats: int,
    console: Console,
) -> Case:
    """Let a meter sample while nothing else happens; None: what the benchmark itself takes."""
    name = "none" if kind is None else f"{kind}, asked for {rate_hz:g} Hz"
    console.print(f"{name} …")
    shares = []
    method = "nothing but waiting"
    with _moving(root):
        for _ in range(repeats):
            if kind is None:
                shares.append(_share(seconds))
                continue
            settings = MeterSettings(meter=kind, rate_hz=rate_hz)
            with closing(open_meter(settings, None, root)) as meter:
                sleep(0.2)
                shares.append(_share(seconds))
                method = meter.method
    return Case(name, method, shares)


def measure_spans(root: Path) -> dict[str, list[float]]:
    """Return microseconds of `begin` and `end`, alone and beside other open requests."""
    with _moving(root), closing(open_meter(MeterSettings(meter="ina3221"), None, root)) as meter:
        found = {
            "modelled": _span_us(ModelledMeter(), 0),
            "ina3221": _span_us(meter, 0),
            f"ina3221, {_OPEN} others open": _span_us(meter, _OPEN),
        }
    return {
        f"{name}: {what}": times
        for name, (begin, end) in found.items()
        for what, times in (("begin", begin), ("end", end))
    }


def simulate(requests: int) -> dict[tuple[float, float], list[float]]:
    """Measure requests whose energy is known, at random moments, by the meter's own code.

    The device works exactly while a request is open. Returns relative errors by rate and length.
    """
    return {
        (rate_hz, length_s): [
            _relative_error(rate_hz, length_s, random.Random(seed)) for seed in range(requests)
        ]
        for rate_hz in _RATES_HZ
        for length_s in _LENGTHS_S
    }


def _relative_error(rate_hz: float, length_s: float, rng: random.Random) -> float:
    now = 0.0
    begin_s = 1.0 + rng.random() / rate_hz

    class Square:
        kind: MeterKind = "ina3221"
        rail, counts, most_w, fastest_hz = "simulated", False, 200.0, 50.0

        def read(self) -> float:
            return _WORK_W if begin_s <= now <= begin_s + length_s else _REST_W

        def close(self) -> None: ...

    meter = SampledMeter(Square(), Baseline(_REST_W), ModelledMeter(), rate_hz, lambda: now)
    samples = [number / rate_hz for number in range(int((length_s + 2) * rate_hz))]
    for now in samples:
        if now >= begin_s:
            break
        meter.sample()
    now = begin_s
    span = meter.begin()
    for now in samples:
        if begin_s < now < begin_s + length_s:
            meter.sample()
    now = begin_s + length_s
    return span.end(length_s).joules / ((_WORK_W - _REST_W) * length_s) - 1


def _span_us(meter: Meter, others: int) -> tuple[list[float], list[float]]:
    held = [meter.begin(lambda: 0.5) for _ in range(others)]
    begins, ends = [], []
    for _ in range(_SPANS):
        started = perf_counter()
        span = meter.begin(lambda: 0.001)
        begun = perf_counter()
        span.end(0.001)
        begins.append((begun - started) * 1e6)
        ends.append((perf_counter() - begun) * 1e6)
    for span in held:
        span.end(0.5)
    return begins, ends


def _share(seconds: float) -> float:
    """Return the processor time of this process and its children, over the time that passes."""
    cpu_s, children, started = process_time(), os.times(), perf_counter()
    sleep(seconds)
    cpu_s = process_time() - cpu_s
    ended = os.times()
    cpu_s += ended.children_user + ended.children_system
    cpu_s -= children.children_user + children.children_system
    return cpu_s / (perf_counter() - started)


def _meters() -> list[tuple[MeterKind | None, float]]:
    return [(None, 0), ("ina3221", 50), ("ina3221", 25), ("rapl", 50), ("pi5-pmic", 10)]


def _make_boards(root: Path) -> None:
    chip = root / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    chip.mkdir(parents=True)
    for channel, label in enumerate(("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), start=1):
        (chip / f"in{channel}_label").write_text(f"{label}\n")
        (chip / f"in{channel}_input").write_text("5000\n")
        (chip / f"curr{channel}_input").write_text("1000\n")
    for zone, name in (
        ("intel-rapl:0", "package-0"),
        ("intel-rapl:0:0", "dram"),
        ("intel-rapl:1", "package-1"),
        ("intel-rapl:1:0", "dram"),
    ):
        folder = root / "sys/class/powercap" / zone
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "max_energy_range_uj").write_text("262143328850\n")
        (folder / "energy_uj").write_text("0\n")
    rails = [
        f"{name}_{unit} {kind}({number})=1.00000000{unit}"
        for unit, kind in (("A", "current"), ("V", "volt"))
        for number, name in enumerate(f"RAIL_{number}" for number in range(12))
    ]
    tool = root / "usr/bin/vcgencmd"
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in rails))
    tool.chmod(0o755)


@contextmanager
def _moving(root: Path) -> Iterator[None]:
    """Let the files change meanwhile."""
    files = [*root.glob("sys/bus/**/*_input"), *root.glob("sys/class/powercap/*/energy_uj")]
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, *map(str, files)])
    try:
        sleep(0.3)
        yield
    finally:
        writer.kill()
        writer.wait()


def _shares(cases: list[Case], seconds: float) -> Table:
    return Table(
        "Processor time of a meter",
        ("meter", "share of one core", "what it says of itself"),
        [(case.name, Spread.of(case.share).show(100, 2) + "%", case.method) for case in cases],
        f"Median (quartiles) of {len(cases[0].share)} times {seconds:g} s, beside a process that "
        "changes the files a hundred times a second. `none` is what the benchmark itself takes. "
        "The files are real, the sensors behind them are not: on a Jetson a reading waits for the "
        "I2C bus, on a Raspberry Pi `vcgencmd` asks the firmware; both take time, little of it "
        "the processor's. The stand-in for `vcgencmd` is a shell script.",
    )


def _spans(spans: dict[str, list[float]]) -> Table:
    return Table(
        "What a request pays for being measured",
        ("", "µs"),
        [(name, Spread.of(times).show(1, 1)) for name, times in spans.items()],
        f"Median (quartiles) of {_SPANS}. At its end a sensor is read once more, on the request's "
        "own thread.",
    )


def _errors(errors: dict[tuple[float, float], list[float]], requests: int) -> Table:
    show: Callable[[list[float]], str] = lambda values: (  # noqa: E731
        f"{median(values):+.1%}, {min(values):+.1%} to {max(values):+.1%}"
    )
    return Table(
        "How well a short request is measured (simulated)",
        ("readings per second", *(f"request of {length_s:g} s" for length_s in _LENGTHS_S)),
        [
            (f"{rate_hz:g}", *(show(errors[rate_hz, length_s]) for length_s in _LENGTHS_S))
            for rate_hz in _RATES_HZ
        ],
        f"Error of the energy above idle: median, least to most of {requests} requests at random "
        f"moments. The device jumps from {_REST_W:g} W to {_WORK_W:g} W as the request begins and "
        "back after its end: the hardest case for a straight line between two readings, which "
        "spreads the jump over the time since the last reading.",
    )


def _write(
    tables: list[Table],
    goals: list[Goal],
    cases: list[Case],
    spans: dict[str, list[float]],
    errors: dict[tuple[float, float], list[float]],
) -> None:
    here = where()
    head = (
        "# Meters, measured\n\n"
        f"Commit {here['commit'][:12]}, {here['machine']}, {here['measured']}. Written by "
        "`python benchmarks/meter.py`."
        " What the meters do, and why, stands in [energy.md](../energy.md).\n\n"
    )
    figures = {
        **here,
        "goals": [goal.as_figures() for goal in goals],
        "share": {case.name: case.share for case in cases},
        "span_us": {name: _quartiles(times) for name, times in spans.items()},
        "error": [
            {"rate_hz": rate_hz, "length_s": length_s, **_quartiles(values)}
            for (rate_hz, length_s), values in errors.items()
        ],
    }
    save("meter", head + "\n".join(table.markdown() for table in tables), figures)


def _quartiles(values: list[float]) -> dict[str, float]:
    """Return n and quartiles, least and most."""
    return {**vars(Spread.of(values)), "least": min(values), "most": max(values)}


if __name__ == "__main__":
    main()
