"""Learn from measurements how far a model's predictions are off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, isfinite, log, sqrt
from typing import Any, Literal, get_args

Kind = Literal["prefill", "decode", "energy"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# How far off the data sheet is taken to be, as the standard deviation of the ratio's logarithm:
# reality differs by a factor of two at times.
_PRIOR_SPREAD = 0.35
# How far single samples are taken to scatter until there are some.
_GUESSED_SCATTER = 0.35
# What one sample is worth after each later one: half after 34, so that a device which has grown
# hot or old is followed.
_KEPT = 0.98
# 95% of a normal distribution; widened to Student's by the first term of Cornish and Fisher.
_Z = 1.96
# A sample counts as no further off than this factor from what is known: a process that was
# suspended says nothing of the device.
_LARGEST_SURPRISE = log(4)


@dataclass(frozen=True)
class Factor:
    """What predictions are to be multiplied by.

    Attributes:
        value: the estimate; 1 without samples.
        low, high: hold the true ratio with 95% confidence, as long as it does not drift.
        samples: measurements seen.
    """

    value: float
    low: float
    high: float
    samples: int


class Correction:
    """The ratio of measured to predicted, by kind.

    Ratios are averaged as logarithms, weighted so that old samples fade, and drawn towards 1 by
    n / (n + k). k is the variance of samples over that of the prior, so a few measurements that
    agree overturn the model and a few that scatter do not.
    """

    def __init__(self) -> None:
        self._series: dict[Kind, _Series] = {kind: _Series() for kind in KINDS}

    def update(self, kind: Kind, predicted: float, measured: float) -> None:
        """Take note of a prediction, made without this correction, and of what came of it.

        A measurement that is no positive number says nothing and is left out: a meter that has
        died reads 0 J.

        Raises:
            ValueError: the prediction is not a positive number.
        """
        if not (isfinite(predicted) and predicted > 0):
            raise ValueError(f"a prediction must be a positive number, it is {predicted}")
        if isfinite(measured) and measured > 0:
            self._series[kind].add(log(measured / predicted))

    def factor(self, kind: Kind) -> Factor:
        """Return what to multiply predictions of this kind by."""
        return self._series[kind].factor()

    def to_dict(self) -> dict[str, Any]:
        """Return everything that was learned, ready for JSON."""
        return {kind: vars(series).copy() for kind, series in self._series.items()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Correction:
        """Take up what was learned before.

        Raises:
            ValueError: it is not what `to_dict` gives.
        """
        correction = cls()
        for kind, values in document.items():
            if kind not in KINDS:
                raise ValueError(f"correction: {kind!r} is not one of {', '.join(KINDS)}")
            correction._series[kind] = _Series.read(values)
        return correction


@dataclass
class _Series:
    """Fading sums over the logarithms of ratios.

    Attributes:
        samples: seen in all.
        weight, squares: sums of the samples' weights and of their squares.
        mean, scatter: weighted mean, and weighted sum of squared distances from it.
    """

    samples: int = 0
    weight: float = 0.0
    squares: float = 0.0
    mean: float = 0.0
    scatter: float = 0.0

    def add(self, ratio: float) -> None:
        self.samples += 1
        self.weight = _KEPT * self.weight + 1
        self.squares = _KEPT**2 * self.squares + 1
        distance = max(-_LARGEST_SURPRISE, min(_LARGEST_SURPRISE, ratio - self.mean))
        self.mean += distance / self.weight
        self.scatter = _KEPT * self.scatter + distance**2 * (1 - 1 / self.weight)

    def factor(self) -> Factor:
        # Fading samples tell as much as this many equal ones (Kish).
        worth = self.weight**2 / self.squares if self.samples else 0.0
        scatter = worth * self.scatter / self.weight if self.samples else 0.0
        # The first guess of how samples scatter counts as one sample.
        variance = (_GUESSED_SCATTER**2 + scatter) / (1 + worth)
        # The prior weighs as much as this many samples: many where they scatter widely.
        prior_samples = variance / _PRIOR_SPREAD**2
        middle = self.mean * worth / (worth + prior_samples)
        quantile = _Z + (_Z**3 + _Z) / (4 * worth) if worth else _Z
        width = min(quantile * sqrt(variance / (worth + prior_samples)), _Z * _PRIOR_SPREAD)
        return Factor(exp(middle), exp(middle - width), exp(middle + width), self.samples)

    @classmethod
    def read(cls, values: Any) -> _Series:
        names = set(vars(cls()))
        if not isinstance(values, Mapping) or set(values) != names:
            raise ValueError(f"correction: {sorted(names)} are expected, found {values!r}")
        series = cls(**values)
        numbers = vars(series).values()
        sane = all(type(number) in (int, float) and isfinite(number) for number in numbers)
        sums = (series.samples, series.weight, series.squares)
        if not sane or min(series.scatter, *sums) < 0 or len({number > 0 for number in sums}) > 1:
            raise ValueError(f"correction: {values!r} holds what is no count or sum")
        return series
