"""Checkpoints that were trained with exits: where these are, by configuration and tensor names.

LayerSkip publishes ordinary Llama checkpoints: one final norm and one LM head serve after every
layer, which only the checkpoint's name says. EE-LLM (Megatron) names the layers in its
configuration and may keep a norm and an output matrix for each exit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from updraft.errors import BundleError

Layout = Literal["layerskip", "ee-llm"]

_EE_LLM_KEY = "exit_layer_nums"
# What a configuration says that matters here.
EXIT_KEYS = (
    "num_hidden_layers", "num_layers", "_name_or_path", _EE_LLM_KEY, "pre_exit",
    "untie_exit_output_weights", "use_exit_norm",
)  # fmt: skip
_OUTPUT = re.compile(r"(?:.*\.)?exit_output_layer\.(\d+)\.weight$")
_NORM = re.compile(r"(?:.*\.)?layers\.(\d+)\.exit_norm\.weight$")
# Exits of EE-LLM that are layers of their own.
_BLOCKS = re.compile(r"(?:.*\.)?layers\.(\d+)\.(?:exit_block|mlp\.branch)\.")
_MOST_LAYERS = 1024


@dataclass(frozen=True)
class TrainedExit:
    """An exit that a checkpoint was trained with.

    Attributes:
        layer: layers done.
        norm: the tensor with the gain of its norm; None: the model's final norm.
        head: the tensor with its output matrix; None: the model's LM head.
    """

    layer: int
    norm: str | None = None
    head: str | None = None


@dataclass(frozen=True)
class TrainedExits:
    """The exits of a checkpoint.

    Attributes:
        exits: every one that there is, shallow first, without the full depth.
    """

    layout: Layout
    exits: tuple[TrainedExit, ...]


def recognise_exits(
    config: Mapping[str, Any], tensor_names: Iterable[str], name: str = ""
) -> TrainedExits | None:
    """Find the exits that a checkpoint was trained with; None: it was trained without.

    Args:
        config: of the checkpoint, as `config.json` holds it.
        name: of the checkpoint's folder: LayerSkip's are told by name.

    Raises:
        BundleError: exits are of a kind that cannot be imported, or contradict the tensors.
    """
    names = list(tensor_names)
    layers = config.get("num_hidden_layers", config.get("num_layers"))
    if not isinstance(layers, int) or not 0 < layers <= _MOST_LAYERS:
        return None
    if _EE_LLM_KEY in config:
        return _ee_llm(config, names, layers)
    odd = [tensor for tensor in names if _OUTPUT.match(tensor) or _NORM.match(tensor)]
    if odd:
        raise BundleError(
            f"{odd[0]} belongs to an exit, but the configuration has no {_EE_LLM_KEY} that says "
            "after which layer it stands"
        )
    if any("layerskip" in str(said).lower() for said in (config.get("_name_or_path"), name)):
        return TrainedExits("layerskip", tuple(TrainedExit(n) for n in range(1, layers)))
    return None


def _ee_llm(config: Mapping[str, Any], names: list[str], layers: int) -> TrainedExits:
    numbers = config[_EE_LLM_KEY]
    if not isinstance(numbers, list) or not all(
        isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= layers for n in numbers
    ):
        raise BundleError(f"{_EE_LLM_KEY} is {numbers!r}: layers from 1 to {layers} are expected")
    numbers = sorted(set(numbers))
    blocks = sorted({int(found[1]) + 1 for n in names if (found := _BLOCKS.match(n))})
    if blocks:
        raise BundleError(
            f"the exits after layers {', '.join(map(str, blocks))} have layers of their own "
            "(exit_block or exit MLP), which cannot be imported: convert the checkpoint to exits "
            "of a norm and an output matrix, or import without them and run "
            "`updraft bundle train-exits`"
        )
    norms = {int(found[1]) + 1: n for n in names if (found := _NORM.match(n))}
    outputs = {int(found[1]): n for n in names if (found := _OUTPUT.match(n))}
    untied = bool(config.get("untie_exit_output_weights"))
    if untied and sorted(outputs) != list(range(len(numbers))):
        raise BundleError(
            f"{_EE_LLM_KEY} names {len(numbers)} exits with outputs of their own, the checkpoint "
            f"has exit_output_layer {', '.join(map(str, sorted(outputs))) or 'nowhere'}"
        )
    missing = [n for n in numbers if n not in norms] if config.get("use_exit_norm") else []
    if missing:
        raise BundleError(
            f"use_exit_norm is set, but there is no exit_norm for {_EE_LLM_KEY} "
            f"{', '.join(map(str, missing))}"
        )
    # Before its layer or after it: `layer` counts what is done when the exit looks.
    before = 1 if config.get("pre_exit") else 0
    exits = (
        TrainedExit(number - before, norms.get(number), outputs.get(index))
        for index, number in enumerate(numbers)
    )
    # After the last layer, or before the first, nothing exits early.
    return TrainedExits("ee-llm", tuple(e for e in exits if 0 < e.layer < layers))
