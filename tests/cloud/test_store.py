"""The life of sessions under limits: who gives way, in which order, and what it costs."""

import pytest

from updraft.cloud.events import Evicted
from updraft.cloud.store import Store
from updraft.errors import LinkBusy

PROMPT = list(range(1, 21))


@pytest.fixture
def fill(open_session, writer, terms, run):
    """Return a function that makes a session with a context, kept by a store."""
    edge = writer(terms())
    frame = edge.frame(PROMPT, 0, 20)

    def make(store, session_id, context=True):
        session = open_session(session_id=session_id)
        store.add(session)
        session.put(**frame)
        if context:
            session.make_context()
        session.computed = 20 if context else 0
        store.charge(session)
        return session

    return make


@pytest.fixture
def context_bytes(layers):
    return layers.context_bytes(tokens=False)


def test_the_ledger_follows_what_sessions_hold(fill):
    store = Store(8, 1 << 30)
    sessions = [fill(store, str(number)) for number in range(4)]
    assert store.used_bytes == sum(session.held_bytes for session in sessions)
    store.spill(sessions[1])
    assert store.used_bytes == sum(session.held_bytes for session in sessions)
    peak = store.peak_bytes
    for session in sessions:
        store.remove(session)
    assert (store.used_bytes, store.peak_bytes, store.spilled) == (0, peak, 1)


def test_who_was_used_least_recently_gives_way_first(fill, context_bytes):
    store = Store(8, 1 << 30)
    first, second, third = (fill(store, str(number)) for number in range(3))
    store.touch(first)
    store._memory_bytes = store.used_bytes
    assert store.reserve(third, context_bytes // 2)
    assert [s.context is None for s in (first, second, third)] == [False, True, False]
    assert store.reserve(third, context_bytes * 3 // 2)
    assert [s.context is None for s in (first, second, third)] == [True, True, False]
    assert store.evicted == 0
    everything = store._memory_bytes - third.held_bytes
    assert store.reserve(third, everything)
    assert store.evicted == 2
    assert first.outlet.events == second.outlet.events == [Evicted()]
    assert not store.reserve(third, everything + 1)
    assert third.context is not None
    assert store.peak_bytes <= store._memory_bytes


def test_who_has_work_keeps_its_context_unless_inputs_need_the_room(fill, context_bytes):
    store = Store(8, 1 << 30)
    asked, computing, idle = (fill(store, str(number)) for number in range(3))
    asked.ask(0, 20, 20)
    computing.ask(0, 20, 20)
    computing.take(4)
    store._memory_bytes, store._inputs_bytes = store.used_bytes, 0
    assert store.reserve_context(idle, 0)
    assert not store.reserve_context(idle, 1)
    assert store.reserve_context(asked, context_bytes // 2)
    assert idle.context is None
    assert not store.reserve_context(asked, 2 * context_bytes)
    assert None not in (asked.context, computing.context)
    assert store.reserve(idle, 2 * context_bytes)
    assert asked.context is None
    assert not store.reserve(idle, 3 * context_bytes)
    assert computing.context is not None


def test_contexts_leave_room_for_inputs_but_one_may_always_be_made(fill, context_bytes):
    store = Store(8, 2 * context_bytes)
    one, other = (fill(store, str(number), context=False) for number in range(2))
    assert store.reserve_context(one, 2 * context_bytes - store.used_bytes)
    one.make_context()
    store.charge(one)
    one.ask(0, 20, 20)
    other.ask(0, 20, 20)
    assert not store.reserve_context(other, context_bytes * 3 // 4)


def test_without_a_stream_a_session_is_gone_at_once(fill, context_bytes):
    store = Store(8, 1 << 30)
    left, here = fill(store, "left", context=False), fill(store, "here")
    left.outlet = None
    store._memory_bytes = store.used_bytes
    assert store.reserve(here, 1)
    assert store.find("left") is None
    assert store.used_bytes == here.held_bytes


def test_a_new_session_takes_the_place_of_one_without_a_stream(fill, open_session):
    store = Store(2, 1 << 30)
    first, second = fill(store, "1"), fill(store, "2")
    with pytest.raises(LinkBusy, match="serves 2 sessions, its limit; try later"):
        fill(store, "3")
    assert store.attached == 2
    second.outlet = first.outlet = None
    store.touch(first)
    fill(store, "3")
    assert store.find("2") is None
    assert store.find("1") is first
    assert (store.attached, store.detached) == (1, 1)


def test_what_a_pass_reads_is_given_back_after_it(fill, forward):
    store = Store(2, 1 << 30)
    session = fill(store, "1")
    session.ask(0, 20, 20)
    session.take(4)
    held = store.used_bytes
    store.remove(session)
    assert store.find("1") is None
    assert store.used_bytes == held
    session.in_pass = False
    session.lose()
    store.charge(session)
    assert store.used_bytes == 0
