"""The gate: from a prompt's features to the quality of each expert, and to who answers.

It is trained once over all experts (`gate_fit`). A selection restricts it by masking: what it says
of an expert does not depend on which others are on. `docs/gate.md` says when that costs nothing.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from updraft.errors import ProblemError
from updraft.optimizer.gate.features import TextFeatures
from updraft.optimizer.problem import Matrix

Mask = NDArray[np.bool_]

_FORMAT = "updraft-gate-1"


class Layer(NamedTuple):
    """One affine map: inputs @ weights + bias."""

    weights: Matrix
    bias: Matrix


@dataclass(frozen=True, eq=False)
class Gate:
    """What each expert's answer is worth, prompt by prompt.

    Attributes:
        experts: ids, in the order of all columns.
        layers: one, or two with tanh between them; scaling and calibration are in their numbers.
        text: how text becomes this gate's features; None where features come from elsewhere,
            such as the state at the split.
    """

    experts: tuple[str, ...]
    layers: tuple[Layer, ...]
    text: TextFeatures | None = None

    def __post_init__(self) -> None:
        faults = _layer_faults(self.layers, len(self.experts))
        if len(set(self.experts)) < len(self.experts):
            faults.append(f"experts {', '.join(self.experts)}: every id must be there once")
        if self.text is not None and not faults and self.text.width != self.width:
            faults.append(
                f"text features have {self.text.width} columns, the gate reads {self.width}"
            )
        if faults:
            raise ProblemError([f"gate: {fault}" for fault in faults])

    @property
    def width(self) -> int:
        """How many features it reads per prompt."""
        return len(self.layers[0].weights)

    def logits(self, features: ArrayLike) -> Matrix:
        """Return (P, N): the log-odds that expert i answers prompt p well."""
        rows = read_features(features)
        if rows.shape[1] != self.width:
            raise ProblemError(
                [f"features have {rows.shape[1]} columns, this gate was trained on {self.width}"]
            )
        return apply(self.layers, rows)

    def quality(self, features: ArrayLike) -> Matrix:
        """Return (P, N): the probability that expert i answers prompt p well."""
        return sigmoid(self.logits(features))

    def weights(self, features: ArrayLike, allowed: ArrayLike, temperature: float) -> Matrix:
        """Return (P, N): how much each allowed expert counts; rows add up to 1.

        Args:
            allowed: (N,) bool, the experts that are on; see `mask`.
            temperature: above 0; towards 0 all weight goes to the best, see `route`.
        """
        return masked_softmax(self.logits(features), self._checked(allowed), temperature)

    def route(self, features: ArrayLike, allowed: ArrayLike) -> NDArray[np.intp]:
        """Return (P,): the column of the best allowed expert, the first of equals."""
        logits = np.where(self._checked(allowed), self.logits(features), -np.inf)
        best: NDArray[np.intp] = logits.argmax(axis=1)
        return best

    def mask(self, ids: Collection[str]) -> Mask:
        """Return (N,): which experts are among `ids`, such as those of a selection."""
        unknown = sorted(set(ids) - set(self.experts))
        if unknown:
            raise ProblemError(
                [
                    f"expert {name!r} is unknown to the gate, which was trained for "
                    f"{', '.join(self.experts)}; train it again with that expert"
                    for name in unknown
                ]
            )
        return np.array([name in ids for name in self.experts], np.bool_)

    def to_bytes(self) -> bytes:
        """Return the gate as the content of an .npz file."""
        entries: dict[str, Any] = {
            "format": np.array(_FORMAT),
            "experts": np.array(self.experts, np.str_),
        }
        for number, layer in enumerate(self.layers):
            entries[f"weights_{number}"], entries[f"bias_{number}"] = layer
        if self.text is not None:
            entries.update({f"text_{key}": value for key, value in asdict(self.text).items()})
        buffer = io.BytesIO()
        np.savez(buffer, **entries)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Gate:
        """Return the gate that `to_bytes` wrote; a ProblemError says what is wrong with it."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                entries = dict(archive)
        # numpy, zipfile and zlib raise ten kinds of errors for damaged bytes.
        except Exception as error:
            raise ProblemError(
                [f"gate: the file is damaged or no gate ({error}); copy or train it again"]
            ) from error
        found = str(entries.get("format"))
        if found != _FORMAT:
            raise ProblemError([f"gate: the file's format is {found!r}, not {_FORMAT!r}"])
        try:
            return cls(
                tuple(entries["experts"].tolist()),
                tuple(
                    Layer(entries[f"weights_{number}"], entries[f"bias_{number}"])
                    for number in range(2)
                    if f"weights_{number}" in entries
                ),
                _text_features(entries) if "text_width" in entries else None,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ProblemError([f"gate: an entry is missing or wrong: {error}"]) from error

    def _checked(self, allowed: ArrayLike) -> Mask:
        mask = np.asarray(allowed)
        if mask.dtype != np.bool_ or mask.shape != (len(self.experts),):
            raise ProblemError(
                [
                    f"allowed is {mask.dtype} of shape {mask.shape}; it must say True or False "
                    f"for each of the {len(self.experts)} experts: bool of shape "
                    f"({len(self.experts)},)"
                ]
            )
        if not mask.any():
            raise ProblemError(["allowed has no True: at least one expert must be on"])
        return mask


def apply(layers: tuple[Layer, ...], features: Matrix) -> Matrix:
    """Return the outputs of the last layer, with tanh before every layer but the first."""
    first, *later = layers
    outputs = features @ first.weights + first.bias
    for layer in later:
        outputs = np.tanh(outputs) @ layer.weights + layer.bias
    return outputs


def sigmoid(logits: Matrix) -> Matrix:
    """Return 1 / (1 + e^-logits), which neither overflows nor warns."""
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1, small) / (1 + small)


