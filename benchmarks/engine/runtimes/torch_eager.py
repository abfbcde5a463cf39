"""transformers on torch, fp32: what exactness is judged by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

PACKAGES = ("transformers", "torch")

_FP32_BYTES = 4


def convert(checkpoint: Path, model: Path, options: dict[str, Any]) -> int:
    """Point to the checkpoint, which it reads as it is."""
    import safetensors_file  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415

    model.mkdir(parents=True)
    (model / "checkpoint").symlink_to(checkpoint.resolve())
    tied = safetensors_file.config(checkpoint)["tie_word_embeddings"]
    return sum(
        _FP32_BYTES * values.size
        for name, values in safetensors_file.tensors(checkpoint)
        if tied or name != "model.embed_tokens.weight"
    )


class Runtime:
    """The model's own forward pass and cache, in a loop."""

    def __init__(self, model: Path, threads: int, options: dict[str, Any]) -> None:
        import torch  # noqa: PLC0415
        from transformers import AutoModelForCausalLM  # noqa: PLC0415

        torch.set_num_threads(threads)
        self._torch = torch
        path = str((model / "checkpoint").resolve())
        self._model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()

    def generate(self, prompt: list[int], count: int, emit: Callable[[int], None]) -> None:
        """Decode with its default cache."""
        torch = self._torch
        inputs, cache = torch.tensor([prompt]), None
        with torch.inference_mode():
            for _ in range(count):
                out = self._model(
                    input_ids=inputs, past_key_values=cache, use_cache=True, logits_to_keep=1
                )
                cache = out.past_key_values
                inputs = out.logits[:, -1:].argmax(dim=-1)
                emit(inputs.item())
