"""Who pays: energy above idle, divided among the requests that were open at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from updraft.devices.meters.trace import Segment


class Stake:
    """What one request has to pay so far.

    Attributes:
        joules: measured, above idle.
        modelled_s: seconds that it computed while nothing was measured.
    """

    def __init__(self, at_s: float, busy_s: Callable[[], float] | None) -> None:
        self.joules = 0.0
        self.modelled_s = 0.0
        self._start_s = self._seen_at_s = at_s
        self._busy_s = busy_s
        self._seen_s = 0.0

    def gain(self, at_s: float) -> float:
        """Return the seconds that it has computed since the last call."""
        seen_s = at_s - self._start_s if self._busy_s is None else self._busy_s()
        return self._take(seen_s)

    def last_gain(self, at_s: float, busy_s: float) -> float:
        """Return likewise at its end, when the seconds are known for sure."""
        if self._busy_s is not None:
            return self._take(busy_s)
        wall_s = at_s - self._start_s
        share = busy_s / wall_s if wall_s > 0 else 1.0
        self.modelled_s *= share
        return self._take(wall_s) * share

    def _take(self, seen_s: float) -> float:
        gained_s = max(seen_s - self._seen_s, 0.0)
        self._seen_s = seen_s
        return gained_s


@dataclass
class _Stretch:
    """Time in which the same requests were open.

    Attributes:
        end_s: None while it lasts.
        gains: seconds that each computed in it.
        covered_s: how much of it is measured.
    """

    start_s: float
    stakes: tuple[Stake, ...]
    end_s: float | None = None
    gains: list[float] = field(default_factory=list)
    joules: float = 0.0
    covered_s: float = 0.0


class Shares:
    """Divides the energy of every stretch by what each open request computed in it.

    A stretch ends where a request begins or ends. Where nobody computed, all pay alike. So the
    shares of all requests add up to all that was measured while any was open. Pure: times and
    segments come from outside, in order.
    """

    def __init__(self) -> None:
        self._open: list[Stake] = []
        self._stretches: deque[_Stretch] = deque()
        self._known_s = float("-inf")
        self._measuring = True

    def enter(self, at_s: float, busy_s: Callable[[], float] | None) -> Stake:
        """Open a request."""
        self._close_stretch(at_s)
        stake = Stake(at_s, busy_s)
        self._open.append(stake)
        self._open_stretch(at_s)
        return stake

    def leave(self, at_s: float, stake: Stake, busy_s: float) -> None:
        """Close a request; its stake is final once energy until `at_s` was poured."""
        self._close_stretch(at_s, stake, busy_s)
        self._open.remove(stake)
        self._open_stretch(at_s)

    def pour(self, segment: Segment, idle_w: float) -> None:
        """Hand out measured energy above idle."""
        for stretch in self._stretches:
            from_s = max(stretch.start_s, segment.start_s)
            to_s = segment.end_s if stretch.end_s is None else min(stretch.end_s, segment.end_s)
            if to_s > from_s:
                stretch.joules += segment.joules(from_s, to_s) - idle_w * (to_s - from_s)
                stretch.covered_s += to_s - from_s
        self._known_s = segment.end_s
        self._divide_known()

    def quiet(self, segment: Segment) -> bool:
        """Say whether no request was open at any time of a segment."""
        return not self._stretches or self._stretches[0].start_s >= segment.end_s

    def stop_measuring(self, at_s: float) -> None:
        """No energy will come any more: the rest of every request is to be modelled."""
        self._close_stretch(at_s)
        self._open_stretch(at_s)
        self._measuring = False
        self._known_s = float("inf")
        self._divide_known()

    def _open_stretch(self, at_s: float) -> None:
        if self._open:
            self._stretches.append(_Stretch(at_s, tuple(self._open)))

    def _close_stretch(
        self, at_s: float, leaving: Stake | None = None, busy_s: float = 0.0
    ) -> None:
        if not self._open:
            return
        stretch = self._stretches[-1]
        stretch.end_s = at_s
        stretch.gains = [
            stake.last_gain(at_s, busy_s) if stake is leaving else stake.gain(at_s)
            for stake in stretch.stakes
        ]
        self._divide_known()

    def _divide_known(self) -> None:
        """Divide stretches that are over and for which no more energy can come."""
        while self._stretches and (end_s := self._stretches[0].end_s) is not None:
            if end_s > self._known_s:
                return
            stretch = self._stretches.popleft()
            if not self._measuring:
                _model_rest(stretch)
            _divide(stretch)


def _divide(stretch: _Stretch) -> None:
    assert stretch.end_s is not None, "only closed stretches are divided"
    length_s = stretch.end_s - stretch.start_s
    # A run that began before the stretch is booked when it ends: no more than the stretch counts.
    weights = [min(gain, length_s) for gain in stretch.gains]
    total = sum(weights)
    for stake, weight in zip(stretch.stakes, weights, strict=True):
        stake.joules += stretch.joules * (weight / total if total else 1 / len(weights))


def _model_rest(stretch: _Stretch) -> None:
    assert stretch.end_s is not None, "only closed stretches are divided"
    length_s = stretch.end_s - stretch.start_s
    rest = 1 - min(stretch.covered_s / length_s, 1.0) if length_s > 0 else 1.0
    for stake, gain in zip(stretch.stakes, stretch.gains, strict=True):
        stake.modelled_s += rest * gain
