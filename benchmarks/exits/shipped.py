"""The weights of a shipped bundle in fp32, and bundles made of them in another way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from updraft.models.build import BundlePlan, write_bundle
from updraft.models.bundle import Bundle
from updraft.models.kv_quantization import quantize_kv
from updraft.models.manifest import Quantization
from updraft.models.quantize import Int8Matrix, dequantize_int8


def shipped_weights(bundle: Bundle) -> dict[str, NDArray[np.float32]]:
    """Return the weights of a bundle of format 2 as the runtime computes with them."""
    manifest, found = bundle.manifest, {}
    for entry in manifest.partitions:
        constants = _constants(bundle.path(entry.file))
        for name, value in constants.items():
            if name.endswith(".values.T"):
                base = name.removesuffix(".values.T")
                matrix = Int8Matrix(value.T, constants[f"{base}.scales.T"].T)
                found[base] = dequantize_int8(matrix)
            for norm in ("attention", "ffn"):
                if name.endswith(f"_{norm}_gain"):
                    layer = name.split("_")[1]
                    found[f"layers.{layer}.{norm}_norm.weight"] = value
    head = _constants(bundle.path(manifest.exits[-1].head))
    matrix = Int8Matrix(head["embedding.weight.values.T"].T, head["embedding.weight.scales.T"].T)
    found["embedding.weight"] = dequantize_int8(matrix)
    for exit_ in manifest.exits:
        found[f"exit_norms.{exit_.layer}.weight"] = head["exit_gains"][exit_.index]
    return {name: np.ascontiguousarray(value, np.float32) for name, value in found.items()}


def rebuild(
    bundle: Bundle,
    folder: Path,
    quantization: Quantization,
    exits: Sequence[int] | None = None,
    texts: Sequence[str] = (),
) -> Bundle:
    """Write a shipped bundle anew, with other precision, or with exits that were never trained.

    Args:
        exits: layers of the exits on the edge; they get the final norm. None: those it has.
        texts: what int8 caches are fitted on.
    """
    manifest, weights = bundle.manifest, shipped_weights(bundle)
    final = weights[f"exit_norms.{manifest.architecture.layers}.weight"]
    if exits is not None:
        weights |= {f"exit_norms.{layer}.weight": final for layer in exits}
    plan = BundlePlan(
        name=manifest.name,
        architecture=manifest.architecture,
        exits=exits or [entry.layer for entry in manifest.edge_exits],
        quantization=quantization,
        tokenizer_json=bundle.path(manifest.tokenizer.file).read_text(),
        end_of_text=manifest.tokenizer.end_of_text,
        provenance={"recipe": "rebuilt"},
    )
    if quantization.kv != "int8":
        return write_bundle(folder, plan, weights)
    # Caches are narrowed once it is known what they hold.
    wide = replace(plan, quantization=quantization.model_copy(update={"kv": "fp32"}))
    return quantize_kv(write_bundle(folder, wide, weights), texts)


def _constants(path: Path) -> dict[str, NDArray[Any]]:
    graph = onnx.load(path).graph
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
