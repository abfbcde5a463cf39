"""Figures from what every exit said about held-out tokens: arrays in, plain records out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

THETAS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
# The last step lies above 1, where no token ends on the edge: some θ reaches every target.
THETA_GRID = tuple(step / 200 for step in range(202))
_BINS = 15


@dataclass(frozen=True)
class Evaluation:
    """What every exit said about every scored token.

    Attributes:
        exits: layers done at each exit that the edge can take, then at full depth.
        truth: (tokens,) the token that stands in the file.
        predicted: (exits, tokens) the exit's best token.
        probability: (exits, tokens) the best token's probability.
        confidence: (exits, tokens) what the exit's policy reads.
        cross_entropy: (exits, tokens) nats of the true token.
        file: (tokens,) number of the token's file.
        is_test: (tokens,) the file is test code.
        byte_count: (tokens,) bytes that the true token stands for.
    """

    exits: tuple[int, ...]
    truth: Ids
    predicted: Ids
    probability: Floats
    confidence: Floats
    cross_entropy: Floats
    file: Ids
    is_test: Flags
    byte_count: Ids

    @property
    def tokens(self) -> int:
        """Scored tokens."""
        return len(self.truth)

    @property
    def right(self) -> Flags:
        """(exits, tokens): the exit's best token is the true one."""
        right: Flags = self.predicted == self.truth
        return right

    @property
    def agrees(self) -> Flags:
        """(exits, tokens): the exit's best token is that of full depth."""
        agrees: Flags = self.predicted == self.predicted[-1]
        return agrees

    def where(self, mask: Flags) -> Evaluation:
        """Return the tokens that a mask (tokens,) selects."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "exits"}
        return replace(self, **{name: array[..., mask] for name, array in arrays.items()})


@dataclass(frozen=True)
class ExitScore:
    """How good one exit is by itself.

    Attributes:
        accuracy_se: standard error of the accuracy, files being the draws; None for one file.
        cross_entropy: nats per token.
        ece: expected calibration error of the probability, 15 bins of equal width.
        agreement: share of tokens on which it says what full depth says.
    """

    layer: int
    tokens: int
    accuracy: float
    accuracy_se: float | None
    cross_entropy: float
    bits_per_byte: float
    ece: float
    agreement: float


@dataclass(frozen=True)
class ThetaScore:
    """The tokens on which one exit is at least `theta` sure.

    Attributes:
        share: of all tokens.
        accuracy: of those tokens; None where there are none.
    """

    layer: int
    theta: float
    share: float
    accuracy: float | None


@dataclass(frozen=True)
class CascadeScore:
    """Each token taken at the first edge exit that is at least `theta` sure, else at full depth.

    Attributes:
        ended: exit → share of the tokens that end there; with full depth they add up to 1.
        edge: share of the tokens that end at an edge exit.
        cloud_requests: share of the tokens for which the cloud is asked, 1 - edge. The cloud
            still computes the others when it catches up, which is measured elsewhere.
        agreement: share of the tokens that are what full depth says after the same prefix.
    """

    theta: float
    ended: dict[int, float]
    edge: float
    cloud_requests: float
    agreement: float
    accuracy: float


def score_exits(evaluation: Evaluation) -> list[ExitScore]:
    """Score every exit by itself, shallow first, full depth last."""
    byte_count = evaluation.byte_count.sum()
    return [
        ExitScore(
            layer=layer,
            tokens=evaluation.tokens,
            accuracy=float(right.mean()),
            accuracy_se=clustered_error(right, evaluation.file),
            cross_entropy=float(entropy.mean()),
            bits_per_byte=float(entropy.sum() / np.log(2) / byte_count),
            ece=calibration_error(probability, right),
            agreement=float(agrees.mean()),
        )
        for layer, right, entropy, probability, agrees in zip(
            evaluation.exits,
            evaluation.right,
            evaluation.cross_entropy,
            evaluation.probability,
            evaluation.agrees,
            strict=True,
        )
    ]


def score_thetas(evaluation: Evaluation, thetas: Sequence[float] = THETAS) -> list[ThetaScore]:
    """Say for every exit and threshold how many tokens pass, and how many of those are right."""
    scores = []
    for layer, confidence, right in zip(
        evaluation.exits, evaluation.confidence, evaluation.right, strict=True
    ):
        for theta in thetas:
            sure = confidence >= theta
            accuracy = float(right[sure].mean()) if sure.any() else None
            scores.append(ThetaScore(layer, theta, float(sure.mean()), accuracy))
    return scores


def score_cascade(
    evaluation: Evaluation, thetas: Sequence[float] = THETA_GRID
) -> list[CascadeScore]:
    """Score the cascade of exits at each threshold, in the order given."""
    return [_cascade(evaluation, theta) for theta in thetas]


def smallest_theta(cascade: Sequence[CascadeScore], agreement: float) -> float:
    """Return the smallest threshold whose agreement with full depth reaches the target.

    Args:
        cascade: scores on a grid that ends above 1, where agreement is 1.
    """
    return min(score.theta for score in cascade if score.agreement >= agreement)


def calibration_error(probability: Floats, right: Flags) -> float:
    """Return the expected calibration error over 15 bins of equal width.

    Args:
        probability: (tokens,) in [0, 1].
        right: (tokens,).
    """
    bins = np.minimum((probability * _BINS).astype(np.int64), _BINS - 1)
    gaps = np.bincount(bins, weights=probability - right, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(probability))


def clustered_error(right: Flags, file: Ids) -> float | None:
    """Return the standard error of the share of right tokens, files being the draws.

    Tokens of one file resemble each other: counted one by one they would promise a precision
    that another choice of files would not bear out. One file alone has no error: None.
    """
    deviations = np.bincount(file, weights=right - right.mean())
    files = len(np.unique(file))
    if files == 1:
        return None
    return float(np.sqrt((deviations**2).sum() * files / (files - 1)) / len(right))


def _cascade(evaluation: Evaluation, theta: float) -> CascadeScore:
    sure = evaluation.confidence >= theta
    sure[-1] = True
    taken = sure.argmax(axis=0)
    tokens = np.arange(evaluation.tokens)
    ended = np.bincount(taken, minlength=len(evaluation.exits)) / evaluation.tokens
    return CascadeScore(
        theta=theta,
        ended=dict(zip(evaluation.exits, ended.tolist(), strict=True)),
        edge=float((taken < len(evaluation.exits) - 1).mean()),
        cloud_requests=float(ended[-1]),
        agreement=float(evaluation.agrees[taken, tokens].mean()),
        accuracy=float(evaluation.right[taken, tokens].mean()),
    )
