"""Tiny random checkpoints, written by the real classes of `transformers`."""

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from updraft.models.recipes.tokenizer import train_tokenizer

CONTEXT = 192
LAYERS = 4
_LINES = ("def add(a, b):\n    return a + b\n", "for item in items:\n    print(item)\n", "é 漢字\n")
_SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": False,
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 48,
}
# What differs from the sizes above, by a name for each.
CHECKPOINTS = {
    "llama": ("llama", {}),
    "llama-llama3": ("llama", {"rope_parameters": _LLAMA3}),
    "llama-linear": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}},
    ),
    "llama-bias-one-kv-head": ("llama", {"attention_bias": True, "num_key_value_heads": 1}),
    "smollm": ("llama", {"tie_word_embeddings": True, "num_attention_heads": 2, "head_dim": 32}),
    "mistral-window": ("mistral", {"sliding_window": 24, "head_dim": 32}),
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2-yarn-window": (
        "qwen2",
        {
            "rope_parameters": _YARN,
            "use_sliding_window": True,
            "sliding_window": 16,
            "max_window_layers": 2,
        },
    ),
    "qwen3": ("qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    "mixtral": ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2-moe": (
        "qwen2_moe",
        {
            **_EXPERTS,
            "shared_expert_intermediate_size": 80,
            "norm_topk_prob": False,
            "mlp_only_layers": [1],
        },
    ),
    "qwen3-moe": ("qwen3_moe", {**_EXPERTS, "head_dim": 32, "norm_topk_prob": True}),
}


def write_checkpoint(name, folder):
    """Save a checkpoint with its tokenizer; return the model."""
    kind, changes = CHECKPOINTS[name]
    tokenizer = train_tokenizer(_LINES, vocabulary_size=288)
    config = AutoConfig.for_model(
        kind,
        **{**_SIZES, **changes},
        vocab_size=tokenizer.get_vocab_size(),
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=None,
    )
    torch.manual_seed(len(name))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:
                weight.add_(0.4 * torch.rand_like(weight) - 0.2)
            else:
                weight.normal_(0, weight.shape[-1] ** -0.5)
        # The end of a text is never the best token, so that answers go on.
        model.get_input_embeddings().weight[0] = 0
        model.get_output_embeddings().weight[0] = 0
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return model
