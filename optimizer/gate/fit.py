"""Training the gate: once, over all experts, then calibrated on prompts that it was not fitted to.

Loss is the binary cross-entropy of each expert's own answers. With a linear head and one ridge the
experts share nothing: a gate trained for some of them is that part of the gate trained for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from updraft.errors import ProblemError
from updraft.optimizer.gate.features import TextFeatures
from updraft.optimizer.gate.gate import Gate, Layer, apply, read_features, read_quality, sigmoid
from updraft.optimizer.gate.lbfgs import Vector, minimise
from updraft.optimizer.problem import Matrix

# From logits to a loss and its gradient by them.
Loss = Callable[[Matrix], tuple[float, Matrix]]

# From what a hidden layer needs for few columns to what suits 2048 of n-grams, at 2000 prompts.
RIDGES = (0.001, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_ECE_BINS = 10
_FEWEST_PROMPTS = 10


@dataclass(frozen=True)
class Scores:
    """How good predicted probabilities are, by expert.

    Attributes:
        log_loss: (N,), mean binary cross-entropy in nats.
        ece: (N,), expected calibration error: how far the mean prediction is from the mean
            outcome, in ten bins of equal width, weighted by how many prompts are in each.
    """

    log_loss: Matrix
    ece: Matrix


class Fit(NamedTuple):
    """A trained gate, and what calibration changed on the part of the prompts set aside for it.

    The ridge and two numbers per expert are fitted to that part, so `after` flatters a little;
    `score` other prompts for a figure to report.
    """

    gate: Gate
    before: Scores
    after: Scores


def fit_gate(
    features: ArrayLike,
    quality: ArrayLike,
    experts: Sequence[str],
    *,
    hidden: int = 0,
    ridges: Sequence[float] = RIDGES,
    calibration_share: float = 0.2,
    iterations: int = 300,
    seed: int = 0,
    text: TextFeatures | None = None,
) -> Fit:
    """Train a gate from prompts that every expert has answered; the same input, the same gate.

    Args:
        features: (P, D).
        quality: (P, N) in [0, 1], how good expert i's answer to prompt p was: right or wrong, or
            a share. Its mean given the features is what the gate estimates.
        hidden: units between features and experts; 0 for a linear gate.
        ridges: what the squared distance from the best constant answer costs, over standardised
            features; each is tried, and the one kept that predicts the calibration part best.
        calibration_share: of the prompts, drawn by `seed`; they are not trained on.
        text: kept in the gate, where `features` are what it encodes.

    Raises:
        ProblemError: with the first bad row and column.
    """
    rows, targets = read_features(features), read_quality(quality)
    _check(rows, targets, experts, hidden=hidden, ridges=ridges, share=calibration_share)
    order = np.random.default_rng(seed).permutation(len(rows))
    held = max(1, round(calibration_share * len(rows)))
    held_rows, fit_rows = np.sort(order[:held]), np.sort(order[held:])
    start = start_head(targets[fit_rows], rows.shape[1], hidden=hidden, seed=seed)
    loss = partial(_cross_entropy, targets=targets[fit_rows])
    fits = [
        _calibrate(
            train_head(rows[fit_rows], start, loss, ridge=ridge, iterations=iterations),
            rows[held_rows],
            targets[held_rows],
        )
        for ridge in ridges
    ]
    layers, before, after = min(fits, key=lambda fit: float(fit[2].log_loss.sum()))
    return Fit(Gate(tuple(experts), layers, text), before, after)


def score(gate: Gate, features: ArrayLike, quality: ArrayLike) -> Scores:
    """Return how good a gate's probabilities are on prompts that it has not seen."""
    logits, targets = gate.logits(features), read_quality(quality)
    if logits.shape != targets.shape:
        raise ProblemError(
            [f"the gate predicts {logits.shape} for these features, quality is {targets.shape}"]
        )
    return _scores(logits, targets)


def fit_calibration(logits: Matrix, outcomes: Matrix) -> tuple[Matrix, Matrix]:
    """Return each expert's slope (1 / temperature) and shift, both (N,).

    A weak pull towards slope 1 and shift 0, worth one prompt, keeps both finite where an expert is
    always right. Without change it costs nothing, so log loss on these prompts never grows.
    """
    count, experts = logits.shape

    def loss(parameters: Vector) -> tuple[float, Vector]:
        slope, shift = parameters.reshape(2, experts)
        value, slopes = _cross_entropy(logits * slope + shift, outcomes)
        pull = parameters - start
        inner = np.concatenate(((slopes * logits).sum(axis=0), slopes.sum(axis=0)))
        return value + float(pull @ pull) / (2 * count), inner + pull / count

    start = np.repeat([1.0, 0.0], experts)
    slope, shift = minimise(loss, start, tolerance=1e-8).reshape(2, experts)
    return slope, shift


def _calibrate(
    layers: tuple[Layer, ...], features: Matrix, outcomes: Matrix
) -> tuple[tuple[Layer, ...], Scores, Scores]:
    logits = apply(layers, features)
    slope, shift = fit_calibration(logits, outcomes)
    last = Layer(layers[-1].weights * slope, layers[-1].bias * slope + shift)
    after = _scores(logits * slope + shift, outcomes)
    return (*layers[:-1], last), _scores(logits, outcomes), after


