"""From readings to energy along time: pure, no clock and no sensor."""

from __future__ import annotations

from dataclasses import dataclass

from updraft.errors import ProbeError

# Noise around nothing may read as slightly negative; more than that is nonsense.
_NOISE_W = 1.0
# Counters move every millisecond (RAPL) to every tenth of a second (NVML).
_STUCK_S = 5.0


@dataclass(frozen=True)
class Segment:
    """Power between two moments, a straight line."""

    start_s: float
    end_s: float
    start_w: float
    end_w: float

    def joules(self, from_s: float, to_s: float) -> float:
        """Return the energy of a part of it."""
        return (to_s - from_s) * (self._watts(from_s) + self._watts(to_s)) / 2

    def _watts(self, at_s: float) -> float:
        share = (at_s - self.start_s) / (self.end_s - self.start_s)
        return self.start_w + (self.end_w - self.start_w) * share


class Trace:
    """Power along time, without gaps from the first reading on.

    Watts are joined by straight lines. Joules of a counter are spread evenly over the time in which
    it moved on.

    Args:
        counts: readings are joules; else watts.
        most_w: more is nonsense.

    Attributes:
        at_s: until when power is known; None before the first reading.
        power_w: the newest; None while a counter has not moved yet.
    """

    def __init__(self, counts: bool, most_w: float) -> None:
        self.at_s: float | None = None
        self.power_w: float | None = None
        self._counts = counts
        self._most_w = most_w
        # Of a counter: its newest value, when it came to it, and what it counted that is not in a
        # segment yet; negative where `hold` gave out too much.
        self._counter_j = 0.0
        self._moved_s = 0.0
        self._due_j = 0.0

    def add(self, at_s: float, reading: float) -> Segment | None:
        """Take a reading; return what is new, None where nothing is.

        Raises:
            ProbeError: the reading makes no sense, and is left out.
        """
        if self._counts:
            return self._add_joules(at_s, reading)
        if not -_NOISE_W <= reading <= self._most_w:
            raise ProbeError(f"{reading:g} W is not within 0 to {self._most_w:g} W")
        watts = max(reading, 0.0)
        before = watts if self.power_w is None else self.power_w
        self.power_w = watts
        return self._advance(at_s, before, watts)

    def hold(self, at_s: float) -> Segment | None:
        """Go on to a moment for which there is no reading yet, with the newest power."""
        watts = self.power_w or 0.0
        segment = self._advance(at_s, watts, watts)
        if self._counts and segment is not None:
            self._due_j -= segment.joules(segment.start_s, segment.end_s)
        return segment

    def _add_joules(self, at_s: float, reading: float) -> Segment | None:
        if self.at_s is None:
            self.at_s = self._moved_s = at_s
            self._counter_j = reading
            return None
        counted_j, waited_s = reading - self._counter_j, at_s - self._moved_s
        if counted_j == 0:
            if waited_s > _STUCK_S:
                raise ProbeError(f"the counter stands still at {reading:g} J")
            return None
        if waited_s <= 0:
            return None  # the clock stood still; the next reading holds this one
        self._counter_j, self._moved_s = reading, at_s
        if not 0 < counted_j <= self._most_w * waited_s:
            # Set back, as after a suspend. The last power is as good as anything for that time.
            self._due_j += (self.power_w or 0.0) * waited_s
            raise ProbeError(f"the counter moved by {counted_j:g} J within {waited_s:.3g} s")
        self.power_w = counted_j / waited_s
        self._due_j += counted_j
        if at_s <= self.at_s:
            return None
        watts = max(self._due_j, 0.0) / (at_s - self.at_s)
        self._due_j = min(self._due_j, 0.0)
        return self._advance(at_s, watts, watts)

    def _advance(self, at_s: float, start_w: float, end_w: float) -> Segment | None:
        start_s = self.at_s
        if start_s is None:
            self.at_s = at_s
            return None
        if at_s <= start_s:
            return None
        self.at_s = at_s
        return Segment(start_s, at_s, start_w, end_w)
