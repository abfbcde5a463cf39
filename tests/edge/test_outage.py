"""When the cloud is tried again, and by whom."""

from concurrent.futures import Future

import pytest

from updraft.edge import outage
from updraft.edge.outage import Breaker, Reconnect
from updraft.edge.session import Opened
from updraft.errors import LinkBroken, LinkBusy, LinkClosed, ProtocolError


@pytest.fixture
def clock(monkeypatch):
    """Time stands still unless the test moves it: `clock[0]` is now."""
    now = [1000.0]
    monkeypatch.setattr(outage, "monotonic", lambda: now[0])
    return now


def wait_until_ready(breaker, clock):
    """Return how long it took."""
    started = clock[0]
    while not breaker.ready:
        clock[0] += 0.001
    return clock[0] - started


class Attempts:
    """Stands where the link does; hands out sessions that open when the test says so."""

    def __init__(self):
        self.made = []

    def __call__(self):
        self.made.append(self)
        self.opened = Future()
        self.cancelled = False
        return self

    def cancel(self):
        self.cancelled = True


def test_an_attempt_may_be_made_until_one_has_failed(clock):
    breaker = Breaker()
    assert breaker.ready
    breaker.failed()
    assert not breaker.ready
    assert 0.125 <= wait_until_ready(breaker, clock) <= 0.376


def test_delays_double_up_to_a_limit_and_are_jittered(clock):
    breaker = Breaker()
    for middle_s in (0.25, 0.5, 1, 2, 4, 5, 5, 5):
        breaker.failed()
        assert 0.5 * middle_s <= wait_until_ready(breaker, clock) <= 1.5 * middle_s + 0.002


def test_two_devices_do_not_come_back_at_the_same_time(clock):
    delays = set()
    for _ in range(20):
        clock[0] = 1000.0
        breaker = Breaker()
        breaker.failed()
        delays.add(round(wait_until_ready(breaker, clock), 2))
    assert len(delays) > 3


def test_generations_that_notice_the_same_outage_count_as_one_failure(clock):
    breaker = Breaker()
    for _ in range(100):
        breaker.failed()
    assert wait_until_ready(breaker, clock) <= 0.376
    breaker.failed()
    assert wait_until_ready(breaker, clock) <= 0.751


def test_success_brings_back_the_shortest_delay(clock):
    breaker = Breaker()
    for _ in range(5):
        breaker.failed()
        wait_until_ready(breaker, clock)
    breaker.succeeded()
    assert breaker.ready
    breaker.failed()
    assert wait_until_ready(breaker, clock) <= 0.376


def test_one_attempt_at_a_time_and_only_when_the_breaker_lets_it(clock):
    breaker, attempts = Breaker(), Attempts()
    breaker.failed()
    reconnect = Reconnect(breaker, attempts)
    assert reconnect.poll() is None
    assert attempts.made == []
    wait_until_ready(breaker, clock)
    assert [reconnect.poll() for _ in range(5)] == [None] * 5
    assert len(attempts.made) == 1
    attempts.opened.set_result(Opened("id", True, 7, 0.1))
    assert reconnect.poll() is attempts


@pytest.mark.parametrize("fault", [LinkBroken("gone"), LinkBusy("full"), LinkClosed("cancelled")])
def test_a_failed_attempt_is_followed_by_another_after_a_longer_delay(clock, fault):
    breaker, attempts = Breaker(), Attempts()
    reconnect = Reconnect(breaker, attempts)
    reconnect.poll()
    attempts.opened.set_exception(fault)
    assert reconnect.poll() is None
    assert not breaker.ready
    assert reconnect.poll() is None
    assert len(attempts.made) == 1
    wait_until_ready(breaker, clock)
    reconnect.poll()
    assert len(attempts.made) == 2


def test_an_open_session_is_no_success_before_it_has_answered(clock):
    breaker, attempts = Breaker(), Attempts()
    breaker.failed()
    wait_until_ready(breaker, clock)
    reconnect = Reconnect(breaker, attempts)
    reconnect.poll()
    attempts.opened.set_result(Opened("id", False, 0, 0.1))
    assert reconnect.poll() is attempts
    breaker.failed()
    assert wait_until_ready(breaker, clock) >= 0.25


def test_another_model_is_an_error_and_not_tried_again(clock):
    attempts = Attempts()
    reconnect = Reconnect(Breaker(), attempts)
    reconnect.poll()
    attempts.opened.set_exception(ProtocolError("another model"))
    with pytest.raises(ProtocolError):
        reconnect.poll()


def test_an_attempt_that_is_abandoned_is_cancelled(clock):
    attempts = Attempts()
    reconnect = Reconnect(Breaker(), attempts)
    reconnect.abandon()  # none was made
    reconnect.poll()
    reconnect.abandon()
    assert attempts.cancelled
