"""How long a model takes on a device and what that costs, before anything has run.

The roofline model: a run of a graph takes as long as its weights and its past take to be read, or
as its multiplications take, whichever is longer, and a fixed time for being started.
`docs/performance-model.md` derives it and says how far off it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log
from typing import Literal

from updraft.devices.catalog.device import Device, PowerMode
from updraft.devices.correction import Correction, Factor
from updraft.devices.workload import Piece, Workload
from updraft.errors import ConfigError

# Positions of a prompt that the engine runs at one time.
CHUNK = 128
_OPS_PER_MAC = 2


@dataclass(frozen=True)
class Step:
    """What one step takes.

    Attributes:
        joules: above the idle device.
        bound: what most of the time goes to.
    """

    seconds: float
    joules: float
    bound: Literal["memory", "compute"]


@dataclass(frozen=True)
class Estimate:
    """An expected value; its true mean lies between `low` and `high` with 95% confidence."""

    value: float
    low: float
    high: float

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(self.value + other.value, self.low + other.low, self.high + other.high)

    def __mul__(self, count: float) -> Estimate:
        return Estimate(self.value * count, self.low * count, self.high * count)


@dataclass(frozen=True)
class Prediction:
    """What an answer is expected to take.

    Attributes:
        first_token_ms: the prompt, and the look at the exit that gives the first token.
        per_token_ms: each further token, on average.
        energy_j: of the whole answer, above the idle device.
    """

    first_token_ms: Estimate
    per_token_ms: Estimate
    latency_ms: Estimate
    energy_j: Estimate


class PerformanceModel:
    """A workload on a device in one of its power modes.

    Args:
        correction: what measurements on this device have taught; none: the data sheet holds.

    Raises:
        ConfigError: the device's file does not say how fast it computes in this precision.
    """

    def __init__(
        self,
        device: Device,
        mode: PowerMode,
        workload: Workload,
        correction: Correction | None = None,
    ) -> None:
        self.device = device
        self.mode = mode
        self.workload = workload
        self.correction = correction or Correction()
        if workload.precision not in device.ops_per_s:
            raise ConfigError(
                [
                    f"device {device.id!r}: ops_per_s has no {workload.precision}, which "
                    f"{workload.name!r} is computed in: add it to the device's file"
                ]
            )
        self._ops_per_s = device.ops_per_s[workload.precision] * mode.compute
        self._power_w = max(0.0, mode.active_w - device.idle_w)

    def step(
        self, top: int, positions: int, context: int, batch: int = 1, looks: float = 1
    ) -> Step:
        """Predict one step through the layers up to `top`, uncorrected; the loop is not in it.

        Args:
            top: where a partition ends.
            positions: new positions of each sequence; 1 when decoding.
            context: positions that each sequence has in its cache before.
            batch: sequences that are run together.
            looks: exits that are looked at, on average; each costs a run of the head.

        Raises:
            ValueError: no partition ends at `top`.
        """
        pieces, head = self._below(top), self.workload.head
        working_set = self._working_set([*pieces, head], context + positions, batch)
        runs = [self._run(piece, positions, context, batch, working_set) for piece in pieces]
        return self._sum([*runs, self._run(head, 1, 0, batch, working_set).times(looks)])

    def piece(self, piece: Piece, positions: int, context: int, batch: int = 1) -> Step:
        """Predict one run of a partition or of the head that is run by itself, uncorrected."""
        working_set = self._working_set([piece], context + positions, batch)
        return self._sum([self._run(piece, positions, context, batch, working_set)])

    def prefill(self, prompt_tokens: int, top: int, batch: int = 1) -> Step:
        """Predict a prompt's way through the layers up to `top`, in chunks as the engine runs it.

        Raises:
            ValueError: no partition ends at `top`, or there is no token.
        """
        pieces = self._below(top)
        runs = []
        for done in range(0, prompt_tokens, CHUNK):
            positions = min(CHUNK, prompt_tokens - done)
            working_set = self._working_set(pieces, done + positions, batch)
            runs += [self._run(piece, positions, done, batch, working_set) for piece in pieces]
        if not runs:
            raise ValueError(f"a prompt of {prompt_tokens} tokens has nothing to compute")
        return self._sum(runs)

    def predict(
        self, prompt_tokens: int, new_tokens: int, top: int, batch: int = 1, looks: float = 1
    ) -> Prediction:
        """Predict an answer, corrected by what was measured so far.

        Args:
            prompt_tokens: at least one.
            new_tokens: at least one; the first one comes with the prompt.
            top: the layers that every token passes.
            looks: exits that are looked at for each token, on average.

        Raises:
            ValueError: no partition ends at `top`, or there are no tokens.
        """
        first_s, each_s = self._raw_s(prompt_tokens, new_tokens, top, batch, looks)
        first_ms = _scaled(1e3 * first_s, self.correction.factor("prefill"))
        each_ms = _scaled(1e3 * each_s, self.correction.factor("decode"))
        latency_ms = first_ms + each_ms * (new_tokens - 1)
        power = self.correction.factor("energy")
        above_idle_j = latency_ms * (self._power_w / 1e3)
        energy_j = Estimate(
            above_idle_j.value * power.value,
            above_idle_j.low * power.low,
            above_idle_j.high * power.high,
        )
        return Prediction(first_ms, each_ms, latency_ms, energy_j)

    def observe(
        self,
        prompt_tokens: int,
        new_tokens: int,
        top: int,
        *,
        first_token_ms: float,
        per_token_ms: float | None = None,
        energy_j: float | None = None,
        batch: int = 1,
        looks: float = 1,
    ) -> None:
        """Teach the correction what an answer really took.

        The three kinds are kept apart: energy is compared with the power times the time that it
        really took, so that it corrects the power alone.

        Args:
            prompt_tokens, new_tokens, top, batch, looks: as for `predict`.
            per_token_ms: of the tokens after the first; None where there were none.
            energy_j: measured above idle; None where it was not measured.

        Raises:
            ValueError: as from `predict`.
        """
        first_s, each_s = self._raw_s(prompt_tokens, new_tokens, top, batch, looks)
        self.correction.update("prefill", 1e3 * first_s, first_token_ms)
        latency_ms = first_token_ms
        if per_token_ms is not None:
            self.correction.update("decode", 1e3 * each_s, per_token_ms)
            latency_ms += (new_tokens - 1) * per_token_ms
        if energy_j is not None and self._power_w > 0 and latency_ms > 0:
            self.correction.update("energy", self._power_w * latency_ms / 1e3, energy_j)

    def _raw_s(
        self, prompt_tokens: int, new_tokens: int, top: int, batch: int, looks: float
    ) -> tuple[float, float]:
        """Return the seconds to the first token and of each further one, uncorrected."""
        if prompt_tokens < 1 or new_tokens < 1:
            raise ValueError(f"{prompt_tokens} prompt and {new_tokens} new tokens: at least 1 each")
        look = self.piece(self.workload.head, 1, 0, batch)
        first_s = self.prefill(prompt_tokens, top, batch).seconds + looks * look.seconds
        each_s = self.step(top, 1, prompt_tokens + new_tokens // 2, batch, looks).seconds
        measured = self.device.measured
        around_s = 0.0 if measured is None else measured.token_overhead_s
        return first_s + around_s, each_s + around_s

    def _below(self, top: int) -> list[Piece]:
        pieces = [piece for piece in self.workload.partitions if piece.last_layer <= top]
        if not pieces or pieces[-1].last_layer != top:
            ends = ", ".join(str(piece.last_layer) for piece in self.workload.partitions)
            raise ValueError(f"no partition of {self.workload.name!r} ends at {top}, but at {ends}")
        return pieces

    def _working_set(self, pieces: Iterable[Piece], context: int, batch: int) -> int:
        """Return the bytes that one step after the other reads again and again."""
        return sum(p.weight_bytes + batch * context * p.kv_bytes_per_position for p in pieces)

    def _run(
        self, piece: Piece, positions: int, context: int, batch: int, working_set: int
    ) -> _Run:
        past = context + positions
        read_bytes = piece.weight_bytes + batch * past * piece.kv_bytes_per_position
        # Each new position attends to those before it, so half of the new ones on average.
        attention_macs = batch * positions * (context + (positions + 1) / 2) * piece.attention_macs
        macs = batch * positions * piece.macs_per_position + attention_macs
        compute_s = _OPS_PER_MAC * macs / self._ops_per_s
        memory_s = read_bytes / self._bandwidth(working_set)
        overhead_s = self.device.step_overhead_s
        if (measured := self.device.measured) is not None:
            # A single position reads its past once for each head: no faster than this.
            past_macs = batch * past * piece.attention_macs
            past_s = _OPS_PER_MAC * past_macs / (measured.attention_ops_per_s * self.mode.compute)
            memory_s = piece.weight_bytes / self._bandwidth(working_set) + past_s
            overhead_s += piece.nodes * measured.node_overhead_s
        return _Run(memory_s, compute_s, overhead_s)

    def _bandwidth(self, working_set: float) -> float:
        return bandwidth_at(self.device, working_set) * self.mode.bandwidth

    def _sum(self, runs: list[_Run]) -> Step:
        seconds = sum(run.seconds for run in runs)
        memory_s = sum(run.memory_s for run in runs if run.memory_s >= run.compute_s)
        compute_s = sum(run.compute_s for run in runs if run.memory_s < run.compute_s)
        bound: Literal["memory", "compute"] = "memory" if memory_s >= compute_s else "compute"
        return Step(seconds, seconds * self._power_w, bound)


def bandwidth_at(device: Device, working_set: float) -> float:
    """Return the bytes per second at which so many bytes are read, again and again."""
    if device.measured is None:
        return device.bandwidth_bytes_per_s * device.efficiency
    return _between(device.measured.bandwidth, working_set)


@dataclass(frozen=True)
class _Run:
    memory_s: float
    compute_s: float
    overhead_s: float

    @property
    def seconds(self) -> float:
        return max(self.memory_s, self.compute_s) + self.overhead_s

    def times(self, count: float) -> _Run:
        return _Run(count * self.memory_s, count * self.compute_s, count * self.overhead_s)


def _between(curve: Sequence[tuple[float, float]], at: float) -> float:
    """Return what a rising curve says at a place; beyond its ends, what the end says."""
    if at <= curve[0][0]:
        return curve[0][1]
    for (left, low), (right, high) in pairwise(curve):
        if at <= right:
            share = log(at / left) / log(right / left)
            return low ** (1 - share) * high**share
    return curve[-1][1]


def _scaled(value: float, factor: Factor) -> Estimate:
    return Estimate(value * factor.value, value * factor.low, value * factor.high)
