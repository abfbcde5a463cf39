"""Energy of an answer on a device."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Energy:
    """Energy spent, and how that is known."""

    joules: float
    method: str


@dataclass(frozen=True)
class ModelledMeter:
    """Estimates energy where nothing can be measured, and says so.

    Attributes:
        active_power_w: power that one busy thread adds to the idle device.
    """

    active_power_w: float

    def energy(self, busy_s: float) -> Energy:
        """Return the energy above idle of `busy_s` seconds of computing."""
        method = f"modelled: {self.active_power_w:g} W above idle while the edge computes"
        return Energy(self.active_power_w * busy_s, method)
