"""The budget of a fleet as planning needs it, from the lines that people wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from updraft.devices.budgets.budget import Budget

_DAY_S = 86_400


@dataclass(frozen=True)
class FleetBudget:
    """What the fleet may take; what is None or not named is not limited.

    Attributes:
        power_w: of all nodes together on average: standby of those that are on, and answers.
        latency_ms: of an answer, by domain; who is slower does not serve the domain.
        first_token_ms, per_token_ms: of an answer, for every domain.
        node_power_w: by node, its own average power beyond the parked node.
        window_s: that `power_w` is averaged over; None: so long that chance evens out.
    """

    power_w: float | None = None
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    first_token_ms: float | None = None
    per_token_ms: float | None = None
    node_power_w: Mapping[str, float] = field(default_factory=dict)
    window_s: float | None = None

    @classmethod
    def of(
        cls,
        fleet: Budget,
        nodes: Mapping[str, Budget] | None = None,
        latency_ms: Mapping[str, float] | None = None,
    ) -> FleetBudget:
        """Take what planning needs of the fleet's lines, and of the nodes' own ones.

        A day's energy counts as the power that spends it evenly; the tighter line holds.
        """
        powers = {name: _power_w(budget) for name, budget in (nodes or {}).items()}
        power = fleet.lines.get("average_power")
        return cls(
            _power_w(fleet),
            latency_ms or {},
            fleet.limit("first_token"),
            fleet.limit("per_token"),
            {name: power_w for name, power_w in powers.items() if power_w is not None},
            None if power is None else power.window_s,
        )

    def in_time(
        self,
        domains: Sequence[str],
        latency_ms: NDArray[np.float64],
        first_token_ms: NDArray[np.float64],
        per_token_ms: NDArray[np.float64],
    ) -> NDArray[np.bool_]:
        """Return (N, P): whether a node is quick enough for each group of prompts."""
        limit = np.array([self.latency_ms.get(domain, np.inf) for domain in domains])
        quick = latency_ms <= limit
        if self.first_token_ms is not None:
            quick &= first_token_ms <= self.first_token_ms
        if self.per_token_ms is not None:
            quick &= per_token_ms <= self.per_token_ms
        return quick


def _power_w(budget: Budget) -> float | None:
    power, energy = budget.limit("average_power"), budget.limit("energy_per_day")
    limits = [power] if power is not None else []
    limits += [energy / _DAY_S] if energy is not None else []
    return min(limits, default=None)
