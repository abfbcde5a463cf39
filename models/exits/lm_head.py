"""The LM head of a bundle as a matrix, whatever its precision. Needs `onnx` (extra `import`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor

from updraft.errors import BundleError
from updraft.models.bundle import Bundle
from updraft.models.manifest import ExitEntry
from updraft.models.runtime import RuntimeOptions, load_session

# Rows of the identity that one call multiplies: their logits must fit into memory.
_ROWS = 64
# What a norm's gains, one row for each exit of the head, are called in its graph.
_GAINS = "exit_gains"
_PRODUCTS = {"MatMul", "MatMulNBits", "Gemm"}


class LmHead:
    """The last matrix multiplication of a head's graph, and the gains of its norms.

    The matrix is read by multiplying the identity with it, so that it is what the runtime
    computes with.

    Args:
        entry: an exit that uses the head.

    Raises:
        BundleError: the graph is not built like a head of ours.
    """

    def __init__(self, bundle: Bundle, entry: ExitEntry) -> None:
        path = bundle.path(entry.head)
        model = onnx.load(path, load_external_data=False)
        made = {name: node for node in model.graph.node for name in node.output}
        if "logits" not in made or made["logits"].op_type not in _PRODUCTS:
            raise BundleError(f"{path}: its logits do not come from a matrix multiplication")
        self._activation = made["logits"].input[0]
        self._width = bundle.manifest.architecture.width
        self._session = load_session(
            path,
            RuntimeOptions(threads=2),
            _only(model, made, self._activation, self._width).SerializeToString(),
        )
        self._gains = _initializer(model, path)

    def gain(self, entry: ExitEntry) -> NDArray[np.float32]:
        """Return the gain (width,) of an exit's norm."""
        return np.array(self._gains[entry.index], np.float32)

    def rows(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return the rows (tokens, width) of some tokens."""
        found = np.empty((len(tokens), self._width), np.float32)
        for columns, values in self._columns():
            found[:, columns] = values[:, tokens].T
        return found

    def _columns(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        for start in range(0, self._width, _ROWS):
            columns = slice(start, min(start + _ROWS, self._width))
            part = np.eye(self._width, dtype=np.float32)[columns]
            (values,) = self._session.run(["logits"], {self._activation: part})
            yield columns, values


def _only(
    model: onnx.ModelProto, made: dict[str, onnx.NodeProto], activation: str, width: int
) -> onnx.ModelProto:
    """Return the graph from `activation` to the logits alone."""
    wanted, nodes = ["logits"], []
    while wanted:
        name = wanted.pop()
        node = made.get(name)
        if name == activation or node is None or node in nodes:
            continue
        nodes.append(node)
        wanted += node.input
    needed = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        [node for node in model.graph.node if node in nodes],
        "lm_head",
        [helper.make_tensor_value_info(activation, TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", None])],
        [tensor for tensor in model.graph.initializer if tensor.name in needed],
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _initializer(model: onnx.ModelProto, path: Path) -> NDArray[np.float32]:
    for tensor in model.graph.initializer:
        if tensor.name == _GAINS:
            if tensor.data_location == TensorProto.EXTERNAL:
                load_external_data_for_tensor(tensor, str(path.parent))
            return numpy_helper.to_array(tensor)
    raise BundleError(f"{path}: has no {_GAINS}, it was not built by this version of updraft")
