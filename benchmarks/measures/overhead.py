"""What a decoding step costs on the edge besides the runtime's forward passes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import NamedTuple

import numpy as np

from updraft.benchmarks.measures.bench import Bench
from updraft.benchmarks.measures.report import Section
from updraft.edge.request import GenerationRequest, Mode
from updraft.models.card import Table

_MODES: tuple[Mode, ...] = ("standalone", "full")
_TEMPERATURES = (0.0, 0.8)
_TARGET_US = 60


class Step(NamedTuple):
    """Seconds of one decoding step: inside the runtime, and all the rest."""

    runtime_s: float
    overhead_s: float


@dataclass(frozen=True)
class Overhead:
    """The steps of one mode, in microseconds."""

    mode: Mode
    temperature: float
    steps: int
    p50_us: float
    p90_us: float
    runtime_p50_us: float


def measure(bench: Bench) -> Section:
    """Time every decoding step, the prefill left out."""
    prompts = bench.prompts(bench.plan.step_prompts)
    kinds = [(mode, temperature) for mode in _MODES for temperature in _TEMPERATURES]
    steps: dict[tuple[Mode, float], list[Step]] = {kind: [] for kind in kinds}
    for number in bench.track(range(len(prompts)), "step overhead"):
        for mode, temperature in kinds:
            request = GenerationRequest(
                prompts[number],
                mode,
                max_tokens=bench.plan.max_tokens,
                temperature=temperature,
                seed=number,
            )
            steps[mode, temperature] += _time_steps(bench, request)
    rows = [_summarise(*kind, taken) for kind, taken in steps.items()]
    return Section(
        key="step_overhead",
        tables=[_table(rows)],
        figures={"target_us": _TARGET_US, "rows": [asdict(row) for row in rows]},
    )


def _time_steps(bench: Bench, request: GenerationRequest) -> Iterator[Step]:
    generation = bench.engine.start(request)
    tokens = iter(generation)
    next(tokens)  # the prefill
    while True:
        busy, started = generation.edge_s, perf_counter()
        if next(tokens, None) is None:
            return
        wall = perf_counter() - started
        runtime = generation.edge_s - busy
        yield Step(runtime, wall - runtime)


def _summarise(mode: Mode, temperature: float, steps: list[Step]) -> Overhead:
    microseconds = 1e6 * np.array(steps)
    p50, p90 = np.percentile(microseconds[:, 1], (50, 90))
    runtime = np.median(microseconds[:, 0])
    return Overhead(mode, temperature, len(steps), float(p50), float(p90), float(runtime))


def _table(rows: list[Overhead]) -> Table:
    return Table(
        "A decoding step on the edge, besides the runtime",
        ("mode", "sampling", "steps", "p50, µs", "p90, µs", "inside the runtime p50, µs"),
        [
            (
                f"`{row.mode}`",
                "greedy" if row.temperature == 0 else f"T = {row.temperature:g}",
                f"{row.steps:,}",
                f"**{row.p50_us:.1f}**",
                f"{row.p90_us:.1f}",
                f"{row.runtime_p50_us:.1f}",
            )
            for row in rows
        ],
        f"Wall time of a step less the time inside ONNX Runtime; target: p50 ≤ {_TARGET_US} µs, "
        "greedy. Sampling draws noise for the whole vocabulary once per token.",
    )
