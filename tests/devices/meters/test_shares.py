"""Who pays what: the shares add up to the whole, whatever overlaps."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.devices.meters.shares import Shares
from updraft.devices.meters.trace import Segment

# What happens after a while: a request begins, the oldest or the newest ends, or a reading comes.
happenings = st.lists(
    st.tuples(
        st.floats(0.001, 1.0),
        st.sampled_from(["enter", "enter blind", "oldest ends", "newest ends", "reading"]),
        st.floats(0.0, 1.0),
        st.floats(0.0, 50.0),
    ),
    max_size=40,
)


class Day:
    """Requests that compute a share of their time, under power in straight lines."""

    def __init__(self, idle_w=3.0):
        self.shares, self.idle_w = Shares(), idle_w
        self.at_s = self.read_s = 0.0
        self.watts = 5.0
        self.open, self.done = [], []
        self.above_j = 0.0

    def wait(self, seconds):
        for request in self.open:
            request["busy"] += seconds * request["duty"]
        self.at_s += seconds

    def enter(self, duty, blind=False):
        request = {"busy": 0.0, "duty": duty}
        request["stake"] = self.shares.enter(self.at_s, None if blind else lambda: request["busy"])
        self.open.append(request)
        return request

    def leave(self, request):
        self.open.remove(request)
        self.shares.leave(self.at_s, request["stake"], request["busy"])
        self.done.append(request["stake"])

    def reading(self, watts):
        if self.at_s == self.read_s:
            return
        segment = Segment(self.read_s, self.at_s, self.watts, watts)
        self.shares.pour(segment, self.idle_w)
        self.read_s, self.watts = self.at_s, watts


@given(happenings)
def test_the_shares_add_up_to_all_energy_above_idle_while_anything_was_open(happenings):
    day, above_j = Day(), 0.0
    events = []  # (until, whether anything was open), to integrate independently
    readings = [(0.0, day.watts)]
    for wait_s, what, duty, watts in [*happenings, (0.5, "reading", 0.0, 7.0)]:
        day.wait(wait_s)
        events.append((day.at_s, bool(day.open)))
        if what.startswith("enter"):
            day.enter(duty, blind=what == "enter blind")
        elif what == "reading":
            day.reading(watts)
            readings.append((day.at_s, watts))
        elif day.open:
            day.leave(day.open[0 if what == "oldest ends" else -1])
    while day.open:
        day.leave(day.open[0])
    day.wait(0.1)
    day.reading(7.0)
    readings.append((day.at_s, 7.0))
    for (from_s, from_w), (to_s, to_w) in pairwise(readings):
        segment, start_s = Segment(from_s, to_s, from_w, to_w), 0.0
        for until_s, busy in events:
            a, b = max(start_s, from_s), min(until_s, to_s)
            if busy and b > a:
                above_j += segment.joules(a, b) - day.idle_w * (b - a)
            start_s = until_s
    assert sum(stake.joules for stake in day.done) == pytest.approx(above_j, abs=1e-6)
    assert all(stake.modelled_s == 0 for stake in day.done)


@given(st.lists(st.tuples(st.floats(0.01, 1.0), st.floats(0.0, 50.0)), min_size=2, max_size=10))
def test_spans_that_follow_each_other_cost_what_one_over_both_costs(readings):
    """Two at a time would share, so each way to cut has a day of its own."""

    def cost(cuts):
        day = Day(idle_w=0.0)
        request = day.enter(1.0)
        for number, (wait_s, watts) in enumerate(readings):
            day.wait(wait_s / 3)
            if number in cuts:
                day.leave(request)
                request = day.enter(1.0)
            day.wait(wait_s * 2 / 3)
            day.reading(watts)
        day.leave(request)
        day.wait(0.001)
        day.reading(0.0)
        return sum(stake.joules for stake in day.done)

    whole = cost(())
    assert cost({0}) == pytest.approx(whole, abs=1e-9)
    assert cost(set(range(len(readings)))) == pytest.approx(whole, abs=1e-9)


def test_who_computes_three_times_as_long_pays_three_times_as_much():
    day = Day(idle_w=0.0)
    day.watts = 10.0
    busy, waiting = day.enter(0.9), day.enter(0.3)
    day.wait(2.0)
    day.leave(waiting)
    day.leave(busy)
    day.wait(0.1)
    day.reading(10.0)
    assert [stake.joules for stake in day.done] == pytest.approx([5.0, 15.0])


def test_only_the_overlap_is_shared():
    day = Day(idle_w=4.0)
    day.watts = 14.0
    first = day.enter(1.0)
    day.wait(1.0)
    second = day.enter(1.0)
    day.wait(2.0)
    day.leave(first)
    day.wait(3.0)
    day.leave(second)
    day.reading(14.0)
    assert [stake.joules for stake in day.done] == pytest.approx([10.0 + 10.0, 10.0 + 30.0])


def test_where_nobody_computes_all_pay_alike():
    day = Day(idle_w=0.0)
    day.watts = 8.0
    requests = [day.enter(0.0) for _ in range(4)]
    day.wait(1.0)
    for request in requests:
        day.leave(request)
    day.reading(8.0)
    assert [stake.joules for stake in day.done] == pytest.approx([2.0] * 4)


def test_who_does_not_say_how_busy_it_is_counts_as_busy():
    day = Day(idle_w=0.0)
    day.watts = 8.0
    blind, busy = day.enter(1.0, blind=True), day.enter(1.0)
    day.wait(1.0)
    day.leave(busy)
    day.leave(blind)
    day.wait(0.1)
    day.reading(8.0)
    assert [stake.joules for stake in day.done] == pytest.approx([4.0, 4.0])


def test_a_long_run_that_is_booked_at_its_end_does_not_pay_for_time_before_the_stretch():
    """A prefill of a second ends in the other request's first tenth: both computed all of it."""
    shares, booked = Shares(), {"long": 0.0, "short": 0.0}
    long = shares.enter(0.0, lambda: booked["long"])
    short = shares.enter(1.0, lambda: booked["short"])
    booked |= {"long": 1.1, "short": 0.1}
    shares.leave(1.1, short, 0.1)
    shares.pour(Segment(0.0, 1.1, 10.0, 10.0), 0.0)
    assert short.joules == pytest.approx(0.5)
    shares.leave(1.1, long, 1.1)
    assert long.joules == pytest.approx(10.5)


