"""From readings to energy: exact where it can be, never negative, never quiet about nonsense."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.devices.meters.trace import Segment, Trace
from updraft.errors import ProbeError

steps = st.floats(0.001, 2.0)
watts = st.floats(0.0, 150.0)
samples = st.lists(st.tuples(steps, watts), min_size=2, max_size=40)


def walk(trace, pairs):
    """Feed (seconds since the last, value); return the segments."""
    at_s, segments = 10.0, []
    for step_s, value in pairs:
        at_s += step_s
        segments.append(trace.add(at_s, value))
    return [segment for segment in segments if segment is not None]


@given(samples)
def test_power_that_is_straight_between_readings_is_integrated_exactly(pairs):
    segments = walk(Trace(counts=False, most_w=200), pairs)
    exact = sum(step_s * (before + after) / 2 for (_, before), (step_s, after) in pairwise(pairs))
    joules = sum(segment.joules(segment.start_s, segment.end_s) for segment in segments)
    assert joules == pytest.approx(exact, rel=1e-9, abs=1e-9)


@given(st.tuples(steps, watts, watts), st.lists(st.floats(0, 1), max_size=10))
def test_parts_of_a_segment_add_up_wherever_it_is_cut(shape, shares):
    length_s, start_w, end_w = shape
    segment = Segment(5.0, 5.0 + length_s, start_w, end_w)
    cuts = [5.0, *sorted(5.0 + share * length_s for share in shares), 5.0 + length_s]
    parts = sum(segment.joules(a, b) for a, b in pairwise(cuts))
    assert parts == pytest.approx(length_s * (start_w + end_w) / 2, rel=1e-9, abs=1e-9)


@given(st.lists(st.tuples(st.floats(0.01, 1.0), st.floats(0.0, 100.0)), min_size=1, max_size=40))
def test_a_counter_is_spread_without_loss_over_the_time_in_which_it_moved(pairs):
    total, readings = 0.0, [(0.01, 0.0)]
    for step_s, average_w in pairs:
        total += average_w * step_s
        readings.append((step_s, total))
    readings.append((0.5, total + 1.0))
    segments = walk(Trace(counts=True, most_w=1000), readings)
    joules = sum(segment.joules(segment.start_s, segment.end_s) for segment in segments)
    assert joules == pytest.approx(total + 1.0, rel=1e-9)
    assert all(segment.start_w >= 0 for segment in segments)
    assert all(a.end_s == b.start_s for a, b in pairwise(segments))


@given(st.lists(st.tuples(st.floats(0.01, 0.5), st.booleans()), min_size=1, max_size=30))
def test_what_was_guessed_ahead_of_a_counter_is_taken_off_what_it_says_next(moves):
    """Power goes up and down; in between, ends of requests ask for energy before it is counted."""
    trace, at_s, counted, joules = Trace(counts=True, most_w=1000), 0.0, 0.0, 0.0
    trace.add(at_s, counted)
    for number, (step_s, ahead) in enumerate(moves):
        at_s += step_s
        counted += step_s * (20.0 if number % 3 else 5.0)
        found = [trace.hold(at_s - step_s / 2)] if ahead else []
        found.append(trace.add(at_s, counted))
        joules += sum(part.joules(part.start_s, part.end_s) for part in found if part)
    for _ in range(40):  # enough to make good for what was given out too early
        at_s += 0.5
        counted += 5.0
        part = trace.add(at_s, counted)
        joules += part.joules(part.start_s, part.end_s)
    assert joules == pytest.approx(counted)


def test_a_counter_that_has_not_moved_yet_says_nothing():
    trace = Trace(counts=True, most_w=100)
    assert trace.add(1.0, 5.0) is None
    assert trace.add(1.1, 5.0) is None
    assert trace.power_w is None
    assert trace.add(1.2, 5.4) == Segment(1.0, 1.2, pytest.approx(2.0), pytest.approx(2.0))
    assert trace.power_w == pytest.approx(2.0)


def test_a_counter_that_stands_still_for_seconds_is_a_fault():
    trace = Trace(counts=True, most_w=100)
    trace.add(0.0, 5.0)
    assert trace.add(4.9, 5.0) is None
    with pytest.raises(ProbeError, match="the counter stands still at 5 J"):
        trace.add(5.1, 5.0)


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), -3.0, 201.0])
def test_nonsense_is_left_out_and_bridged(nonsense):
    trace = Trace(counts=False, most_w=200)
    trace.add(0.0, 10.0)
    with pytest.raises(ProbeError, match="is not within 0 to 200 W"):
        trace.add(0.1, nonsense)
    assert trace.add(0.2, 20.0) == Segment(0.0, 0.2, 10.0, 20.0)


def test_a_little_below_nothing_is_nothing():
    trace = Trace(counts=False, most_w=200)
    trace.add(0.0, -0.04)
    assert trace.add(1.0, -0.9) == Segment(0.0, 1.0, 0.0, 0.0)


@pytest.mark.parametrize("reset_to", [0.0, 5e6])
def test_a_counter_that_was_set_elsewhere_costs_what_was_drawn_last(reset_to):
    trace = Trace(counts=True, most_w=100)
    trace.add(0.0, 1000.0)
    trace.add(1.0, 1010.0)
    with pytest.raises(ProbeError, match="the counter moved by"):
        trace.add(2.0, reset_to)
    segment = trace.add(3.0, reset_to + 30.0)
    assert segment.joules(1.0, 3.0) == pytest.approx(10.0 + 30.0)


@pytest.mark.parametrize("counts", [False, True])
def test_a_clock_that_stands_still_neither_divides_by_nothing_nor_counts_twice(counts):
    trace = Trace(counts=counts, most_w=100)
    trace.add(1.0, 10.0)
    assert trace.add(1.0, 10.0) is None
    assert trace.add(1.0, 10.0 + counts) is None
    segment = trace.add(2.0, 10.0 + 2 * counts)
    assert segment.joules(1.0, 2.0) == pytest.approx(2.0 if counts else 10.0)
