"""What the whole model says: which prompts are fit, who agrees with it, which drafts are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from updraft.models.bundle import Bundle
from updraft.models.calibration import confidence_of
from updraft.models.codecs import as_received, wire_codec
from updraft.models.manifest import CodecName
from updraft.models.sampling import Sampling
from updraft.models.sequence import Model

# Greedy decoding of a small model falls into loops, in which every drafter is right.
LEAST_DISTINCT_TRIGRAMS = 0.5
_BUCKETS = 10


class Judgement(NamedTuple):
    """What the whole model and the split's exit say of a completion, token by token.

    Attributes:
        tokens: (n,) the whole model's choice after the same prefix.
        drafts: (n,) the choice of the exit at the split.
        confidences: (n,) calibrated confidence of that exit.
    """

    tokens: NDArray[np.int64]
    drafts: NDArray[np.int64]
    confidences: NDArray[np.float64]


@dataclass(frozen=True)
class Bucket:
    """Drafts of like confidence, and the share of them that the whole model confirms (m)."""

    above: float
    drafts: int
    confirmed: float


class Reference:
    """The whole model in this process, forced along a text.

    Args:
        model: all layers.
    """

    def __init__(self, bundle: Bundle, model: Model) -> None:
        self._bundle = bundle
        self._split = bundle.manifest.split
        self._below, self._above = model.below(self._split), model.above(self._split)
        self._entry = next(e for e in bundle.manifest.exits if e.layer == self._split)

    def judge(
        self,
        prompt: Sequence[int],
        tokens: Sequence[int],
        codec: CodecName,
        sampling: Sampling,
    ) -> Judgement:
        """Force the whole model, with a wire codec at the split, along a completion."""
        edge = self._below.new_sequence()
        edge.append([*prompt, *tokens[:-1]])
        edge.advance(self._split)
        states = edge.states(self._split, 0, edge.length)
        cloud = self._above.new_sequence()
        cloud.append(as_received(wire_codec(self._bundle, codec), states))
        cloud.advance(self._above.top)
        last = len(prompt) - 1
        drafted = self._below.heads.predict(self._split, states[last:])
        said = self._above.heads.predict(
            self._above.top, cloud.states(self._above.top, last, cloud.length)
        )
        positions = range(len(prompt), len(prompt) + len(tokens))
        return Judgement(
            _pick(said.logits, sampling, positions),
            _pick(drafted.logits, sampling, positions),
            confidence_of(self._entry, drafted.probability),
        )


def repeats_itself(tokens: Sequence[int]) -> bool:
    """Whether too few of a text's trigrams are distinct for it to tell drafters apart."""
    trigrams = list(zip(tokens, tokens[1:], tokens[2:], strict=False))
    return len(set(trigrams)) < LEAST_DISTINCT_TRIGRAMS * len(trigrams)


def acceptance(judgements: Sequence[Judgement]) -> float:
    """Return α: the share of positions where the split's exit says what the whole model says.

    Args:
        judgements: of the whole model's own completions.
    """
    right = np.concatenate([judged.drafts == judged.tokens for judged in judgements])
    return float(right.mean())


def buckets(judgements: Sequence[Judgement]) -> list[Bucket]:
    """Return m, the share of right drafts, for each tenth of confidence."""
    confidences = np.concatenate([judged.confidences for judged in judgements])
    right = np.concatenate([judged.drafts == judged.tokens for judged in judgements])
    number = np.minimum((confidences * _BUCKETS).astype(int), _BUCKETS - 1)
    return [
        Bucket(i / _BUCKETS, int((number == i).sum()), float(right[number == i].mean()))
        for i in range(_BUCKETS)
        if (number == i).any()
    ]


def _pick(
    logits: NDArray[np.float32], sampling: Sampling, positions: Sequence[int]
) -> NDArray[np.int64]:
    rows = zip(logits, positions, strict=True)
    return np.array([sampling.pick(row, position) for row, position in rows], np.int64)
