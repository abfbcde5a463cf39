"""This machine as a device: a data sheet, and what a few seconds of measuring add to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np

from updraft.devices.bandwidth import measure_sizes
from updraft.devices.catalog.device import Device, Measured
from updraft.devices.performance import CHUNK
from updraft.devices.workload import Piece, Workload
from updraft.models.bundle import Bundle
from updraft.models.runtime import RuntimeOptions
from updraft.models.timings import SHORT, Subject, Timings, middle

# Working sets at which reading is timed: from what a small cache holds to past the largest.
_SIZES = tuple(mib << 20 for mib in (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256))
# The engine's own reading replaces the probe's at working sets that are about as large.
_NEAR = 1.25
_OPS_PER_MAC = 2

Curve = Sequence[tuple[float, float]]


def calibrate(
    device: Device,
    bundle: Bundle,
    options: RuntimeOptions | None = None,
    rounds: int = 3,
    token_overhead_s: float = 0.0,
) -> Device:
    """Return a device with this machine's own figures in place of published ones.

    Reading is timed at working sets of many sizes, because a model that fits into a cache is read
    faster than memory is. The bundle tells what starting graphs and operators takes, and how fast
    attention and prompts are computed. The one that ships takes about three seconds, on a machine
    that has nothing else to do. A bundle whose partitions fit into the cache one by one tells
    these apart best.

    Args:
        device: the entry of the catalog that this machine is closest to.
        rounds: medians are over so many, one after the other.
        token_overhead_s: what the decoding loop does around a token, where that is known.

    Raises:
        RuntimeMissing: ONNX Runtime or the asked provider is not there.
        BundleError: the runtime refuses a graph.
    """
    options = options or RuntimeOptions()
    subject = Subject(bundle, options)
    timings, curves = [], []
    for _ in range(rounds):
        curves.append(measure_sizes(_SIZES, subject.threads))
        timings.append(subject.time())
    rates = [median(rate for _, rate in same) for same in zip(*curves, strict=True)]
    reads = tuple(zip(_SIZES, rates, strict=True))
    return fitted(device, subject.workload, middle(timings), reads, token_overhead_s)


def fitted(
    device: Device,
    workload: Workload,
    timings: Timings,
    reads: Curve,
    token_overhead_s: float = 0.0,
) -> Device:
    """Return a device that explains how long a workload took.

    Args:
        reads: bytes that were read again and again, and how many a second.
    """
    partitions, head = workload.partitions, workload.head
    busy_s = [max(seconds - timings.outside, seconds / 2) for seconds in timings.pieces]
    fastest, node_s = _rate_and_node_s([*partitions, head], busy_s)

    def overhead_s(pieces: Sequence[Piece]) -> float:
        return sum(timings.outside + node_s * piece.nodes for piece in pieces)

    ops_per_s = _ops_per_s(workload, timings, overhead_s(partitions))
    attention_ops_per_s = min(ops_per_s, _attention_ops_per_s(workload, timings) or ops_per_s)
    own: dict[float, float] = {}
    for layer, step_s in zip(workload.exits, timings.steps, strict=True):
        pieces = [*(p for p in partitions if p.last_layer <= layer), head]
        weight_bytes = sum(p.weight_bytes for p in pieces)
        past_macs = (SHORT + 1) * sum(p.attention_macs for p in pieces)
        past_s = _OPS_PER_MAC * past_macs / attention_ops_per_s
        own[weight_bytes] = weight_bytes / max(step_s - overhead_s(pieces) - past_s, step_s / 2)
    return device.model_copy(
        update={
            "step_overhead_s": timings.outside,
            "ops_per_s": {**device.ops_per_s, workload.precision: ops_per_s},
            "sources": (
                *device.sources,
                f"measured: on this machine with bundle {workload.name}: step_overhead_s, "
                f"{workload.precision} in ops_per_s, and everything in measured",
            ),
            "measured": Measured(
                bandwidth=_curve(reads, fastest, own),
                node_overhead_s=node_s,
                attention_ops_per_s=attention_ops_per_s,
                token_overhead_s=token_overhead_s,
            ),
        }
    )


def _ops_per_s(workload: Workload, timings: Timings, overhead_s: float) -> float:
    """Return how fast a chunk of a prompt is computed."""
    positions = min(CHUNK, workload.context_length)
    macs = positions * sum(p.macs_per_position for p in workload.partitions)
    pairs = positions * (positions + 1) / 2
    macs += int(pairs * sum(p.attention_macs for p in workload.partitions))
    return _OPS_PER_MAC * macs / max(timings.chunk - overhead_s, timings.chunk / 2)


def _attention_ops_per_s(workload: Workload, timings: Timings) -> float | None:
    """Return how fast one position attends to its past; None where a long past costs nothing."""
    more_s = sum(timings.long_pieces) - sum(timings.pieces[:-1])
    more_positions = workload.context_length - 1 - SHORT
    macs = more_positions * sum(p.attention_macs for p in workload.partitions)
    return _OPS_PER_MAC * macs / more_s if more_s > 0 < macs else None


def _rate_and_node_s(runs: Sequence[Piece], seconds: Sequence[float]) -> tuple[float, float]:
    """Split the times of graphs into bytes per second and seconds per operator.

    Least squares of relative errors; where the two cannot be told apart, all is reading.
    """
    rows = np.array([[p.weight_bytes, p.nodes] for p in runs]) / np.array(seconds)[:, None]
    (per_byte, per_node), *_ = np.linalg.lstsq(rows, np.ones(len(runs)), rcond=None)
    if per_byte > 0 and per_node > 0:
        return float(1 / per_byte), float(per_node)
    return median(p.weight_bytes / s for p, s in zip(runs, seconds, strict=True)), 0.0


def _curve(
    reads: Curve, fastest: float, own: Mapping[float, float]
) -> tuple[tuple[float, float], ...]:
    """Join what the probe read with what the engine read, which is never faster than `fastest`."""
    points = {
        size: min(rate, fastest)
        for size, rate in reads
        if not any(other / _NEAR < size < other * _NEAR for other in own)
    }
    # More is never read faster than less: where it was, something else slowed the less down.
    curve: list[tuple[float, float]] = []
    for size, rate in sorted({**points, **own}.items(), reverse=True):
        curve.append((size, max(rate, curve[-1][1] if curve else 0.0)))
    return tuple(reversed(curve))
