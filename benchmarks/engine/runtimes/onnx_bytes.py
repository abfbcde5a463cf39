"""How many bytes of an ONNX model's weights one decoded token reads."""

from __future__ import annotations

from pathlib import Path

import onnx

# These pick rows: a token reads one of them.
_LOOKUPS = frozenset({"Gather", "GatherBlockQuantized"})


def weight_bytes(path: Path) -> int:
    """Return the bytes of all initializers that another node than a lookup reads.

    Weights are counted as the file has them; how a runtime packs them in memory is its own.
    """
    graph = onnx.load(str(path), load_external_data=False).graph
    read = {name for node in graph.node if node.op_type not in _LOOKUPS for name in node.input}
    return sum(_bytes(tensor) for tensor in graph.initializer if tensor.name in read)


def _bytes(tensor: onnx.TensorProto) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    item = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return int(count * item)
