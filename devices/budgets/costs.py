"""What a request will cost at an operating point, corrected by what others did cost.

`devices.correction` tells how certain a mean ratio is; admission needs how far single requests
scatter about it, shared between points that are alike, so the sums kept here are others.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log

from updraft.devices.budgets.point import OperatingPoint
from updraft.devices.usage import Usage

# Samples that no sample at all weighs as much as.
_PRIOR_SAMPLES = 1.0
# What the newest sample weighs at least: an estimate follows a device that grows hot. How points
# differ is a matter of the model and changes little.
_LEAST_SHARE, _LEAST_SHARE_OF_REST = 1 / 16, 1 / 64
# With each sample elsewhere, so much is forgotten: nothing is shunned for ever.
_FORGOTTEN = 1 / 1024
# Before anything was measured, a prediction may be off by e to the so much, three times over.
_FIRST_SPREAD = 1.3
# So many deviations above the mean, a request counts as the most that it may be.
_MOST_DEVIATIONS = 3.0
_FEW_DEVIATIONS = 2.0
_LARGEST_RATIO = 50.0

_Key = tuple[object, ...]


@dataclass(frozen=True)
class Cost:
    """What one request is expected to take.

    Attributes:
        point: at which it would work.
        expected: on average over such requests.
        likely_j: that few such requests exceed.
        longest_j: the same, if it takes all the tokens that it may.
        most: if it takes all the tokens that it may, and is dearer than any should be.
        first_token_ms, token_ms: expected.
    """

    point: OperatingPoint
    expected: Usage
    likely_j: float
    longest_j: float
    most: Usage
    first_token_ms: float
    token_ms: float


@dataclass(frozen=True)
class Measured:
    """What one request took.

    Attributes:
        point: at which it worked.
        max_tokens: that it could have had; `tokens` is what it got.
        first_token_ms: None where there was no token.
    """

    point: OperatingPoint
    prompt_tokens: int
    max_tokens: int
    tokens: int
    usage: Usage
    first_token_ms: float | None

    @property
    def token_ms(self) -> float | None:
        """Milliseconds per token after the first; None where there was none."""
        if self.first_token_ms is None or self.tokens < 2:
            return None
        return (self.usage.latency_ms - self.first_token_ms) / (self.tokens - 1)


class Costs:
    """Scales what operating points promise to a request's length, and learns how they are off.

    Ratios of measured to expected are kept as logarithms: of everything, then what is left of
    them for each mode, and what is still left for each point. So a device that has grown hot makes
    all points dearer, and a point that was left because of it is taken again when it has cooled.

    Args:
        prompt_tokens, new_tokens: of the answers that the points' figures are for. Their energy,
            uplink and cloud tokens per token include the prompt's.
    """

    def __init__(self, prompt_tokens: int, new_tokens: int) -> None:
        self._prompt_tokens = prompt_tokens
        self._new_tokens = new_tokens
        self._series: dict[_Key, _Series] = {}
        self._share = _Series(spread=0.0)  # of the tokens asked for, those that came

    def cost(self, point: OperatingPoint, prompt_tokens: int, max_tokens: int) -> Cost:
        """Return what a request of these lengths is expected to take."""
        share = exp(self._share.mean) if self._share.samples else 1.0
        tokens = max(1.0, share * max_tokens)
        first_ms = self._first_ms(point, prompt_tokens) * self.ratio("first", point)
        token_ms = point.token_ms * self.ratio("token", point)
        mean = self._at_face_value(point, prompt_tokens, tokens)
        longest = self._at_face_value(point, prompt_tokens, max_tokens)
        energy, spread, seen = self._log_ratio("energy", point)
        uplink = cloud = (0.0, 0.0, 0.0)
        if longest.uplink_bytes or longest.cloud_tokens:
            uplink, cloud = self._log_ratio("uplink", point), self._log_ratio("cloud", point)
        return Cost(
            point,
            Usage(
                first_ms + tokens * token_ms,
                mean.energy_j * exp(energy),
                round(mean.uplink_bytes * exp(uplink[0])),
                0,
                round(mean.cloud_tokens * exp(cloud[0])),
            ),
            mean.energy_j * exp(energy + _FEW_DEVIATIONS * seen),
            longest.energy_j * exp(energy + _FEW_DEVIATIONS * seen),
            Usage(
                first_ms + max_tokens * token_ms,
                longest.energy_j * exp(energy + _MOST_DEVIATIONS * spread),
                round(longest.uplink_bytes * exp(uplink[0] + _MOST_DEVIATIONS * uplink[1])),
                0,
                round(longest.cloud_tokens * exp(cloud[0] + _MOST_DEVIATIONS * cloud[1])),
            ),
            first_ms,
            token_ms,
        )

    def learn(self, measured: Measured) -> None:
        """Take note of what a request took."""
        if measured.tokens < 1:
            return
        point, prompt_tokens = measured.point, measured.prompt_tokens
        self._share.add(log(min(1.0, measured.tokens / measured.max_tokens)), _LEAST_SHARE)
        if measured.first_token_ms is not None:
            self._add("first", point, measured.first_token_ms, self._first_ms(point, prompt_tokens))
        if measured.token_ms is not None:
            self._add("token", point, measured.token_ms, point.token_ms)
        expected = self._at_face_value(point, prompt_tokens, measured.tokens)
        usage = measured.usage
        self._add("energy", point, usage.energy_j, expected.energy_j)
        self._add("uplink", point, usage.uplink_bytes, expected.uplink_bytes)
        self._add("cloud", point, usage.cloud_tokens, expected.cloud_tokens)

    def share(self, point: OperatingPoint, prompt_tokens: float, tokens: float) -> float:
        """Return how much of the points' own answer one of these lengths is, by its time."""
        own_ms = point.first_token_ms + self._new_tokens * point.token_ms
        return (self._first_ms(point, prompt_tokens) + tokens * point.token_ms) / own_ms

    def answer_j(self, point: OperatingPoint) -> float:
        """Return the joules that an answer of the points' own lengths is expected to take."""
        return point.token_j * self._new_tokens * self.ratio("energy", point)

    def answer_s(self, point: OperatingPoint) -> float:
        """Return the seconds that an answer of the points' own lengths is expected to take."""
        first_ms = point.first_token_ms * self.ratio("first", point)
        return (first_ms + self._new_tokens * point.token_ms * self.ratio("token", point)) / 1e3

    def fade(self) -> None:
        """Believe what was measured half as much: it is old, and nothing new can be measured."""
        for series in self._series.values():
            series.mean, series.spread = series.mean / 2, series.spread / 2

    def ratio(self, what: str, point: OperatingPoint) -> float:
        """Return what to multiply a point's figure by: `first`, `token` or `energy`."""
        return exp(self._log_ratio(what, point)[0])

    def _at_face_value(self, point: OperatingPoint, prompt_tokens: float, tokens: float) -> Usage:
        positions = (prompt_tokens + tokens) / (self._prompt_tokens + self._new_tokens)
        of_own = positions * self._new_tokens
        return Usage(
            energy_j=point.token_j * self._new_tokens * self.share(point, prompt_tokens, tokens),
            uplink_bytes=round(point.token_uplink_bytes * of_own),
            cloud_tokens=round(point.token_cloud * of_own),
        )

    def _first_ms(self, point: OperatingPoint, prompt_tokens: float) -> float:
        return point.first_token_ms * max(1.0, prompt_tokens) / self._prompt_tokens

    def _log_ratio(self, what: str, point: OperatingPoint) -> tuple[float, float, float]:
        """Return the mean of the ratio's logarithm, its deviation, and that without a prior."""
        mean, spread, seen = 0.0, _FIRST_SPREAD, 0.0
        for key in _groups(what, point):
            if (series := self._series.get(key)) is not None:
                weight = series.weight
                mean += weight * series.mean
                spread += weight * (series.spread - spread)
                seen = series.spread if series.samples > 1 else seen
        return mean, spread, seen

    def _add(self, what: str, point: OperatingPoint, measured: float, expected: float) -> None:
        # Nothing says nothing: a meter that died, a cloud that was not there.
        if measured <= 0 or expected <= 0:
            return
        bound = log(_LARGEST_RATIO)
        rest, least_share = max(-bound, min(bound, log(measured / expected))), _LEAST_SHARE
        groups = _groups(what, point)
        for key, series in self._series.items():
            if key[0] == what and key not in groups:
                series.mean *= 1 - _FORGOTTEN
        for key in groups:
            series = self._series.setdefault(key, _Series())
            series.add(rest, least_share)
            rest -= series.weight * series.mean
            least_share = _LEAST_SHARE_OF_REST


@dataclass
class _Series:
    """Running mean of logarithms of ratios, and their mean distance from it."""

    samples: int = 0
    mean: float = 0.0
    spread: float = _FIRST_SPREAD

    @property
    def weight(self) -> float:
        """How far it is believed."""
        return self.samples / (self.samples + _PRIOR_SAMPLES)

    def add(self, ratio: float, least_share: float) -> None:
        self.samples += 1
        share = max(1 / self.samples, least_share)
        distance = ratio - self.mean
        self.mean += share * distance
        if self.samples == 2:
            self.spread = 1.25 * abs(distance)
        elif self.samples > 2:
            # A deviation is 1.25 mean distances.
            self.spread += share * (1.25 * abs(distance) - self.spread)


def _groups(what: str, point: OperatingPoint) -> tuple[_Key, ...]:
    own = (what, point.mode, point.exit_layer, point.draft_length, point.power_mode)
    return (what,), (what, point.mode), own
