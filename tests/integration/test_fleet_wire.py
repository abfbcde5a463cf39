"""The coordinator's end of the fleet's wire: a real server, and nodes that do as they are told."""

import asyncio
import contextlib
from random import Random

import grpc
import numpy as np
import pytest

from updraft.cloud.fleet.budgets import FleetBudgets
from updraft.cloud.fleet.config import FleetLimits
from updraft.cloud.fleet.outlook import Foresight
from updraft.cloud.fleet.records import Plan
from updraft.cloud.fleet.service import FleetService
from updraft.cloud.fleet.traffic_log import TrafficLog
from updraft.cloud.fleet.upkeep import Upkeep
from updraft.cloud.intake import Intake
from updraft.optimizer.gate.features import TextFeatures
from updraft.optimizer.gate.gate import Gate, Layer
from updraft.proto.v1 import fleet_pb2 as pb
from updraft.proto.v1 import fleet_pb2_grpc as rpc

EXPERTS = ("good", "fair", "poor")
# Whatever the prompt: 0.88, 0.73, 0.27.
GATE = Gate(EXPERTS, (Layer(np.zeros((8, 3)), np.array([2.0, 1.0, -1.0])),), TextFeatures(width=8))
NONSENSE = grpc.StatusCode.FAILED_PRECONDITION
# On a busy machine nobody is to seem dead who is not meant to be.
_SOUND_LIMITS = {"enabled": True, "settle_ms": 5, "beat_interval_ms": 3000}
WORDS = ["one ", "two ", "three ", "four"]


class Planner:
    """Keeps every node on, but those that are told to park."""

    def __init__(self):
        self.parked, self.plans = frozenset(), 0

    def plan(self, nodes, traffic, budget, previous, cause):
        self.plans += 1
        version = previous.version + 1 if previous else 1
        return Plan(version, frozenset(node.node for node in nodes) - self.parked, reason=cause)


class Fleet:
    """A running service, its planner and a channel to it."""

    def __init__(self, service, planner, channel):
        self.service, self.planner, self.channel = service, planner, channel
        self.stub = rpc.FleetStub(channel)

    async def node(self, name="a", expert="good", **choices):
        """Return a node that is on and ready."""
        node = Node(self.stub, name, expert, **choices)
        await node.join()
        return node

    def ask(self, prompt="count", max_tokens=8, timeout=30, **choices):
        request = pb.AnswerRequest(prompt=prompt, max_tokens=max_tokens, **choices)
        return self.stub.Answer(request, timeout=timeout)

    async def plan(self):
        return await self.stub.GetPlan(pb.GetPlanRequest(), timeout=30)

    async def until(self, condition):
        """Wait until the plan's answer fulfils a condition."""
        for _ in range(1000):
            if condition(found := await self.plan()):
                return found
            await asyncio.sleep(0.02)
        raise AssertionError("it did not come about")


