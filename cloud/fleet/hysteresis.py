"""When another selection is worth the change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from updraft.optimizer.placement.assignment import Assignment
from updraft.optimizer.placement.demand import Demand, Indices

# A selection that saves power may lose this share of the margin in quality.
_LOST = 0.25

Selected = tuple[Indices, Assignment]


@dataclass(frozen=True)
class Hysteresis:
    """How much better a selection must be.

    Attributes:
        margin: gain, relative to the quality of the current selection.
        saving: or power saved, relative to the current one's, at the same quality.
        switch_s: time that a node takes to load its expert, at full power.
        horizon_s: time in which a change must have paid off.
    """

    margin: float = 0.005
    saving: float = 0.1
    switch_s: float = 5.0
    horizon_s: float = 600.0

    def why_change(self, demand: Demand, new: Selected, old: Selected) -> str:
        """Say why to change over to a new selection; empty where it is not worth it.

        Both are judged by the same traffic, records and budget.
        """
        (new_nodes, new_use), (old_nodes, old_use) = new, old
        if np.array_equal(new_nodes, old_nodes):
            return ""
        quality = max(old_use.quality, 1e-12)
        started = np.setdiff1d(new_nodes, old_nodes)
        power = demand.standby[started]
        power = power + (demand.joules[started] / demand.seconds[started]).mean(axis=1)
        loading_w = self.switch_s * float(power.sum()) / self.horizon_s
        gain = (new_use.worth - old_use.worth) * (1 - self.switch_s / self.horizon_s)
        gain -= new_use.energy * loading_w
        if gain > self.margin * quality:
            return f"another selection is better by {gain / quality:.1%}"
        saved = old_use.power - new_use.power - loading_w
        enough = saved > self.saving * old_use.power
        if enough and gain >= -_LOST * self.margin * quality:
            return f"another selection saves {saved:.3g} W"
        return ""