@given(happenings, st.integers(0, 40))
def test_where_nothing_was_measured_every_second_of_computing_is_modelled(happenings, death):
    day, busy_s = Day(), 0.0
    for number, (wait_s, what, duty, _) in enumerate(happenings):
        day.wait(wait_s)
        if number == death:
            day.shares.stop_measuring(day.at_s)
        if what.startswith("enter"):
            day.enter(duty)
        elif day.open:
            request = day.open[0 if what == "oldest ends" else -1]
            busy_s += request["busy"]
            day.leave(request)
    day.shares.stop_measuring(day.at_s)
    while day.open:
        busy_s += day.open[0]["busy"]
        day.leave(day.open[0])
    assert sum(stake.modelled_s for stake in day.done) == pytest.approx(busy_s)
    assert all(stake.joules == 0 for stake in day.done)


def test_what_the_sensor_did_not_see_of_a_request_is_modelled():
    day = Day(idle_w=0.0)
    day.watts = 10.0
    request, other = day.enter(0.5), day.enter(0.5, blind=True)
    day.wait(3.0)
    day.reading(10.0)
    day.wait(1.0)
    day.shares.stop_measuring(day.at_s)
    day.wait(4.0)
    day.leave(request)
    day.wait(2.0)
    day.leave(other)
    seen, blind = day.done
    assert seen.joules + blind.joules == pytest.approx(30.0)
    assert seen.modelled_s == pytest.approx(0.5 * 5)
    assert blind.modelled_s == pytest.approx(0.5 * 7)
