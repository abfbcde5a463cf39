"""Keep keys and values in int8: measure how far each channel reaches, then change the graphs.

Needs the `onnx` package (extra `import`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from updraft.errors import BundleError
from updraft.models.bundle import Bundle, describe_files, open_bundle, write_manifest
from updraft.models.runtime import RuntimeOptions
from updraft.models.sequence import Model
from updraft.models.shipped import shipped_bundle
from updraft.models.tokenizer import Tokenizer

_LARGEST = 127
_PROMPTS = 32
# Texts that were not measured reach a little further than those that were.
_MARGIN = 1.1
# Inputs of GroupQueryAttention before the scales of keys and values.
_INPUTS_BEFORE_SCALES = 12

Scales = dict[str, NDArray[np.float32]]


def quantize_kv(bundle: Bundle, texts: Sequence[str] = ()) -> Bundle:
    """Let a bundle keep keys and values in int8, a quarter of the memory; one scale per channel.

    The fingerprint changes: other numbers are computed.

    Args:
        texts: what the model makes of them says how far each channel reaches; none: of prompts
            that come with Updraft.

    Raises:
        BundleError: its keys and values are in integers already.
    """
    manifest = bundle.manifest
    if manifest.quantization.kv != "fp32":
        raise BundleError(f"{bundle.folder}: keeps keys and values as {manifest.quantization.kv}")
    scales = _measure(bundle, texts or _prompts())
    files = [entry.file for entry in manifest.partitions]
    for file in files:
        _narrow(bundle.path(file), scales)
    changes = {
        "quantization": manifest.quantization.model_copy(update={"kv": "int8"}),
        "files": {**manifest.files, **describe_files(bundle.folder, files)},
    }
    write_manifest(bundle.folder, manifest.model_copy(update=changes))
    return open_bundle(bundle.folder)


def _prompts() -> list[str]:
    lines = (shipped_bundle() / "calibration.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["prompt"] for line in lines[:_PROMPTS]]


def _measure(bundle: Bundle, texts: Sequence[str]) -> Scales:
    """Return the scales (channels of all heads,) by `key_<layer>` and `value_<layer>`."""
    shape = bundle.manifest.architecture
    model = Model.load(bundle, range(shape.layers), RuntimeOptions())
    tokenizer = Tokenizer(bundle)
    reach: Scales = {}
    for tokens in map(tokenizer.encode, filter(None, texts)):
        sequence = model.new_sequence()
        sequence.append(tokens[: shape.context_length])
        sequence.advance(shape.layers)
        for name, values in sequence.keys_and_values():
            squares = np.square(values).max(axis=1)
            if name.startswith("key"):
                squares = _turned(squares, shape.rotary.width or shape.head_width)
            furthest = np.sqrt(squares).ravel()
            reach[name] = np.maximum(reach.get(name, np.float32(0)), furthest)
    if not reach:
        raise BundleError(f"{bundle.folder}: int8 keys and values need texts to be measured on")
    smallest = np.float32(1e-6)
    return {name: np.maximum(r * _MARGIN, smallest) / _LARGEST for name, r in reach.items()}


def _turned(squares: NDArray[np.float32], turning: int) -> NDArray[np.float32]:
    """Let each channel reach as far as positions that were not measured may turn it."""
    half = turning // 2
    pairs = squares[:, :half] + squares[:, half:turning]
    return np.concatenate([pairs, pairs, squares[:, turning:]], axis=1)


def _narrow(path: Path, scales: Scales) -> None:
    """Rewrite a partition's graph: the same operators on caches of int8."""
    model = onnx.load(path, load_external_data=False)
    for value in (*model.graph.input, *model.graph.output):
        if value.name.startswith(("past_", "present_")):
            value.type.tensor_type.elem_type = TensorProto.INT8
    for node in model.graph.node:
        if node.op_type != "GroupQueryAttention":
            continue
        node.input.extend([""] * (_INPUTS_BEFORE_SCALES - len(node.input)))
        for past in node.input[3:5]:
            name = past.removeprefix("past_")
            node.input.append(f"{name}_scales")
            model.graph.initializer.append(
                numpy_helper.from_array(scales[name].astype(np.float32), f"{name}_scales")
            )
        node.attribute.extend(
            [
                helper.make_attribute("k_quant_type", "PER_CHANNEL"),
                helper.make_attribute("v_quant_type", "PER_CHANNEL"),
                helper.make_attribute("kv_cache_bit_width", 8),
            ]
        )
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(model.SerializeToString())
    temporary.replace(path)
