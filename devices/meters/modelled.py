"""Estimates energy where nothing can be measured, and says so."""

from __future__ import annotations

from dataclasses import dataclass

from updraft.devices.meters.meter import Energy


@dataclass(frozen=True)
class ModelledMeter:
    """Takes a busy device to draw a known power above idle.

    Attributes:
        active_power_w: power that one busy thread adds to the idle device.
    """

    active_power_w: float
    idle_w: float = 0.0

    @property
    def method(self) -> str:
        return f"modelled: {self.active_power_w:g} W above idle while the edge computes"

    def begin(self) -> _Span:
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
