"""One stream towards a client that reads slowly or not at all."""

import asyncio

import numpy as np
import pytest

from updraft.cloud.events import Cost, Logits, NeedFrom, Pick, Verdict
from updraft.cloud.stream import Stream
from updraft.errors import LinkBusy, LinkTimeout, ProtocolError
from updraft.proto.v1 import collaboration_pb2 as pb

CREDIT = 256


class Call:
    """A call whose client reads when it is told to."""

    def __init__(self):
        self.read = asyncio.Semaphore(0)
        self.written = []

    async def write(self, response):
        await self.read.acquire()
        self.written.append(response.WhichOneof("frame"))


def talk(work):
    """Run `work(call, stream, room)` on a loop; `room` collects sessions that may go on."""

    async def run():
        call, room = Call(), []
        await work(call, Stream(call, CREDIT, room.append), room)

    asyncio.run(run())


def test_who_reads_gets_credit_back(open_session):
    async def work(call, stream, room):
        stream.open(open_session(), pb.Opened())
        for _ in range(40):
            stream.receive(32)
            for _ in range(3):
                call.read.release()
                await asyncio.sleep(0)
        assert call.written == ["opened", *["ack"] * 20]

    talk(work)


def test_more_positions_than_the_credit_are_refused(open_session):
    async def work(call, stream, room):
        stream.open(open_session(), pb.Opened())
        await asyncio.sleep(0)
        for _ in range(8):
            stream.receive(32)
        with pytest.raises(ProtocolError, match="288 positions came without credit, 256 may be"):
            stream.receive(32)

    talk(work)


def test_a_generation_pauses_until_its_client_has_read(open_session):
    async def work(call, stream, room):
        session = open_session()
        stream.open(session, pb.Opened())
        while not session.paused:
            stream.send(NeedFrom(0, 0))
            await asyncio.sleep(0)
        assert room == []
        for _ in range(50):
            call.read.release()
        await stream.drain()
        assert not session.paused
        assert room == [session]
        assert call.written[0] == "opened"

    talk(work)


def test_who_lets_too_much_pile_up_is_cut_off(open_session):
    async def work(call, stream, room):
        stream.open(open_session(), pb.Opened())
        with pytest.raises(asyncio.CancelledError):
            for _ in range(3000):
                stream.send(NeedFrom(0, 0))
                await asyncio.sleep(0)
        assert isinstance(stream.fault, LinkTimeout)
        assert "the client does not read" in str(stream.fault)

    talk(work)


def test_who_lets_large_answers_pile_up_is_cut_off_sooner(open_session):
    values = np.zeros(4096, np.float32)
    picks = [Pick(0, 0.0, Logits(None, values))] * 60

    async def work(call, stream, room):
        stream.open(open_session(), pb.Opened())
        with pytest.raises(asyncio.CancelledError):
            for _ in range(100):
                stream.send(Verdict(0, 0, picks, False, Cost(0, 0.0)))
                await asyncio.sleep(0)
        assert "the client does not read" in str(stream.fault)

    talk(work)


def test_who_gets_no_turn_after_a_pause_is_told(open_session):
    async def work():
        def refuse(session):
            raise LinkBusy("too many wait")

        call, session = Call(), open_session()
        stream = Stream(call, CREDIT, refuse)
        stream.open(session, pb.Opened())
        session.paused = True
        call.read.release()
        with pytest.raises(asyncio.CancelledError):
            await stream.drain()
        assert str(stream.fault) == "too many wait"

    asyncio.run(work())
