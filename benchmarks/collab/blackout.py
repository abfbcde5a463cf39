"""Generations through a blackout, with the deadlines that users have."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter

from updraft.benchmarks.collab.cells import Progress, Prompt
from updraft.benchmarks.collab.plan import Row
from updraft.benchmarks.collab.stage import Stage
from updraft.edge.engine import Engine
from updraft.edge.link import Deadlines
from updraft.edge.request import GenerationRequest

# Share of the new tokens that are there when the link goes dark.
_BEFORE = 1 / 4


@dataclass(frozen=True)
class Stricken:
    """One generation that a blackout hit.

    Attributes:
        cut: the blackout also reset the connection.
        longest_gap_s: most time between two tokens.
        unverified: tokens that the edge decoded alone, those that were mended later included.
        identical: the final text is that of `cloud` without a blackout.
    """

    row: Row
    cut: bool
    total_s: float
    longest_gap_s: float
    unverified: int
    degraded: bool
    identical: bool


def measure_blackouts(
    stage: Stage,
    rows: Sequence[Row],
    prompts: Sequence[Prompt],
    texts: Sequence[tuple[int, ...]],
    seconds: float,
    max_tokens: int,
    track: Progress,
) -> list[Stricken]:
    """Let the link go dark in the middle of generations.

    Args:
        texts: what `cloud` says, one per prompt.
    """
    found = []
    for prompt, text in zip(track(prompts, f"blackouts of {seconds:g} s"), texts, strict=True):
        for row in rows:
            for cut in (False, True):
                request = GenerationRequest(
                    prompt.text, max_tokens=max_tokens, seed=prompt.number, **row.choices()
                )
                # One of its own each time: what an outage has taught must not help the next.
                engine = stage.connect(row, Deadlines())
                found.append(_strike(stage, engine, row, request, text, seconds, cut))
    return found


def _strike(
    stage: Stage,
    engine: Engine,
    row: Row,
    request: GenerationRequest,
    text: tuple[int, ...],
    seconds: float,
    cut: bool,
) -> Stricken:
    generation = engine.start(request)
    strike_at = max(1, int(request.max_tokens * _BEFORE))
    started = dark_until = perf_counter()
    arrivals, unverified = [started], 0
    for token in generation:
        arrivals.append(perf_counter())
        unverified += not token.verified
        if len(arrivals) == strike_at + 1:
            stage.emulator.black_out(seconds, cut)
            dark_until = perf_counter() + seconds
    result = generation.result
    total = perf_counter() - started
    # The next generation starts with light.
    time.sleep(max(0.0, dark_until - perf_counter()))
    gaps = [after - before for before, after in pairwise(arrivals)]
    return Stricken(
        row,
        cut,
        total,
        max(gaps, default=0.0),
        unverified,
        result.degraded,
        tuple(result.tokens) == text,
    )
