"""One direction of an emulated link: when each segment of a TCP connection arrives.

Pure: time is an argument. The rules:

- **Bandwidth.** A token bucket one segment deep: a segment leaves when the ones before it have
  left, and takes its bytes, IP and TCP headers included, at the link's rate.
- **Delay.** Half a round trip after it has left, a segment arrives. Order is kept.
- **Loss**, as TCP shows it to the programs above: nothing is missing, all that follows waits. A
  lost segment is sent again when the acknowledgement of a later one tells of it, at least 1.25
  round trips after the first time (RACK, RFC 8985); with nothing behind it, after the timeout of
  a round trip and 200 ms. Copies are never lost, and the congestion window never closes: the
  connections measured here send far less than a window.
- **Blackout.** What is on its way arrives when it is over; what is sent meanwhile leaves then.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

SEGMENT_BYTES = 1448
# IPv4 and TCP with timestamps.
HEADER_BYTES = 52
_TIMEOUT_BEYOND_ROUND_TRIP_S = 0.2
_REORDERING = 1.25


@dataclass(frozen=True)
class Link:
    """A link between edge and cloud, alike in both directions.

    Attributes:
        loss: share of segments that are lost.
    """

    round_trip_ms: float
    mbit_s: float
    loss: float = 0.0

    @property
    def name(self) -> str:
        lossy = f", {self.loss:.0%} loss" if self.loss else ""
        return f"{self.round_trip_ms:g} ms, {self.mbit_s:g} Mbit/s{lossy}"

    @property
    def bytes_s(self) -> float:
        """Bytes that pass in one second, in each direction."""
        return self.mbit_s * 1e6 / 8


LOOPBACK = Link(round_trip_ms=0, mbit_s=1e6)


@dataclass
class _Segment:
    payload: bytes
    left: float
    due: float


class Wire:
    """Takes bytes in at one end and gives them out at the other when they are due.

    Attributes:
        carried_bytes: what an interface counter would show: headers and copies included.
    """

    def __init__(self, link: Link, chance: random.Random) -> None:
        self.carried_bytes = 0
        self.link = link
        self._chance = chance
        self._segments: deque[_Segment] = deque()
        self._lost: list[_Segment] = []
        self._free = 0.0
        self._dark_until = 0.0

    def send(self, data: bytes, now: float) -> None:
        """Put bytes in at time `now`."""
        for first in range(0, len(data), SEGMENT_BYTES):
            self._send(data[first : first + SEGMENT_BYTES], now)

    def black_out(self, until: float) -> None:
        """Let nothing pass before `until`."""
        self._dark_until = max(self._dark_until, until)

    def backlog_s(self, now: float) -> float:
        """Return how long what waits to leave will take."""
        return max(0.0, self._free - now)

    @property
    def due(self) -> float | None:
        """When the next segment arrives; None: nothing is on its way."""
        if not self._segments:
            return None
        return max(self._segments[0].due, self._dark_until)

    def receive(self, now: float) -> bytes:
        """Take out what has arrived by `now`."""
        arrived = []
        while (due := self.due) is not None and due <= now:
            arrived.append(self._segments.popleft().payload)
        return b"".join(arrived)

    def _send(self, payload: bytes, now: float) -> None:
        round_trip = self.link.round_trip_ms / 1e3
        size = len(payload) + HEADER_BYTES
        self._free = max(self._free, now, self._dark_until) + size / self.link.bytes_s
        segment = _Segment(payload, self._free, self._free + round_trip / 2)
        self.carried_bytes += size
        if self._chance.random() < self.link.loss:
            self.carried_bytes += size
            segment.due += round_trip + _TIMEOUT_BEYOND_ROUND_TRIP_S
            self._lost.append(segment)
        else:
            self._recover(segment, round_trip)
        self._segments.append(segment)

    def _recover(self, later: _Segment, round_trip: float) -> None:
        """Let a segment that gets through tell of those lost before it."""
        told = later.due + round_trip / 2
        for lost in self._lost:
            again = max(told, lost.left + _REORDERING * round_trip)
            lost.due = min(lost.due, again + round_trip / 2)
        self._lost.clear()
