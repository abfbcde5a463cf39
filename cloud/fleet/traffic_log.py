"""Remembers the traffic of late in bounded memory: like prompts count as one group."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from updraft.cloud.fleet.traffic import Array, Traffic

# Lengths count in doublings, and one counts as much as this difference in quality.
_DOUBLING = 0.1


@dataclass(frozen=True)
class TrafficSettings:
    """What is remembered.

    Attributes:
        groups: at most so many; beyond them the lightest joins the one most like it.
        half_life_s: after it a prompt counts half.
        alike: prompts of one domain whose qualities differ less make one group.
    """

    groups: int = 128
    half_life_s: float = 600.0
    alike: float = 0.08


class TrafficLog:
    """Takes in prompts, gives the traffic that they make. Time is an argument throughout.

    Args:
        experts: names, in the order of all qualities: those of the gate.
    """

    def __init__(self, experts: Sequence[str], settings: TrafficSettings | None = None) -> None:
        self._experts = tuple(experts)
        self._settings = settings or TrafficSettings()
        # Columns: qualities, then the logarithms of prompt and new tokens by base 2.
        self._place = np.empty((0, len(self._experts) + 2))
        self._weight = np.empty(0)
        self._domain: list[str] = []
        self._began: float | None = None
        self._forgotten = 0.0

    def record(
        self,
        quality: Mapping[str, float],
        prompt_tokens: int,
        new_tokens: int,
        now: float,
        domain: str = "",
    ) -> None:
        """Count a prompt.

        Args:
            quality: what the gate expects, by expert; 0 for one that is not there.
            new_tokens: of the answer, or expected.
        """
        self._forget(now)
        place = np.array(
            [
                *(quality.get(name, 0.0) for name in self._experts),
                math.log2(max(prompt_tokens, 1)),
                math.log2(max(new_tokens, 1)),
            ]
        )
        same = np.array([name == domain for name in self._domain], dtype=bool)
        apart = np.where(same, self._distance(place), np.inf)
        nearest = int(apart.argmin()) if len(apart) else -1
        if nearest >= 0 and apart[nearest] <= self._settings.alike:
            self._merge(nearest, place, 1.0)
            return
        self._place = np.vstack([self._place, place])
        self._weight = np.append(self._weight, 1.0)
        self._domain.append(domain)
        if len(self._weight) > self._settings.groups:
            self._make_room()

    def traffic(self, now: float) -> Traffic:
        """Return the traffic as of now; without groups where nothing was recorded."""
        self._forget(now)
        # So much does a steady prompt per second weigh by now.
        half_life = self._settings.half_life_s
        began = now if self._began is None else self._began
        seen = 1 - 0.5 ** (max(now - began, 1.0) / half_life)
        each = half_life / math.log(2) * seen
        count = len(self._experts)
        return Traffic(
            self._experts,
            self._place[:, :count].copy(),
            self._weight / each,
            tuple(self._domain),
            np.exp2(self._place[:, count]),
            np.exp2(self._place[:, count + 1]),
            float(self._weight.sum()),
        )

    def _forget(self, now: float) -> None:
        if self._began is None:
            self._began = self._forgotten = now
        # A clock that went back forgets nothing.
        passed = max(now - self._forgotten, 0.0)
        self._weight *= 0.5 ** (passed / self._settings.half_life_s)
        self._forgotten = max(now, self._forgotten)

    def _distance(self, place: Array) -> Array:
        apart = np.abs(self._place - place)
        apart[:, -2:] *= _DOUBLING
        return np.asarray(apart.max(axis=1, initial=0.0))

    def _merge(self, into: int, place: Array, weight: float) -> None:
        share = weight / (self._weight[into] + weight)
        self._place[into] += share * (place - self._place[into])
        self._weight[into] += weight

    def _make_room(self) -> None:
        """Let the lightest group join the one that is most like it, of its domain if it can."""
        lightest = int(self._weight.argmin())
        other = np.array([name != self._domain[lightest] for name in self._domain])
        # Qualities differ by 1 at most, so another domain is always further away.
        apart = self._distance(self._place[lightest]) + 100.0 * other
        apart[lightest] = np.inf
        self._merge(int(apart.argmin()), self._place[lightest], float(self._weight[lightest]))
        self._place = np.delete(self._place, lightest, axis=0)
        self._weight = np.delete(self._weight, lightest)
        del self._domain[lightest]
