"""Reading a graph's signature without the onnx package: the same answers, and no other faults."""

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.models.onnx_signature import Signature, Tensor, read_signature

_ELEMENTS = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.INT32: "int32",
    onnx.TensorProto.INT64: "int64",
}


def tensors(values):
    return {
        value.name: Tensor(
            _ELEMENTS[value.type.tensor_type.elem_type],
            tuple(d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim),
        )
        for value in values
    }


def varint(number):
    low = number & 0x7F
    return bytes([low]) if number < 0x80 else bytes([low | 0x80]) + varint(number >> 7)


def message(fields):
    """Encode (number, content) pairs: integers as varints, bytes as nested messages."""
    return b"".join(
        varint(number << 3) + varint(content)
        if isinstance(content, int)
        else varint(number << 3 | 2) + varint(len(content)) + content
        for number, content in fields
    )


# Nested messages that use the very field numbers that the reader follows.
NUMBERS = st.sampled_from([1, 2, 3, 7, 11, 12])
MESSAGES = st.recursive(
    st.binary(max_size=6) | st.integers(0, 1 << 66),
    lambda inner: st.lists(st.tuples(NUMBERS, inner), max_size=4).map(message),
    max_leaves=12,
)


@pytest.fixture(scope="session")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("signature") / "graph.onnx"


@pytest.fixture(scope="session")
def graph(tiny_bundle):
    return tiny_bundle.path("layers-1-2.onnx").read_bytes()


def assert_reads_or_refuses(path, content):
    """Any exception but ValueError escapes and fails the test."""
    path.write_bytes(content)
    try:
        signature = read_signature(path)
    except ValueError as error:
        assert str(error)
    else:
        assert signature.inputs
        assert signature.outputs


@pytest.mark.parametrize(
    "name", ["layers-0-1.onnx", "layers-1-2.onnx", "layers-2-4.onnx", "head.onnx"]
)
def test_signature_agrees_with_the_onnx_package(tiny_bundle, name):
    path = tiny_bundle.path(name)
    graph = onnx.load(path).graph
    assert read_signature(path) == Signature(tensors(graph.input), tensors(graph.output))


def test_every_graph_of_the_tiny_bundle_is_a_valid_model(tiny_bundle):
    for path in tiny_bundle.folder.glob("*.onnx"):
        model = onnx.load(path)
        assert {opset.domain for opset in model.opset_import} == {"", "com.microsoft"}
        assert model.graph.node


def test_names_of_other_element_types_are_told_apart(scratch):
    info = onnx.helper.make_tensor_value_info
    half, text = onnx.TensorProto.FLOAT16, onnx.TensorProto.STRING
    graph = onnx.helper.make_graph([], "g", [info("x", half, [2, "n"])], [info("y", text, [])])
    onnx.save(onnx.helper.make_model(graph), scratch)
    signature = read_signature(scratch)
    assert signature.inputs == {"x": Tensor("float16", (2, "n"))}
    assert signature.outputs == {"y": Tensor("type 8", ())}


def test_an_empty_file_is_refused(scratch):
    scratch.write_bytes(b"")
    with pytest.raises(ValueError, match="empty"):
        read_signature(scratch)


def test_a_model_without_inputs_is_refused(scratch):
    scratch.write_bytes(message([(7, message([(2, b"name")]))]))
    with pytest.raises(ValueError, match="not an ONNX model"):
        read_signature(scratch)


@given(content=st.binary(max_size=200))
def test_random_bytes_are_refused_as_no_model(scratch, content):
    assert_reads_or_refuses(scratch, content)


@given(fields=st.lists(st.tuples(NUMBERS, MESSAGES), max_size=5))
def test_messages_of_random_fields_raise_nothing_else(scratch, fields):
    assert_reads_or_refuses(scratch, message(fields))


@given(data=st.data())
def test_truncated_inside_the_graph_is_refused(scratch, graph, data):
    # Past the graph only the operator set versions follow, which the reader skips.
    graph_end = len(graph) - 40
    scratch.write_bytes(graph[: data.draw(st.integers(1, graph_end))])
    with pytest.raises(ValueError, match=r"\w"):
        read_signature(scratch)


@given(data=st.data())
def test_changed_bytes_raise_nothing_else(scratch, graph, data):
    content = bytearray(graph)
    # Inputs and outputs stand at the end of the graph: aim there half of the time.
    places = st.integers(0, len(content) - 1) | st.integers(len(content) - 600, len(content) - 1)
    for at in data.draw(st.lists(places, min_size=1, max_size=4)):
        content[at] = data.draw(st.integers(0, 255))
    assert_reads_or_refuses(scratch, bytes(content))
