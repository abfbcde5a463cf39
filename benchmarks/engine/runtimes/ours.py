"""Updraft: the engine that `updraft generate` runs, and a bare loop over the same graphs.

Modules of Updraft are imported where they are used: a cold start pays for no more than it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from updraft.models.bundle import Bundle
    from updraft.models.runtime import RuntimeOptions
    from updraft.models.sequence import Model

PACKAGES = ("updraft", "onnxruntime")

_BUNDLE, _IMPORTED, _WHOLE = "bundle", "imported", "whole"
# Of the exit's adapter, as `updraft bundle train-exits` makes it.
_RANK = 64
# A confidence that no exit reaches: every token goes as deep as it may.
_NEVER = 2.0


def convert(checkpoint: Path, model: Path, options: dict[str, Any]) -> int:
    """Import the checkpoint; `form` says whether it is then left cut, made whole or given exits."""
    from updraft.models.checkpoints.importing import (  # noqa: PLC0415
        ImportPlan,
        import_checkpoint,
    )

    form, split = options["form"], options["split"]
    plan = ImportPlan(
        split=split,
        exits=(split,),
        precision=options["precision"],
        context_length=options["context_length"],
        name="bench",
    )
    model.mkdir(parents=True)
    if form == "exit":
        _give_exit(import_checkpoint(checkpoint, model / _IMPORTED, plan), model / _BUNDLE)
        return _weight_bytes(model / _BUNDLE, ("layers-0-",), last_head=False)
    bundle = import_checkpoint(checkpoint, model / _BUNDLE, plan)
    if form == "whole":
        _write_whole(checkpoint, model / _WHOLE, bundle)
    return _weight_bytes(model / _BUNDLE, ("layers-",), last_head=True)


class Runtime:
    """`Engine` in mode `full` or `standalone`; or `Model` and `Sequence` without it."""

    def __init__(self, model: Path, threads: int, options: dict[str, Any]) -> None:
        from updraft.devices.cores import usable_cores  # noqa: PLC0415
        from updraft.devices.free_memory import resident_bytes  # noqa: PLC0415
        from updraft.models.bundle import open_bundle  # noqa: PLC0415
        from updraft.models.runtime import RuntimeOptions  # noqa: PLC0415

        bundle = open_bundle(model / _BUNDLE)
        # Where all cores may be used, it chooses how many are, as it does for users.
        runtime = RuntimeOptions(threads=0 if threads == usable_cores() else threads)
        self.started_bytes = resident_bytes(Path("/"))
        run = options["run"]
        self.generate = (
            _by_engine(bundle, runtime, run)
            if run in {"full", "standalone"}
            else _by_loop(_load_whole(bundle, model / _WHOLE, runtime, is_whole=run == "whole"))
        )


_Generate = Callable[[list[int], int, Callable[[int], None]], None]


def _by_engine(bundle: Bundle, runtime: RuntimeOptions, mode: Any) -> _Generate:
    from updraft.devices.meters.modelled import ModelledMeter  # noqa: PLC0415
    from updraft.edge.engine import Engine  # noqa: PLC0415
    from updraft.edge.request import GenerationRequest  # noqa: PLC0415

    engine = Engine(bundle, runtime, ModelledMeter(), whole_model=mode == "full")

    def generate(prompt: list[int], count: int, emit: Callable[[int], None]) -> None:
        request = GenerationRequest("", mode=mode, theta=_NEVER, max_tokens=count, wire="fp32")
        for token in engine.start(request, prompt):
            emit(token.token)

    return generate


def _by_loop(model: Model) -> _Generate:
    from updraft.models.sampling import Sampling  # noqa: PLC0415

    sampling = Sampling()

    def generate(prompt: list[int], count: int, emit: Callable[[int], None]) -> None:
        sequence = model.new_sequence()
        tokens = prompt
        for _ in range(count):
            sequence.append(tokens)
            sequence.advance(model.top)
            token = sequence.propose(model.top, sampling, sequence.length).token
            emit(token)
            tokens = [token]

    return generate


def _load_whole(bundle: Bundle, whole: Path, runtime: RuntimeOptions, *, is_whole: bool) -> Model:
    """Load all layers: cut as the bundle is, or as one graph that stands beside it."""
    from updraft.models.manifest import PartitionEntry  # noqa: PLC0415
    from updraft.models.partition import Partition  # noqa: PLC0415
    from updraft.models.sequence import Model  # noqa: PLC0415

    layers = bundle.manifest.architecture.layers
    if not is_whole:
        return Model.load(bundle, range(layers), runtime)
    above = Model.load(bundle, range(layers, layers), runtime)
    entry = PartitionEntry(file=f"layers-0-{layers}.onnx", first=0, last=layers)
    return replace(above, partitions=(Partition(replace(bundle, folder=whole), entry, runtime),))


def _write_whole(checkpoint: Path, folder: Path, bundle: Bundle) -> None:
    from updraft.models.checkpoints.checkpoint import open_checkpoint  # noqa: PLC0415
    from updraft.models.graphs import write_partition  # noqa: PLC0415

    shape = bundle.manifest.architecture
    weights = open_checkpoint(checkpoint, shape.context_length).weights
    folder.mkdir()
    write_partition(folder, shape, weights, bundle.manifest.quantization, 0, shape.layers)


def _give_exit(bundle: Bundle, folder: Path) -> None:
    """Write the bundle anew with an exit as training makes it, but of random weights."""
    import numpy as np  # noqa: PLC0415

    from updraft.models.exits.adapter import AdapterWeights  # noqa: PLC0415
    from updraft.models.exits.lm_head import LmHead  # noqa: PLC0415
    from updraft.models.exits.new_heads import write_heads  # noqa: PLC0415

    width, split = bundle.manifest.architecture.width, bundle.manifest.split
    rng = np.random.default_rng(0)
    down, up = (rng.standard_normal(size, np.float32) for size in ((_RANK, width), (width, _RANK)))
    scale = np.float32(width**-0.5)
    weights = AdapterWeights(scale * down, scale * up, np.ones(width, np.float32))
    chosen = bundle.manifest.exits[0].shortlist
    shortlist = None if chosen is None else np.fromfile(bundle.path(chosen), "<i4")
    folder.mkdir()
    lm_head = LmHead(bundle, bundle.manifest.exits[-1])
    write_heads(bundle, folder, {split: weights}, lm_head, shortlist, {})


def _weight_bytes(folder: Path, partitions: tuple[str, ...], *, last_head: bool) -> int:
    """Return the bytes that a token reads of the graphs that it passes."""
    from onnx_bytes import (  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415
        weight_bytes,
    )

    from updraft.models.bundle import open_bundle  # noqa: PLC0415

    manifest = open_bundle(folder).manifest
    heads: Mapping[bool, str] = {True: manifest.exits[-1].head, False: manifest.exits[0].head}
    passed = [entry.file for entry in manifest.partitions if entry.file.startswith(partitions)]
    return sum(weight_bytes(folder / name) for name in [*passed, heads[last_head]])
