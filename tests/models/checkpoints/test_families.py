"""Configurations: what those of the real classes mean, old and new, and what is not supported."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from updraft.errors import BundleError
from updraft.models.checkpoints.documents import Fields
from updraft.models.checkpoints.families import DEFAULT_CONTEXT, architecture_of, family_of
from updraft.models.rotary import rotary_tables

_SIZES = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
_LLAMA = {"architectures": ["LlamaForCausalLM"], **_SIZES}
_NAMES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen2_moe": "Qwen2MoeForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
}
_FACTORS = {
    "short_factor": [1.0 + i / 8 for i in range(8)],
    "long_factor": [2.0 + i for i in range(8)],
}
_STRETCHED = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "llama3": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
    "yarn with scales": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64,
        "mscale": 0.7, "mscale_all_dim": 1.1, "beta_fast": 16.0, "beta_slow": 2.0,
    },
    "yarn with a factor": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64,
        "attention_factor": 1.25,
    },
    "longrope": {"rope_type": "longrope", "original_max_position_embeddings": 64, **_FACTORS},
}  # fmt: skip


def read(config, context=None, tied=False):
    return architecture_of(Fields(config, "config.json"), tied, context)


def refusal(**changes):
    config = {**_LLAMA, **changes}
    with pytest.raises(BundleError) as refused:
        read({key: value for key, value in config.items() if value is not ...})
    return str(refused.value)


def saved(kind, **changes):
    """Return `config.json` as transformers writes it."""
    config = AutoConfig.for_model(kind, **{**_SIZES, **changes})
    return {**json.loads(config.to_json_string(use_diff=False)), "architectures": [_NAMES[kind]]}


@pytest.mark.parametrize("kind", _NAMES)
def test_sizes_are_those_of_the_configuration(kind):
    shape = read(saved(kind, rms_norm_eps=3e-6))
    assert (shape.vocabulary_size, shape.width, shape.layers) == (300, 64, 4)
    assert (shape.heads, shape.kv_heads, shape.ffn_width) == (4, 2, 96)
    assert shape.norm_epsilon == 3e-6
    assert shape.context_length == 256
    assert shape.qk_norm == kind.startswith("qwen3")
    assert shape.qkv_bias == kind.startswith("qwen2")
    assert not shape.output_bias
    assert (shape.mixture is not None) == (kind in {"mixtral", "qwen2_moe", "qwen3_moe"})
    assert shape.head_width == (128 if kind == "qwen3" else 16)


def test_a_mixture_is_read_with_its_dense_layers():
    shape = read(
        saved("qwen2_moe", num_experts=6, num_experts_per_tok=2, moe_intermediate_size=32,
              shared_expert_intermediate_size=48, norm_topk_prob=True, mlp_only_layers=[0],
              decoder_sparse_step=2)
    )  # fmt: skip
    mixture = shape.mixture
    assert (mixture.experts, mixture.active, mixture.ffn_width) == (6, 2, 32)
    assert mixture.normalized
    assert mixture.shared_ffn_width == 48
    assert mixture.dense_layers == [0, 2]
    assert read(saved("mixtral", num_local_experts=4)).mixture.normalized
    assert read(saved("mixtral", num_local_experts=4)).mixture.ffn_width == 96
    assert read(saved("qwen3_moe", num_experts=16)).mixture.shared_ffn_width is None


@pytest.mark.parametrize(
    ("kind", "changes", "windows"),
    [
        ("mistral", {"sliding_window": 16}, [16] * 4),
        ("mistral", {"sliding_window": None}, None),
        ("mistral", {"sliding_window": 256}, None),
        ("mixtral", {"sliding_window": 16}, [16] * 4),
        ("qwen2", {"sliding_window": 16, "max_window_layers": 2}, None),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 3},
         [0, 0, 0, 16]),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 16,
                   "layer_types": ["sliding_attention", "full_attention"] * 2}, [16, 0, 16, 0]),
        ("qwen3_moe", {"use_sliding_window": True, "sliding_window": 16}, [16] * 4),
        ("qwen2_moe", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 3},
         [16, 0, 16, 0]),
    ],
)  # fmt: skip
def test_windows_are_those_that_transformers_uses(kind, changes, windows):
    assert read(saved(kind, **changes)).windows == windows


def test_older_configurations_say_layers_with_windows_by_number():
    config = {
        **_LLAMA, "architectures": ["Qwen2ForCausalLM"], "use_sliding_window": True,
        "sliding_window": 16, "max_window_layers": 1,
    }  # fmt: skip
    assert read(config).windows == [0, 16, 16, 16]


@pytest.mark.parametrize("old", [False, True], ids=["transformers 5", "transformers 4"])
@pytest.mark.parametrize("name", _STRETCHED)
def test_positions_turn_as_in_transformers(name, old):
    stretched = {"rope_theta": 5e4, **_STRETCHED[name]}
    reference = AutoConfig.for_model("llama", **_SIZES, rope_parameters=dict(stretched))
    config = {**_LLAMA, "rope_parameters": stretched}
    if old:
        scaling = {k: v for k, v in stretched.items() if k != "rope_theta"}
        scaling["type"] = scaling.pop("rope_type")
        config = {**_LLAMA, "rope_theta": 5e4, "rope_scaling": scaling}
    shape = read(config)
    cos, sin = rotary_tables(shape)
    positions = torch.arange(shape.context_length)[None]
    expected = LlamaRotaryEmbedding(reference)(torch.zeros(1), positions)
    for ours, theirs in zip((cos, sin), expected, strict=True):
        np.testing.assert_allclose(ours, theirs[0, :, :8].numpy(), atol=2e-5)


def test_a_context_is_as_long_as_asked_and_not_longer_than_the_model_knows():
    long = {**_LLAMA, "max_position_embeddings": 131_072}
    assert read(long).context_length == DEFAULT_CONTEXT
    assert read(long, 100_000).context_length == 100_000
    with pytest.raises(
        BundleError, match="a context of 131073 is asked for, the model knows 131072"
    ):
        read(long, 131_073)
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768}
    qwen = {**_LLAMA, "max_position_embeddings": 32_768, "rope_scaling": yarn}
    assert read(qwen, 131_072).context_length == 131_072
    # Beyond the trained context longrope has other tables: they are not chosen unasked.
    longrope = {**_LLAMA, "rope_scaling": _STRETCHED["longrope"]}
    assert read(longrope).context_length == 64
    assert read(longrope, 200).context_length == 200


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("GemmaForCausalLM", "embeddings scaled"),
        ("Gemma2ForCausalLM", "soft caps"),
        ("Phi3ForCausalLM", "gate and up in one"),
        ("DeepseekV3ForCausalLM", "latent attention"),
        ("SmolLM3ForCausalLM", "no_rope_layers"),
        ("Qwen3NextForCausalLM", "linear attention"),
        ("LlamaModel", "it has no LM head"),
        ("LlamaForSequenceClassification", "it is not known"),
        ("BrandNewForCausalLM", "it is not known"),
    ],
)
def test_an_unsupported_architecture_is_named_with_what_is_missing(name, missing):
    said = refusal(architectures=[name])
    assert f"'{name}' is not supported" in said
    assert missing in said
    assert "supported are LlamaForCausalLM, " in said


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"quantization_config": {"quant_method": "gptq"}}, "quant_method 'gptq'"),
        ({"quantization_config": {"load_in_4bit": True}}, "quant_method 'unknown'"),
        ({"quantization_config": 3}, "quantization_config: an object is expected"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu': silu is what is supported"),
        ({"mlp_bias": True}, "biases of feed-forward parts"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"hidden_size": "64"}, "hidden_size: a whole number is expected, found '64'"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers: a number from 2 to 16777216"),
        ({"num_hidden_layers": 1}, "num_hidden_layers: a number from 2"),
        ({"vocab_size": 0}, "vocab_size: a number from 1"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps: a positive number"),
        ({"rms_norm_eps": 10**400}, "rms_norm_eps: a positive number"),
        ({"head_dim": 20}, "a head has 20 channels"),
        ({"num_key_value_heads": 3}, "heads 4 must be a multiple of kv_heads 3"),
        ({"attention_bias": 1}, "attention_bias: true or false is expected"),
        ({"architectures": "Llama"}, "architectures: at most 8 texts"),
        ({"architectures": ...}, "'model_type unknown' is not supported"),
        ({"partial_rotary_factor": 0.5}, "turn in part"),
        ({"rope_scaling": {"rope_type": "mrope"}}, "rope type 'mrope' is not supported"),
        ({"rope_scaling": {"rope_type": "linear"}}, "rope_scaling: factor is missing"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2, "truncate": False}}, "truncate"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "short_factor: a list"),
        ({"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}},
         "1 factors for 8 frequencies"),
        ({"rope_parameters": {"full_attention": {}}}, "differ by layer"),
        ({"rope_theta": -1}, "rope_theta: a positive number"),
        ({"architectures": ["Qwen2ForCausalLM"], "use_sliding_window": True, "sliding_window": 8,
          "layer_types": ["full_attention"]}, "layer_types names 1 layers, num_hidden_layers 4"),
        ({"architectures": ["Qwen2ForCausalLM"], "use_sliding_window": True, "sliding_window": 8,
          "layer_types": ["chunked_attention"] * 4}, "'chunked_attention' is not supported"),
        ({"architectures": ["MixtralForCausalLM"]}, "num_experts is missing"),
        ({"architectures": ["MixtralForCausalLM"], "num_local_experts": 2,
          "num_experts_per_tok": 4}, "4 active experts of 2"),
    ],
)  # fmt: skip
def test_a_configuration_that_makes_no_sense_is_refused_by_its_key(changes, reason):
    assert reason in refusal(**changes)


def test_every_supported_family_is_known_by_its_name():
    for name in _NAMES.values():
        assert family_of(Fields({"architectures": [name]}, "config.json")) is not None
