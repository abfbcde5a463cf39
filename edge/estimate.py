"""What the link has been like lately."""

from __future__ import annotations

# Shares of a new sample in the running mean and deviation, as TCP takes them (RFC 6298).
_MEAN_SHARE = 1 / 8
_DEVIATION_SHARE = 1 / 4
_SAMPLES_BEFORE_JUDGING = 8
# A verdict may always take this long: a busy coordinator is not a broken link.
_LEAST_PATIENCE_S = 1.0
_TELLING_BYTES = 16 << 10


class LinkEstimate:
    """Running estimates over all generations of an engine.

    Attributes:
        round_trip_s: mean time from a question to its answer, without the cloud's computing.
        deviation_s: mean distance from that mean.
        bytes_per_s: how fast payload goes up; None until a prompt was long enough to tell.
        samples: answers seen.
    """

    def __init__(self) -> None:
        self.round_trip_s = 0.0
        self.deviation_s = 0.0
        self.bytes_per_s: float | None = None
        self.samples = 0

    def round_trip(self, seconds: float, compute_s: float) -> None:
        """Take note of a question that was answered after `seconds`."""
        sample = max(0.0, seconds - compute_s)
        if self.samples == 0:
            self.round_trip_s, self.deviation_s = sample, sample / 2
        else:
            distance = abs(sample - self.round_trip_s)
            self.deviation_s += _DEVIATION_SHARE * (distance - self.deviation_s)
            self.round_trip_s += _MEAN_SHARE * (sample - self.round_trip_s)
        self.samples += 1

    def upload(self, payload_bytes: int, seconds: float) -> None:
        """Take note of a prompt whose upload took `seconds` beyond a round trip.

        A short one says nothing: its time is lost in that of the round trip.
        """
        if payload_bytes < _TELLING_BYTES:
            return
        rate = payload_bytes / max(seconds, 1e-6)
        known = self.bytes_per_s
        self.bytes_per_s = rate if known is None else known + _MEAN_SHARE * (rate - known)

    @property
    def patience_s(self) -> float | None:
        """How long an answer may take before the link counts as broken; None: not known yet."""
        if self.samples < _SAMPLES_BEFORE_JUDGING:
            return None
        return max(_LEAST_PATIENCE_S, self.round_trip_s + 4 * self.deviation_s)
