"""Before roll-out: which lines of a budget a model on a device cannot meet, and what would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

from updraft.devices.budgets.budget import LINES, Budget, Line, LineName, Origin
from updraft.devices.budgets.lines import SHARED
from updraft.devices.budgets.options import Demand, Kind, Option, Options
from updraft.devices.performance import Estimate

# From good to bad; what cannot be known may be either.
State = Literal["met", "change", "unknown", "missed"]
_DAY_S = 86_400.0
_DAY_H = 24.0


@dataclass(frozen=True)
class Verdict:
    """What is expected of one line.

    Attributes:
        state: `met` as asked for; only with a `change`; `missed` whatever is changed; `unknown`
            without the number of requests.
        expected: in the line's unit, for what was asked for; None: not known.
        enough_for: where work can be left out or spread: the share of it, or of the time, that
            the limit is enough for, if not for all.
        remedies: what meets the line, the best of each kind, small changes first.
    """

    line: Line
    state: State
    expected: Estimate | None
    enough_for: float | None = None
    remedies: tuple[Option, ...] = ()

    @property
    def is_sure(self) -> bool:
        """Whether the whole interval of what is expected lies on one side of the limit."""
        found, limit = self.expected, self.line.limit
        return found is not None and (found.high <= limit or found.low > limit)


def check(budget: Budget, options: Options) -> list[Verdict]:
    """Judge every line of a budget by itself, and the board's memory where no line limits it."""
    lines = _with_board(budget, options).lines
    return [_judge(lines[name], options) for name in LINES if name in lines]


def keeps_all(budget: Budget, options: Options) -> Option | None:
    """Return the option that keeps all lines at once that can be judged; None if there is none.

    What was asked for, if it does; else of the same bundle rather than of another one, the best
    in quality; of equal ones, one that leaves the work to the device.
    """
    lines = _with_board(budget, options).lines.values()
    keeping = [
        option
        for option in options.all
        if all(_keeps(line, option, options) is not False for line in lines)
    ]
    asked = options.asked
    return min(
        keeping,
        key=lambda option: (option != asked, option.bundle != asked.bundle, *_worth(option)),
        default=None,
    )


def expected(line: Line, option: Option, demand: Demand) -> Estimate | None:
    """Return what an option is expected to take of a line; None if requests must be counted."""
    found, each_day = option.expected, demand.requests_per_day
    values: dict[LineName, Estimate | None] = {
        "energy_per_request": found.energy_j,
        "energy_per_day": _times(found.energy_j, each_day),
        "average_power": _exactly(found.power_w),
        "first_token": found.first_token_ms,
        "per_token": found.token_ms,
        "uplink_per_day": _times(_exactly(found.uplink_bytes), each_day),
        "cloud_tokens_per_hour": _times(_exactly(found.cloud_tokens / _DAY_H), each_day),
        "memory": _exactly(found.memory_bytes),
    }
    return values[line.name]


def _judge(line: Line, options: Options) -> Verdict:
    value = expected(line, options.asked, options.demand)
    keeps = _keeps(line, options.asked, options)
    if keeps is None:
        return Verdict(line, "unknown", None)
    enough = _enough(line, options.asked, options)
    if keeps:
        return Verdict(line, "met", value, enough)
    remedies = tuple(_remedies(line, options))
    return Verdict(line, "change" if remedies else "missed", value, enough, remedies)


def _keeps(line: Line, option: Option, options: Options) -> bool | None:
    """Whether an option keeps a line, by pauses where the line says to queue; None: not known."""
    value = expected(line, option, options.demand)
    if value is None:
        return None
    if value.value <= line.limit or line.name != "average_power" or line.on_exhausted != "queue":
        return value.value <= line.limit
    share = _busy_share(line, option, options)
    each_day = options.demand.requests_per_day
    if each_day is None:
        return share > 0
    latency_ms = option.expected.first_token_ms.value
    latency_ms += option.expected.token_ms.value * (options.demand.shape.new_tokens - 1)
    return each_day * latency_ms / 1e3 <= share * _DAY_S


def _enough(line: Line, option: Option, options: Options) -> float | None:
    value = expected(line, option, options.demand)
    if value is None or value.value <= line.limit:
        return None
    if line.name == "average_power":
        return _busy_share(line, option, options)
    return line.limit / value.value if line.name in SHARED else None


def _busy_share(line: Line, option: Option, options: Options) -> float:
    """Return the share of the time that a device may be busy so that it keeps an average power."""
    idle_w, busy_w = options.device.idle_w, option.expected.power_w
    return max(0.0, (line.limit - idle_w) / (busy_w - idle_w)) if busy_w > idle_w else 0.0


def _remedies(line: Line, options: Options) -> Iterator[Option]:
    keeping = [
        option
        for option in options.all
        if _keeps(line, option, options)
        and option.expected.memory_bytes <= options.device.memory_bytes
    ]
    found: dict[tuple[Kind, str], Option] = {}
    for option in sorted(keeping, key=_worth):
        # Modes and bundles differ in more than these figures: each is named.
        which = {"mode": option.way.mode, "bundle": option.bundle}.get(option.kind, "")
        found.setdefault((option.kind, which), option)
    several = found.pop(("several", ""), None)
    yield from sorted(found.values(), key=lambda option: get_args(Kind).index(option.kind))
    if several is not None and not found:
        yield several


def _worth(option: Option) -> tuple[float, bool, bool, float]:
    """Sort options by quality; of equal ones, those that leave work to the device come first.

    Then those without a reboot, then those of less energy.
    """
    way, found = option.way, option.expected
    return -found.quality, way.mode == "cloud", way.power_mode.needs_reboot, found.energy_j.value


def _with_board(budget: Budget, options: Options) -> Budget:
    """Limit the memory to the board's where the budget does not."""
    if "memory" in budget.lines:
        return budget
    device = options.device
    origin = Origin("the board", 0, device.id)
    memory = Line("memory", device.memory_bytes, "refuse", origin)
    return replace(budget, lines={**budget.lines, "memory": memory})


def _times(value: Estimate, count: float | None) -> Estimate | None:
    """Nothing times an unknown number of requests is nothing."""
    if count is None:
        return value if value.high == 0 else None
    return value * count


def _exactly(value: float) -> Estimate:
    return Estimate(value, value, value)
