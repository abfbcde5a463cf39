"""Cos and sin of every position: how queries and keys turn, for each kind of stretched context."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from updraft.models.architecture import Architecture, Rotary

_BETA_FAST, _BETA_SLOW = 32.0, 1.0
Vector = NDArray[np.float64]


def rotary_tables(shape: Architecture) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return cos and sin, each (context_length, turning channels / 2), for non-interleaved RoPE."""
    rotary = shape.rotary
    half = (rotary.width or shape.head_width) // 2
    plain = shape.rope_theta ** (-np.arange(half) / half)
    frequencies, scale = _stretched(rotary, plain, shape)
    angles = np.arange(shape.context_length)[:, None] * frequencies
    return (np.cos(angles) * scale).astype(np.float32), (np.sin(angles) * scale).astype(np.float32)


def _stretched(rotary: Rotary, plain: Vector, shape: Architecture) -> tuple[Vector, float]:
    """Return frequencies, and what cos and sin are multiplied by, as `transformers` defines it."""
    factor, original = rotary.factor or 1.0, rotary.original_context or shape.context_length
    given = rotary.attention_factor
    match rotary.kind:
        case "default":
            return plain, 1.0
        case "linear":
            return plain / factor, 1.0
        case "llama3":
            return _llama3(rotary, plain, factor, original), 1.0
        case "yarn":
            blend = _yarn_blend(rotary, shape, len(plain), original)
            frequencies = plain / factor * blend + plain * (1 - blend)
            return frequencies, given or (0.1 * math.log(factor) + 1 if factor > 1 else 1.0)
        case "longrope":
            long = shape.context_length > original
            factors = rotary.long_factors if long else rotary.short_factors
            stretch = rotary.factor or shape.context_length / original
            scale = math.sqrt(1 + math.log(stretch) / math.log(original)) if stretch > 1 else 1.0
            return plain / np.asarray(factors), given or scale


def _llama3(rotary: Rotary, plain: Vector, factor: float, original: int) -> Vector:
    """Keep high frequencies, stretch low ones, and blend those in between."""
    low, high = rotary.low_frequency_factor or 1.0, rotary.high_frequency_factor or 1.0
    turns = original * plain / (2 * math.pi)
    smooth = (turns - low) / (high - low)
    blended = (1 - smooth) * plain / factor + smooth * plain
    return np.where(turns < low, plain / factor, np.where(turns > high, plain, blended))


def _yarn_blend(rotary: Rotary, shape: Architecture, half: int, original: int) -> Vector:
    """Return 1 where a frequency is stretched in full, 0 where it is kept, and a ramp between."""

    def channel(turns: float) -> float:
        return half * math.log(original / (turns * 2 * math.pi)) / math.log(shape.rope_theta)

    low = max(math.floor(channel(rotary.beta_fast or _BETA_FAST)), 0)
    high = min(math.ceil(channel(rotary.beta_slow or _BETA_SLOW)), 2 * half - 1)
    ramp = (np.arange(half) - low) / max(high - low, 0.001)
    return np.asarray(np.clip(ramp, 0, 1))
