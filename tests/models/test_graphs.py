"""Graphs: what each precision computes, and where weights lie."""

import runpy
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

from updraft.errors import BundleError
from updraft.models.architecture import Architecture, Mixture, Quantization, Rotary
from updraft.models.graphs import write_head, write_partition
from updraft.models.onnx_places import read_places
from updraft.models.quantize import dequantize_blocks, quantize_blocks
from updraft.models.runtime import RuntimeOptions, load_session

_Decoder = runpy.run_path(str(Path(__file__).with_name("reference.py")))["ReferenceDecoder"]
_OPTIONS = RuntimeOptions(threads=1)
_FP32 = Quantization(weights="fp32")
_TOKENS = np.random.default_rng(1).integers(0, 256, 24)
_BITS = {"int8": 8, "int4": 4}


class Counted(Mapping):
    """Weights that say how often each was read."""

    def __init__(self, weights):
        self._weights, self.reads = weights, []

    def __getitem__(self, name):
        self.reads.append(name)
        return self._weights[name]

    def __iter__(self):
        return iter(self._weights)

    def __len__(self):
        return len(self._weights)


def rounded(weights, bits, block):
    """Return the weights as their integers stand for them."""
    return {
        name: dequantize_blocks(quantize_blocks(weight, bits, block), bits, weight.shape[1])
        if weight.ndim == 2
        else weight
        for name, weight in weights.items()
    }


def states_of(folder, shape, first, last, inputs):
    """Run a partition's graph on all positions at once."""
    session = load_session(folder / f"layers-{first}-{last}.onnx", _OPTIONS)
    empty = np.zeros((1, shape.kv_heads, shape.context_length, shape.head_width), np.float32)
    given = {value.name: empty for value in session.get_inputs()}
    given["seqlens_k"] = np.array([len(_TOKENS) - 1], np.int32)
    given["total_length"] = np.array(len(_TOKENS), np.int32)
    given["tokens" if first == 0 else "state_in"] = inputs[None]
    return session.run(["state_out"], given)[0][0]


def logits_of(folder, states, index=0):
    session = load_session(folder / "head.onnx", _OPTIONS)
    given = {"state": states.astype(np.float32), "exit": np.array(index)}
    return session.run(["logits"], given)[0]


