"""Write a bundle: graphs, tokenizer, profile and manifest, in one go or not at all.

Needs the `onnx` package (extra `train`).
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from updraft.errors import BundleError
from updraft.models.bundle import MANIFEST, Bundle, describe_files, open_bundle, write_manifest
from updraft.models.graphs import Weights, write_head, write_partition
from updraft.models.manifest import (
    FORMAT_VERSION,
    PLAIN_CODECS,
    SCALED_CODECS,
    Architecture,
    ExitEntry,
    Manifest,
    PartitionEntry,
    Profile,
    Quantization,
    TokenizerEntry,
    WireEntry,
)
from updraft.models.runtime import RuntimeOptions
from updraft.models.sampling import Sampling
from updraft.models.scales import fit_scales, scales_to_bytes
from updraft.models.sequence import Model
from updraft.models.tokenizer import Tokenizer

HEAD = "head.onnx"
TOKENIZER = "tokenizer.json"
SCALES = "channel-scales.f32"
_PROFILED_STEPS = 64
# Large models take long for a step, and vary less from one to the next.
_PROFILED_S = 10.0
_LEAST_STEPS = 5


@dataclass(frozen=True)
class BundlePlan:
    """What to write.

    Attributes:
        exits: layers done at each exit on the edge; the last one is the split.
        tokenizer_json: the tokenizer in the `tokenizers` library's format.
    """

    name: str
    architecture: Architecture
    exits: Sequence[int]
    quantization: Quantization
    tokenizer_json: str
    end_of_text: int
    provenance: dict[str, str | int]


def write_bundle(folder: Path, plan: BundlePlan, weights: Weights) -> Bundle:
    """Write a bundle into a folder that must not exist yet, measure its profile, and check it.

    Raises:
        BundleError: the folder exists.
    """
    if folder.exists():
        raise BundleError(f"{folder}: exists already; remove it or choose another --output")
    draft = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        _write_files(draft, plan, weights)
        write_manifest(draft, _manifest(draft, plan, profile=None))
        profile = measure_profile(open_bundle(draft))
        write_manifest(draft, _manifest(draft, plan, profile))
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return open_bundle(folder)


def add_files(bundle: Bundle, files: Mapping[str, str]) -> Bundle:
    """Let text files travel along (card, prompts); the fingerprint stays what it was."""
    for name, content in files.items():
        (bundle.folder / name).write_text(content, encoding="utf-8")
    listed = {**bundle.manifest.files, **describe_files(bundle.folder, files)}
    write_manifest(bundle.folder, bundle.manifest.model_copy(update={"files": listed}))
    return open_bundle(bundle.folder)


def add_channel_scales(bundle: Bundle, texts: Sequence[str]) -> Bundle:
    """Fit the channel scales of the split states on calibration texts, and offer every codec.

    The fingerprint changes: what crosses the wire is part of what is computed.
    """
    manifest, tokenizer = bundle.manifest, Tokenizer(bundle)
    lower = Model.load(bundle, range(manifest.split), RuntimeOptions())
    states = []
    for text in texts:
        sequence = lower.new_sequence()
        sequence.append(tokenizer.encode(text)[: manifest.architecture.context_length])
        states.append(sequence.advance(manifest.split))
    (bundle.folder / SCALES).write_bytes(scales_to_bytes(fit_scales(np.concatenate(states))))
    changes = {
        "format": FORMAT_VERSION,
        "codecs": [*PLAIN_CODECS, *SCALED_CODECS],
        "wire": WireEntry(scales=SCALES),
        "files": {**manifest.files, **describe_files(bundle.folder, [SCALES])},
    }
    write_manifest(bundle.folder, manifest.model_copy(update=changes))
    return open_bundle(bundle.folder)


def measure_profile(bundle: Bundle) -> Profile:
    """Measure the median latency of one-token steps of every partition and of the head."""
    options = RuntimeOptions()
    manifest = bundle.manifest
    model = Model.load(bundle, range(manifest.architecture.layers), options)
    sequence = model.new_sequence()
    rng = np.random.default_rng(0)
    times: list[list[float]] = [[] for _ in range(len(model.layers) + 1)]
    steps = min(_PROFILED_STEPS, manifest.architecture.context_length)
    enough = perf_counter() + _PROFILED_S
    for position in range(steps):
        if position >= _LEAST_STEPS and perf_counter() > enough:
            break
        sequence.append([int(rng.integers(manifest.architecture.vocabulary_size))])
        marks = [perf_counter()]
        for layer in model.layers:
            sequence.advance(layer)
            marks.append(perf_counter())
        sequence.propose(model.top, Sampling(), position)
        marks.append(perf_counter())
        for series, (start, end) in zip(times, pairwise(marks), strict=True):
            series.append(1e3 * (end - start))
    medians = [round(median(series), 3) for series in times]
    return Profile(
        machine=platform.machine(),
        threads=model.threads,
        partition_ms=medians[:-1],
        head_ms=medians[-1],
    )


def _write_files(folder: Path, plan: BundlePlan, weights: Weights) -> None:
    shape, quantization = plan.architecture, plan.quantization
    for entry in _partitions(plan):
        write_partition(folder, shape, weights, quantization, entry.first, entry.last)
    write_head(folder, HEAD, shape, weights, quantization, [*plan.exits, shape.layers])
    (folder / TOKENIZER).write_text(plan.tokenizer_json)


def _manifest(folder: Path, plan: BundlePlan, profile: Profile | None) -> Manifest:
    layers = [*plan.exits, plan.architecture.layers]
    names = [path.name for path in folder.iterdir() if path.name != MANIFEST]
    return Manifest(
        format=FORMAT_VERSION,
        name=plan.name,
        architecture=plan.architecture,
        split=plan.exits[-1],
        partitions=_partitions(plan),
        exits=[ExitEntry(layer=n, head=HEAD, index=i) for i, n in enumerate(layers)],
        tokenizer=TokenizerEntry(file=TOKENIZER, end_of_text=plan.end_of_text),
        codecs=list(PLAIN_CODECS),
        quantization=plan.quantization,
        files=describe_files(folder, names),
        profile=profile,
        provenance=plan.provenance,
    )


def _partitions(plan: BundlePlan) -> list[PartitionEntry]:
    bounds = pairwise([0, *plan.exits, plan.architecture.layers])
    return [
        PartitionEntry(file=f"layers-{first}-{last}.onnx", first=first, last=last)
        for first, last in bounds
    ]
