"""onnxruntime-genai: its own C++ loop over ONNX Runtime."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PACKAGES = ("onnxruntime-genai", "onnxruntime", "onnx-ir", "transformers", "torch")


def convert(checkpoint: Path, model: Path, options: dict[str, Any]) -> int:
    """Build by its own model builder."""
    from onnx_bytes import (  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415
        weight_bytes,
    )  # of the rivals' Python

    extra = {"hf_token": "false", **options["extra"]}
    command = [
        sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(checkpoint),
        "-o", str(model), "-p", options["precision"], "-e", "cpu", "-c", f"{model}.cache",
        "--extra_options", *(f"{name}={value}" for name, value in extra.items()),
    ]  # fmt: skip
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    subprocess.run(command, check=True, env=environment)
    return weight_bytes(model / "model.onnx")


class Runtime:
    """Greedy search."""

    def __init__(self, model: Path, threads: int, options: dict[str, Any]) -> None:
        import onnxruntime_genai as genai  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415

        self._genai = genai
        config = genai.Config(str(model))
        session = {"intra_op_num_threads": threads}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
        self._model = genai.Model(config)

    def generate(self, prompt: list[int], count: int, emit: Callable[[int], None]) -> None:
        """Decode with a cache as long as the text."""
        params = self._genai.GeneratorParams(self._model)
        params.set_search_options(max_length=len(prompt) + count, do_sample=False)
        generator = self._genai.Generator(self._model, params)
        generator.append_tokens(prompt)
        for _ in range(count):
            generator.generate_next_token()
            emit(generator.get_next_tokens()[0])