class Node:
    """A node in the test's hands: it joins and beats by itself, and answers when told to."""

    def __init__(self, stub, name, expert, revision=1, concurrency=1, **record):
        self.name = name
        self.call = stub.Join(timeout=None)
        self.record = pb.CapabilityRecord(
            node=name,
            expert=expert,
            version=record.pop("version", expert),
            revision=revision,
            device="x86",
            prompt_tokens=8,
            first_token_ms=1,
            per_token_ms=1,
            context_length=512,
            max_tokens=256,
            concurrency=concurrency,
            **record,
        )
        self.works = asyncio.Queue()
        self.cancelled = asyncio.Queue()
        self.on, self.roles = None, []
        self.turned = asyncio.Event()
        self._tasks = []

    async def join(self, ready=True):
        await self.call.write(pb.JoinRequest(record=self.record))
        welcome = await self.call.read()
        assert welcome.HasField("welcome"), welcome
        self.interval_s = welcome.welcome.beat_interval_ms / 1000
        self._tasks = [asyncio.ensure_future(self._read()), asyncio.ensure_future(self._beat())]
        await self.turned.wait()

    async def _read(self):
        with contextlib.suppress(grpc.aio.AioRpcError):
            while isinstance(frame := await self.call.read(), pb.JoinResponse):
                kind = frame.WhichOneof("frame")
                if kind == "role":
                    self.on = frame.role.on
                    self.roles.append(self.on)
                    self.turned.set()
                elif kind == "welcome":
                    self.interval_s = frame.welcome.beat_interval_ms / 1000
                elif kind == "work":
                    self.works.put_nowait(frame.work)
                else:
                    self.cancelled.put_nowait(frame.cancel.id)

    async def _beat(self):
        with contextlib.suppress(Exception):
            while True:
                await self.beat()
                await asyncio.sleep(self.interval_s)

    async def beat(self, **state):
        await self.call.write(pb.JoinRequest(beat=pb.Beat(**({"ready": True} | state))))

    async def say(self, work, start, stop, words=WORDS):
        for position in range(start, stop):
            part = pb.AnswerPart(id=work.id, position=position, text=words[position], tokens=1)
            await self.call.write(pb.JoinRequest(part=part))

    async def end(self, work, tokens=4, energy_j=2.0):
        usage = pb.UsageRecord(energy_j=energy_j, new_tokens=tokens, latency_ms=1.0)
        end = pb.AnswerEnd(id=work.id, finish_reason="stop", usage=usage)
        await self.call.write(pb.JoinRequest(end=end))

    async def refuse(self, work, code, message="no"):
        fault = pb.AnswerFault(id=work.id, code=code, message=message)
        await self.call.write(pb.JoinRequest(fault=fault))

    async def answer(self, words=WORDS):
        """Answer one request."""
        work = await self.works.get()
        await self.say(work, 0, len(words), words)
        await self.end(work, len(words))

    def answer_soon(self):
        """Answer the next request in the background."""
        self._tasks.append(asyncio.ensure_future(self.answer()))

    def hush(self):
        """Say nothing any more, without ending the stream."""
        self._tasks[1].cancel()

    def die(self):
        """Break the stream."""
        self.hush()
        self.call.cancel()


