"""What was spent in the last so many seconds."""

from __future__ import annotations

# The window moves in steps of this share of it; the oldest step counts in full.
_STEPS = 60


class RollingSum:
    """Adds up amounts over a window of time that ends now.

    Args:
        window_s: length of the window.
    """

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self._step_s = window_s / _STEPS
        self._origin = 0.0
        self._oldest = 0  # steps before it were dropped
        self._amounts: dict[int, float] = {}

    def add(self, start: float, end: float, amount: float) -> None:
        """Take note of an amount that was spent evenly from `start` to `end`."""
        end = max(start, end)
        first, last = self._step(start), self._step(end)
        # Of a stretch longer than the window, only its end can still count.
        for step in range(max(first, last - _STEPS), last + 1):
            share = 1.0
            if end > start:
                begins = self._origin + step * self._step_s
                inside = min(end, begins + self._step_s) - max(start, begins)
                share = max(0.0, inside) / (end - start)
            self._amounts[step] = self._amounts.get(step, 0.0) + amount * share

    def total(self, now: float) -> float:
        """Return the sum over the window; never less than what it is to the second."""
        oldest = self._step(now - self.window_s)
        if oldest != self._oldest:
            self._oldest = oldest
            for step in [step for step in self._amounts if step < oldest]:
                del self._amounts[step]
        return sum(self._amounts.values())

    def seconds_until(self, now: float, most: float) -> float:
        """Return how long it takes until the sum is at most `most`, if nothing is added."""
        left = self.total(now)
        if left <= most:
            return 0.0
        for step in sorted(self._amounts):
            left -= self._amounts[step]
            if left <= most:
                leaves = self._origin + (step + 1) * self._step_s + self.window_s
                return max(0.0, leaves - now)
        return self.window_s

    def shift(self, seconds: float) -> None:
        """Move everything in time, after the clock was set."""
        self._origin += seconds

    def clear(self) -> None:
        """Forget everything."""
        self._amounts.clear()

    def _step(self, at: float) -> int:
        return int((at - self._origin) // self._step_s)
