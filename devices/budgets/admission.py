"""Whether a request may be worked on now, given what was spent and what is being worked on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from updraft.devices.budgets.budget import UNITS, Budget, Line, LineName, OnExhausted
from updraft.devices.budgets.costs import Cost
from updraft.devices.budgets.ledger import Ledger
from updraft.devices.usage import Usage
from updraft.errors import BudgetExceeded

Others = Callable[[OnExhausted], Iterable[Cost]]
# When what is being worked on holds the rest of a budget, it is soon known what is left of it.
_SOON_S = 1.0


def _no_others(action: OnExhausted) -> Iterable[Cost]:
    return ()


@dataclass(frozen=True)
class Admitted:
    """A request may be worked on; hand this back to `settle` when it has ended.

    Attributes:
        cost: reserved for it.
        because: the line that made it work otherwise than asked; None: as asked.
    """

    number: int
    cost: Cost
    because: Line | None


@dataclass(frozen=True)
class Wait:
    """A request has to wait, as its budget says.

    Attributes:
        line: that has no room for it.
        seconds: after which there may be room; sooner when another request ends.
        refusal: what to raise where it cannot wait.
    """

    line: Line
    seconds: float
    refusal: BudgetExceeded


class Admission:
    """Keeps a budget by looking before each request; safe to use from any thread.

    What is being worked on is reserved with the most that it may take. So a day's energy, uplink
    and an hour's cloud tokens are exceeded by no more than what one request takes beyond its own
    expectation, however many run at the same time.

    Args:
        idle_w: what the device draws doing nothing; part of its average power.
    """

    def __init__(self, budget: Budget, ledger: Ledger, idle_w: float = 0.0) -> None:
        self._budget = budget
        self._ledger = ledger
        self._idle_w = idle_w
        self._lock = threading.Lock()
        self._reserved: dict[int, Cost] = {}
        self._most = Usage()  # of all that is reserved, when it was looked at last
        self._standing = ledger.standing()
        self._number = 0
        checks: Mapping[LineName, Callable[[Line, Cost], _Room]] = {
            "energy_per_request": self._request_energy,
            "energy_per_day": self._day_energy,
            "average_power": self._average_power,
            "first_token": self._first_token,
            "per_token": self._per_token,
            "uplink_per_day": self._day_uplink,
            "cloud_tokens_per_hour": self._hour_cloud,
        }
        # Memory is checked when a model is loaded, not per request.
        self._checks = [
            (line, checks[name]) for name, line in budget.lines.items() if name in checks
        ]

    def admit(self, cost: Cost, others: Others = _no_others) -> Admitted | Wait:
        """Reserve what a request takes, or say what becomes of it.

        Args:
            cost: as it is meant to work.
            others: gives, for a line that says `standalone` or `shallower_exits`, ways to work
                that may take less; the first that fits is taken.

        Raises:
            BudgetExceeded: a line has no room, and says to refuse or leaves nothing else.
        """
        with self._lock:
            broken = self._first_broken(cost)
            if broken is None:
                return self._reserve(cost, None)
            for other in others(broken.line.on_exhausted):
                if self._first_broken(other) is None:
                    return self._reserve(other, broken.line)
            refusal = BudgetExceeded(
                broken.line.name,
                broken.needed,
                broken.line.limit,
                UNITS[broken.line.name],
                broken.room_in_s,
            )
            if broken.line.on_exhausted == "queue" and broken.room_in_s is not None:
                return Wait(broken.line, broken.room_in_s, refusal)
            raise refusal

    def settle(self, admitted: Admitted) -> None:
        """Release what was reserved, once what was spent is recorded; idempotent."""
        with self._lock:
            self._reserved.pop(admitted.number, None)

    def reserved(self) -> Usage:
        """Return the most that everything that is being worked on may still take."""
        with self._lock:
            self._add_up()
            return self._most

    def left(self) -> dict[LineName, float]:
        """Return what is left of each line that is used up: of the day, the hour, the window."""
        standing = self._ledger.standing()
        spent: dict[LineName, float] = {
            "energy_per_day": standing.today.usage.energy_j,
            "uplink_per_day": standing.today.usage.uplink_bytes,
            "cloud_tokens_per_hour": standing.hour_cloud_tokens,
            "average_power": self._idle_w + standing.window_j / self._ledger.window_s,
        }
        lines = self._budget.lines.items()
        return {name: line.limit - spent[name] for name, line in lines if name in spent}

    def _reserve(self, cost: Cost, because: Line | None) -> Admitted:
        self._number += 1
        self._reserved[self._number] = cost
        return Admitted(self._number, cost, because)

    def _add_up(self) -> None:
        total = Usage()
        for cost in self._reserved.values():
            total += cost.most
        self._most = total

    def _first_broken(self, cost: Cost) -> _Broken | None:
        self._add_up()
        self._standing = self._ledger.standing()
        for line, check in self._checks:
            room = check(line, cost)
            if room.needed > line.limit:
                return _Broken(line, room.needed, room.in_s())
        return None

    def _beside_others(self, cost: Cost) -> Usage:
        """Return what a request counts as; alone, it may be over by what it takes unexpectedly."""
        return cost.most if self._reserved else cost.expected

    def _request_energy(self, line: Line, cost: Cost) -> _Room:
        return _Room(cost.longest_j)

    def _day_energy(self, line: Line, cost: Cost) -> _Room:
        spent = self._standing.today.usage.energy_j
        mine, reserved = self._beside_others(cost).energy_j, self._most.energy_j
        return self._of_the_day(line, spent, mine, cost.expected.energy_j, reserved)

    def _day_uplink(self, line: Line, cost: Cost) -> _Room:
        spent = self._standing.today.usage.uplink_bytes
        mine, reserved = self._beside_others(cost).uplink_bytes, self._most.uplink_bytes
        if mine <= 0:
            return _Room(0.0)  # who sends nothing may go on when nothing more may be sent
        return self._of_the_day(line, spent, mine, cost.expected.uplink_bytes, reserved)

    def _of_the_day(
        self, line: Line, spent: float, mine: float, alone: float, reserved: float
    ) -> _Room:
        if spent + alone <= line.limit:
            return _Room(spent + reserved + mine, lambda: _SOON_S)
        return _Room(spent + reserved + mine, self._ledger.day_left_s)

    def _hour_cloud(self, line: Line, cost: Cost) -> _Room:
        mine = self._beside_others(cost).cloud_tokens
        if mine <= 0:
            return _Room(0.0)
        reserved = self._most.cloud_tokens
        needed = self._standing.hour_cloud_tokens + reserved + mine
        room = line.limit - reserved - mine
        return _Room(
            needed,
            lambda: None if room < 0 else max(_SOON_S, self._ledger.hour_has_room_in_s(room)),
        )

    def _average_power(self, line: Line, cost: Cost) -> _Room:
        window_s = self._ledger.window_s
        joules = self._within_window(cost)
        reserved = sum(self._within_window(other) for other in self._reserved.values())
        needed = self._idle_w + (self._standing.window_j + reserved + joules) / window_s
        room = (line.limit - self._idle_w) * window_s - joules
        return _Room(
            needed,
            lambda: (
                None
                if room < 0
                else max(_SOON_S, self._ledger.window_has_room_in_s(max(0.0, room - reserved)))
            ),
        )

    def _within_window(self, cost: Cost) -> float:
        """Return the joules of a request that one window holds at most."""
        seconds = cost.expected.latency_ms / 1e3
        window_s = self._ledger.window_s
        return cost.likely_j * min(1.0, window_s / seconds if seconds > 0 else 1.0)

    def _first_token(self, line: Line, cost: Cost) -> _Room:
        return _Room(cost.first_token_ms)

    def _per_token(self, line: Line, cost: Cost) -> _Room:
        return _Room(cost.token_ms)


def _never() -> None:
    return None


@dataclass(frozen=True)
class _Room:
    """What a line would come to with a request, and when there is room for it."""

    needed: float
    in_s: Callable[[], float | None] = _never


@dataclass(frozen=True)
class _Broken:
    line: Line
    needed: float
    room_in_s: float | None
