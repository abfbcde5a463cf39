"""What tests of spending share: budgets, points, and a clock that they set."""

from updraft.devices.budgets.budget import Budget, Line, Origin
from updraft.devices.budgets.costs import Cost
from updraft.devices.budgets.entry import DAY_S, Entry
from updraft.devices.budgets.point import OperatingPoint
from updraft.devices.usage import Usage

NOON = 20_000 * DAY_S + DAY_S / 2
_HERE = Origin("budgets.toml", 1, "device.here")


class Clock:
    """A clock that tests set."""

    def __init__(self, now=NOON):
        self.now = now

    def __call__(self):
        return self.now


def budget_of(**lines):
    """Make a budget: `energy_per_day=(20, "refuse")`, a window in seconds as a third value."""
    return Budget(
        "here",
        {
            name: Line(name, limit, action, _HERE, *window)
            for name, (limit, action, *window) in lines.items()
        },
    )


def point_of(mode="full", exit_layer=8, quality=1.0, token_j=1.0, token_ms=10.0, **more):
    values = {"draft_length": 0, "power_mode": "default", "first_token_ms": 20.0, "power_w": 15.0}
    return OperatingPoint(
        mode=mode,
        exit_layer=exit_layer,
        quality=quality,
        token_j=token_j,
        token_ms=token_ms,
        **(values | more),
    )


def cost_of(joules=1.0, most=None, point=None, seconds=0.1, first_ms=20.0, token_ms=10.0, **usage):
    point = point or point_of()
    expected = Usage(1e3 * seconds, joules, **usage)
    highest = Usage(1e3 * seconds, most or joules, **usage)
    return Cost(point, expected, joules, most or joules, highest, first_ms, token_ms)


def entry_of(name, at, joules=1.0, seconds=0.0, **usage):
    spent = Usage(1e3 * seconds, joules, **usage)
    return Entry(name, at - seconds, at, spent, 10, 5.0, "full", "modelled")
