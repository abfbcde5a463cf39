"""Chooses how to work: as good as the budget allows, by what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp

from updraft.devices.budgets.budget import Budget
from updraft.devices.budgets.costs import Costs, Measured
from updraft.devices.budgets.point import OperatingPoint
from updraft.devices.budgets.rolling import RollingSum

# Work is looked at over this time to see what comes in, at least and for a day's energy.
_SHORTEST_VIEW_S = 60.0
_DAY_VIEW_S = 3 * 3600.0
# A better point must leave this much of every limit, so that it is not left again at once.
_HEADROOM = 0.9
# A point is kept for so long, and for so many answers, before a better one is tried.
_KEPT_S = 10.0
_KEPT_ANSWERS = 3
# Changing the clocks of a board takes a moment and disturbs what runs.
_POWER_MODE_KEPT_S = 60.0
# The integral aims a little below the limit, moves by this much per window, and stays bounded.
_AIM = 0.95
_GAIN = 1.0
_MOST_TIGHTENED = 2.0
# Latency limits tighten by a step when an answer breaks them, and loosen so slowly that in the
# long run this share of answers breaks them.
_ACCEPTED = 0.005
_STEP = 0.15
_MOST_MARGIN = 1.5
# Lines that are judged by what was learned, and how long that is believed while they refuse.
_LEARNED = frozenset({"energy_per_request", "first_token", "per_token"})
_BELIEVED_S = 60.0


@dataclass(frozen=True)
class Spending:
    """Where a device stands.

    Attributes:
        power_w: drawn on average over the window of `average_power`, idle included.
        day_j: spent today, above idle.
        day_left_s: until the next budget day.
    """

    power_w: float
    day_j: float
    day_left_s: float


class Controller:
    """Moves along operating points so that power, latency and a day's energy stay in budget.

    Expected costs are corrected by measured ones (`Costs`). What that leaves is closed by two
    integrals: one tightens the power limit while the average lies above it, one tightens latency
    limits with each answer that breaks them. Neither grows where no cheaper point is left
    (anti-windup). A worse point is taken at once, a better one only with headroom and after a
    while (hysteresis). Pure: time is an argument.

    `energy_per_day` is paced only where its line says `standalone` or `shallower_exits`: then work
    gets cheaper early enough to last until midnight. With `refuse` and `queue` the day's energy is
    spent at full quality until it is gone.

    Args:
        points: to choose from; at least one.
        idle_w: part of the average power that no point changes.
    """

    def __init__(
        self, points: Sequence[OperatingPoint], budget: Budget, costs: Costs, idle_w: float = 0.0
    ) -> None:
        if not points:
            raise ValueError("at least one operating point is needed")
        self.points = tuple(sorted(points, key=lambda p: (-p.quality, p.token_j)))
        self._budget = budget
        self._costs = costs
        self._idle_w = idle_w
        power = budget.lines.get("average_power")
        window_s = 0.0 if power is None or power.window_s is None else power.window_s
        self._window_s = max(window_s, 1.0)
        # Answers' worth of work that came in, lately and over hours.
        self._work = RollingSum(max(window_s, _SHORTEST_VIEW_S))
        self._day_work = RollingSum(_DAY_VIEW_S)
        self._tightened = 0.0
        self._margin = {"first_token": 0.0, "per_token": 0.0}
        self._started: float | None = None
        self._seen = 0.0
        self._taught = -1e18
        self._current: OperatingPoint | None = None
        self._since = self._clocks_since = -1e18
        self._answers = 0

    def observe(self, measured: Measured, now: float) -> None:
        """Take note of what an answer took."""
        self._costs.learn(measured)
        self._taught = now
        self._answers += 1
        work = self._costs.share(measured.point, measured.prompt_tokens, measured.tokens)
        self._work.add(now, now, work)
        self._day_work.add(now, now, work)
        if measured.point.mode == (self._current or measured.point).mode:
            self._judge("first_token", measured.first_token_ms)
            self._judge("per_token", measured.token_ms)

    def refused(self, line: str, now: float) -> None:
        """Take note that a line had no room for an answer.

        Who is refused by what others took cannot show that it has become less. So after a while
        it is believed less, and one is let through.
        """
        if line == "average_power" and not (self._current and self._is_cheapest(self._current)):
            self._tightened = min(_MOST_TIGHTENED, self._tightened + _STEP)
        if line in _LEARNED and now - self._taught >= _BELIEVED_S:
            self._taught = now
            self._costs.fade()
            self._margin = {name: margin / 2 for name, margin in self._margin.items()}

    def point(self, now: float, spending: Spending) -> OperatingPoint:
        """Return the point to work at now."""
        if self._started is None:
            self._started = self._seen = now
        self._integrate(now, spending)
        best = self._best(now, spending)
        current = self._current
        if current is None or best.power_mode != current.power_mode:
            self._clocks_since = now
        if best is not current:
            self._current, self._since, self._answers = best, now, 0
        return best

    def _best(self, now: float, spending: Spending) -> OperatingPoint:
        """Return the best point that fits, or where none does, the one nearest to it."""
        current, choosable = self._current, self._choosable(now)
        if current is not None and self._load(current, now, spending) <= 1:
            if now - self._since < _KEPT_S or self._answers < _KEPT_ANSWERS:
                return current
            better = (point for point in choosable if point.quality > current.quality)
            return self._first(better, _HEADROOM, now, spending) or current
        return (
            self._first(choosable, _HEADROOM, now, spending)
            or self._first(choosable, 1.0, now, spending)
            or min(choosable, key=lambda point: self._load(point, now, spending))
        )

    def _first(
        self, points: Iterable[OperatingPoint], most: float, now: float, spending: Spending
    ) -> OperatingPoint | None:
        """Return the first point that takes at most this share of its limits."""
        return next((p for p in points if self._load(p, now, spending) <= most), None)

    def _choosable(self, now: float) -> Sequence[OperatingPoint]:
        current = self._current
        if current is None or now - self._clocks_since >= _POWER_MODE_KEPT_S:
            return self.points
        return [point for point in self.points if point.power_mode == current.power_mode]

    def _load(self, point: OperatingPoint, now: float, spending: Spending) -> float:
        """Return how much of its limit a point is expected to take, of the line it strains most."""
        limit, costs = self._budget.limit, self._costs
        loads = [0.0]
        if (power_w := limit("average_power")) is not None:
            room_w = max(1e-9, (power_w - self._idle_w) * exp(-self._tightened))
            # However little comes in, one answer has to fit into the window.
            least = 1 / max(self._window_s, costs.answer_s(point))
            rate = max(least, self._rate(self._work, now))
            loads.append(rate * costs.answer_j(point) / room_w)
        if (first_ms := limit("first_token")) is not None:
            expected_ms = point.first_token_ms * costs.ratio("first", point)
            loads.append(expected_ms * exp(self._margin["first_token"]) / first_ms)
        if (token_ms := limit("per_token")) is not None:
            expected_ms = point.token_ms * costs.ratio("token", point)
            loads.append(expected_ms * exp(self._margin["per_token"]) / token_ms)
        if (request_j := limit("energy_per_request")) is not None:
            loads.append(costs.answer_j(point) / request_j)
        day = self._budget.lines.get("energy_per_day")
        if day is not None and day.on_exhausted in ("standalone", "shallower_exits"):
            left_w = max(1e-9, day.limit - spending.day_j) / max(1.0, spending.day_left_s)
            loads.append(self._rate(self._day_work, now) * costs.answer_j(point) / left_w)
        return max(loads)

    def _rate(self, work: RollingSum, now: float) -> float:
        """Return answers' worth of work per second."""
        assert self._started is not None, "it was asked for a point"
        seen_s = min(work.window_s, max(now - self._started, work.window_s / 60))
        return work.total(now) / seen_s

    def _integrate(self, now: float, spending: Spending) -> None:
        elapsed_s, self._seen = max(0.0, now - self._seen), max(now, self._seen)
        power_w = self._budget.limit("average_power")
        if power_w is None or power_w <= self._idle_w or self._current is None:
            return
        error = (spending.power_w - self._idle_w) / (power_w - self._idle_w) - _AIM
        error = max(-1.0, min(1.0, error))
        if error > 0 and self._is_cheapest(self._current):
            return
        change = _GAIN * error * min(1.0, elapsed_s / self._window_s)
        self._tightened = max(0.0, min(_MOST_TIGHTENED, self._tightened + change))

    def _is_cheapest(self, point: OperatingPoint) -> bool:
        mine = self._costs.answer_j(point)
        return all(self._costs.answer_j(other) >= mine for other in self.points)

    def _judge(self, name: str, measured_ms: float | None) -> None:
        limit = self._budget.limit("first_token" if name == "first_token" else "per_token")
        if limit is None or measured_ms is None:
            return
        broken = 1.0 if measured_ms > limit else 0.0
        margin = self._margin[name] + _STEP * (broken - _ACCEPTED)
        self._margin[name] = max(0.0, min(_MOST_MARGIN, margin))
