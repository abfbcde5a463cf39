"""What something cost: the one record that everything with a price fills and adds up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Usage:
    """What one or several answers cost; add them with `+`.

    Attributes:
        latency_ms: from the request to the last token.
        energy_j: above the idle device, unless its meter says otherwise.
        uplink_bytes, downlink_bytes: payload to and from the coordinator.
        cloud_tokens: positions that ran through the coordinator's layers.
    """

    latency_ms: float = 0.0
    energy_j: float = 0.0
    uplink_bytes: int = 0
    downlink_bytes: int = 0
    cloud_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.latency_ms + other.latency_ms,
            self.energy_j + other.energy_j,
            self.uplink_bytes + other.uplink_bytes,
            self.downlink_bytes + other.downlink_bytes,
            self.cloud_tokens + other.cloud_tokens,
        )
