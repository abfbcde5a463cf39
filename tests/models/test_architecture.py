"""What a manifest says of a model: old bundles stay what they were, contradictions are refused."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from updraft.models.architecture import Architecture, Mixture, Quantization, Rotary
from updraft.models.bundle import open_bundle
from updraft.models.rotary import rotary_tables
from updraft.models.shipped import family

_SIZES = {
    "vocabulary_size": 300, "width": 64, "layers": 4, "heads": 4, "kv_heads": 2,
    "ffn_width": 96, "context_length": 128,
}  # fmt: skip


def test_fingerprints_of_what_ships_are_what_they_were_in_format_2(bundle):
    found = {name: open_bundle(path).fingerprint for name, path in family().items()}
    assert found | {"code": bundle.fingerprint} == {
        "code": "2cebedb7ecf47c749e3d7aa8b890b565ae804bbd19f98eb9dcafdec0e2846bca",
        "c": "7559b9cb50a8e0ccb6fb452f1eff11ff08692a9b89a47f4e1332b99c76cde31f",
        "docs": "d59cb8c5f51ae264a55605418496aa330d43faec0c29f3560262b2336bec7b28",
        "generalist": "0b6478eb790190f0482b6249b481b78865d2fbf896035c748457a044cb32bb8c",
        "logs": "aa75a9b36b1f0320ffbddeb0c83622a0bbe53eb680d3bae5319aa741c040849d",
        "python": "3dfe77562b8b0b158ad12975272e00c20ec7e4ca9efe94c2f7667fb97329a912",
    }


def test_guarantees_that_ship_still_hold(bundle):
    assert {guarantee.fingerprint for guarantee in bundle.manifest.guarantees} == {
        bundle.fingerprint
    }


@pytest.mark.parametrize(
    "change",
    [
        {"head_width": 32},
        {"tied": False},
        {"qkv_bias": True},
        {"output_bias": True},
        {"qk_norm": True},
        {"windows": [0, 8, 0, 8]},
        {"rotary": Rotary(kind="linear", factor=2)},
        {"mixture": Mixture(experts=4, active=2, ffn_width=48, normalized=True)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_is_new_tells_architectures_apart(change):
    plain = Architecture(**_SIZES)
    assert set(plain.identity()) == {*_SIZES, "rope_theta", "norm_epsilon"}
    other = Architecture(**{**_SIZES, **change})
    assert other.identity() != plain.identity()
    assert Architecture.model_validate_json(other.model_dump_json(exclude_none=True)) == other


def test_a_head_is_as_wide_as_its_share_of_the_model_unless_something_is_said():
    assert Architecture(**_SIZES).head_width == 16
    other = Architecture(**_SIZES, head_width=32)
    assert (other.attention_width, other.kv_width) == (128, 64)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"heads": 3}, "width 64 must be a multiple of heads 3"),
        ({"heads": 5, "head_width": 16}, "heads 5 must be a multiple of kv_heads 2"),
        ({"head_width": 24}, "a head has 24 channels"),
        ({"windows": [0, 8]}, "a width for each of 4 layers"),
        ({"windows": [0, 8, -1, 8]}, "a width for each of 4 layers"),
        ({"rotary": {"width": 32}}, "rotary.width 32 must be a multiple of 16"),
        ({"rotary": {"kind": "llama3", "factor": 8.0}}, "llama3 needs low_frequency_factor"),
        (
            {
                "rotary": {
                    "kind": "longrope",
                    "original_context": 64,
                    "short_factors": [1.0],
                    "long_factors": [2.0],
                }
            },
            "1 factors for 8 frequencies",
        ),
        (
            {"mixture": {"experts": 2, "active": 3, "ffn_width": 8, "normalized": True}},
            "3 active experts of 2",
        ),
    ],
)
def test_a_shape_that_cannot_be_is_refused(change, reason):
    with pytest.raises(ValidationError, match=reason):
        Architecture(**{**_SIZES, **change})


@pytest.mark.parametrize(
    "given",
    [
        {"weights": "fp32", "block": 32},
        {"weights": "int4"},
        {"weights": "fp16", "overrides": {"head": "int8"}},
    ],
)
def test_a_block_belongs_to_integers(given):
    with pytest.raises(ValidationError, match="a block belongs to weights in integers"):
        Quantization(**given)


def test_the_longest_name_decides_how_a_weight_is_kept():
    overrides = {"layers.1": "fp32", "layers.1.down": "int8", "head": "fp16"}
    kept = Quantization(weights="int4", block=32, overrides=overrides)
    names = ["layers.1.q.weight", "layers.1.down.weight", "layers.10.q.weight", "head.weight"]
    assert [kept.precision_of(name) for name in names] == ["fp32", "int8", "int4", "fp16"]


@pytest.mark.parametrize("context_length", [64, 256])
def test_tables_of_longrope_are_those_of_transformers(context_length):
    """The one kind whose tables depend on how long texts may become."""
    factors = {"short_factor": [1.0] * 8, "long_factor": [1.0 + i for i in range(8)]}
    config = LlamaConfig(
        hidden_size=64, num_attention_heads=4, max_position_embeddings=256,
        rope_parameters={
            "rope_type": "longrope", "rope_theta": 10_000.0, "factor": 4.0,
            "original_max_position_embeddings": 64, **factors,
        },
    )  # fmt: skip
    frequencies, scale = ROPE_INIT_FUNCTIONS["longrope"](
        config, torch.device("cpu"), seq_len=context_length
    )
    rotary = Rotary(
        kind="longrope", factor=4.0, original_context=64,
        short_factors=factors["short_factor"], long_factors=factors["long_factor"],
    )  # fmt: skip
    shape = Architecture(**{**_SIZES, "rotary": rotary, "context_length": context_length})
    angles = np.outer(np.arange(context_length), frequencies.double().numpy())
    for found, expected in zip(rotary_tables(shape), (np.cos(angles), np.sin(angles)), strict=True):
        np.testing.assert_allclose(found, expected * scale, atol=2e-5)
