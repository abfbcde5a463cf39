"""The controller against a simulated device that is not what its points say, and is disturbed."""

import random
import runpy
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from updraft.devices.budgets.admission import Admission, Admitted
from updraft.devices.budgets.controller import Controller, Spending
from updraft.devices.budgets.costs import Costs, Measured
from updraft.devices.budgets.entry import Entry
from updraft.devices.budgets.ledger import Ledger
from updraft.devices.usage import Usage
from updraft.errors import BudgetExceeded

_shared = runpy.run_path(str(Path(__file__).with_name("spending.py")))
budget_of, point_of, Clock = _shared["budget_of"], _shared["point_of"], _shared["Clock"]

# Deeper is better, slower and dearer; tokens of an answer, seconds of a window.
_POINTS = [
    point_of("full", 8, 1.0, token_j=1.6, token_ms=40.0, first_token_ms=320.0),
    point_of("standalone", 6, 0.9, token_j=1.2, token_ms=30.0, first_token_ms=240.0),
    point_of("standalone", 4, 0.75, token_j=0.8, token_ms=20.0, first_token_ms=160.0),
    point_of("standalone", 2, 0.5, token_j=0.4, token_ms=10.0, first_token_ms=80.0),
]
_TOKENS, _WINDOW_S, _IDLE_W = 32, 60.0, 4.0
# A run takes half a second, so a failing one is not made smaller.
_NO_SHRINKING = (Phase.explicit, Phase.generate)


class Plant:
    """A device and who asks it, one after the other; whoever is not admitted waits.

    Args:
        energy, time: how far off the points are.
        noise: of single answers, as a share.
    """

    def __init__(self, energy=1.0, time=1.0, noise=0.1, seed=0, points=_POINTS, **lines):
        self.energy, self.time, self.noise = energy, time, noise
        self.rng = random.Random(seed)
        self.clock = Clock(1e6)
        self.costs = Costs(64, _TOKENS)
        budget = budget_of(**lines)
        self.ledger = Ledger(None, self.clock, window_s=_WINDOW_S)
        self.admission = Admission(budget, self.ledger, _IDLE_W)
        self.controller = Controller(points, budget, self.costs, _IDLE_W)
        self.number = 0

    @property
    def power_w(self):
        return _IDLE_W + self.ledger.window_j() / self.ledger.window_s

    def admit(self):
        """Wait until there is room, for a minute at most; returns None where there is none."""
        for _ in range(60):
            spending = Spending(self.power_w, self.ledger.today().usage.energy_j, 43_200.0)
            point = self.controller.point(self.clock(), spending)
            try:
                found = self.admission.admit(self.costs.cost(point, 64, _TOKENS))
            except BudgetExceeded as refusal:
                self.controller.refused(refusal.line, self.clock())
                return None
            if isinstance(found, Admitted):
                return found
            self.controller.refused(found.line.name, self.clock())
            self.clock.now += 1.0
        return None

    def run(self, seconds, rate, disturbed=1.0):
        """Serve for a while; returns the watts after each answer, and the answers."""
        end, watts, answers = self.clock() + seconds, [], []
        while self.clock() < end:
            self.clock.now += self.rng.uniform(0.8, 1.2) / rate
            if (admitted := self.admit()) is None:
                continue
            point = admitted.cost.point
            jitter = disturbed * self.rng.uniform(1 - self.noise, 1 + self.noise)
            token_ms = point.token_ms * self.time * jitter
            first_ms = point.first_token_ms * self.time * jitter
            joules = point.token_j * _TOKENS * self.energy * jitter
            usage = Usage(first_ms + token_ms * (_TOKENS - 1), joules)
            started, self.number = self.clock(), self.number + 1
            self.clock.now += usage.latency_ms / 1e3
            name = f"r{self.number}"
            self.ledger.record(
                Entry(name, started, self.clock(), usage, _TOKENS, first_ms, "full", "")
            )
            self.admission.settle(admitted)
            measured = Measured(point, 64, _TOKENS, _TOKENS, usage, first_ms)
            self.controller.observe(measured, self.clock())
            watts.append(self.power_w)
            answers.append((point, token_ms, first_ms))
        return watts, answers


def changes(answers):
    points = [answer[0] for answer in answers]
    return sum(one != other for one, other in zip(points[1:], points, strict=False))


def test_without_lines_it_works_at_the_best_point():
    plant = Plant()
    _, answers = plant.run(600, 1.0)
    assert {answer[0] for answer in answers} == {_POINTS[0]}


