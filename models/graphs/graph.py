"""One graph under construction: its nodes, and its constants in the graph or in files beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from updraft.models.architecture import Quantization
from updraft.models.graphs.weight_file import WeightFile, weight_file

Weights = Mapping[str, NDArray[np.float32]]

CONTRIB = "com.microsoft"
# Smaller constants stay in the graph's own file.
_LARGE_BYTES = 1 << 16


class Graph:
    """Nodes and constants of one graph; large constants go to files beside it.

    To be used in a `with` block: what was begun is removed where it does not come to its end.

    Attributes:
        weights: by name, (outputs, inputs); each is read once.
    """

    def __init__(
        self, folder: Path, stem: str, weights: Weights, quantization: Quantization
    ) -> None:
        self.weights = weights
        self.quantization = quantization
        self._folder = folder
        self._stem = stem
        self._files: dict[str, WeightFile] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}

    def __enter__(self) -> Graph:  # noqa: PYI034 (Python 3.10 has no Self)
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.discard()

    def constant(self, name: str, value: NDArray[Any], shared: str | None = None) -> str:
        """Add a constant, once.

        Args:
            shared: the name of a file that several graphs of the bundle use.
        """
        if name not in self._initializers:
            self.stream(name, value.dtype, value.shape, [value], shared)
        return name

    def stream(
        self,
        name: str,
        element: np.dtype[Any],
        shape: tuple[int, ...],
        parts: Iterable[NDArray[Any]],
        shared: str | None = None,
        beside: str | None = None,
    ) -> str:
        """Add a constant whose memory comes part by part, so that it never lies there whole.

        Args:
            beside: the name of a constant that it is kept with, however large it is itself.
        """
        apart = prod(shape) * element.itemsize >= _LARGE_BYTES
        if beside is not None:
            apart = self._initializers[beside].data_location == TensorProto.EXTERNAL
        if apart:
            self._initializers[name] = self._file(shared or self._stem).add(
                name, element, shape, parts
            )
        else:
            flat = np.concatenate([np.ravel(part) for part in parts]).astype(element)
            self._initializers[name] = numpy_helper.from_array(flat.reshape(shape), name)
        return name

    def node(
        self,
        kind: str,
        inputs: Sequence[str],
        *outputs: str,
        domain: str = "",
        **attributes: Any,
    ) -> None:
        """Add an operator."""
        self._nodes.append(
            helper.make_node(kind, list(inputs), list(outputs), domain=domain, **attributes)
        )

    def norm(self, x: str, gain: str, out: str, epsilon: float) -> None:
        """Scale each row to unit root mean square, times a gain."""
        self.node("SimplifiedLayerNormalization", [x, gain], out, axis=-1, epsilon=epsilon)

    def add_norm(self, x: str, skip: str, gain: str, out: str, total: str, epsilon: float) -> None:
        """Add two states, and norm the sum."""
        self.node(
            "SkipSimplifiedLayerNormalization", [x, skip, gain], out, "", "", total,
            domain=CONTRIB, epsilon=epsilon,
        )  # fmt: skip

    def finish(
        self, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
    ) -> list[str]:
        """Write the graph, and return the names of all files that it needs."""
        graph = helper.make_graph(
            self._nodes,
            self._stem.replace("-", "_"),
            inputs,
            outputs,
            list(self._initializers.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid(CONTRIB, 1)],
            ir_version=10,
            producer_name="updraft",
        )
        file = f"{self._stem}.onnx"
        written = [name for data in self._files.values() for name in data.close()]
        (self._folder / file).write_bytes(model.SerializeToString())
        return [file, *written]

    def _file(self, stem: str) -> WeightFile:
        if stem not in self._files:
            self._files[stem] = weight_file(self._folder, stem)
        return self._files[stem]


def tensor_info(
    name: str, shape: Sequence[int | str], element: int = TensorProto.FLOAT
) -> onnx.ValueInfoProto:
    """Describe an input or output of a graph; a free dimension is a name."""
    return helper.make_tensor_value_info(name, element, list(shape))
