"""What a device draws when it does nothing, which is no request's fault."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

from updraft.devices.meters.trace import Segment

# Averages over a quarter of a second, so that the steps of a counter even out; the last five
# minutes of idle time of them.
_WINDOW_S = 0.25
_WINDOWS = 1200
# Other programs come and go even while no request is served: a low value is what idle means.
_QUANTILE = 0.1


# Idle time after which what was seen is believed more than the catalog.
_ENOUGH_WINDOWS = 20


class Baseline:
    """The idle draw: as configured, else as seen while nothing is served, else from the catalog.

    The catalog stands in until idle time of five seconds was seen, unless less than it was seen.
    It knows a board, not what hangs on it; of hosts it knows little.

    Args:
        configured_w: what the configuration says.
        catalog_w: what the catalog says, of the same rail that is measured.
    """

    def __init__(self, configured_w: float | None = None, catalog_w: float | None = None) -> None:
        self._configured_w = configured_w
        self._catalog_w = catalog_w
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []
        self._joules = self._seconds = 0.0

    @property
    def watts(self) -> float:
        """What to subtract; 0 while nothing is known."""
        return self._known()[0]

    @property
    def words(self) -> str:
        """For people: how much, and how it is known."""
        watts, source = self._known()
        return f"above {watts:.3g} W idle ({source})"

    def add(self, segment: Segment) -> None:
        """Take up power during which no request was open."""
        self._joules += segment.joules(segment.start_s, segment.end_s)
        self._seconds += segment.end_s - segment.start_s
        if self._seconds < _WINDOW_S:
            return
        watts = self._joules / self._seconds
        self._joules = self._seconds = 0.0
        self._recent.append(watts)
        insort(self._sorted, watts)
        if len(self._recent) > _WINDOWS:
            del self._sorted[bisect_left(self._sorted, self._recent.popleft())]

    def _known(self) -> tuple[float, str]:
        if self._configured_w is not None:
            return self._configured_w, "as configured"
        seen_w = self._sorted[int(_QUANTILE * len(self._sorted))] if self._sorted else None
        if seen_w is not None and len(self._sorted) >= _ENOUGH_WINDOWS:
            return seen_w, "measured"
        if self._catalog_w is not None and (seen_w is None or seen_w >= self._catalog_w):
            return self._catalog_w, "from the catalog"
        return (0.0, "not known yet") if seen_w is None else (seen_w, "measured")
