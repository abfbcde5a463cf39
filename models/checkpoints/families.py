"""Which architectures are read, and what their configurations mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from updraft.errors import BundleError
from updraft.models.architecture import Architecture, Mixture
from updraft.models.checkpoints.documents import Fields
from updraft.models.checkpoints.positions import positions_of

# Positions that a bundle's KV caches hold where nothing else is asked; caches are allocated whole.
DEFAULT_CONTEXT = 4096


@dataclass(frozen=True)
class Family:
    """What configurations of one architecture leave unsaid.

    Attributes:
        biases: `all`: attention_bias says whether queries to outputs have some; `inputs`:
            queries, keys and values have; `qkv_bias`: the key of that name says it.
        windows: which layers attend to a sliding window: `none`, `all`, all if it is `switched`
            on, or, if it is, those that are `named`.
        experts: how the tensors of a mixture are called.
        shared: a mixture has an expert that all tokens pass.
    """

    biases: Literal["none", "all", "inputs", "qkv_bias"] = "none"
    qk_norm: bool = False
    windows: Literal["none", "all", "switched", "named"] = "none"
    experts: Literal["mixtral", "qwen"] | None = None
    shared: bool = False
    head_width: int | None = None
    theta: float = 10_000.0
    norm_epsilon: float = 1e-6


FAMILIES = {
    "LlamaForCausalLM": Family(biases="all"),
    "MistralForCausalLM": Family(windows="all"),
    "Qwen2ForCausalLM": Family(biases="inputs", windows="named"),
    "Qwen3ForCausalLM": Family(biases="all", qk_norm=True, windows="named", head_width=128),
    "MixtralForCausalLM": Family(
        windows="all", experts="mixtral", theta=1_000_000.0, norm_epsilon=1e-5
    ),
    "Qwen2MoeForCausalLM": Family(biases="qkv_bias", windows="named", experts="qwen", shared=True),
    "Qwen3MoeForCausalLM": Family(biases="all", qk_norm=True, windows="switched", experts="qwen"),
}
_MISSING = {
    "Cohere": "LayerNorm, attention and feed-forward in parallel, scaled logits",
    "Deepseek": "latent attention, groups of experts",
    "Falcon": "LayerNorm, attention and feed-forward in parallel",
    "GPT2": "LayerNorm, learned positions, GELU without a gate",
    "GPTBigCode": "LayerNorm, learned positions, GELU without a gate",
    "GPTNeoX": "LayerNorm, attention and feed-forward in parallel",
    "Gemma": "embeddings scaled by √width, norms of 1 + gain, GELU; from 2 on soft caps",
    "Glm": "heads that turn in part, in pairs",
    "GptOss": "attention sinks, biases of experts, its own MXFP4 weights",
    "Granite": "multipliers of embeddings, residuals and logits",
    "Internlm2": "queries, keys and values in one matrix",
    "Jamba": "state-space layers",
    "Llama4": "layers without positions, chunked attention, shared experts without a gate",
    "Mamba": "state-space layers",
    "Nemotron": "squared ReLU, LayerNorm",
    "OPT": "LayerNorm, learned positions, ReLU",
    "Olmo": "norms after each part, or LayerNorm",
    "Phi3": "queries, keys and values in one matrix, gate and up in one",
    "Phi": "LayerNorm, attention and feed-forward in parallel",
    "Qwen3Next": "linear attention layers",
    "Ministral": "queries scaled by position",
    "SmolLM3": "layers without positions (no_rope_layers)",
    "StableLm": "LayerNorm, heads that turn in part",
    "Starcoder2": "LayerNorm, GELU without a gate",
}


def family_of(config: Fields) -> Family:
    """Return the family of a configuration.

    Raises:
        BundleError: with what is missing, where the architecture is not supported or its weights
            are quantized already.
    """
    quantization = config.fields("quantization_config")
    if "quantization_config" in config:
        method = quantization.text("quant_method", "unknown")
        raise BundleError(
            f"{config.where}: its weights are quantized already (quant_method {method[:40]!r}): "
            "import the checkpoint that it was made from, and choose --precision"
        )
    names = config.texts("architectures", most=8)
    name = names[0] if names else f"model_type {config.text('model_type', 'unknown')}"
    if name in FAMILIES:
        return FAMILIES[name]
    supported = ", ".join(FAMILIES)
    kinds = [kind for kind in _MISSING if name.startswith(kind)]
    if kinds and name.endswith("ForCausalLM"):
        missing = _MISSING[max(kinds, key=len)]
        reason = f"what is missing: {missing}"
    elif name.endswith("Model"):
        reason = "it has no LM head"
    else:
        reason = "it is not known"
    raise BundleError(
        f"{config.where}: {name[:80]!r} is not supported, {reason}; supported are {supported}"
    )


def architecture_of(config: Fields, tied: bool, context_length: int | None) -> Architecture:
    """Turn a configuration into an architecture.

    Args:
        tied: the embedding is the LM head.
        context_length: positions to make room for; None: some thousand, or what the model knows.

    Raises:
        BundleError: naming the key and what is wrong with it.
    """
    family = family_of(config)
    _refuse_other_parts(config)
    heads, width = config.whole("num_attention_heads"), config.whole("hidden_size")
    layers = config.whole("num_hidden_layers", least=2)
    biased = family.biases == "all" and config.flag("attention_bias", default=False)
    asked = family.biases == "qkv_bias" and config.flag("qkv_bias", default=True)
    try:
        positions = positions_of(config, family.theta)
        context = context_length or min(DEFAULT_CONTEXT, positions.preferred)
        if context > positions.limit:
            raise BundleError(
                f"{config.where}: a context of {context} is asked for, the model knows "
                f"{positions.limit} positions"
            )
        return Architecture(
            vocabulary_size=config.whole("vocab_size"),
            width=width,
            layers=layers,
            heads=heads,
            kv_heads=config.whole("num_key_value_heads", heads),
            ffn_width=config.whole("intermediate_size"),
            context_length=context,
            rope_theta=positions.theta,
            norm_epsilon=config.number("rms_norm_eps", family.norm_epsilon),
            head_width=config.whole("head_dim", family.head_width or max(width // heads, 1)),
            tied=tied,
            qkv_bias=family.biases == "inputs" or biased or asked,
            output_bias=biased,
            qk_norm=family.qk_norm,
            windows=_windows(config, family, layers, context),
            rotary=positions.rotary,
            mixture=_mixture(config, family, layers),
        )
    except ValidationError as error:
        faults = "; ".join(fault["msg"].removeprefix("Value error, ") for fault in error.errors())
        raise BundleError(f"{config.where}: {faults}") from error


def _refuse_other_parts(config: Fields) -> None:
    activation = config.text("hidden_act", "silu")
    if activation not in {"silu", "swish"}:
        raise BundleError(
            f"{config.where}: hidden_act {activation[:40]!r}: silu is what is supported"
        )
    if config.flag("mlp_bias", default=False):
        raise BundleError(
            f"{config.where}: mlp_bias: biases of feed-forward parts are not supported"
        )


def _windows(config: Fields, family: Family, layers: int, context: int) -> list[int] | None:
    """Return how far back each layer attends; None where no layer is limited."""
    switch = family.windows in {"switched", "named"}
    if (
        family.windows == "none"
        or "sliding_window" not in config
        or (switch and not config.flag("use_sliding_window", default=False))
    ):
        return None
    window = config.whole("sliding_window", least=0)
    sliding = [True] * layers
    if family.windows == "named":
        sliding = _sliding_layers(config, family, layers)
    # A window that holds the whole context limits nothing.
    if not any(sliding) or not 0 < window < context:
        return None
    return [window if limited else 0 for limited in sliding]


def _sliding_layers(config: Fields, family: Family, layers: int) -> list[bool]:
    """Return which layers have a window: those that the configuration names, or those after one."""
    kinds = config.texts("layer_types", most=1 << 16)
    if kinds:
        if len(kinds) != layers:
            raise BundleError(
                f"{config.where}: layer_types names {len(kinds)} layers, num_hidden_layers {layers}"
            )
        if unknown := set(kinds) - {"full_attention", "sliding_attention"}:
            raise BundleError(
                f"{config.where}: layer_types: {min(unknown)[:40]!r} is not supported"
            )
        return [kind == "sliding_attention" for kind in kinds]
    first = config.whole("max_window_layers", 28, least=0)
    if family.experts is None:
        return [layer >= first for layer in range(layers)]
    return [layer % 2 == 0 and layer < first for layer in range(layers)]


def _mixture(config: Fields, family: Family, layers: int) -> Mixture | None:
    if family.experts is None:
        return None
    count = config.whole("num_local_experts" if "num_local_experts" in config else "num_experts")
    active = config.whole("num_experts_per_tok")
    if family.experts == "mixtral":
        width = config.whole("intermediate_size")
        return Mixture(experts=count, active=active, ffn_width=width, normalized=True)
    step = config.whole("decoder_sparse_step", 1)
    dense = set(config.wholes("mlp_only_layers", most=layers))
    return Mixture(
        experts=count,
        active=active,
        ffn_width=config.whole("moe_intermediate_size"),
        normalized=config.flag("norm_topk_prob", default=False),
        shared_ffn_width=config.whole("shared_expert_intermediate_size") if family.shared else None,
        dense_layers=[n for n in range(layers) if n in dense or (n + 1) % step],
    )
