"""The decoder once more, in plain numpy and float64: no cache, no graph, one pass over a text.

Written from the description of the architecture, so that the graphs have something to agree with.
"""

import numpy as np

from updraft.models.quantize import dequantize_int8, quantize_int8


class ReferenceDecoder:
    """A Llama-style decoder with one norm per exit and a head tied to the embedding.

    Args:
        block: of the int8 that matrices are rounded to; None: they stay as they are.
    """

    def __init__(self, shape, weights, block):
        self._shape = shape
        self._weights = {
            name: (
                dequantize_int8(quantize_int8(weight, block))
                if block and weight.ndim == 2
                else weight
            ).astype(np.float64)
            for name, weight in weights.items()
        }

    def states(self, tokens):
        """Return the states after 0, 1, … layers, each (n, width)."""
        states = [self._weights["embedding.weight"][list(tokens)]]
        for layer in range(self._shape.layers):
            states.append(self._layer(layer, states[-1]))
        return states

    def logits(self, layer, states):
        """Return the logits (n, vocabulary) of the exit after `layer`."""
        normed = self._norm(states, f"exit_norms.{layer}.weight")
        return normed @ self._weights["embedding.weight"].T

    def _layer(self, layer, hidden):
        own = f"layers.{layer}."
        normed = self._norm(hidden, own + "attention_norm.weight")
        q, k, v = (self._linear(normed, f"{own}{which}.weight") for which in "qkv")
        hidden = hidden + self._linear(self._attend(q, k, v), own + "o.weight")
        normed = self._norm(hidden, own + "ffn_norm.weight")
        gate = self._linear(normed, own + "gate.weight")
        silu = gate / (1 + np.exp(-gate))
        return hidden + self._linear(
            silu * self._linear(normed, own + "up.weight"), own + "down.weight"
        )

    def _attend(self, q, k, v):
        """Attend causally; each key/value head serves a group of neighbouring query heads."""
        shape, length = self._shape, len(q)
        group = shape.heads // shape.kv_heads
        future = np.triu(np.full((length, length), -np.inf), 1)
        attended = []
        for head in range(shape.heads):
            own = slice(head * shape.head_width, (head + 1) * shape.head_width)
            shared = slice(head // group * shape.head_width, (head // group + 1) * shape.head_width)
            scores = self._rotate(q[:, own]) @ self._rotate(k[:, shared]).T
            attended.append(softmax(scores / shape.head_width**0.5 + future) @ v[:, shared])
        return np.concatenate(attended, axis=1)

    def _rotate(self, heads):
        """Turn pairs (i, i + half) by position · theta^(-i / half); channels beyond stay."""
        half = (self._shape.rotary.width or self._shape.head_width) // 2
        turns = np.outer(np.arange(len(heads)), self._shape.rope_theta ** (-np.arange(half) / half))
        turned = (heads[:, :half] + 1j * heads[:, half : 2 * half]) * np.exp(1j * turns)
        return np.concatenate([turned.real, turned.imag, heads[:, 2 * half :]], axis=1)

    def _norm(self, hidden, gain):
        mean_square = (hidden**2).mean(axis=1, keepdims=True)
        return hidden / np.sqrt(mean_square + self._shape.norm_epsilon) * self._weights[gain]

    def _linear(self, x, weight):
        return x @ self._weights[weight].T


def softmax(logits):
    """Return the probabilities of each row."""
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)
