"""CTranslate2, which has int8 but no int4 on a CPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

PACKAGES = ("ctranslate2", "transformers", "torch")


def convert(checkpoint: Path, model: Path, options: dict[str, Any]) -> int:
    """Convert by its own converter."""
    import ctranslate2  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415

    converter = ctranslate2.converters.TransformersConverter(str(checkpoint))
    converter.convert(str(model), quantization=options["type"])
    vocabulary = json.loads((checkpoint / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    (model / "tokens.json").write_text(json.dumps(tokens), encoding="utf-8")
    # The file holds little else than weights, the tied embedding once.
    return (model / "model.bin").stat().st_size


class Runtime:
    """`Generator.generate_tokens`."""

    def __init__(self, model: Path, threads: int, options: dict[str, Any]) -> None:
        import ctranslate2  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415

        self._generator = ctranslate2.Generator(
            str(model), device="cpu", compute_type=options["type"], intra_threads=threads
        )
        self._tokens: list[str] = json.loads((model / "tokens.json").read_text("utf-8"))

    def generate(self, prompt: list[int], count: int, emit: Callable[[int], None]) -> None:
        """Decode greedily, whatever ends a text."""
        pieces = [self._tokens[token] for token in prompt]
        steps = self._generator.generate_tokens(
            pieces, max_length=count, min_length=count, sampling_topk=1
        )
        for step in steps:
            emit(step.token_id)
