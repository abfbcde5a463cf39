"""Cut a partition's graph at its attention nodes into pieces that any rows can share.

What lies between two attention nodes treats every row alike, so rows of many sequences may pass
it together. Attention needs one sequence's cache, and becomes a graph of its own.

The file is a protocol buffer. Only the fields named below are looked at (numbers from
onnx.proto); all others are carried along unread, and the `onnx` package is not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_ATTENTION = "GroupQueryAttention"
_Field = descriptor_pb2.FieldDescriptorProto
_FIELDS: dict[str, dict[str, tuple[int, str]]] = {
    "Model": {"graph": (7, "Graph")},
    "Graph": {
        "node": (1, "Node*"),
        "name": (2, "text"),
        "initializer": (5, "Weight*"),
        "input": (11, "Value*"),
        "output": (12, "Value*"),
        "value_info": (13, "Value*"),
    },
    "Node": {
        "input": (1, "text*"),
        "output": (2, "text*"),
        "op_type": (4, "text"),
        "attribute": (5, "Attribute*"),
    },
    "Attribute": {},
    "Weight": {"name": (8, "text")},
    "Value": {"name": (1, "text"), "type": (2, "Type")},
    "Type": {"tensor": (1, "TensorType")},
    "TensorType": {"element": (1, "number")},
}
_FLOAT = 1


class Piece(NamedTuple):
    """A graph of its own, and the names that go in and come out."""

    graph: bytes
    inputs: list[str]
    outputs: list[str]


class AttentionNames(NamedTuple):
    """The names that one layer's attention node reads and writes, in the operator's order.

    Attributes:
        reads: query, key, value, past key, past value, sequence lengths, …; where the query holds
            all three, key and value are empty.
        writes: attended, present key, present value.
        kind: which of `Cut.attentions` it is.
    """

    reads: list[str]
    writes: list[str]
    kind: int

    @property
    def rows(self) -> list[str]:
        """What comes from the piece before: queries, keys and values, in one or apart."""
        return [name for name in self.reads[:3] if name]


class Cut(NamedTuple):
    """A graph in pieces, which run in turn with attention: piece, attention, …, last piece.

    Attributes:
        pieces: one more than there are layers; rows of any sequences may pass them together.
        layers: what attention is called in each layer.
        attentions: one graph for every kind of attention; names are those of its first layer.
    """

    pieces: list[Piece]
    layers: list[AttentionNames]
    attentions: list[Piece]


def cut_at_attention(path: Path) -> Cut:
    """Cut a partition's graph file at its attention nodes."""
    model = _Model.FromString(path.read_bytes())
    groups: list[list[Any]] = [[]]
    attentions = []
    for node in model.graph.node:
        if node.op_type == _ATTENTION:
            attentions.append(node)
            groups.append([])
        else:
            groups[-1].append(node)
    wanted = {value.name for value in model.graph.output}
    wanted.update(name for node in attentions for name in node.input if name)
    graph = _Graph(model)
    pieces = []
    for nodes in reversed(groups):
        pieces.append(graph.piece(nodes, wanted))
        wanted.update(pieces[-1].inputs)
    kinds: dict[tuple[str | bytes, ...], Any] = {}
    for node in attentions:
        kinds.setdefault(_operation(model, node), node)
    order = list(kinds)
    return Cut(
        pieces[::-1],
        [
            AttentionNames(
                list(node.input), list(node.output), order.index(_operation(model, node))
            )
            for node in attentions
        ],
        [graph.piece([node], set(node.output)) for node in kinds.values()],
    )


def _operation(model: Any, node: Any) -> tuple[str | bytes, ...]:
    """Return what tells a node from others of its kind: attributes and constant inputs."""
    constants = {tensor.name for tensor in model.graph.initializer}
    attributes = sorted(attribute.SerializeToString() for attribute in node.attribute)
    return (*attributes, *(name if name in constants else "" for name in node.input))


class _Graph:
    """What pieces of one graph share: everything but nodes, and the weights by name."""

    def __init__(self, model: Any) -> None:
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._inputs = {value.name: value for value in model.graph.input}
        self._outputs = {value.name: value for value in model.graph.output}
        self._frame = _Model()
        self._frame.CopyFrom(model)
        for field in ("node", "initializer", "input", "output", "value_info"):
            self._frame.graph.ClearField(field)

    def piece(self, nodes: Sequence[Any], wanted: set[str]) -> Piece:
        """Make a graph of some of the nodes.

        Args:
            wanted: what others read; of these names, those that the nodes make come out.
        """
        made = {name for node in nodes for name in node.output}
        read = list(dict.fromkeys(name for node in nodes for name in node.input if name))
        inputs = [name for name in read if name not in made and name not in self._weights]
        outputs = [name for node in nodes for name in node.output if name in wanted]
        piece = _Model()
        piece.CopyFrom(self._frame)
        piece.graph.node.extend(nodes)
        piece.graph.initializer.extend(
            self._weights[name] for name in read if name in self._weights
        )
        piece.graph.input.extend(self._inputs.get(name) or _value(name) for name in inputs)
        piece.graph.output.extend(self._outputs.get(name) or _value(name) for name in outputs)
        return Piece(piece.SerializeToString(), inputs, outputs)


def _value(name: str) -> Any:
    value = _Value(name=name)
    value.type.tensor.element = _FLOAT
    return value


def _messages() -> dict[str, Any]:
    """Declare the messages above; what is not declared is kept as unknown fields."""
    file = descriptor_pb2.FileDescriptorProto(name="cut.proto", package="cut", syntax="proto2")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            field = message.field.add(name=field_name, number=number)
            field.label = _Field.LABEL_REPEATED if kind[-1] == "*" else _Field.LABEL_OPTIONAL
            match kind.rstrip("*"):
                case "text":
                    field.type = _Field.TYPE_STRING
                case "number":
                    field.type = _Field.TYPE_INT32
                case other:
                    field.type, field.type_name = _Field.TYPE_MESSAGE, f".cut.{other}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"cut.{name}"))
        for name in _FIELDS
    }


_classes = _messages()
_Model, _Value = _classes["Model"], _classes["Value"]