def masked_softmax(logits: Matrix, allowed: Mask, temperature: float) -> Matrix:
    """Return e^(logits/temperature) with what is not allowed at 0, and rows that add up to 1."""
    if not 0 < temperature < np.inf:
        raise ProblemError([f"temperature is {temperature}; it must be above 0 and finite"])
    kept = np.where(allowed, logits, -np.inf)
    # The difference is divided, not the logits: a temperature near 0 then overflows to no weight.
    with np.errstate(over="ignore"):
        powers = np.exp((kept - kept.max(axis=1, keepdims=True)) / temperature)
    weights: Matrix = powers / powers.sum(axis=1, keepdims=True)
    return weights


def read_features(features: ArrayLike) -> Matrix:
    """Return features as (P, D) float64, or raise a ProblemError with the first bad place."""
    return _finite_matrix(features, "features")


def read_quality(quality: ArrayLike) -> Matrix:
    """Return qualities as (P, N) float64 in [0, 1], or raise with the first bad place."""
    matrix = _finite_matrix(quality, "quality")
    outside = np.argwhere((matrix < 0) | (matrix > 1))
    if len(outside):
        row, column = outside[0]
        raise ProblemError(
            [
                f"quality: row {row}, column {column} is {matrix[row, column]}; a probability or "
                "a share from 0 to 1 is needed"
            ]
        )
    return matrix


def _finite_matrix(values: ArrayLike, name: str) -> Matrix:
    try:
        matrix = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ProblemError([f"{name}: not a matrix of numbers: {error}"]) from error
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise ProblemError(
            [f"{name} has shape {matrix.shape}; it must be (prompts, columns), a row per prompt"]
        )
    wrong = np.argwhere(~np.isfinite(matrix))
    if len(wrong):
        row, column = wrong[0]
        raise ProblemError(
            [f"{name}: row {row}, column {column} is {matrix[row, column]}; it must be finite"]
        )
    return matrix


def _layer_faults(layers: tuple[Layer, ...], outputs: int) -> list[str]:
    if len(layers) not in {1, 2} or outputs == 0:
        return [f"{len(layers)} layers for {outputs} experts; 1 or 2 layers for some are needed"]
    for number, layer in enumerate(layers):
        if layer.weights.ndim != 2 or layer.bias.shape != layer.weights.shape[1:]:
            return [
                f"layer {number} has weights {layer.weights.shape} and bias {layer.bias.shape}; "
                "they must be (inputs, outputs) and (outputs,)"
            ]
        if any(part.dtype != np.float64 or not np.isfinite(part).all() for part in layer):
            return [f"layer {number} holds something that is no finite number (float64)"]
    shapes = [layer.weights.shape for layer in layers]
    if shapes[-1][1] != outputs or any(a[1] != b[0] for a, b in pairwise(shapes)):
        return [f"layers of shapes {shapes} do not lead to {outputs} experts"]
    return []


def _text_features(entries: dict[str, Any]) -> TextFeatures:
    return TextFeatures(
        width=int(entries["text_width"]),
        words=int(entries["text_words"]),
        characters=tuple(int(n) for n in entries["text_characters"]),
        seed=int(entries["text_seed"]),
    )
