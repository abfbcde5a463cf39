"""An operating point: how an agent works while nothing asks it to work otherwise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OperatingPoint:
    """One way to work, and what it is expected to cost.

    Attributes:
        mode: decoding mode, as requests call it (`full`, `lossless`, `standalone`, …).
        exit_layer: the deepest exit that the device computes itself.
        draft_length: drafts that may be open at one time; 0 where the mode drafts none.
        power_mode: of the device, by name.
        quality: share of tokens that agree with the full depth, as measured for the bundle.
        first_token_ms, token_ms: expected, for the prompt length that it was made for.
        token_j: expected energy above idle per token, on the device.
        power_w: expected draw of the whole module while it decodes.
        token_uplink_bytes, token_cloud: expected per token: payload, positions in the cloud.
    """

    mode: str
    exit_layer: int
    draft_length: int
    power_mode: str
    quality: float
    first_token_ms: float
    token_ms: float
    token_j: float
    power_w: float
    token_uplink_bytes: float = 0.0
    token_cloud: float = 0.0
