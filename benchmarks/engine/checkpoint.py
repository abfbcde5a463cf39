"""A checkpoint folder as Hugging Face has them, of a published shape, with random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from updraft.benchmarks.engine.shapes import Shape
from updraft.benchmarks.engine.vocabulary import tokenizer_config, tokenizer_json

_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
_BF16_BYTES = 2
_DONE = "config.json"


def write_checkpoint(folder: Path, shape: Shape, seed: int) -> Path:
    """Write the checkpoint, one tensor in memory at a time; one that is there is left as it is.

    The row of the token that ends a text is zero, so that greedy decoding never picks it.
    """
    if (folder / _DONE).is_file():
        return folder
    draft = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    _write_weights(draft / "model.safetensors", shape, seed)
    tokenizer = json.dumps(tokenizer_json(shape.vocabulary_size), ensure_ascii=False)
    (draft / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    (draft / "tokenizer_config.json").write_text(tokenizer_config())
    end = {"eos_token_id": shape.vocabulary_size - 1, "pad_token_id": shape.vocabulary_size - 1}
    (draft / "generation_config.json").write_text(json.dumps(end, indent=1))
    (draft / "config.json").write_text(json.dumps(_config(shape), indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    return folder


def _config(shape: Shape) -> dict[str, Any]:
    """Return `config.json` in the form of transformers 4, which converters of rivals read."""
    return {
        "architectures": [_ARCHITECTURES[shape.family]],
        "model_type": shape.family,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_width,
        "intermediate_size": shape.ffn_width,
        "vocab_size": shape.vocabulary_size,
        "max_position_embeddings": shape.context_length,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": shape.rope_theta,
        "rope_scaling": None,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_sliding_window": False,
        "tie_word_embeddings": shape.tied,
        "use_cache": True,
        "bos_token_id": shape.vocabulary_size - 1,
        "eos_token_id": shape.vocabulary_size - 1,
        "torch_dtype": "bfloat16",
    }


def _write_weights(path: Path, shape: Shape, seed: int) -> None:
    """Write one safetensors file: length of the header, header, tensors in turn."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for tensor in shape.tensors():
        end = start + _BF16_BYTES * int(np.prod(tensor.size))
        header[tensor.name] = {
            "dtype": "BF16",
            "shape": list(tensor.size),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(seed)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for tensor in shape.tensors():
            if tensor.is_gain:
                values = np.ones(tensor.size, np.float32)
            else:
                values = rng.standard_normal(tensor.size, np.float32)
                values *= np.float32(tensor.size[-1] ** -0.5)
            if tensor.size[0] == shape.vocabulary_size:
                values[-1] = 0
            file.write(_as_bf16(values).tobytes())


def _as_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round to bfloat16, the upper half of a float32."""
    return ((values.view(np.uint32) + 0x8000) >> 16).astype(np.uint16)