def relative(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize(
    ("quantization", "largest"),
    [
        ({"weights": "fp32"}, 1e-5),
        ({"weights": "fp16"}, 2e-3),
        ({"weights": "int8", "block": 16}, 1e-5),
        ({"weights": "int4", "block": 32}, 1e-5),
        ({"weights": "int8", "block": 32, "activations": "int8"}, 0.05),
        ({"weights": "int4", "block": 64, "activations": "int8"}, 0.05),
    ],
)
def test_a_graph_computes_with_the_weights_that_its_precision_stands_for(
    tiny_plan, tiny_weights, tmp_path, quantization, largest
):
    shape, kept = tiny_plan.architecture, Quantization(**quantization)
    write_partition(tmp_path, shape, tiny_weights, kept, 0, 4)
    write_head(tmp_path, "head.onnx", shape, tiny_weights, kept, [2, 4])
    bits = _BITS.get(kept.weights)
    weights = tiny_weights if bits is None else rounded(tiny_weights, bits, kept.block)
    reference = _Decoder(shape, weights, None)
    expected = reference.states(_TOKENS)[-1]
    found = states_of(tmp_path, shape, 0, 4, _TOKENS)
    assert relative(found, expected) < largest
    assert relative(logits_of(tmp_path, found, 1), reference.logits(4, expected)) < largest


def test_overrides_hold_for_the_weights_that_they_name(tiny_plan, tiny_weights, tmp_path):
    overrides = {"layers.1": "fp32", "layers.1.down": "int8", "head": "fp16", "embedding": "int4"}
    kept = Quantization(weights="int4", block=32, overrides=overrides)
    write_partition(tmp_path, tiny_plan.architecture, tiny_weights, kept, 0, 2)
    write_head(tmp_path, "head.onnx", tiny_plan.architecture, tiny_weights, kept, [2, 4])
    types = {
        tensor.name: onnx.TensorProto.DataType.Name(tensor.data_type)
        for file in ("layers-0-2.onnx", "head.onnx")
        for tensor in onnx.load(tmp_path / file).graph.initializer
    }
    assert types["layers.0.qkv.values"] == types["embedding.values"] == "UINT8"
    assert types["layers.1.qkv.T"] == types["layers.1.o.T"] == "FLOAT"
    assert types["layers.1.down.values.T"] == "INT8"
    assert types["embedding"] == "FLOAT16"


def test_heads_may_turn_in_part(tiny_plan, tiny_weights, tmp_path):
    narrow = tiny_plan.architecture.model_dump() | {"heads": 2, "kv_heads": 1, "head_width": 32}
    shape = Architecture(**{**narrow, "rotary": Rotary(width=16)})
    write_partition(tmp_path, shape, tiny_weights, _FP32, 0, 4)
    expected = _Decoder(shape, tiny_weights, None).states(_TOKENS)[-1]
    assert relative(states_of(tmp_path, shape, 0, 4, _TOKENS), expected) < 1e-5


@pytest.fixture(scope="module")
def wide_shape():
    """A shape whose embedding and tables are too large for a graph's own file."""
    return Architecture(
        vocabulary_size=2048, width=64, layers=2, heads=2, kv_heads=1, ffn_width=512,
        context_length=2048,
    )  # fmt: skip


@pytest.fixture(scope="module")
def wide_weights(wide_shape):
    rng, width = np.random.default_rng(2), wide_shape.width
    sizes = {"embedding.weight": (wide_shape.vocabulary_size, width)}
    gains = ["exit_norms.1.weight", "exit_norms.2.weight"]
    for layer in range(wide_shape.layers):
        own = f"layers.{layer}."
        gains += [own + "attention_norm.weight", own + "ffn_norm.weight"]
        sizes |= {own + "q.weight": (width, width), own + "o.weight": (width, width)}
        sizes |= {f"{own}{which}.weight": (wide_shape.kv_width, width) for which in "kv"}
        sizes |= {f"{own}{which}.weight": (512, width) for which in ("gate", "up")}
        sizes[own + "down.weight"] = (width, 512)
    weights = {name: rng.normal(0, size[1] ** -0.5, size) for name, size in sizes.items()}
    weights |= {name: np.ones(width) for name in gains}
    return {name: weight.astype(np.float32) for name, weight in weights.items()}


@pytest.mark.parametrize(
    "kept",
    [_FP32, Quantization(weights="int4", block=32, activations="int8")],
    ids=["fp32", "int4"],
)
def test_large_weights_begin_pages_of_files_that_graphs_share(
    wide_shape, wide_weights, tmp_path, kept
):
    weights = Counted(wide_weights)
    written = [
        *write_partition(tmp_path, wide_shape, weights, kept, 0, 1),
        *write_partition(tmp_path, wide_shape, weights, kept, 1, 2),
        *write_head(tmp_path, "head.onnx", wide_shape, weights, kept, [1, 2]),
    ]
    assert set(written) == {path.name for path in tmp_path.iterdir()}
    assert {"embedding.data", "rotary.data"} <= set(written)
    assert len(weights.reads) == len(set(weights.reads))  # the head's matrix is the embedding's
    places = {file: read_places(tmp_path / file) for file in written if file.endswith(".onnx")}
    for place in (place for found in places.values() for place in found):
        assert place.offset % 4096 == 0
        assert place.offset + place.length <= (tmp_path / place.file).stat().st_size
    table = [place for place in places["layers-0-1.onnx"] if place.file == "embedding.data"]
    assert table == places["head.onnx"]
    graph = onnx.load(tmp_path / "layers-0-1.onnx", load_external_data=False)
    assert graph.ByteSize() < 1 << 17


def test_a_graph_with_weights_beside_it_computes_as_one_with_all_inside(
    wide_shape, wide_weights, tmp_path
):
    write_partition(tmp_path, wide_shape, wide_weights, _FP32, 0, 2)
    expected = _Decoder(wide_shape, wide_weights, None).states(_TOKENS)[-1]
    assert relative(states_of(tmp_path, wide_shape, 0, 2, _TOKENS), expected) < 1e-5


def test_a_shared_file_of_other_weights_is_refused(wide_shape, wide_weights, tmp_path):
    (tmp_path / "embedding.data").write_bytes(b"something else")
    with pytest.raises(BundleError, match="holds other weights"):
        write_partition(tmp_path, wide_shape, wide_weights, _FP32, 0, 1)


def test_weights_of_another_size_are_refused(wide_shape, wide_weights, tmp_path):
    weights = {**wide_weights, "embedding.weight": np.ones((7, 64), np.float32)}
    with pytest.raises(ValueError, match="embedding"):
        write_partition(tmp_path, wide_shape, weights, _FP32, 0, 1)
    assert not (tmp_path / "embedding.data").exists()


def test_a_head_may_choose_among_some_tokens(tiny_plan, tiny_weights, tmp_path):
    states = np.random.default_rng(0).standard_normal((5, 64)).astype(np.float32)
    shape = tiny_plan.architecture
    write_head(tmp_path, "head.onnx", shape, tiny_weights, _FP32, [1, 4])
    whole = logits_of(tmp_path, states)
    chosen = np.array([7, 0, 200], np.int32)
    write_head(tmp_path, "head.onnx", shape, tiny_weights, _FP32, [1], chosen)
    np.testing.assert_allclose(logits_of(tmp_path, states), whole[:, chosen], rtol=1e-5, atol=1e-5)


def test_an_adapter_changes_the_state_before_the_norm(tiny_plan, tiny_weights, tmp_path):
    rng, shape = np.random.default_rng(0), tiny_plan.architecture
    adapters = {
        f"exit_adapters.{layer}.{which}.weight": rng.normal(0, 0.3, size).astype(np.float32)
        for layer in (1, 2)
        for which, size in (("down", (8, 64)), ("up", (64, 8)))
    }
    write_head(tmp_path, "head.onnx", shape, {**tiny_weights, **adapters}, _FP32, [1, 2])
    states = rng.standard_normal((5, 64))

    def unit(x):
        return x / np.sqrt((x**2).mean(axis=1, keepdims=True) + shape.norm_epsilon)

    for index, layer in enumerate((1, 2)):
        narrow = unit(states) @ adapters[f"exit_adapters.{layer}.down.weight"].T
        change = narrow / (1 + np.exp(-narrow)) @ adapters[f"exit_adapters.{layer}.up.weight"].T
        normed = unit(unit(states) + change) * tiny_weights[f"exit_norms.{layer}.weight"]
        expected = normed @ tiny_weights["embedding.weight"].T
        assert relative(logits_of(tmp_path, states, index), expected) < 1e-5


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize(
    ("quantization", "largest"),
    [
        ({"weights": "fp16"}, 2e-3),
        ({"weights": "int8", "block": 16}, 1e-5),
        ({"weights": "int4", "block": 16}, 1e-5),
        ({"weights": "int8", "block": 16, "activations": "int8"}, 0.05),
        ({"weights": "int4", "block": 16, "activations": "int8"}, 0.05),
    ],
)
def test_experts_compute_with_the_weights_that_their_precision_stands_for(
    tiny_plan, tiny_weights, tmp_path, quantization, largest, normalized
):
    rng, kept = np.random.default_rng(5), Quantization(**quantization)
    mixture = Mixture(experts=4, active=2, ffn_width=48, normalized=normalized)
    shape = tiny_plan.architecture.model_copy(update={"mixture": mixture})
    weights = {**tiny_weights, "layers.0.router.weight": rng.normal(0, 0.3, (4, 64))}
    for expert in range(4):
        for which, size in (("gate", (48, 64)), ("up", (48, 64)), ("down", (64, 48))):
            name = f"layers.0.experts.{expert}.{which}.weight"
            weights[name] = rng.normal(0, size[1] ** -0.5, size)
    weights = {name: weight.astype(np.float32) for name, weight in weights.items()}
    write_partition(tmp_path, shape, weights, kept, 0, 1)
    found = states_of(tmp_path, shape, 0, 1, _TOKENS)
    if (bits := _BITS.get(kept.weights)) is not None:
        router = {name: weight for name, weight in weights.items() if "router" in name}
        weights = rounded(weights, bits, kept.block) | router
    (tmp_path / "plain").mkdir()
    write_partition(tmp_path / "plain", shape, weights, _FP32, 0, 1)
    assert relative(found, states_of(tmp_path / "plain", shape, 0, 1, _TOKENS)) < largest


@pytest.mark.parametrize(
    ("quantization", "reason"),
    [
        ({"weights": "int4", "block": 128}, "an embedding 64 wide cannot be kept in blocks of 128"),
        ({"weights": "int8", "block": 64}, "blocks of 64 do not divide them"),
        ({"weights": "fp32", "kv": "fp16"}, "keys and values in fp16 need attention in fp16"),
    ],
)
def test_what_cannot_be_kept_as_asked_is_refused(
    tiny_plan, tiny_weights, tmp_path, quantization, reason
):
    kept = Quantization(**quantization)
    with pytest.raises(BundleError, match=reason):
        write_partition(tmp_path, tiny_plan.architecture, tiny_weights, kept, 0, 4)