@settings(deadline=None, max_examples=12, derandomize=True, phases=_NO_SHRINKING)
@given(
    st.floats(0.4, 2.5),
    st.floats(0.4, 2.5),
    st.floats(0.2, 1.0),
    st.floats(5.0, 40.0),
    st.integers(0, 99),
)
def test_power_is_kept_where_any_point_keeps_it(energy, time, rate, limit_w, seed):
    lines = {"average_power": (limit_w, "queue", _WINDOW_S)}
    plant = Plant(energy, time, seed=seed, **lines)
    plant.run(600, rate)
    watts, answers = plant.run(1500, rate)
    over = sum(watt > limit_w for watt in watts) / max(1, len(watts))

    def draws(point):
        seconds = 1 / rate + (point.first_token_ms + 31 * point.token_ms) * time / 1e3
        return _IDLE_W + point.token_j * _TOKENS * energy / seconds

    cheapest = draws(_POINTS[-1])
    if cheapest < 0.85 * limit_w:
        assert over <= 0.01
    if cheapest > 1.2 * limit_w and answers:
        assert answers[-1][0] == _POINTS[-1]
    if draws(_POINTS[0]) < 0.8 * limit_w:
        assert sum(answer[0] == _POINTS[0] for answer in answers) > 0.95 * len(answers)
    # It neither gives up more quality than it must, nor swings.
    fitting = [point for point in _POINTS if draws(point) < 0.75 * limit_w]
    one_fits = _POINTS[-1].token_j * _TOKENS * energy * 1.3 < (limit_w - _IDLE_W) * _WINDOW_S
    assert answers or not one_fits
    if fitting:
        mean = sum(answer[0].quality for answer in answers) / len(answers)
        assert mean >= fitting[0].quality - 0.05
    assert changes(answers) <= 0.1 * len(answers) + 2


@settings(deadline=None, max_examples=12, derandomize=True, phases=_NO_SHRINKING)
@given(st.floats(0.4, 2.5), st.floats(12.0, 120.0), st.integers(0, 99))
def test_latency_is_kept_where_any_point_keeps_it(time, limit_ms, seed):
    lines = {"per_token": (limit_ms, "shallower_exits"), "first_token": (9 * limit_ms, "refuse")}
    plant = Plant(1.0, time, seed=seed, **lines)
    plant.run(100, 1.0)
    _, answers = plant.run(1500, 1.0)
    if 10.0 * time * 1.1 < limit_ms:
        assert sum(token_ms > limit_ms for _, token_ms, _ in answers) <= 0.01 * len(answers)
    fitting = [point for point in _POINTS if point.token_ms * time * 1.3 < limit_ms]
    if fitting:
        mean = sum(answer[0].quality for answer in answers) / len(answers)
        assert mean >= fitting[0].quality - 0.1


def test_a_disturbance_is_answered_and_then_forgotten():
    plant = Plant(average_power=(23.0, "queue", _WINDOW_S))
    plant.run(600, 0.5)
    _, calm = plant.run(600, 0.5)
    watts, hot = plant.run(1800, 0.5, disturbed=2.0)
    _, after = plant.run(1800, 0.5)

    def mean(answers):
        return sum(answer[0].quality for answer in answers) / len(answers)

    assert mean(hot) < mean(calm) - 0.05
    assert sum(watt > 23.0 for watt in watts) < 0.1 * len(watts)  # until it has noticed
    assert mean(after[len(after) // 2 :]) >= mean(calm) - 0.05


def test_a_long_overload_winds_nothing_up():
    plant = Plant(average_power=(9.0, "queue", _WINDOW_S))
    plant.run(6000, 2.0)  # more than the cheapest point can keep
    plant.run(200, 0.05)
    _, answers = plant.run(600, 0.05)
    assert answers[-1][0] == _POINTS[0]


@pytest.mark.parametrize(("action", "lasts"), [("shallower_exits", True), ("refuse", False)])
def test_a_days_energy_is_paced_only_where_its_line_says_so(action, lasts):
    limit_j = 43_200 * 12.0
    budget = budget_of(energy_per_day=(limit_j, action))
    controller = Controller(_POINTS, budget, Costs(64, _TOKENS), _IDLE_W)
    rng, now, day_j = random.Random(4), 1e6, 0.0
    for number in range(2400):
        now += 18
        spending = Spending(0.0, day_j, 43_200.0 - 18 * number)
        point = controller.point(now, spending)
        joules = 8 * point.token_j * _TOKENS * rng.uniform(0.9, 1.1)
        day_j += joules
        controller.observe(Measured(point, 64, 32, 32, Usage(1e3, joules), 100.0), now)
    assert (day_j <= limit_j) == lasts
    if lasts:
        assert day_j >= 0.75 * limit_j  # and not paced for nothing


def test_clocks_are_not_changed_in_haste():
    slow = [
        point_of("full", 8, 0.99, token_j=0.5, token_ms=80.0, power_mode="15W"),
        *_POINTS,
    ]
    plant = Plant(points=slow, average_power=(14.0, "queue", _WINDOW_S))
    _, answers = plant.run(3000, 0.5)
    modes = [answer[0].power_mode for answer in answers]
    assert sum(one != other for one, other in zip(modes[1:], modes, strict=False)) <= 3000 / 60


def test_it_needs_a_point():
    with pytest.raises(ValueError, match="at least one"):
        Controller([], budget_of(), Costs(64, 64))