def start_head(targets: Matrix, width: int, *, hidden: int = 0, seed: int = 0) -> tuple[Layer, ...]:
    """Return an untrained head, which says the mean of each expert's targets of any prompt."""
    count, experts = targets.shape
    rate = (targets.sum(axis=0) + 0.5) / (count + 1)
    bias = np.log(rate / (1 - rate))
    if not hidden:
        return (Layer(np.zeros((width, experts)), bias),)
    spread = np.random.default_rng(seed).standard_normal((width, hidden)) / np.sqrt(width)
    return Layer(spread, np.zeros(hidden)), Layer(np.zeros((hidden, experts)), bias)


def train_head(
    features: Matrix,
    start: tuple[Layer, ...],
    loss: Loss,
    *,
    ridge: float,
    iterations: int = 300,
) -> tuple[Layer, ...]:
    """Return the head that minimises a loss of its logits, for features as they come.

    Args:
        loss: from (P, N) logits to its value and its gradient by them.
        ridge: half of it is what the squared distance from "no features, no opinion" costs.
    """
    centre, scale = features.mean(axis=0), _scale(features)
    inputs = (features - centre) / scale
    shapes = [(layer.weights.shape, layer.bias.shape) for layer in start]
    # Weights are pulled to 0, the last bias to where it starts.
    origin = _flat([Layer(np.zeros_like(layer.weights), layer.bias) for layer in start])

    def penalised(parameters: Vector) -> tuple[float, Vector]:
        value, gradients = _backward(_layers(parameters, shapes), inputs, loss)
        pull = parameters - origin
        return value + ridge * float(pull @ pull) / 2, _flat(gradients) + ridge * pull

    found = _layers(minimise(penalised, _flat(start), iterations=iterations), shapes)
    first = Layer(found[0].weights / scale[:, None], found[0].bias)
    first = Layer(first.weights, first.bias - centre @ first.weights)
    return (first, *found[1:])


def _scale(features: Matrix) -> Matrix:
    """Return what each column is divided by: its spread, but not much less than is usual.

    A column that hardly varies, such as that of a rare n-gram, would be blown up otherwise.
    """
    spread = features.std(axis=0)
    varied = spread[spread > 0]
    floor = 0.1 * float(np.median(varied)) if len(varied) else 1.0
    return np.maximum(spread, max(floor, 1e-6 * float(np.abs(features).max())))


def _backward(layers: list[Layer], inputs: Matrix, loss: Loss) -> tuple[float, list[Layer]]:
    """Return the loss and its gradient by every weight and bias."""
    *before, last = layers
    inner = np.tanh(apply(tuple(before), inputs)) if before else inputs
    value, slopes = loss(inner @ last.weights + last.bias)
    gradients = [Layer(inner.T @ slopes, slopes.sum(axis=0))]
    if before:
        slopes = slopes @ last.weights.T * (1 - inner**2)
        gradients.insert(0, Layer(inputs.T @ slopes, slopes.sum(axis=0)))
    return value, gradients


def _cross_entropy(logits: Matrix, targets: Matrix) -> tuple[float, Matrix]:
    """Return the sum over experts of the mean over prompts, and its gradient by the logits."""
    value = float(_losses(logits, targets).mean(axis=0).sum())
    return value, (sigmoid(logits) - targets) / len(logits)


def _losses(logits: Matrix, targets: Matrix) -> Matrix:
    losses: Matrix = np.logaddexp(0, logits) - targets * logits
    return losses


def _scores(logits: Matrix, targets: Matrix) -> Scores:
    columns = zip(sigmoid(logits).T, targets.T, strict=True)
    ece = np.array([_ece(probability, outcome) for probability, outcome in columns])
    return Scores(_losses(logits, targets).mean(axis=0), ece)


def _ece(probability: Vector, outcome: Vector) -> float:
    bins = np.minimum((probability * _ECE_BINS).astype(np.intp), _ECE_BINS - 1)
    gaps = np.bincount(bins, probability - outcome, _ECE_BINS)
    return float(np.abs(gaps).sum() / len(probability))


def _flat(layers: Sequence[Layer]) -> Vector:
    return np.concatenate([part.ravel() for layer in layers for part in layer])


def _layers(
    parameters: Vector, shapes: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]
) -> list[Layer]:
    layers, at = [], 0
    for weights_shape, bias_shape in shapes:
        middle = at + int(np.prod(weights_shape))
        end = middle + bias_shape[0]
        layers.append(Layer(parameters[at:middle].reshape(weights_shape), parameters[middle:end]))
        at = end
    return layers


def _check(
    features: Matrix,
    quality: Matrix,
    experts: Sequence[str],
    *,
    hidden: int,
    ridges: Sequence[float],
    share: float,
) -> None:
    faults = []
    if len(features) != len(quality):
        faults.append(
            f"features have {len(features)} rows, quality {len(quality)}; each needs one row per "
            "prompt"
        )
    if len(experts) != quality.shape[1]:
        faults.append(f"{len(experts)} experts for {quality.shape[1]} columns of quality")
    if len(features) < _FEWEST_PROMPTS:
        faults.append(f"{len(features)} prompts; a gate needs at least {_FEWEST_PROMPTS}")
    if hidden < 0:
        faults.append(f"hidden is {hidden}; it must be 0 (linear) or a number of units")
    if not ridges or not all(0 < ridge < np.inf for ridge in ridges):
        faults.append(f"ridges are {list(ridges)}; one or more are needed, each above 0")
    if not 0 < share <= 0.5:
        faults.append(f"calibration_share is {share}; it must be above 0 and at most 0.5")
    if faults:
        raise ProblemError(faults)
