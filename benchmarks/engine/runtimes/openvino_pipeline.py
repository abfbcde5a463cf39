"""OpenVINO GenAI, which reads GGUF files by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama  # type: ignore[import-not-found, unused-ignore]

PACKAGES = ("openvino-genai", "openvino", "openvino-tokenizers", "gguf", "numpy")

_THREADS = "INFERENCE_NUM_THREADS"


def convert(checkpoint: Path, model: Path, options: dict[str, Any]) -> int:
    """Write a GGUF file and have it make its own graph of that, which it saves beside it."""
    import openvino_genai  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415

    weight_bytes = llama.convert(checkpoint, model, options)
    gguf = model / llama.MODEL
    openvino_genai.LLMPipeline(str(gguf), "CPU", enable_save_ov_model=True)
    gguf.unlink()
    return weight_bytes


class Runtime:
    """`LLMPipeline` with a streamer that takes tokens."""

    def __init__(self, model: Path, threads: int, options: dict[str, Any]) -> None:
        import openvino_genai  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415

        self._genai = openvino_genai
        settings = {_THREADS: threads, **options.get("settings", {})}
        self._pipeline = openvino_genai.LLMPipeline(str(model), "CPU", **settings)

    def generate(self, prompt: list[int], count: int, emit: Callable[[int], None]) -> None:
        """Decode greedily, whatever ends a text."""
        import numpy as np  # noqa: PLC0415
        import openvino  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415

        genai = self._genai

        class Streamer(genai.StreamerBase):  # type: ignore[misc, name-defined, unused-ignore]
            def write(self, token: int | list[int]) -> Any:
                for each in token if isinstance(token, list) else [token]:
                    emit(each)
                return genai.StreamingStatus.RUNNING

            def end(self) -> None:
                pass

        choices = genai.GenerationConfig()
        choices.max_new_tokens, choices.ignore_eos, choices.do_sample = count, True, False
        tokens = openvino.Tensor(np.array([prompt], np.int64))
        mask = openvino.Tensor(np.ones((1, len(prompt)), np.int64))
        self._pipeline.generate(genai.TokenizedInputs(tokens, mask), choices, Streamer())
