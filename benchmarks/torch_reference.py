"""A bundle's model once more as plain torch: no runtime, no cache, no partitions.

The weights come out of the bundle's own graphs, dequantized where they are int8, and go into the
decoder that was trained. Needs the `train` extra.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from updraft.models.bundle import Bundle
from updraft.models.quantize import Int8Matrix, dequantize_int8
from updraft.models.recipes.decoder import Decoder
from updraft.models.sampling import Sampling

Array = NDArray[np.float32]

_GAIN = re.compile(r"layer_(\d+)_(attention|ffn)_gain")
_INT8, _SCALES, _TRANSPOSED = ".values.T", ".scales.T", ".T"


class Forced(NamedTuple):
    """What the reference says of a text that something else produced.

    Attributes:
        tokens: the token it chooses at each produced position, given the text before it.
        gaps: its best logit less its second best, at the same positions.
    """

    tokens: list[int]
    gaps: Array


class TorchReference:
    """The whole model in fp32; one forward pass over a text checks all of its tokens."""

    def __init__(self, bundle: Bundle) -> None:
        shape = bundle.manifest.architecture
        exits = tuple(entry.layer for entry in bundle.manifest.exits)
        self._top = shape.layers
        self._decoder = Decoder(shape, exits).eval()
        self._decoder.load_state_dict(
            {name: torch.from_numpy(value) for name, value in read_weights(bundle).items()}
        )
        torch.set_num_threads(1)

    def force(self, prompt: list[int], produced: list[int], sampling: Sampling) -> Forced:
        """Choose a token at each produced position, the text before it being as produced.

        Equal tokens prove by induction that the reference would have produced the same text.
        """
        text = torch.tensor([[*prompt, *produced[:-1]]])
        with torch.inference_mode():
            states = self._decoder(text)[self._top][0, len(prompt) - 1 :]
            logits = self._decoder.logits(states)
        best = logits.topk(2).values
        rows: Array = logits.numpy()
        tokens = [sampling.pick(row, len(prompt) + i) for i, row in enumerate(rows)]
        return Forced(tokens, (best[:, 0] - best[:, 1]).numpy())


def read_weights(bundle: Bundle) -> dict[str, Array]:
    """Return a bundle's weights as fp32, under the names that the decoder gives them."""
    manifest = bundle.manifest
    weights: dict[str, Array] = {}
    for file in sorted({p.file for p in manifest.partitions} | {e.head for e in manifest.exits}):
        initializers = _initializers(bundle, file)
        weights.update(_matrices(initializers))
        for name, value in initializers.items():
            if gain := _GAIN.fullmatch(name):
                weights[f"layers.{gain[1]}.{gain[2]}_norm.weight"] = value
        for entry in manifest.exits:
            if entry.head == file:
                gains = initializers["exit_gains"]
                weights[f"exit_norms.{entry.layer}.weight"] = gains[entry.index].copy()
    return weights


def _matrices(initializers: dict[str, Array]) -> dict[str, Array]:
    """Return the matrices as (outputs, inputs), as the decoder has them."""
    matrices = {}
    for name, value in initializers.items():
        if name.endswith(".weight" + _INT8):
            weight = name.removesuffix(_INT8)
            scales = initializers[weight + _SCALES]
            matrices[weight] = dequantize_int8(Int8Matrix(value.T, scales.T))
        elif name.endswith(".weight" + _TRANSPOSED):
            matrices[name.removesuffix(_TRANSPOSED)] = np.ascontiguousarray(value.T)
    return matrices


def _initializers(bundle: Bundle, file: str) -> dict[str, Array]:
    graph = onnx.load(str(bundle.path(file))).graph
    # A copy: torch wants memory that may be written to.
    return {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in graph.initializer}
