"""The rules of an emulated wire, by a clock of the test's own."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.benchmarks.collab.wire import HEADER_BYTES, LOOPBACK, SEGMENT_BYTES, Link, Wire


class Fate(random.Random):
    """Loses the segments whose numbers it was given."""

    def __init__(self, *lost):
        super().__init__(0)
        self._lost, self._sent = lost, -1

    def random(self):
        self._sent += 1
        return 0.0 if self._sent in self._lost else 1.0


def wire(round_trip_ms=40, mbit_s=10, loss=0.0, chance=None):
    return Wire(Link(round_trip_ms, mbit_s, loss), chance or random.Random(0))


def arrivals(line):
    """Return when each segment arrives, and its bytes."""
    found = []
    while (due := line.due) is not None:
        found.append((due, line.receive(due)))
    return found


def seconds_of(size, mbit_s=10):
    return (size + HEADER_BYTES) * 8 / (mbit_s * 1e6)


def test_a_segment_takes_its_bytes_and_half_a_round_trip():
    line = wire()
    line.send(b"x" * 100, now=5.0)
    assert line.due == pytest.approx(5.0 + seconds_of(100) + 0.020)
    assert line.receive(line.due - 1e-6) == b""
    assert line.receive(line.due) == b"x" * 100
    assert line.due is None


def test_segments_leave_one_after_the_other():
    line = wire()
    line.send(b"a" * SEGMENT_BYTES + b"b" * 10, now=0.0)
    first, second = arrivals(line)
    assert first == (pytest.approx(seconds_of(SEGMENT_BYTES) + 0.020), b"a" * SEGMENT_BYTES)
    assert second == (pytest.approx(first[0] + seconds_of(10)), b"b" * 10)


def test_what_waits_to_leave_is_known():
    line = wire()
    line.send(b"x" * SEGMENT_BYTES * 3, now=1.0)
    assert line.backlog_s(1.0) == pytest.approx(3 * seconds_of(SEGMENT_BYTES))
    assert line.backlog_s(9.0) == 0


def test_counted_are_headers_and_copies():
    line = wire(loss=0.5, chance=Fate(0))
    line.send(b"x" * 100, now=0.0)
    line.send(b"x" * 100, now=0.0)
    assert line.carried_bytes == 3 * (100 + HEADER_BYTES)


def test_a_lost_segment_is_sent_again_when_a_later_one_tells():
    line = wire(loss=0.5, chance=Fate(0))
    line.send(b"lost", now=0.0)
    line.send(b"later", now=0.1)
    told = 0.1 + seconds_of(5) + 0.040
    assert line.due == pytest.approx(told + 0.020)
    assert line.receive(line.due) == b"lostlater"


def test_a_lost_segment_with_nothing_behind_it_waits_for_the_timeout():
    line = wire(loss=0.5, chance=Fate(0))
    line.send(b"lost", now=0.0)
    assert line.due == pytest.approx(seconds_of(4) + 0.020 + 0.040 + 0.2)


def test_a_later_segment_tells_at_once_but_not_before_a_round_trip_and_a_quarter():
    line = wire(loss=0.5, chance=Fate(0))
    line.send(b"lost", now=0.0)
    line.send(b"later", now=0.0)
    assert line.due == pytest.approx(seconds_of(4) + 1.25 * 0.040 + 0.020)


def test_nothing_arrives_in_a_blackout_and_all_after_it():
    line = wire()
    line.send(b"before", now=0.0)
    line.black_out(until=5.0)
    line.send(b"within", now=1.0)
    assert line.receive(4.999) == b""
    assert line.receive(5.0) == b"before"
    assert line.due == pytest.approx(5.0 + seconds_of(6) + 0.020)


def test_loopback_holds_nothing_up():
    line = wire(LOOPBACK.round_trip_ms, LOOPBACK.mbit_s)
    line.send(b"x" * 10_000, now=0.0)
    assert arrivals(line)[-1][0] < 1e-5


@given(
    st.lists(
        st.tuples(st.binary(min_size=1, max_size=4000), st.floats(0, 0.1)), min_size=1, max_size=20
    ),
    st.floats(0, 0.9),
    st.floats(0, 200),
    st.floats(0.1, 1000),
    st.integers(0, 1000),
)
def test_every_byte_arrives_once_in_order_and_never_too_early(
    sends, loss, round_trip_ms, mbit_s, seed
):
    line = Wire(Link(round_trip_ms, mbit_s, loss), random.Random(seed))
    now = 0.0
    for data, pause in sends:
        now += pause
        line.send(data, now)
    found = arrivals(line)
    sent = b"".join(data for data, _ in sends)
    assert b"".join(data for _, data in found) == sent
    times = [due for due, _ in found]
    assert times == sorted(times)
    fastest = len(sent) * 8 / (mbit_s * 1e6) + round_trip_ms / 2e3
    assert times[-1] >= fastest * (1 - 1e-9)
