"""Admission: what each line lets through, and that no line is overdrawn."""

import runpy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.devices.budgets.admission import Admission, Admitted, Wait
from updraft.devices.budgets.entry import DAY_S
from updraft.devices.budgets.ledger import Ledger
from updraft.errors import BudgetExceeded

_shared = runpy.run_path(str(Path(__file__).with_name("spending.py")))
NOON, Clock = _shared["NOON"], _shared["Clock"]
budget_of, cost_of, entry_of = _shared["budget_of"], _shared["cost_of"], _shared["entry_of"]


def admission_of(clock, idle_w=0.0, window_s=60.0, **lines):
    ledger = Ledger(None, clock, window_s=window_s)
    return Admission(budget_of(**lines), ledger, idle_w), ledger


def test_without_lines_everything_is_admitted():
    admission, _ = admission_of(Clock())
    assert admission.admit(cost_of(1e9)).because is None


@pytest.mark.parametrize(
    ("name", "limit", "cost"),
    [
        ("energy_per_request", 2.0, {"joules": 1.0, "most": 3.0}),
        ("energy_per_day", 2.0, {"joules": 3.0}),
        ("average_power", 0.5, {"joules": 60.0}),
        ("first_token", 10.0, {"first_ms": 11.0}),
        ("per_token", 10.0, {"token_ms": 11.0}),
        ("uplink_per_day", 100, {"uplink_bytes": 101}),
        ("cloud_tokens_per_hour", 100, {"cloud_tokens": 101}),
    ],
)
def test_each_line_refuses_what_would_break_it(name, limit, cost):
    admission, _ = admission_of(Clock(), **{name: (limit, "refuse")})
    with pytest.raises(BudgetExceeded) as refused:
        admission.admit(cost_of(**cost))
    assert (refused.value.line, refused.value.limit) == (name, limit)
    assert refused.value.spent > limit
    other, _ = admission_of(Clock(), **{name: (1e9, "refuse")})
    assert isinstance(other.admit(cost_of(**cost)), Admitted)


def test_what_is_being_worked_on_counts_with_the_most_that_it_may_take():
    admission, ledger = admission_of(Clock(), energy_per_day=(10.0, "refuse"))
    first = admission.admit(cost_of(4.0, most=8.0))
    with pytest.raises(BudgetExceeded) as refused:
        admission.admit(cost_of(1.0, most=3.0))
    assert refused.value.retry_after_s < 5  # when the first has ended
    ledger.record(entry_of("first", NOON, 4.0))
    admission.settle(first)
    admission.settle(first)
    assert admission.reserved().energy_j == 0.0
    second = admission.admit(cost_of(1.0, most=3.0))
    assert second.cost.most.energy_j == 3.0
    assert admission.left()["energy_per_day"] == 6.0


def test_an_exhausted_day_has_room_at_midnight():
    clock = Clock()
    admission, ledger = admission_of(clock, energy_per_day=(10.0, "refuse"))
    ledger.record(entry_of("r", NOON, 10.0))
    with pytest.raises(BudgetExceeded) as refused:
        admission.admit(cost_of(0.5))
    assert refused.value.retry_after_s == DAY_S / 2
    clock.now += refused.value.retry_after_s
    assert isinstance(admission.admit(cost_of(0.5)), Admitted)


def test_an_exhausted_line_takes_the_first_other_way_that_fits():
    admission, ledger = admission_of(Clock(), energy_per_day=(10.0, "shallower_exits"))
    ledger.record(entry_of("r", NOON, 8.0))
    ways = [cost_of(2.5), cost_of(1.5), cost_of(0.5)]
    taken = admission.admit(cost_of(3.0), lambda action: ways)
    assert taken.cost is ways[1]
    assert (taken.because.name, taken.because.on_exhausted) == ("energy_per_day", "shallower_exits")
    with pytest.raises(BudgetExceeded):
        admission.admit(cost_of(3.0), lambda action: [cost_of(2.5)])


def test_who_sends_nothing_goes_on_when_nothing_more_may_be_sent():
    admission, ledger = admission_of(
        Clock(), uplink_per_day=(100, "standalone"), cloud_tokens_per_hour=(50, "standalone")
    )
    ledger.record(entry_of("r", NOON, uplink_bytes=200, cloud_tokens=80))
    alone = cost_of(1.0)
    taken = admission.admit(cost_of(uplink_bytes=10, cloud_tokens=1), lambda action: [alone])
    assert taken.cost is alone
    assert taken.because.name == "uplink_per_day"


def test_average_power_counts_the_idle_device_and_waits_for_room():
    clock = Clock()
    admission, ledger = admission_of(clock, idle_w=4.0, average_power=(6.0, "queue", 60.0))
    clock.now += 100
    ledger.record(entry_of("r", clock(), 110.0, seconds=10))
    found = admission.admit(cost_of(20.0))
    assert isinstance(found, Wait)
    assert 50 < found.seconds < 62
    assert found.refusal.line == "average_power"
    small = admission.admit(cost_of(5.0))
    assert isinstance(small, Admitted)
    admission.settle(small)
    clock.now += found.seconds
    assert isinstance(admission.admit(cost_of(20.0)), Admitted)


def test_what_can_never_fit_is_not_kept_waiting():
    admission, _ = admission_of(Clock(), idle_w=4.0, average_power=(6.0, "queue", 60.0))
    with pytest.raises(BudgetExceeded) as refused:
        admission.admit(cost_of(130.0, seconds=10))
    assert refused.value.retry_after_s is None
    # Of a request that takes longer than the window, the window sees a part.
    assert isinstance(admission.admit(cost_of(130.0, seconds=120)), Admitted)


_REQUEST = st.tuples(
    st.floats(0.1, 5), st.floats(1, 3), st.floats(0, 1), st.booleans(), st.integers(0, 900)
)


@given(st.lists(_REQUEST, max_size=60), st.floats(1, 40), st.integers(1, 8))
def test_a_day_is_never_overdrawn_by_more_than_one_request(requests, limit, at_once):
    """Requests run side by side, cost up to their most, and the first may cost anything."""
    clock = Clock()
    admission, ledger = admission_of(clock, energy_per_day=(limit, "refuse"))
    running, spent, largest = [], 0.0, 0.0

    def end():
        nonlocal spent, largest
        admitted, joules = running.pop(0)
        ledger.record(entry_of(f"r{admitted.number}", clock(), joules))
        admission.settle(admitted)
        spent, largest = spent + joules, max(largest, joules)

    for expected, factor, share, stays, pause in requests:
        clock.now += pause / 100
        if len(running) >= at_once or (running and not stays):
            end()
        try:
            admitted = admission.admit(cost_of(expected, most=expected * factor))
        except BudgetExceeded:
            continue
        running.append((admitted, expected * factor * share))
    while running:
        end()
    assert spent <= limit + largest + 1e-9
    assert ledger.today().usage.energy_j == pytest.approx(spent)


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0.1, 50), st.floats(0, 5)), max_size=60))
def test_no_window_draws_more_than_its_average_power(requests):
    clock = Clock()
    admission, ledger = admission_of(
        clock, idle_w=3.0, average_power=(5.0, "refuse", 30.0), window_s=30.0
    )
    for number, (pause, joules, seconds) in enumerate(requests):
        clock.now += pause
        try:
            admitted = admission.admit(cost_of(joules, seconds=seconds))
        except BudgetExceeded:
            continue
        clock.now += seconds
        ledger.record(entry_of(f"r{number}", clock(), joules, seconds=seconds))
        admission.settle(admitted)
        assert 3.0 + ledger.window_j() / ledger.window_s <= 5.0 + 1e-9
