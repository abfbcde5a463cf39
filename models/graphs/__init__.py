"""Write the ONNX graphs of a bundle from weights, one tensor after the other.

Needs the `onnx` package (extra `import`).
"""

from updraft.models.graphs.graph import Weights
from updraft.models.graphs.head import write_head
from updraft.models.graphs.partition import write_partition

__all__ = ["Weights", "write_head", "write_partition"]
