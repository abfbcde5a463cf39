"""The rolling sum agrees with adding up by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.devices.budgets.rolling import RollingSum

_SPENT = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 100), st.floats(0, 1e3)), max_size=20
)


def by_hand(spent, start, end):
    total = 0.0
    for at, seconds, amount in spent:
        if seconds == 0:
            total += amount * (start <= at <= end)
        else:
            total += amount * max(0.0, min(end, at + seconds) - max(start, at)) / seconds
    return total


@given(_SPENT, st.integers(0, 100))
def test_the_sum_lies_between_those_of_the_window_and_of_one_step_more(spent, later):
    rolling = RollingSum(60.0)
    for at, seconds, amount in spent:
        rolling.add(at, at + seconds, amount)
    now = max((at + seconds for at, seconds, _ in spent), default=0.0) + later
    total = rolling.total(now)
    assert total >= by_hand(spent, now - 60, now) * (1 - 1e-9) - 1e-9
    assert total <= by_hand(spent, now - 61, now) * (1 + 1e-9) + 1e-9


@given(_SPENT, st.floats(0, 500))
def test_there_is_room_when_it_says_so(spent, most):
    rolling = RollingSum(60.0)
    for at, seconds, amount in spent:
        rolling.add(at, at + seconds, amount)
    now = 400.0
    wait = rolling.seconds_until(now, most)
    assert 0 <= wait <= 62
    assert rolling.total(now + wait + 1e-6) <= most + 1e-6


def test_setting_the_clock_moves_what_was_spent_along():
    rolling = RollingSum(60.0)
    rolling.add(100.0, 110.0, 5.0)
    rolling.shift(-86_000.5)
    assert rolling.total(120.0 - 86_000.5) == pytest.approx(5.0)
    assert rolling.total(172.0 - 86_000.5) == 0.0
