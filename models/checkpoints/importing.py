"""Turn a checkpoint into a bundle: tensor after tensor, and on from where it was interrupted.

Needs the `onnx` package (extra `import`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from updraft.devices.free_memory import free_bytes
from updraft.errors import BundleError, ProbeError
from updraft.models.architecture import Quantization
from updraft.models.build import add_channel_scales, measure_profile
from updraft.models.bundle import Bundle, open_bundle, write_manifest
from updraft.models.checkpoints.checkpoint import Checkpoint, CheckpointWeights, open_checkpoint
from updraft.models.checkpoints.draft import Draft, open_draft
from updraft.models.checkpoints.gate import require_near_checkpoint
from updraft.models.checkpoints.heads import write_heads
from updraft.models.checkpoints.plan import Cut, ImportPlan
from updraft.models.checkpoints.vocabulary import TEMPLATE, TOKENIZER
from updraft.models.fidelity import Limits
from updraft.models.graphs import write_partition
from updraft.models.kv_quantization import quantize_kv
from updraft.models.manifest import (
    FORMAT_VERSION,
    PLAIN_CODECS,
    Manifest,
    Profile,
    TokenizerEntry,
)

__all__ = ["ImportPlan", "Report", "import_checkpoint"]

# Who is told of progress: the stage, what is done of it, how much there is.
Report = Callable[[str, int, int], None]

_MAX_HALF = float(np.finfo(np.float16).max)


def import_checkpoint(
    path: Path, output: Path, plan: ImportPlan, report: Report = lambda *_: None
) -> Bundle:
    """Write a checkpoint as a bundle into a folder that must not exist yet.

    Raises:
        BundleError: the checkpoint is not one that can be imported; nothing is left of it.
        RequestError: the plan does not fit the model.
    """
    if output.exists():
        raise BundleError(f"{output}: exists already; remove it or choose another --output")
    checkpoint = open_checkpoint(path, plan.context_length)
    cut = Cut.of(checkpoint, plan)
    with open_draft(output, _key(checkpoint, cut, plan)) as draft:
        _write_graphs(draft, checkpoint, cut, report)
        draft.do("tokenizer", lambda folder: _write_vocabulary(folder, checkpoint))
        manifest = _manifest(checkpoint, cut, draft)
        write_manifest(draft.folder, manifest)
        bundle = open_bundle(draft.folder)
        if plan.kv == "int8":
            bundle = quantize_kv(bundle, plan.texts)
        if plan.texts:
            bundle = add_channel_scales(bundle, plan.texts)
        if plan.limits != Limits():
            whole = replace(plan, precision="fp32", block=None, kv="fp32", overrides={}, texts=(),
                            limits=Limits())  # fmt: skip
            require_near_checkpoint(
                bundle,
                plan.limits,
                ["\n\n".join(plan.texts)],
                lambda folder: import_checkpoint(path, folder, whole, report),
                report,
            )
        profile = _profile(bundle, checkpoint)
        write_manifest(draft.folder, bundle.manifest.model_copy(update={"profile": profile}))
        draft.finish(output)
    return open_bundle(output)


class _Watched(Mapping[str, NDArray[np.float32]]):
    """Weights that say how much of them was read, and refuse what their precision cannot hold."""

    def __init__(self, weights: CheckpointWeights, quantization: Quantization) -> None:
        self.read_bytes = 0
        self.on_read: Callable[[], None] = lambda: None
        self._weights = weights
        self._quantization = quantization

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        weight = self._weights[name]
        if self._quantization.precision_of(name) == "fp16" and np.abs(weight).max() > _MAX_HALF:
            raise BundleError(
                f"{name}: holds values beyond {_MAX_HALF:.0f}, which fp16 cannot: choose another "
                "--precision, or --override it"
            )
        self.read_bytes += weight.nbytes
        self.on_read()
        return weight

    def __contains__(self, name: object) -> bool:
        return name in self._weights

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def _write_graphs(draft: Draft, checkpoint: Checkpoint, cut: Cut, report: Report) -> None:
    shape, kept_as = checkpoint.architecture, cut.quantization
    weights = _Watched(checkpoint.weights, kept_as)

    def step(file: str, names: Sequence[str], write: Callable[[Path], list[str]]) -> None:
        total = sum(map(checkpoint.weights.bytes_of, names))
        stage, before = f"{file.removesuffix('.onnx')}, MB", weights.read_bytes
        weights.on_read = lambda: report(
            stage, min(weights.read_bytes - before, total) // 10**6, total // 10**6
        )
        draft.do(file, write)
        report(stage, total // 10**6, total // 10**6)

    for entry in cut.partitions(shape.layers):
        begins = tuple(f"layers.{layer}." for layer in range(entry.first, entry.last))
        begins += () if entry.first else ("embedding.",)
        step(
            entry.file,
            [name for name in weights if name.startswith(begins)],
            partial(
                write_partition,
                shape=shape,
                weights=weights,
                quantization=kept_as,
                first=entry.first,
                last=entry.last,
            ),
        )
    heads = cut.heads(checkpoint)
    for file in heads.files:
        step(
            file.file,
            [heads.weights_of(file)],
            partial(write_heads, heads=heads, file=file, weights=weights, quantization=kept_as),
        )
    draft.do("shortlist", heads.write_tokens)


def _manifest(checkpoint: Checkpoint, cut: Cut, draft: Draft) -> Manifest:
    layers, vocabulary = checkpoint.architecture.layers, checkpoint.vocabulary
    heads = cut.heads(checkpoint)
    try:
        return Manifest(
            format=FORMAT_VERSION,
            name=cut.name,
            architecture=checkpoint.architecture,
            split=cut.split,
            partitions=cut.partitions(layers),
            exits=heads.entries(),
            tokenizer=TokenizerEntry(
                file=TOKENIZER,
                end_of_text=vocabulary.end_of_text,
                stop_tokens=list(vocabulary.stop_tokens),
                begin_token=vocabulary.begin_token,
                chat_template=None if vocabulary.chat_template is None else TEMPLATE,
            ),
            codecs=list(PLAIN_CODECS),
            # Caches are fp32 until `quantize_kv` has seen what they hold.
            quantization=cut.quantization.model_copy(update={"kv": "fp32"}),
            files=draft.files,
            provenance=_provenance(checkpoint) | {"exits": heads.describe()},
        )
    except ValidationError as error:
        raise BundleError(f"{checkpoint.folder}: {error.errors()[0]['msg']}") from error


def _write_vocabulary(folder: Path, checkpoint: Checkpoint) -> list[str]:
    (folder / TOKENIZER).write_bytes(checkpoint.vocabulary.tokenizer)
    if checkpoint.vocabulary.chat_template is None:
        return [TOKENIZER]
    (folder / TEMPLATE).write_text(checkpoint.vocabulary.chat_template, encoding="utf-8")
    return [TOKENIZER, TEMPLATE]


def _provenance(checkpoint: Checkpoint) -> dict[str, str | int]:
    return {
        "imported_from": checkpoint.kind,
        "checkpoint": checkpoint.folder.resolve().name,
        "checkpoint_dtype": checkpoint.dtype,
        "checkpoint_bytes": checkpoint.size_bytes,
        "checkpoint_index_sha256": checkpoint.index_sha256,
        "licence": checkpoint.licence or "not stated by the checkpoint",
    }


def _key(checkpoint: Checkpoint, cut: Cut, plan: ImportPlan) -> str:
    """Return what a half-written bundle belongs to."""
    parts = [
        FORMAT_VERSION,
        version("updraft"),
        checkpoint.identity,
        checkpoint.architecture.model_dump(),
        asdict(cut) | {"quantization": cut.quantization.model_dump()},
        plan.texts,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _profile(bundle: Bundle, checkpoint: Checkpoint) -> Profile | None:
    """Measure the bundle, unless it takes more memory than importing it may, or than is free."""
    shape = bundle.manifest.architecture
    need = sum(entry.bytes for entry in bundle.manifest.files.values())
    need += 8 * shape.layers * shape.kv_width * shape.context_length
    try:
        free = free_bytes(Path("/"))
    except ProbeError:
        return None
    return measure_profile(bundle) if need < min(checkpoint.size_bytes, free) else None
