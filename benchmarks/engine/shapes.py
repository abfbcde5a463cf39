"""Published shapes of open-weight models, to be filled with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

Family = Literal["llama", "qwen2", "qwen3"]


class Tensor(NamedTuple):
    """One tensor of a checkpoint.

    Attributes:
        name: as Hugging Face calls it.
        is_gain: starts at one, as norms do.
    """

    name: str
    size: tuple[int, ...]
    is_gain: bool = False


@dataclass(frozen=True)
class Shape:
    """The architecture of a decoder.

    Attributes:
        family: decides biases and norms: `qwen2` has biases at q, k and v, `qwen3` norms them.
        split: layers done where the bundle is cut and its exit stands.
    """

    name: str
    family: Family
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    ffn_width: int
    vocabulary_size: int
    split: int
    rope_theta: float = 10_000.0
    tied: bool = True
    context_length: int = 1024

    @property
    def body_parameters(self) -> int:
        """Weights in the matrices of all layers."""
        kv_width, q_width = self.kv_heads * self.head_width, self.heads * self.head_width
        attention = 2 * self.width * (q_width + kv_width)
        return self.layers * (attention + 3 * self.width * self.ffn_width)

    @property
    def head_parameters(self) -> int:
        """Weights of the LM head."""
        return self.vocabulary_size * self.width

    def tensors(self) -> Iterator[Tensor]:
        """Yield every tensor of its checkpoint."""
        q_width, kv_width = self.heads * self.head_width, self.kv_heads * self.head_width
        yield Tensor("model.embed_tokens.weight", (self.vocabulary_size, self.width))
        for layer in range(self.layers):
            own = f"model.layers.{layer}."
            yield Tensor(own + "input_layernorm.weight", (self.width,), is_gain=True)
            for name, rows in (("q", q_width), ("k", kv_width), ("v", kv_width)):
                yield Tensor(f"{own}self_attn.{name}_proj.weight", (rows, self.width))
                if self.family == "qwen2":
                    yield Tensor(f"{own}self_attn.{name}_proj.bias", (rows,))
            yield Tensor(own + "self_attn.o_proj.weight", (self.width, q_width))
            if self.family == "qwen3":
                for name in ("q_norm", "k_norm"):
                    yield Tensor(f"{own}self_attn.{name}.weight", (self.head_width,), is_gain=True)
            yield Tensor(own + "post_attention_layernorm.weight", (self.width,), is_gain=True)
            yield Tensor(own + "mlp.gate_proj.weight", (self.ffn_width, self.width))
            yield Tensor(own + "mlp.up_proj.weight", (self.ffn_width, self.width))
            yield Tensor(own + "mlp.down_proj.weight", (self.width, self.ffn_width))
        yield Tensor("model.norm.weight", (self.width,), is_gain=True)
        if not self.tied:
            yield Tensor("lm_head.weight", (self.vocabulary_size, self.width))


SMALL = Shape(
    "small", "llama", layers=6, width=256, heads=4, kv_heads=2, head_width=64, ffn_width=768,
    vocabulary_size=4096, split=3,
)  # fmt: skip
QWEN25_05B = Shape(
    "qwen2.5-0.5b", "qwen2", layers=24, width=896, heads=14, kv_heads=2, head_width=64,
    ffn_width=4864, vocabulary_size=151_936, split=12, rope_theta=1e6,
)  # fmt: skip
QWEN3_06B = Shape(
    "qwen3-0.6b", "qwen3", layers=28, width=1024, heads=16, kv_heads=8, head_width=128,
    ffn_width=3072, vocabulary_size=151_936, split=14, rope_theta=1e6,
)  # fmt: skip
LLAMA32_1B = Shape(
    "llama-3.2-1b", "llama", layers=16, width=2048, heads=32, kv_heads=8, head_width=64,
    ffn_width=8192, vocabulary_size=128_256, split=8, rope_theta=5e5,
)  # fmt: skip
