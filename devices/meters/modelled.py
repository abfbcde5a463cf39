"""Estimates energy where nothing can be measured, and says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from updraft.devices.meters.meter import Energy

# What one busy thread is taken to add to a device of which nothing is known.
ACTIVE_POWER_W = 10.0


@dataclass(frozen=True)
class ModelledMeter:
    """Takes a busy device to draw a known power above idle.

    Attributes:
        active_power_w: power that one busy thread adds to the idle device.
        why: why nothing is measured, where that is worth saying.
    """

    active_power_w: float = ACTIVE_POWER_W
    idle_w: float = 0.0
    why: str = ""

    @property
    def method(self) -> str:
        words = f"modelled: {self.active_power_w:g} W above idle while the edge computes"
        return f"{words} ({self.why})" if self.why else words

    def begin(self, busy_s: Callable[[], float] | None = None) -> _Span:
        return _Span(self)

    def power_w(self) -> None:
        return None

    def close(self) -> None:
        """Nothing to stop."""


@dataclass(frozen=True)
class _Span:
    meter: ModelledMeter

    def end(self, busy_s: float) -> Energy:
        return Energy(self.meter.active_power_w * busy_s, self.meter.method)
