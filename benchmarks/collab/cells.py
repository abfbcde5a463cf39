"""The rows side by side over one link: what each took, in seconds, bytes and calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from updraft.benchmarks.collab.plan import NAIVE, SPECULATING, Case, Leg, Row
from updraft.benchmarks.collab.stage import Run, Stage
from updraft.benchmarks.collab.wire import Link
from updraft.edge.pilot import Tuning

_PROMPTS = 100
_TOKEN_BYTES = 4
_STATE_BYTES = {"fp32": 4, "fp16": 2}


class Prompt(NamedTuple):
    """A prompt and its number, which is the seed of its sampling."""

    number: int
    text: str


@dataclass(frozen=True)
class Range:
    """Median, smallest and largest of the repeats."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Range:
        return cls(float(np.median(values)), min(values), max(values))

    def show(self, digits: int = 1, scale: float = 1.0) -> str:
        """Return `median (low to high)`, or the one value that there is."""
        middle, low, high = (
            f"{scale * value:,.{digits}f}" for value in (self.median, self.low, self.high)
        )
        return middle if self.low == self.high else f"{middle} ({low} to {high})"


@dataclass
class Cell:
    """One row over one link at one temperature.

    Attributes:
        repeats: the runs of each repeat, one per prompt.
        tuning: how far the edge drafted ahead, where it speculates.
    """

    row: Row
    link: Link
    temperature: float
    repeats: list[list[Run]] = field(default_factory=list)
    tuning: Tuning | None = None

    @property
    def runs(self) -> list[Run]:
        return [run for repeat in self.repeats for run in repeat]

    def per_100(self, figure: Callable[[Run], float]) -> Range:
        """Return a figure summed over the prompts, scaled to 100 prompts, by repeat."""
        sums = [sum(figure(run) for run in runs) * _PROMPTS / len(runs) for runs in self.repeats]
        return Range.of(sums)

    def per_token(self, figure: Callable[[Run], float]) -> float:
        """Return a figure per new token, over all runs."""
        return sum(figure(run) for run in self.runs) / self.new_tokens

    @property
    def new_tokens(self) -> int:
        return max(1, sum(run.new_tokens for run in self.runs))


Progress = Callable[[Sequence[Prompt], str], Iterator[Prompt]]


def measure_leg(
    stage: Stage,
    leg: Leg,
    cases: Sequence[Case],
    prompts: Sequence[Prompt],
    max_tokens: int,
    track: Progress,
    beside: Callable[[], None],
) -> list[Cell]:
    """Complete each prompt by every row before the next prompt, so that drift hits all alike.

    Args:
        beside: called before, between and after the repeats; may change the link.
    """
    stage.shape(leg.link)
    cells = [Cell(row, leg.link, t) for row, t in cases if t in leg.temperatures]
    for cell in cells:  # the first completion of a kind pays for what is made once
        if cell.row != NAIVE:
            stage.run(cell.row, prompts[0].text, prompts[0].number, cell.temperature, 4)
    chosen = prompts[: leg.prompts]
    for repeat in range(leg.repeats):
        beside()
        stage.shape(leg.link)
        for cell in cells:
            cell.repeats.append([])
        told = f"{leg.link.name}, {repeat + 1} of {leg.repeats}"
        for turn, prompt in enumerate(track(chosen, told)):
            first = turn % len(cells)
            for cell in (*cells[first:], *cells[:first]):
                if cell.row == NAIVE and turn >= leg.naive_prompts:
                    continue
                run = stage.run(cell.row, prompt.text, prompt.number, cell.temperature, max_tokens)
                cell.repeats[-1].append(run)
    for cell in cells:
        if cell.row.mode in SPECULATING:
            pilot = stage.engine(cell.row).pilot
            ids = cell.row.mode == "ids"
            cell.tuning = pilot.tuning(cell.row.wire, ids, cell.temperature)
    beside()
    return cells


def payload_faults(cell: Cell, width: int) -> list[str]:
    """Compare the payload of serial rows with the formulas, byte by byte."""
    faults = []
    for number, run in enumerate(cell.runs):
        expected = _payload(cell.row, run, width)
        seen = (run.result.uplink_bytes, run.result.downlink_bytes)
        if expected is not None and seen != expected:
            faults.append(
                f"{cell.row.name}, {cell.link.name}, run {number}: payload {seen} bytes up and "
                f"down, the formula says {expected}"
            )
    return faults


def _payload(row: Row, run: Run, width: int) -> tuple[int, int] | None:
    """Return the payload bytes up and down that a run must have; None: no formula says."""
    prompt, new = run.prompt_tokens, run.new_tokens
    if row.mode == "cloud":
        return _TOKEN_BYTES * prompt, _TOKEN_BYTES * new
    if row == NAIVE:
        positions = sum(range(prompt, prompt + new))
        return _STATE_BYTES[row.wire] * width * positions, _TOKEN_BYTES * new
    if row.mode == "threshold":
        positions = prompt + new - 1
        return _STATE_BYTES[row.wire] * width * positions, _TOKEN_BYTES * run.result.cloud_calls
    return None
