"""How long a bundle's graphs take on this machine, one by one and together."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Series
from dataclasses import dataclass
from statistics import median
from time import perf_counter, thread_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from updraft.devices.performance import CHUNK
from updraft.models.bundle import Bundle
from updraft.models.runtime import RuntimeOptions
from updraft.models.sequence import Model, Sequence
from updraft.models.workload import workload_of

# Positions that a short text has behind it.
SHORT = 8
_STEPS, _CHUNKS = 30, 5
_QUARTER, _HALF = 0.25, 0.5


@dataclass(frozen=True)
class Timings:
    """Seconds, each of many runs.

    Parts are to tell what the machine can do, so they are first quartiles: neighbours only slow a
    run down. Steps are to tell what to expect of it, so they are medians.

    Attributes:
        pieces: one position in each partition by itself, then one look by the head.
        long_pieces: one position in each partition, with nearly all of the context behind it.
        steps: one position through all layers below each exit, and its look.
        chunk: `CHUNK` positions through all layers.
        outside: spent around one run of a graph.
    """

    pieces: Series[float]
    long_pieces: Series[float]
    steps: Series[float]
    chunk: float
    outside: float


def middle(seen: Series[Timings]) -> Timings:
    """Return the medians of several, figure by figure."""

    def each(name: str) -> list[float]:
        return [median(values) for values in zip(*(getattr(t, name) for t in seen), strict=True)]

    return Timings(
        each("pieces"),
        each("long_pieces"),
        each("steps"),
        median(timings.chunk for timings in seen),
        median(timings.outside for timings in seen),
    )


class Subject:
    """A loaded bundle that is timed.

    Attributes:
        threads: that compute its largest graph.

    Raises:
        RuntimeMissing: ONNX Runtime or the asked provider is not there.
        BundleError: the runtime refuses a graph.
    """

    def __init__(self, bundle: Bundle, options: RuntimeOptions) -> None:
        self.workload = workload_of(bundle)
        self._width = bundle.manifest.architecture.width
        self._whole = Model.load(bundle, range(bundle.manifest.architecture.layers), options)
        self._parts = [Model(bundle, (p,), self._whole.heads) for p in self._whole.partitions]
        self.threads = self._whole.threads
        # With one thread, a turn that another process takes does not count against the device.
        self._clock: Callable[[], float] = thread_time if self.threads == 1 else perf_counter

    def time(self) -> Timings:
        """Time everything once; takes about half a second for the bundle that ships."""
        long = self.workload.context_length - 1
        short_ones = [self._sequence(part, SHORT) for part in self._parts]
        looked = short_ones[-1]
        return Timings(
            pieces=[
                *(self._position_s(sequence) for sequence in short_ones),
                self._time_s(lambda: looked.look(looked.model.top), _STEPS, _QUARTER),
            ],
            long_pieces=[self._position_s(self._sequence(part, long)) for part in self._parts],
            steps=[
                self._step_s(self._sequence(self._whole.below(layer), SHORT))
                for layer in self.workload.exits
            ],
            chunk=self._chunk_s(),
            outside=median(self._outside_s(sequence) for sequence in short_ones),
        )

    def _sequence(self, model: Model, length: int) -> Sequence:
        """Return a sequence that has `length` positions behind it."""
        sequence = model.new_sequence()
        sequence.append(self._rows(model, length))
        sequence.advance(model.top)
        return sequence

    def _rows(self, model: Model, count: int) -> NDArray[Any]:
        """Return inputs for a model, all alike: how long they take does not depend on values."""
        if model.partitions[0].takes_tokens:
            return np.zeros(count, np.int64)
        return np.ones((count, self._width), np.float32)

    def _position_s(self, sequence: Sequence) -> float:
        length, top = sequence.length, sequence.model.top
        row = self._rows(sequence.model, 1)

        def run() -> None:
            sequence.truncate(length)
            sequence.append(row)
            sequence.advance(top)

        return self._time_s(run, _STEPS, _QUARTER)

    def _step_s(self, sequence: Sequence) -> float:
        length, top = sequence.length, sequence.model.top
        row = self._rows(sequence.model, 1)

        def run() -> None:
            sequence.truncate(length)
            sequence.append(row)
            sequence.advance(top)
            sequence.look(top)

        return self._time_s(run, _STEPS, _HALF)

    def _chunk_s(self) -> float:
        sequence, top = self._whole.new_sequence(), self._whole.top
        rows = self._rows(self._whole, min(CHUNK, self.workload.context_length))

        def run() -> None:
            sequence.truncate(0)
            sequence.append(rows)
            sequence.advance(top)

        return self._time_s(run, _CHUNKS, _QUARTER)

    def _outside_s(self, sequence: Sequence) -> float:
        """Time what one run of a graph takes before and after the runtime."""
        length, top = sequence.length, sequence.model.top
        row = self._rows(sequence.model, 1)
        times = []
        for _ in range(_STEPS):
            sequence.truncate(length)
            busy_s, started = sequence.busy_s, perf_counter()
            sequence.append(row)
            sequence.advance(top)
            times.append(perf_counter() - started - (sequence.busy_s - busy_s))
        return float(np.quantile(times, _QUARTER))

    def _time_s(self, run: Callable[[], object], count: int, share: float) -> float:
        """Run again and again; return what this share of the runs stays below."""
        times = []
        for _ in range(count):
            started = self._clock()
            run()
            times.append(self._clock() - started)
        return float(np.quantile(times, share))
