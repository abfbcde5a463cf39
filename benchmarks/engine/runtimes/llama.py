"""llama.cpp by its own C interface, as llama-cpp-python ships it."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

PACKAGES = ("llama-cpp-python", "gguf", "numpy")

_CONTEXT = 1024
MODEL = "model.gguf"
_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def convert(checkpoint: Path, model: Path, options: dict[str, Any]) -> int:
    """Write a GGUF file whose matrices all have one type, the embedding too: the fewest bytes."""
    import gguf  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415
    import safetensors_file  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415
    from gguf.quants import (  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415
        quantize,
    )

    config = safetensors_file.config(checkpoint)
    kind = gguf.GGMLQuantizationType[options["type"]]
    model.mkdir(parents=True)
    writer = gguf.GGUFWriter(str(model / MODEL), config["model_type"])
    _describe(writer, config)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{options['type']}"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_tokenizer(writer, checkpoint, gguf)
    weight_bytes = 0
    for name, values in safetensors_file.tensors(checkpoint):
        ours = _name(name)
        if config["model_type"] == "llama" and ours.endswith(("attn_q.weight", "attn_k.weight")):
            values = _interleave(values, config["head_dim"])  # noqa: PLW2901
        if values.ndim == 1:
            writer.add_tensor(ours, values)
            continue
        packed = quantize(values, kind)
        writer.add_tensor(ours, packed, raw_dtype=kind)
        if ours != "token_embd.weight" or config["tie_word_embeddings"]:
            weight_bytes += packed.nbytes
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weight_bytes


class Runtime:
    """`llama_decode` and the greedy sampler."""

    def __init__(self, model: Path, threads: int, options: dict[str, Any]) -> None:
        import llama_cpp  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415

        self._llama = llama_cpp
        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        model_params.n_gpu_layers = 0
        path = str(model / MODEL).encode()
        self._model = llama_cpp.llama_model_load_from_file(path, model_params)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = _CONTEXT
        params.n_threads = params.n_threads_batch = threads
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        if not self._context:
            raise RuntimeError("llama.cpp made no context")
        self._sampler = llama_cpp.llama_sampler_init_greedy()

    def generate(self, prompt: list[int], count: int, emit: Callable[[int], None]) -> None:
        """Decode after clearing the cache."""
        llama, context = self._llama, self._context
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        tokens = (llama.llama_token * len(prompt))(*prompt)
        for _ in range(count):
            batch = llama.llama_batch_get_one(tokens, len(tokens))
            if llama.llama_decode(context, batch):
                raise RuntimeError("llama_decode failed")
            token = llama.llama_sampler_sample(self._sampler, context, ctypes.c_int32(-1))
            emit(token)
            tokens = (llama.llama_token * 1)(token)


def _name(name: str) -> str:
    if name in _NAMES:
        return _NAMES[name]
    _, _, layer, *inner, kind = name.split(".")
    return f"blk.{layer}.{_LAYER_NAMES['.'.join(inner)]}.{kind}"


def _interleave(values: Any, head_width: int) -> Any:
    """Put the two halves of each head's rows by turns, as its `llama` architecture rotates them."""
    heads = values.reshape(-1, 2, head_width // 2, *values.shape[1:])
    return heads.swapaxes(1, 2).reshape(values.shape)


def _describe(writer: Any, config: dict[str, Any]) -> None:
    writer.add_name("random weights")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _add_tokenizer(writer: Any, checkpoint: Path, gguf: Any) -> None:
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text("utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    end = tokenizer["added_tokens"][0]["id"]
    types = [gguf.TokenType.NORMAL] * len(tokens)
    types[end] = gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(end)
    writer.add_bos_token_id(end)
    writer.add_pad_token_id(end)
    writer.add_add_bos_token(False)
