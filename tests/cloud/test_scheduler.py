"""Who takes part in which pass: fairness, bounds, and exact answers out of shared passes."""

import asyncio

import pytest

from updraft.cloud.config import PassLimits
from updraft.cloud.events import NeedFrom, Token
from updraft.cloud.scheduler import Scheduler
from updraft.cloud.store import Store
from updraft.errors import LinkBusy, UpdraftError
from updraft.models.sampling import Sampling

PROMPT = [5, 9, 2, 14, 7, 7, 30, 101, 55, 3]
LONG = list(range(1, 61))


async def until(condition):
    for _ in range(30_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come about")


class Office:
    """A scheduler with a record of its passes: rows by session, pass by pass."""

    def __init__(self, layers, memory_bytes=1 << 30, **limits):
        self.store = Store(100, memory_bytes)
        limits = {"positions": 32, "positions_per_session": 8} | limits
        self.scheduler = Scheduler(layers, self.store, PassLimits(**limits))
        self.passes = []
        run = self.scheduler._forward.run

        def recorded(works):
            self.passes.append({work.session.id: work.stop - work.start for work in works})
            return run(works)

        self.scheduler._forward.run = recorded

    async def finish(self, *sessions):
        """Run until the sessions' answers are all given."""
        if self.scheduler._loop is None:
            self.scheduler.start()
        self.scheduler.wake()
        await until(lambda: not any(session.waits for session in sessions))

    def admit(self, session):
        self.store.add(session)
        self.scheduler.consider(session)


@pytest.fixture
def office(layers):
    """Return a function that makes a scheduler and runs a test on its loop."""
    offices = []

    def make(**limits):
        offices.append(Office(layers, **limits))
        return offices[-1]

    yield make
    for made in offices:
        made.scheduler.close()


def asking(session, edge, text, length):
    session.put(**edge.frame(text, 0, length))
    session.ask(0, length, length)
    return session


def test_a_long_prompt_does_not_keep_others_waiting(office, open_session, writer, terms):
    edge, desk = writer(terms()), office()
    long = asking(open_session(session_id="long"), edge, LONG, 60)
    short = [asking(open_session(session_id=str(n)), edge, PROMPT, n + 2) for n in range(3)]

    async def serve():
        for session in (long, *short):
            desk.admit(session)
        await desk.finish(long, *short)

    asyncio.run(serve())
    assert desk.passes[0] == {"long": 8, "0": 2, "1": 3, "2": 4}
    assert desk.passes[1:] == [{"long": 8}] * 6 + [{"long": 4}]


def test_the_rows_of_a_pass_are_bounded_and_everybody_gets_a_turn(
    office, open_session, writer, terms
):
    edge, desk = writer(terms()), office(positions=16)
    sessions = [asking(open_session(session_id=str(n)), edge, LONG, 40) for n in range(5)]

    async def serve():
        for session in sessions:
            desk.admit(session)
        await desk.finish(*sessions)

    asyncio.run(serve())
    for rows in desk.passes:
        assert sum(rows.values()) <= 16
        assert max(rows.values()) <= 8
    done = dict.fromkeys("01234", 0)
    for rows in desk.passes:
        for session_id, count in rows.items():
            done[session_id] += count
        assert max(done.values()) - min(done.values()) <= 8, "nobody is ahead by more than a turn"
    assert set(done.values()) == {40}


def test_shared_passes_give_everybody_the_tokens_that_each_gets_alone(
    office, open_session, writer, terms
):
    desk = office()
    expected, sessions = [], []
    for number in range(12):
        of = terms(Sampling(0.8, number), tokens=number % 3 == 1)
        edge, session = writer(of), open_session(of, str(number))
        if number % 3 == 2:
            session.generate(PROMPT[: 3 + number % 4], 5)
            expected.append(edge.complete(PROMPT[: 3 + number % 4], 8 + number % 4)[-5:])
        else:
            text = edge.complete(PROMPT, 20)
            session.put(**edge.frame(text, 0, 18, drafts=9, flush=True))
            expected.append(text[10:19])
        sessions.append(session)

    async def serve():
        for session in sessions:
            desk.admit(session)
        await desk.finish(*sessions)

    asyncio.run(serve())
    for session, tokens in zip(sessions, expected, strict=True):
        picks = []
        for event in session.outlet.events:
            picks += [event.pick] if isinstance(event, Token) else event.picks
        assert [pick.token for pick in picks] == tokens
    assert max(map(len, desk.passes)) > 3
    scheduler = desk.scheduler
    assert scheduler.passes == len(desk.passes)
    assert scheduler.positions == sum(sum(rows.values()) for rows in desk.passes)
    assert scheduler.shares == sum(map(len, desk.passes))
    costs = [event.cost for session in sessions for event in session.outlet.events]
    assert sum(cost.computed_positions for cost in costs) == scheduler.positions
    assert sum(cost.compute_s for cost in costs) == pytest.approx(scheduler.busy_s)


def test_with_memory_for_two_all_get_their_answers(office, layers, open_session, writer, terms):
    of = terms()
    edge = writer(of)
    room = 2 * layers.context_bytes(tokens=False) + 200_000
    desk = office(memory_bytes=room)
    sessions = [open_session(session_id=str(n)) for n in range(8)]
    texts = [edge.complete([n, *PROMPT], 30) for n in range(8)]

    async def serve():
        for session in sessions:
            desk.admit(session)
        for start, stop in ((0, 14), (14, 18), (18, 26)):
            for session, text in zip(sessions, texts, strict=True):
                frame = edge.frame(text, start, stop, 4, flush=True)
                assert desk.store.reserve(session, len(frame["payload"]) * 3)
                session.put(**frame)
                desk.store.charge(session)
                desk.scheduler.consider(session)
            await desk.finish(*sessions)

    asyncio.run(serve())
    for session, text in zip(sessions, texts, strict=True):
        tokens = [pick.token for event in session.outlet.events for pick in event.picks]
        assert tokens == text[11:19] + text[23:27]
    assert desk.store.peak_bytes <= room
    assert desk.scheduler.restored >= len(sessions)
    assert desk.store.spilled >= len(sessions)


def test_who_waits_for_memory_in_vain_waits_no_more_when_it_is_not_needed(
    office, layers, open_session, writer, terms
):
    of = terms()
    desk = office(memory_bytes=layers.context_bytes(tokens=False) + 60_000)
    busy, waiting = open_session(session_id="busy"), open_session(session_id="waiting")

    async def serve():
        for session in (busy, waiting):
            desk.admit(asking(session, writer(of), LONG, 60))
        desk.scheduler.start()
        desk.scheduler.wake()
        await until(lambda: waiting.waiting_since is not None or not busy.waits)
        assert waiting.waiting_since is not None
        waiting.abandon()
        waiting.outlet = None
        await until(lambda: not busy.waits)
        assert waiting.waiting_since is None

    asyncio.run(serve())
    assert all(rows.keys() == {"busy"} for rows in desk.passes)


def test_too_many_that_wait_are_refused(office, open_session, writer, terms):
    edge, desk = writer(terms()), office(max_waiting=2)
    for number in range(2):
        desk.admit(asking(open_session(session_id=str(number)), edge, PROMPT, 5))
    with pytest.raises(LinkBusy, match="2 sessions wait for the coordinator's next forward pass"):
        desk.admit(asking(open_session(session_id="2"), edge, PROMPT, 5))


def test_work_of_a_session_that_ended_is_dropped(office, open_session, writer, terms):
    edge, desk = writer(terms()), office()
    gone = asking(open_session(session_id="gone"), edge, LONG, 60)
    stays = asking(open_session(session_id="stays"), edge, LONG, 30)

    async def serve():
        desk.admit(gone)
        desk.admit(stays)
        desk.scheduler.start()
        desk.scheduler.wake()
        await until(lambda: desk.passes)
        desk.store.remove(gone)
        await desk.finish(stays)

    asyncio.run(serve())
    assert sum("gone" in rows for rows in desk.passes) < 60 / 8
    assert desk.store.used_bytes == stays.held_bytes


def test_damaged_inputs_are_asked_for_again(office, open_session, writer, terms):
    edge, desk = writer(terms()), office()
    session, other = open_session(session_id="1"), open_session(session_id="2")

    async def serve():
        desk.admit(asking(session, edge, PROMPT, 8))
        desk.admit(asking(other, edge, PROMPT, 8))
        await desk.finish(session, other)
        desk.store.spill(session)
        frame = session.inputs._frames[0]
        frame.payload = bytes(len(frame.payload))
        session.ask(0, 8, 8)
        desk.scheduler.consider(session)
        await until(lambda: session.outlet.events[-1] == NeedFrom(0, 0))
        assert session.waits
        session.put(**edge.frame(PROMPT, 0, 8))
        desk.scheduler.consider(session)
        await desk.finish(session)

    asyncio.run(serve())
    first, _, last = session.outlet.events
    assert first.pick == last.pick
    assert len(other.outlet.events) == 1


def test_a_pass_that_fails_ends_the_streams_in_it_and_nothing_else(
    office, open_session, writer, terms, caplog
):
    edge, desk = writer(terms()), office()
    broken, sound = open_session(session_id="1"), open_session(session_id="2")
    run = desk.scheduler._forward.run

    def fails_once(works):
        desk.scheduler._forward.run = run
        raise RuntimeError("out of luck")

    desk.scheduler._forward.run = fails_once

    async def serve():
        desk.admit(asking(broken, edge, PROMPT, 8))
        await desk.finish(broken)
        desk.admit(asking(sound, edge, PROMPT, 8))
        await desk.finish(sound)

    asyncio.run(serve())
    assert isinstance(broken.outlet.error, UpdraftError)
    assert "out of luck" in str(broken.outlet.error)
    assert "out of luck" in caplog.text
    assert broken.context is None
    assert len(sound.outlet.events) == 1