def fleet(work, **limits):
    """Run `work(fleet)` beside a service of a fleet, on a real socket."""

    async def run():
        chosen = FleetLimits(**(_SOUND_LIMITS | limits))
        planner = Planner()
        upkeep = Upkeep(chosen, planner, TrafficLog(EXPERTS), FleetBudgets(None))
        service = FleetService(chosen, Foresight(GATE, len), upkeep)
        server = grpc.aio.server(interceptors=[Intake()])
        rpc.add_FleetServicer_to_server(service, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        service.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                await asyncio.wait_for(work(Fleet(service, planner, channel)), 100)
        finally:
            await service.close(0.0)
            await server.stop(0.5)

    asyncio.run(run())


async def read(call):
    """Read an answer to its end: what the client has of it, each Routed, and the end."""
    text, routed, end = "", [], None
    while isinstance(frame := await call.read(), pb.AnswerResponse):
        kind = frame.WhichOneof("frame")
        if kind == "routed":
            text = ""
            routed.append(frame.routed)
        elif kind == "part":
            text += frame.part.text
        else:
            end = frame.end
    return text, routed, end


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await read(call)
    return error.value.code(), error.value.details()


async def status(call):
    """Read what is left of a call; returns the status that it ends with."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        while await call.read() is not grpc.aio.EOF:
            pass
    return await call.code()


def test_the_best_node_answers_and_says_what_it_cost():
    async def work(fleet):
        good, fair = await fleet.node("g", "good"), await fleet.node("f", "fair")
        answering = asyncio.ensure_future(good.answer())
        text, (routed,), end = await read(fleet.ask())
        await answering
        assert text == "one two three four"
        assert (routed.node, routed.expert, routed.attempt) == ("g", "good", 0)
        assert routed.quality == pytest.approx(0.88, abs=0.01)
        assert end.usage.energy_j == 2.0
        assert end.usage.latency_ms >= end.usage.first_token_ms > 0
        assert end.routed == routed
        plan = await fleet.plan()
        assert [(n.record.node, n.on, n.ready, n.answers) for n in plan.nodes] == [
            ("f", True, True, 0),
            ("g", True, True, 1),
        ]
        assert fair.works.empty()

    fleet(work)


def test_another_node_goes_on_with_the_same_text_where_one_dies():
    async def work(fleet):
        first = await fleet.node("a")
        call = fleet.ask()
        given = await first.works.get()
        second = await fleet.node("b")
        await first.say(given, 0, 2)
        frames = [await call.read() for _ in range(3)]
        assert [frame.WhichOneof("frame") for frame in frames] == ["routed", "part", "part"]
        first.die()
        again = await second.works.get()
        assert (again.seed, again.prompt) == (given.seed, given.prompt)
        await second.say(again, 0, 4)
        await second.end(again)
        text, routed, end = await read(call)
        assert (text, routed) == ("three four", [])
        assert (end.routed.node, end.routed.attempt) == ("b", 1)
        assert [node.record.node for node in (await fleet.plan()).nodes] == ["b"]

    fleet(work)


def test_another_expert_starts_anew_where_one_dies():
    async def work(fleet):
        good, fair = await fleet.node("g", "good"), await fleet.node("f", "fair")
        call = fleet.ask()
        await good.say(await good.works.get(), 0, 3)
        good.die()
        await fair.answer(["uno ", "dos"])
        text, routed, end = await read(call)
        assert text == "uno dos"
        assert [(r.node, r.attempt) for r in routed] == [("g", 0), ("f", 1)]
        assert end.routed == routed[-1]

    fleet(work)


def test_who_is_silent_is_dead_and_its_work_goes_on():
    async def work(fleet):
        good, fair = await fleet.node("g", "good"), await fleet.node("f", "fair")
        call = fleet.ask()
        await good.works.get()
        good.hush()
        await fair.answer()
        text, routed, _ = await read(call)
        assert (text, routed[-1].node) == ("one two three four", "f")
        assert await good.call.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    fleet(work, beat_interval_ms=250)


def test_a_request_survives_its_only_node_and_waits_for_the_next():
    async def work(fleet):
        only = await fleet.node("a")
        call = fleet.ask()
        await only.say(await only.works.get(), 0, 2)
        only.die()
        await fleet.until(lambda plan: not plan.nodes)
        next_one = await fleet.node("b")
        await next_one.answer()
        text, routed, _ = await read(call)
        assert (text, len(routed)) == ("one two three four", 1)

    fleet(work)


def test_a_prompt_that_kills_nodes_does_not_go_through_all_of_them():
    async def work(fleet):
        nodes = [await fleet.node(f"n{number}") for number in range(4)]

        async def die(node):
            await node.works.get()
            node.die()

        deaths = [asyncio.ensure_future(die(node)) for node in nodes]
        code, details = await refused(fleet.ask())
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "failed at 3 nodes" in details
        assert sum(death.done() for death in deaths) == 3
        assert len((await fleet.plan()).nodes) == 1
        for death in deaths:
            death.cancel()

    fleet(work, max_attempts=3)


def test_a_client_that_goes_frees_the_node():
    async def work(fleet):
        node = await fleet.node()
        call = fleet.ask()
        given = await node.works.get()
        call.cancel()
        assert await node.cancelled.get() == given.id
        await fleet.until(lambda plan: not plan.answering)
        answering = asyncio.ensure_future(node.answer())
        assert (await read(fleet.ask()))[0] == "one two three four"
        await answering

    fleet(work)


def test_the_clients_deadline_is_the_nodes():
    async def work(fleet):
        node = await fleet.node()
        call = fleet.ask(timeout=0.5)
        given = await node.works.get()
        assert 0 < given.deadline_ms <= 500
        assert (await refused(call))[0] is grpc.StatusCode.DEADLINE_EXCEEDED
        assert await node.cancelled.get() == given.id
        await fleet.until(lambda plan: not plan.nodes[0].running)

    fleet(work)


def test_a_client_that_does_not_read_keeps_no_node_from_work():
    async def work(fleet):
        node = await fleet.node()
        idle = fleet.ask(max_tokens=200)
        given = await node.works.get()
        words = ["x" * 60_00] * 2
        await node.say(given, 0, 2, words)
        await node.end(given)
        await fleet.until(lambda plan: not plan.nodes[0].running)
        answering = asyncio.ensure_future(node.answer())
        assert (await read(fleet.ask()))[0] == "one two three four"
        await answering
        idle.cancel()

    fleet(work)


def test_what_a_node_refuses_another_is_asked():
    async def work(fleet):
        good, fair = await fleet.node("g", "good"), await fleet.node("f", "fair")
        call = fleet.ask()
        await good.refuse(await good.works.get(), "budget")
        await fair.answer()
        assert [r.node for r in (await read(call))[1]] == ["g", "f"]
        call = fleet.ask()
        await good.refuse(await good.works.get(), "request", "too long for good")
        await fair.refuse(await fair.works.get(), "request", "too long for fair")
        code, details = await refused(call)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "too long for fair" in details

    fleet(work)


def test_requests_that_make_no_sense_are_refused():
    async def work(fleet):
        await fleet.node()
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        for wrong, said in (
            ({"max_tokens": 0}, "at least 1"),
            ({"max_tokens": 257}, "at most 256"),
            ({"temperature": float("nan")}, "temperature nan"),
            ({"temperature": -1.0}, "temperature -1.0"),
            ({"seed": 2**64 - 1}, "seed"),
            ({"prompt": "p" * 600}, "the prompt has 600 tokens"),
            ({"prompt": "é" * 501}, "the prompt has 1002 bytes"),
        ):
            code, details = await refused(fleet.ask(**wrong))
            assert (code, said in details) == (invalid, True), details

    fleet(work, max_prompt_bytes=1000)


def test_nobody_to_ask_and_too_many_who_ask_are_said_at_once():
    async def work(fleet):
        busy = grpc.StatusCode.RESOURCE_EXHAUSTED
        code, details = await refused(fleet.ask())
        assert (code, "no node is in the fleet" in details) == (busy, True)
        node = await fleet.node()
        first = fleet.ask()
        given = await node.works.get()
        second = fleet.ask()
        await fleet.until(lambda plan: plan.waiting == 1)
        code, details = await refused(fleet.ask())
        assert (code, "1 requests wait" in details) == (busy, True)
        await node.say(given, 0, 4)
        await node.end(given)
        await read(first)
        await node.answer()
        await read(second)

    fleet(work, max_waiting=1)


def test_of_two_that_go_by_one_name_the_newer_record_is_in():
    async def work(fleet):
        first = await fleet.node("a", revision=5)
        older = Node(fleet.stub, "a", "good", revision=4)
        await older.call.write(pb.JoinRequest(record=older.record))
        with pytest.raises(grpc.aio.AioRpcError, match="revision 5, and revision 4 came"):
            await older.call.read()
        assert await older.call.code() is NONSENSE
        second = await fleet.node("a", revision=6)
        assert await first.call.code() is grpc.StatusCode.UNAVAILABLE
        await asyncio.sleep(0.1)
        (there,) = (await fleet.plan()).nodes
        assert there.record.revision == 6
        second.answer_soon()
        assert (await read(fleet.ask()))[0] == "one two three four"

    fleet(work)


def test_a_node_may_change_its_record_forward():
    async def work(fleet):
        node = await fleet.node("a", revision=1)
        node.record.revision, node.record.concurrency = 2, 3
        await node.call.write(pb.JoinRequest(record=node.record))
        await fleet.until(lambda plan: plan.nodes[0].record.concurrency == 3)
        await node.call.write(pb.JoinRequest(record=node.record))
        assert await node.call.code() is NONSENSE

    fleet(work)


def test_roles_follow_the_plan_and_a_parked_node_gets_no_work():
    async def work(fleet):
        good, fair = await fleet.node("g", "good"), await fleet.node("f", "fair")
        fleet.planner.parked = frozenset("g")
        good.turned.clear()
        await good.beat(exhausted=True)  # a cause to plan
        await good.turned.wait()
        assert (good.on, fair.on) == (False, True)
        await good.beat()
        fair.answer_soon()
        assert (await read(fleet.ask()))[1][0].node == "f"

    fleet(work)


def test_who_leaves_finishes_what_it_works_on_and_gets_nothing_new():
    async def work(fleet):
        good, fair = await fleet.node("g", "good"), await fleet.node("f", "fair")
        call = fleet.ask()
        given = await good.works.get()
        good.hush()
        await good.beat(leaving=True)
        await fleet.until(lambda plan: plan.nodes[1].leaving)
        fair.answer_soon()
        assert (await read(fleet.ask()))[1][0].node == "f"
        await good.say(given, 0, 4)
        await good.end(given)
        await good.call.done_writing()
        assert (await read(call))[1][0].node == "g"
        await fleet.until(lambda plan: len(plan.nodes) == 1)

    fleet(work)


def test_hundreds_of_nodes_join_at_once_and_each_hears_its_role():
    async def work(fleet):
        nodes = [Node(fleet.stub, f"n{n:03}", EXPERTS[n % 3]) for n in range(300)]
        await asyncio.gather(*(node.join() for node in nodes))
        assert all(node.roles == [True] for node in nodes), "nobody is parked on the way"
        assert len((await fleet.plan()).nodes) == 300
        assert fleet.planner.plans < 100
        late = Node(fleet.stub, "late", "good")
        await late.call.write(pb.JoinRequest(record=late.record))
        assert await late.call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    fleet(work, max_nodes=300, beat_interval_ms=5000, settle_ms=50)


def test_a_fleet_that_grows_beats_less_often_and_nobody_is_taken_for_dead():
    async def work(fleet):
        nodes = [await fleet.node(f"n{number}") for number in range(5)]
        # Of five the first four were told last when there were four: half of eight.
        told = [0.4, 0.4, 0.4, 0.4, 0.5]
        await fleet.until(lambda _: [node.interval_s for node in nodes] == told)
        await asyncio.sleep(1.5)
        assert len((await fleet.plan()).nodes) == 5
        nodes[0].hush()
        assert await status(nodes[0].call) is grpc.StatusCode.DEADLINE_EXCEEDED

    fleet(work, beat_interval_ms=100, max_beats_per_s=10)


SOUND = {
    "node": "x",
    "expert": "good",
    "version": "v",
    "revision": 1,
    "device": "x86",
    "prompt_tokens": 8,
    "context_length": 512,
    "max_tokens": 256,
    "concurrency": 1,
}


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([pb.JoinRequest()], "must be its record"),
        ([pb.JoinRequest(beat=pb.Beat())], "must be its record"),
        ([pb.JoinRequest(record=pb.CapabilityRecord())], "node ''"),
        *(
            ([pb.JoinRequest(record=pb.CapabilityRecord(**(SOUND | wrong)))], said)
            for wrong, said in (
                ({"node": "a b"}, "node 'a b'"),
                ({"version": "v" * 200}, "version has 200 characters"),
                ({"quality": {"c": 1.5}}, "quality of 'c' is 1.5"),
                ({"quality": {"c": float("nan")}}, "quality of 'c' is nan"),
                ({"quality": {f"d{n}": 0.5 for n in range(65)}}, "65 domains"),
                ({"prompt_j": -1.0}, "prompt_j is -1.0"),
                ({"per_token_ms": float("inf")}, "per_token_ms is inf"),
                ({"concurrency": 0}, "concurrency is 0"),
                ({"context_length": 2**31}, "context_length is 2147483648"),
            )
        ),
        *(
            ([pb.JoinRequest(record=pb.CapabilityRecord(**SOUND)), frame], said)
            for frame, said in (
                (pb.JoinRequest(), "says nothing"),
                (pb.JoinRequest(beat=pb.Beat(spent_j=float("nan"))), "nan J"),
                (pb.JoinRequest(part=pb.AnswerPart(id=7, tokens=1)), "work 7, which was never"),
                (pb.JoinRequest(end=pb.AnswerEnd(id=2**64 - 1)), "never given"),
            )
        ),
    ],
)
def test_nonsense_gets_a_status_and_costs_nobody_anything(frames, said):
    async def work(fleet):
        node = await fleet.node()
        call = fleet.stub.Join(timeout=30)
        for frame in frames:
            await call.write(frame)
        assert await status(call) is NONSENSE
        assert said in await call.details()
        await fleet.until(lambda plan: len(plan.nodes) == 1)
        node.answer_soon()
        assert (await read(fleet.ask()))[0] == "one two three four"

    fleet(work)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"position": 1, "tokens": 1}, "the answer has 0 tokens"),
        ({"tokens": 9, "text": "x"}, "has 9 tokens"),
        ({"tokens": 1, "text": "x" * 10_000}, "10000 characters"),
        ({"tokens": 0}, "this part of 0"),
    ],
)
def test_a_node_that_answers_nonsense_is_cut_off_and_its_work_goes_on(part, said):
    async def work(fleet):
        good, fair = await fleet.node("g", "good"), await fleet.node("f", "fair")
        call = fleet.ask()
        given = await good.works.get()
        await good.call.write(pb.JoinRequest(part=pb.AnswerPart(id=given.id, **part)))
        await fair.answer()
        assert (await read(call))[0] == "one two three four"
        assert await good.call.code() is NONSENSE
        assert said in await good.call.details()

    fleet(work)


def test_any_bytes_at_all_cost_nobody_anything():
    async def work(fleet):
        node = await fleet.node()
        rng = Random(5)
        join = fleet.channel.stream_stream("/updraft.v1.Fleet/Join")
        answer = fleet.channel.unary_stream("/updraft.v1.Fleet/Answer")
        sound = pb.JoinRequest(record=pb.CapabilityRecord(**SOUND)).SerializeToString()
        codes = set()
        for round_ in range(150):
            bent = bytearray(sound)
            for _ in range(rng.randint(0, 3)):
                bent[rng.randrange(len(bent))] = rng.randrange(256)
            call = join(timeout=30)
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await call.write(bytes(bent) if round_ % 2 else rng.randbytes(rng.randint(0, 60)))
                await call.write(rng.randbytes(rng.randint(0, 40)))
                await call.done_writing()
            code = await status(call)
            # What gRPC's client says where it was cut off while it wrote.
            if await call.details() != "Internal error from Core":
                codes.add(code)
            with contextlib.suppress(grpc.aio.AioRpcError):
                await answer(rng.randbytes(rng.randint(1, 40)), timeout=0.2).read()
        assert codes <= {NONSENSE, grpc.StatusCode.OK}, codes
        await fleet.until(lambda plan: len(plan.nodes) == 1 and not plan.answering)
        while not node.works.empty():
            node.works.get_nowait()
        node.answer_soon()
        assert (await read(fleet.ask()))[0] == "one two three four"

    fleet(work)


def test_a_coordinator_that_stops_lets_answers_end_and_takes_no_more():
    async def work(fleet):
        node = await fleet.node()
        call = fleet.ask()
        given = await node.works.get()
        closing = asyncio.ensure_future(fleet.service.close(30))
        await asyncio.sleep(0)
        assert (await refused(fleet.ask()))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        await node.say(given, 0, 4)
        await node.end(given)
        assert (await read(call))[0] == "one two three four"
        await closing
        assert await node.call.code() is grpc.StatusCode.UNAVAILABLE

    fleet(work)
