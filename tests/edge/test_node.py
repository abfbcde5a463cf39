"""A node towards a coordinator that does as it is told, over a real socket."""

import asyncio
import threading
from time import monotonic

import grpc
import pytest

from updraft.config.endpoint import Endpoint
from updraft.devices.usage import Usage
from updraft.edge.expert import CANCELLED, Answer
from updraft.edge.node import Node
from updraft.errors import BundleError, RequestError
from updraft.proto.v1 import fleet_pb2 as pb
from updraft.proto.v1 import fleet_pb2_grpc as rpc

BEAT_MS = 50
RECORD = pb.CapabilityRecord(node="a", expert="e", version="v", revision=1, concurrency=2)


class Expert:
    """Says one word per permission; loads when it may."""

    def __init__(self):
        self.exhausted, self.loaded, self.broken = False, False, False
        self.may_speak = threading.Semaphore(0)
        self.parked = threading.Event()

    def load(self):
        if self.broken:
            raise BundleError("it does not fit")
        self.loaded = True

    def park(self):
        self.loaded = False
        self.parked.set()

    def answer(self, work, give, cancelled):
        if work.prompt == "refuse":
            raise RequestError("never")
        if work.prompt == "fail":
            raise ZeroDivisionError
        for count in range(work.max_tokens):
            while not self.may_speak.acquire(timeout=0.01):
                if cancelled.is_set() or monotonic() > work.deadline:
                    return Answer(CANCELLED, Usage(1.0, 0.5 * count), 1.0, "counted", 1, count)
            give("word ")
        usage = Usage(1.0, 0.5 * work.max_tokens)
        return Answer("length", usage, 1.0, "counted", 1, work.max_tokens)


class Stream:
    """One stream of a node, as the coordinator has it."""

    def __init__(self, context):
        self._context = context
        self.ended = asyncio.Event()
        self.status = None
        self.beat = None

    async def say(self, **frame):
        await self._context.write(pb.JoinResponse(**frame))

    async def work(self, number, prompt="count", max_tokens=2, deadline_ms=60_000):
        work = pb.Work(id=number, prompt=prompt, max_tokens=max_tokens, deadline_ms=deadline_ms)
        await self.say(work=work)

    async def next(self, kind):
        """Return the next frame of a kind; what else comes is beats."""
        while True:
            frame = await self._context.read()
            assert frame is not grpc.aio.EOF, "the node ended the stream"
            if frame.HasField("beat"):
                self.beat = frame.beat
            if frame.WhichOneof("frame") == kind:
                return getattr(frame, kind)
            assert frame.HasField("beat"), frame

    async def beat_with(self, **state):
        """Wait for a beat that says this."""
        while True:
            beat = await self.next("beat")
            if all(getattr(beat, name) == value for name, value in state.items()):
                return beat

    def end(self, status=grpc.StatusCode.OK):
        self.status = status
        self.ended.set()


class Coordinator(rpc.FleetServicer):
    """Hands its streams to the test."""

    def __init__(self):
        self.streams = asyncio.Queue()

    async def Join(self, request_iterator, context):  # noqa: N802
        stream = Stream(context)
        self.streams.put_nowait(stream)
        await stream.ended.wait()
        if stream.status is not grpc.StatusCode.OK:
            await context.abort(stream.status, "as told")

    async def next(self, on=True):
        """Return a stream that has just been opened, welcomed, and told its role."""
        stream = await self.streams.get()
        stream.record = await stream.next("record")
        await stream.say(welcome=pb.Welcome(beat_interval_ms=BEAT_MS))
        await stream.say(role=pb.Role(plan_version=1, on=on))
        return stream


@pytest.fixture
def expert():
    return Expert()


@pytest.fixture
def attend(expert):
    """Return a function that runs `work(coordinator, node)` beside a node that joins."""

    def run(work):
        async def all_of_it():
            coordinator = Coordinator()
            server = grpc.aio.server()
            rpc.add_FleetServicer_to_server(coordinator, server)
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            node = Node(Endpoint("127.0.0.1", port), None, RECORD, expert)
            node.start()
            try:
                await asyncio.wait_for(work(coordinator, node), 60)
            finally:
                for _ in range(100):
                    expert.may_speak.release()
                await asyncio.to_thread(node.close, 0.1)
                await server.stop(0)

        asyncio.run(all_of_it())

    return run


def test_a_node_says_who_it_is_gets_ready_and_answers(attend, expert):
    async def work(coordinator, node):
        stream = await coordinator.next()
        assert stream.record == RECORD
        await stream.beat_with(ready=True)
        assert expert.loaded
        await stream.work(7)
        expert.may_speak.release(2)
        parts = [await stream.next("part") for _ in range(2)]
        assert [(part.id, part.position, part.tokens) for part in parts] == [(7, 0, 1), (7, 1, 1)]
        end = await stream.next("end")
        assert (end.id, end.finish_reason, end.usage.new_tokens) == (7, "length", 2)
        assert (end.usage.energy_j, end.usage.energy_method) == (1.0, "counted")
        assert (await stream.beat_with(running=0)).spent_j == 1.0

    attend(work)


