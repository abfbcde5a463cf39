"""How positions turn queries and keys, as a checkpoint's configuration says it."""

from __future__ import annotations

from math import log
from typing import NamedTuple

from updraft.errors import BundleError
from updraft.models.architecture import Rotary
from updraft.models.checkpoints.documents import Fields

_SUPPORTED = "default, linear, llama3, yarn, longrope, dynamic"
_MOST_FREQUENCIES = 1 << 10
_MOST_STRETCHED = 1024


class Positions(NamedTuple):
    """Tables of positions, and how far they reach.

    Attributes:
        theta: the base of the frequencies.
        limit: positions that the model can be used for.
        preferred: positions up to which the tables are exactly those of transformers.
    """

    rotary: Rotary
    theta: float
    limit: int
    preferred: int


def positions_of(config: Fields, theta: float) -> Positions:
    """Read `rope_parameters` (transformers 5), or `rope_theta` and `rope_scaling` (before).

    Args:
        theta: the family's base where none is said.

    Raises:
        BundleError: a kind that is not supported, or one that lacks what it needs.
    """
    scaling = config.fields("rope_scaling" if "rope_scaling" in config else "rope_parameters")
    if "full_attention" in scaling or "sliding_attention" in scaling:
        raise BundleError(f"{scaling.where}: positions that differ by layer are not supported")
    partial = scaling.number("partial_rotary_factor", config.number("partial_rotary_factor", 1.0))
    if partial != 1.0:
        raise BundleError(f"{config.where}: heads that turn in part ({partial}) are not supported")
    theta = scaling.number("rope_theta", config.number("rope_theta", theta))
    limit = config.whole("max_position_embeddings")
    # What stands outside counts more, as it does for transformers.
    trained = scaling.whole("original_max_position_embeddings", limit)
    trained = config.whole("original_max_position_embeddings", trained)
    kind = scaling.text("rope_type", scaling.text("type", "default"))
    if kind in {"default", "dynamic"}:
        # dynamic stretches nothing before a text is longer than those of training.
        return Positions(Rotary(), theta, limit, limit)
    if kind == "linear":
        rotary = Rotary(kind="linear", factor=scaling.number("factor"))
        return Positions(rotary, theta, limit, limit)
    if kind == "llama3":
        return Positions(_llama3(scaling, trained), theta, limit, limit)
    if kind == "yarn":
        factor = scaling.number("factor", limit / trained)
        reach = max(limit, int(trained * min(factor, _MOST_STRETCHED)))
        return Positions(_yarn(scaling, trained, factor), theta, reach, reach)
    if kind == "longrope":
        factor = scaling.number("factor", limit / trained)
        return Positions(_longrope(scaling, trained, factor), theta, limit, min(limit, trained))
    raise BundleError(
        f"{scaling.where}: rope type {kind[:40]!r} is not supported, these are: {_SUPPORTED}"
    )


def _llama3(scaling: Fields, trained: int) -> Rotary:
    return Rotary(
        kind="llama3",
        factor=scaling.number("factor"),
        low_frequency_factor=scaling.number("low_freq_factor"),
        high_frequency_factor=scaling.number("high_freq_factor"),
        original_context=trained,
    )


def _yarn(scaling: Fields, trained: int, factor: float) -> Rotary:
    if not scaling.flag("truncate", default=True):
        raise BundleError(f"{scaling.where}: yarn with truncate = false is not supported")
    magnitude = _magnitude(factor, 1.0)
    if scaling.raw("mscale") and scaling.raw("mscale_all_dim"):
        over_all = _magnitude(factor, scaling.number("mscale_all_dim"))
        magnitude = _magnitude(factor, scaling.number("mscale")) / over_all
    return Rotary(
        kind="yarn",
        factor=factor,
        original_context=trained,
        attention_factor=scaling.number("attention_factor", magnitude),
        beta_fast=scaling.number("beta_fast", 32.0),
        beta_slow=scaling.number("beta_slow", 1.0),
    )


def _magnitude(factor: float, scale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * scale * log(factor) + 1.0


def _longrope(scaling: Fields, trained: int, factor: float) -> Rotary:
    magnitude = 1.0 if factor <= 1 else (1 + log(factor) / log(max(trained, 2))) ** 0.5
    return Rotary(
        kind="longrope",
        factor=factor,
        original_context=trained,
        attention_factor=scaling.number("attention_factor", magnitude),
        short_factors=_factors(scaling, "short_factor"),
        long_factors=_factors(scaling, "long_factor"),
    )


def _factors(scaling: Fields, name: str) -> list[float]:
    found = scaling.raw(name)
    if not isinstance(found, list) or not 0 < len(found) <= _MOST_FREQUENCIES:
        raise BundleError(
            f"{scaling.where}: {name}: a list with a factor per frequency is expected"
        )
    return [Fields({name: value}, scaling.where).number(name) for value in found]
