"""What one contender gave in one case, and the statistics of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from updraft.benchmarks.engine.contenders import Contender
from updraft.benchmarks.engine.worker import Answer

_RESAMPLES = 2000
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Sample:
    """One text, with what was measured beside it.

    Attributes:
        bandwidth: bytes per second that the machine read just before.
        joules: None where no meter tells.
    """

    answer: Answer
    bandwidth: float
    joules: float | None

    @property
    def step_s(self) -> float:
        """Seconds of one decoding step."""
        return 1 / self.answer.decode_rate


@dataclass
class Series:
    """All samples of one contender, one a round.

    Attributes:
        weight_bytes: of weights that one decoded token reads.
        cold: first texts of fresh processes.
    """

    contender: Contender
    versions: dict[str, str]
    weight_bytes: int
    samples: list[Sample] = field(default_factory=list)
    cold: list[Answer] = field(default_factory=list)

    @property
    def decode_rates(self) -> list[float]:
        """Tokens per second, one a round."""
        return [sample.answer.decode_rate for sample in self.samples]

    @property
    def prefill_rates(self) -> list[float]:
        """Prompt tokens per second, one a round."""
        return [sample.answer.prefill_rate for sample in self.samples]

    @property
    def first_token_s(self) -> list[float]:
        """Seconds to the first token of a loaded model, one a round."""
        return [sample.answer.first_token_s for sample in self.samples]

    @property
    def step_s(self) -> list[float]:
        """Seconds of a step, one a round."""
        return [sample.step_s for sample in self.samples]

    @property
    def bound_shares(self) -> list[float]:
        """Bytes of weights read per second as a share of the bandwidth, one a round."""
        return [
            sample.answer.decode_rate * self.weight_bytes / sample.bandwidth
            for sample in self.samples
        ]

    @property
    def joules_per_token(self) -> list[float]:
        """Joules of a whole text over its new tokens; empty where no meter tells."""
        return [
            sample.joules / len(sample.answer.tokens)
            for sample in self.samples
            if sample.joules is not None
        ]

    @property
    def peak_bytes(self) -> list[float]:
        """The most memory that a process held which loaded and decoded one text."""
        return [float(answer.peak_bytes) for answer in self.cold]

    @property
    def cold_s(self) -> list[float]:
        """Seconds from the start of a process to its first token."""
        return [answer.since_start_s for answer in self.cold]


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95% interval, by bootstrap over rounds."""

    value: float
    low: float
    high: float


def estimate(values: Sequence[float]) -> Estimate | None:
    """Return the median of values and its interval; None where there are none."""
    return ratio(values, [1.0] * len(values))


def ratio(over: Sequence[float], under: Sequence[float]) -> Estimate | None:
    """Return the ratio of two medians; rounds are drawn together, as they were measured.

    None where either has no values. Of series that differ in length, the first rounds count.
    """
    count = min(len(over), len(under))
    if not count:
        return None
    pairs = np.array([over[:count], under[:count]])
    drawn = np.random.default_rng(0).integers(count, size=(_RESAMPLES, count))
    medians = np.median(pairs[:, drawn], axis=-1)
    low, high = np.quantile(medians[0] / medians[1], [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    seen = np.median(pairs, axis=-1)
    return Estimate(float(seen[0] / seen[1]), float(low), float(high))