def test_a_node_beats_as_it_was_told_last(attend):
    async def work(coordinator, node):
        stream = await coordinator.next()
        await stream.say(welcome=pb.Welcome(beat_interval_ms=60_000))
        await stream.beat_with(ready=True)
        with pytest.raises(asyncio.TimeoutError):
            for _ in range(20):  # what is still on its way, and then nothing
                await asyncio.wait_for(stream.next("beat"), 20 * BEAT_MS / 1000)

    attend(work)


def test_a_parked_node_unloads_when_its_work_is_done(attend, expert):
    async def work(coordinator, node):
        stream = await coordinator.next()
        await stream.beat_with(ready=True)
        await stream.work(1)
        await stream.beat_with(running=1)
        await stream.say(role=pb.Role(plan_version=2, on=False))
        await stream.beat_with(ready=True, running=1)
        assert not expert.parked.is_set(), "it still works"
        expert.may_speak.release(2)
        await stream.next("part")
        await stream.next("part")
        await stream.next("end")
        await stream.beat_with(ready=False)
        assert await asyncio.to_thread(expert.parked.wait, 30)
        await stream.say(role=pb.Role(plan_version=3, on=True))
        await stream.beat_with(ready=True)
        assert expert.loaded

    attend(work)


def test_a_node_that_is_parked_from_the_start_gives_its_memory_back(attend, expert):
    async def work(coordinator, node):
        await coordinator.next(on=False)
        assert await asyncio.to_thread(expert.parked.wait, 30)

    attend(work)


def test_what_cannot_be_loaded_is_said(attend, expert):
    expert.broken = True

    async def work(coordinator, node):
        stream = await coordinator.next()
        assert not (await stream.beat_with(exhausted=True)).ready

    attend(work)


def test_a_spent_budget_is_said(attend, expert):
    async def work(coordinator, node):
        stream = await coordinator.next()
        await stream.beat_with(exhausted=False)
        expert.exhausted = True
        await stream.beat_with(exhausted=True)
        expert.exhausted = False
        await stream.beat_with(exhausted=False)

    attend(work)


def test_cancelled_and_late_work_stops_and_its_energy_counts(attend, expert):
    async def work(coordinator, node):
        stream = await coordinator.next()
        await stream.work(1)
        expert.may_speak.release(1)
        await stream.next("part")
        await stream.say(cancel=pb.CancelWork(id=1))
        assert (await stream.next("fault")).code == "link-timeout"
        await stream.work(2, deadline_ms=30)
        assert (await stream.next("fault")).id == 2
        assert (await stream.beat_with(running=0)).spent_j == 0.5

    attend(work)


def test_what_it_cannot_answer_is_a_fault_and_no_end(attend):
    async def work(coordinator, node):
        stream = await coordinator.next()
        await stream.work(1, "refuse")
        fault = await stream.next("fault")
        assert (fault.id, fault.code, fault.message) == (1, "request", "never")
        await stream.work(2, "fail")
        assert "ZeroDivisionError" in (await stream.next("fault")).message
        for number in range(3, 8):
            await stream.work(number)
        fault = await stream.next("fault")
        assert (fault.id, fault.code) == (7, "link-busy")

    attend(work)


@pytest.mark.parametrize(
    "status",
    [
        grpc.StatusCode.OK,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.FAILED_PRECONDITION,
    ],
)
def test_a_node_comes_back_however_it_was_cut_off(attend, expert, status):
    async def work(coordinator, node):
        stream = await coordinator.next()
        await stream.work(1)
        await stream.beat_with(running=1)
        stream.end(status)
        again = await coordinator.next()
        await again.beat_with(running=0)  # work of a lost stream is nobody's

    attend(work)


def test_a_coordinator_that_talks_nonsense_is_tried_again(attend):
    async def work(coordinator, node):
        stream = await coordinator.streams.get()
        await stream.next("record")
        await stream.say(role=pb.Role(on=True))
        await coordinator.next()

    attend(work)


def test_a_node_that_closes_says_so_and_finishes_its_work(attend, expert):
    async def work(coordinator, node):
        stream = await coordinator.next()
        await stream.work(1)
        await stream.beat_with(running=1)
        closing = asyncio.ensure_future(asyncio.to_thread(node.close, 30))
        await stream.beat_with(leaving=True)
        expert.may_speak.release(2)
        await stream.next("part")
        await stream.next("part")
        assert (await stream.next("end")).id == 1
        await closing

    attend(work)
