"""Who is measured: our engine in its ways to run, and the runtimes beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class Contender:
    """One way to run a model.

    Attributes:
        runtime: module in `runtimes`.
        model: folder of the converted model; contenders may share one.
        weights: what they are kept as, for people.
        conversion, options: for the runtime.
        install: packages that its Python needs; empty: it is ours.
    """

    name: str
    runtime: str
    model: str
    weights: str
    conversion: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    install: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether it runs in the Python that runs this."""
        return not self.install


_GENAI = "onnxruntime-genai onnx-ir torch transformers"
_LLAMA = "llama-cpp-python gguf"
_OUR_WEIGHTS = "int4, block 128"


def _ours(name: str, run: str, form: str) -> Contender:
    conversion = {"precision": "int4", "form": form}
    return Contender(name, "ours", f"ours-{form}", _OUR_WEIGHTS, conversion, {"run": run})


UPDRAFT = _ours("Updraft", "full", "cut")
EXIT = _ours("Updraft, mid exit", "standalone", "exit")
CUT = _ours("Updraft, bare loop, cut", "cut", "cut")
WHOLE = _ours("Updraft, bare loop, whole", "whole", "whole")
GENAI_128 = Contender(
    "onnxruntime-genai, block 128", "genai", "genai-128", "int4, block 128",
    {"precision": "int4", "extra": {"block_size": "128", "prune_lm_head": "true"}},
    install=_GENAI,
)  # fmt: skip
GENAI = Contender(
    "onnxruntime-genai, default", "genai", "genai-32", "int4, block 32",
    {"precision": "int4", "extra": {}}, install=_GENAI,
)  # fmt: skip
LLAMA_Q4 = Contender(
    "llama.cpp Q4_0", "llama", "llama-q4", "Q4_0, block 32", {"type": "Q4_0"}, install=_LLAMA
)
LLAMA_Q8 = Contender(
    "llama.cpp Q8_0", "llama", "llama-q8", "Q8_0, block 32", {"type": "Q8_0"}, install=_LLAMA
)
OPENVINO = Contender(
    "OpenVINO GenAI", "openvino_pipeline", "openvino-q4", "Q4_0, block 32", {"type": "Q4_0"},
    install="openvino-genai gguf",
)  # fmt: skip
CTRANSLATE = Contender(
    "CTranslate2", "ctranslate", "ctranslate-int8", "int8", {"type": "int8"}, {"type": "int8"},
    install="ctranslate2 torch transformers",
)  # fmt: skip
TORCH = Contender(
    "transformers", "torch_eager", "torch-fp32", "fp32", {}, install="torch transformers"
)

OURS = (UPDRAFT, EXIT, CUT, WHOLE)
RIVALS = (GENAI_128, GENAI, LLAMA_Q4, LLAMA_Q8, OPENVINO, CTRANSLATE, TORCH)
# Whose best decode rate is the one to reach.
TO_REACH = (GENAI_128, GENAI, LLAMA_Q4)
