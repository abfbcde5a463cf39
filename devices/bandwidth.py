"""Measures how fast this machine reads its memory: what decoding a token waits for."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from time import monotonic, perf_counter, thread_time

import numpy as np
from numpy.typing import NDArray

# Past the last cache of most machines, below what an 8 GB board has free.
_BUFFER_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Bandwidth:
    """A measured read bandwidth.

    Attributes:
        bytes_per_s: of the fastest pass; others can only slow a pass down.
        threads: that read at once, each its own part.
        buffer_bytes: passed over each time; one that fits a cache measures the cache.
    """

    bytes_per_s: float
    threads: int
    buffer_bytes: int


def measure(buffer_bytes: int = _BUFFER_BYTES, threads: int = 1, seconds: float = 0.5) -> Bandwidth:
    """Read a buffer again and again, as decoding reads weights.

    Args:
        buffer_bytes: memory that is taken for it.
        threads: as many as the runtime decodes with.
        seconds: how long to read, the buffer's first touch left out; at least three passes.

    With one thread, a turn that another process takes does not count.
    """
    buffer = np.ones(max(buffer_bytes // 4, threads), np.int32)
    with ThreadPoolExecutor(threads) as pool:
        best_s = min(_passes_s(buffer, threads, pool, seconds))
    return Bandwidth(buffer.nbytes / best_s, threads, buffer.nbytes)


def measure_sizes(
    sizes: Sequence[int], threads: int = 1, seconds: float = 0.01
) -> list[tuple[int, float]]:
    """Read the beginning of one buffer again and again, for several sizes of it.

    Args:
        sizes: bytes.
        seconds: how long to read each, at least three passes.

    Returns:
        Each size with the bytes per second of its middle pass: of what may be expected, where
        `measure` gives the best that there is.
    """
    # With numbers of this type it comes closest to what a matrix times a vector reaches.
    buffer = np.ones(max(max(sizes) // 4, threads), np.float32)
    found = []
    with ThreadPoolExecutor(threads) as pool:
        for size in sizes:
            part = buffer[: max(size // 4, threads)]
            found.append((size, part.nbytes / median(_passes_s(part, threads, pool, seconds))))
    return found


def _passes_s(
    buffer: NDArray[np.int32] | NDArray[np.float32],
    threads: int,
    pool: ThreadPoolExecutor,
    seconds: float,
) -> list[float]:
    """Return the seconds of each pass; with one thread, others' turns do not count."""
    parts = np.array_split(buffer, threads)
    clock = thread_time if threads == 1 else perf_counter
    times: list[float] = []
    end = monotonic() + seconds
    while len(times) < 3 or monotonic() < end:
        start = clock()
        # A maximum is one load and one vector operation, and numpy gives the lock away.
        if threads == 1:
            buffer.max()
        else:
            list(pool.map(np.max, parts))
        times.append(clock() - start)
    return times
