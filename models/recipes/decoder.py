"""The Llama-style decoder with early exits, as trained: plain torch, no runtime dependency."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from updraft.models.manifest import Architecture
from updraft.models.rotary import rotary_tables


class RMSNorm(nn.Module):
    """Scale each row to unit root mean square, times a learned gain."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        wide = hidden.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)
        return (wide * scale * self.weight).to(hidden.dtype)


class Linear(nn.Linear):
    """A bias-free linear map that keeps fp32 weights and computes in the input's type."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.weight.to(hidden.dtype))


class Layer(nn.Module):
    """Pre-norm attention with grouped queries, then SwiGLU."""

    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = shape.heads, shape.kv_heads, shape.head_width
        kv_width = shape.kv_heads * shape.head_width
        self.attention_norm = RMSNorm(shape.width, shape.norm_epsilon)
        self.q = Linear(shape.width, shape.width)
        self.k = Linear(shape.width, kv_width)
        self.v = Linear(shape.width, kv_width)
        self.o = Linear(shape.width, shape.width)
        self.ffn_norm = RMSNorm(shape.width, shape.norm_epsilon)
        self.gate = Linear(shape.width, shape.ffn_width)
        self.up = Linear(shape.width, shape.ffn_width)
        self.down = Linear(shape.ffn_width, shape.width)

    def forward(self, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, width = hidden.shape
        normed = self.attention_norm(hidden)
        q = self.q(normed).view(batch, length, self.heads, self.head_width).transpose(1, 2)
        k = self.k(normed).view(batch, length, self.kv_heads, self.head_width).transpose(1, 2)
        v = self.v(normed).view(batch, length, self.kv_heads, self.head_width).transpose(1, 2)
        repeats = self.heads // self.kv_heads
        attended = F.scaled_dot_product_attention(
            _rotate(q, cos, sin),
            _rotate(k, cos, sin).repeat_interleave(repeats, dim=1),
            v.repeat_interleave(repeats, dim=1),
            is_causal=True,
        )
        hidden = hidden + self.o(attended.transpose(1, 2).reshape(batch, length, width))
        normed = self.ffn_norm(hidden)
        return hidden + self.down(F.silu(self.gate(normed)) * self.up(normed))


class Decoder(nn.Module):
    """Embedding, layers, one norm per exit, and a head tied to the embedding."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Architecture, exit_layers: tuple[int, ...]) -> None:
        super().__init__()
        self.shape, self.exit_layers = shape, exit_layers
        self.embedding = nn.Embedding(shape.vocabulary_size, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.exit_norms = nn.ModuleDict(
            {str(layer): RMSNorm(shape.width, shape.norm_epsilon) for layer in exit_layers}
        )
        cos, sin = rotary_tables(shape)
        self.register_buffer("cos", torch.from_numpy(cos), persistent=False)
        self.register_buffer("sin", torch.from_numpy(sin), persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.normal_(self.embedding.weight, std=0.02)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2 and "embedding" not in name:
                nn.init.normal_(parameter, std=self.shape.width**-0.5)
            if name.endswith(("o.weight", "down.weight")):
                nn.init.normal_(parameter, std=(2 * self.shape.layers * self.shape.width) ** -0.5)

    def forward(self, tokens: Tensor, dtype: torch.dtype = torch.float32) -> dict[int, Tensor]:
        """Return the normed state at each exit, ready for `logits`.

        Args:
            tokens: (batch, length) token ids.
            dtype: what the layers compute in.

        Returns:
            exit layer → (batch, length, width).
        """
        length = tokens.shape[1]
        cos, sin = self.cos[:length].to(dtype), self.sin[:length].to(dtype)
        hidden = F.embedding(tokens, self.embedding.weight).to(dtype)
        exits = {}
        for done, layer in enumerate(self.layers, start=1):
            hidden = layer(hidden, cos, sin)
            if done in self.exit_layers:
                exits[done] = self.exit_norms[str(done)](hidden)
        return exits

    def logits(self, normed: Tensor) -> Tensor:
        """Map normed states to logits with the tied embedding, shape (..., vocabulary)."""
        return F.linear(normed, self.embedding.weight.to(normed.dtype))


def _rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = heads.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
