"""A bundle's workload is what its files hold and what the engine does with them."""

import shutil

import numpy as np
import pytest

from updraft.errors import BundleError
from updraft.models.build import write_bundle
from updraft.models.codecs import wire_codec
from updraft.models.manifest import Quantization
from updraft.models.onnx_weights import read_weights
from updraft.models.runtime import RuntimeOptions
from updraft.models.sequence import Model
from updraft.models.workload import workload_of


def layer_macs(shape):
    """Multiplications of one position in one layer, from the architecture."""
    kv_width = shape.kv_heads * shape.head_width
    attention = 2 * shape.width**2 + 2 * kv_width * shape.width
    return attention + 3 * shape.ffn_width * shape.width


@pytest.fixture(params=["tiny_bundle", "bundle"])
def any_bundle(request):
    return request.getfixturevalue(request.param)


def test_multiplications_are_those_of_the_architecture(any_bundle):
    shape, workload = any_bundle.manifest.architecture, workload_of(any_bundle)
    first = 0
    for piece in workload.partitions:
        assert piece.macs_per_position == (piece.last_layer - first) * layer_macs(shape)
        first = piece.last_layer
    assert first == shape.layers
    assert workload.head.macs_per_position == shape.vocabulary_size * shape.width


def test_weights_are_read_in_fp32_and_tables_by_row(any_bundle):
    shape, workload = any_bundle.manifest.architecture, workload_of(any_bundle)
    for piece in [*workload.partitions, workload.head]:
        # Beside the matrices there are gains and a few constants, and no embedding.
        rest = piece.weight_bytes - 4 * piece.macs_per_position
        assert 0 <= rest < 4 * 3 * (shape.layers + 1) * shape.width
        assert piece.kept_bytes > 0


def test_how_weights_are_stored_does_not_change_what_is_read(
    tiny_bundle, tiny_plan, tiny_weights, tmp_path
):
    plan = vars(tiny_plan) | {"quantization": Quantization(weights="fp32")}
    wide = write_bundle(tmp_path / "wide", type(tiny_plan)(**plan), tiny_weights)
    for own, other in zip(
        workload_of(tiny_bundle).partitions, workload_of(wide).partitions, strict=True
    ):
        assert own.weight_bytes == pytest.approx(other.weight_bytes, abs=64)
        assert own.macs_per_position == other.macs_per_position
        assert own.kept_bytes < other.kept_bytes


@pytest.fixture(scope="module")
def integer_bundle(tiny_plan, tiny_weights, tmp_path_factory):
    """Return a function that writes the tiny bundle in integers which stay integers."""

    def write(precision):
        quantization = Quantization(weights=precision, block=16, activations="int8")
        plan = vars(tiny_plan) | {"quantization": quantization}
        folder = tmp_path_factory.mktemp(precision) / "tiny"
        return write_bundle(folder, type(tiny_plan)(**plan), tiny_weights)

    return write


@pytest.mark.parametrize(("precision", "bits"), [("int8", 8), ("int4", 4)])
def test_integers_that_stay_are_read_as_they_are(integer_bundle, precision, bits):
    bundle = integer_bundle(precision)
    shape, workload = bundle.manifest.architecture, workload_of(bundle)
    assert workload.precision == "int8"
    first = 0
    for piece in workload.partitions:
        macs = (piece.last_layer - first) * layer_macs(shape)
        assert piece.macs_per_position == macs
        # A scale for 16 weights, and a sum beside it, in fp32 each; and the gains.
        assert 0 <= piece.weight_bytes - macs * (bits / 8 + 8 / 16) < 4 * 4 * 2 * shape.width
        first = piece.last_layer
    assert workload.head.macs_per_position == shape.vocabulary_size * shape.width


def mixture(folder, experts, active, width=32, inner=16):
    """Write a graph that is one mixture of experts in int4, and return its path."""
    onnx = pytest.importorskip("onnx")
    sizes = {"fc1": (2 * inner, width), "fc2": (width, inner)}
    constants = []
    for name, (rows, columns) in sizes.items():
        values = np.zeros((experts, rows, columns // 2), np.uint8)
        scales = np.zeros((experts, rows), np.float32)
        constants.append(onnx.numpy_helper.from_array(values, name))
        constants.append(onnx.numpy_helper.from_array(scales, f"{name}_scales"))
    node = onnx.helper.make_node(
        "QMoE",
        ["x", "scores", "fc1", "fc1_scales", "", "fc2", "fc2_scales"],
        ["y"],
        domain="com.microsoft",
        k=active,
        expert_weight_bits=4,
    )
    ports = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", size])
        for name, size in (("x", width), ("scores", experts), ("y", width))
    ]
    graph = onnx.helper.make_graph([node], "mixture", ports[:2], ports[2:], constants)
    onnx.save(onnx.helper.make_model(graph), folder / "mixture.onnx")
    return folder / "mixture.onnx"


def test_experts_that_a_token_does_not_pass_are_held_and_not_read(tmp_path):
    two, all_ = (read_weights(mixture(tmp_path, 8, active)) for active in (2, 8))
    assert two.macs == 2 * 3 * 16 * 32
    assert two.read_bytes == all_.read_bytes // 4
    assert two.read_bytes + two.idle_bytes == all_.read_bytes + all_.idle_bytes


def test_caches_are_as_large_as_the_engines(any_bundle):
    workload = workload_of(any_bundle)
    layers = any_bundle.manifest.architecture.layers
    model = Model.load(any_bundle, range(layers), RuntimeOptions())
    for piece, partition in zip(workload.partitions, model.partitions, strict=True):
        assert workload.context_length * piece.kv_bytes_per_position == partition.cache_bytes


def test_exits_split_and_context_are_the_manifests(any_bundle):
    manifest, workload = any_bundle.manifest, workload_of(any_bundle)
    assert workload.exits == tuple(exit_.layer for exit_ in manifest.exits)
    assert workload.exits[-1] == workload.partitions[-1].last_layer
    assert workload.split == manifest.split
    assert workload.context_length == manifest.architecture.context_length
    assert workload.name == manifest.name


def test_states_are_as_large_as_codecs_make_them(any_bundle):
    shape, workload = any_bundle.manifest.architecture, workload_of(any_bundle)
    model = Model.load(any_bundle, range(any_bundle.manifest.split), RuntimeOptions())
    sequence = model.new_sequence()
    sequence.append([1 + n % 200 for n in range(60)])
    states = sequence.advance(model.top)
    assert workload.state_bytes["fp16"] == 2 * shape.width
    assert workload.state_bytes.keys() == set(any_bundle.manifest.codecs)
    for name, expected in workload.state_bytes.items():
        real = len(wire_codec(any_bundle, name).encode(states)) / 60
        assert expected == pytest.approx(real, rel=0.05)


def test_a_graph_that_is_none_is_refused(tiny_bundle, tmp_path):
    folder = shutil.copytree(tiny_bundle.folder, tmp_path / "copy")
    for content in (b"", b"\xff" * 100, (folder / "head.onnx").read_bytes()[:-9]):
        (folder / "head.onnx").write_bytes(content)
        broken = type(tiny_bundle)(folder, tiny_bundle.manifest)
        with pytest.raises(BundleError, match=r"head\.onnx"):
            workload_of(broken)


def test_weights_are_not_read_to_be_weighed(bundle):
    """The figures of a graph come from its structure; the largest file is weighed in no time."""
    entry = bundle.manifest.partitions[-1]
    weights = read_weights(bundle.path(entry.file))
    assert weights.read_bytes > bundle.manifest.files[entry.file].bytes
    assert weights.table_bytes == 2 * 512 * 32 * 4
