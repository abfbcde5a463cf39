"""Clients that mean harm, on the wire or below it: they are bounded, and others are served."""

import hashlib
import itertools
import json
import queue
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from updraft.edge.request import GenerationRequest
from updraft.proto.v1 import collaboration_pb2 as pb
from updraft.proto.v1 import collaboration_pb2_grpc as rpc

NONSENSE, BUSY = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.RESOURCE_EXHAUSTED
TOO_LATE, GONE = grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE
_COLLABORATE = "/updraft.v1.Collaboration/Collaborate"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS = 0, 1, 3, 4
_END_STREAM, _END_HEADERS = 1, 4
_MIB = 1 << 20
_CROWD = Path(__file__).parents[1] / "fuzzer" / "crowd.py"
# What a crowd may leave behind once it has been there before, and what it may ever take.
_GROWTH_MIB, _MOST_MIB = 16, 512
_CONFIG = """
[sessions]
max_sessions = 16
memory_mib = 2
idle_expiry_s = 4
open_timeout_s = 1
gap_timeout_s = 0.2
write_timeout_s = 1
"""


class Client:
    """A `Collaborate` stream on a channel of its own."""

    def __init__(self, address, first):
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(address, options)
        self._frames = queue.SimpleQueue()
        self.stub = rpc.CollaborationStub(self._channel)
        self._answers = self.stub.Collaborate(iter(self._frames.get, None), timeout=60)
        self.say(**first)

    def say(self, **frame):
        self._frames.put(pb.CollaborateRequest(**frame))

    def put(self, position, count, **others):
        payload = np.arange(position + 1, position + count + 1, dtype="<u4").tobytes()
        self.say(states=pb.States(position=position, count=count, payload=payload, **others))

    def receive(self):
        """Return the next answer that is no Ack."""
        return next(answer for answer in self._answers if not answer.HasField("ack"))

    def opened(self):
        return self.receive().opened

    def refusal(self):
        """Return status and message that the stream ends with."""
        with pytest.raises(grpc.RpcError) as refused:
            while True:
                next(self._answers)
        return refused.value.code(), refused.value.details()

    def close(self):
        self._frames.put(None)
        self._channel.close()


@pytest.fixture
def daemon(start_coordinator, tiny_bundle):
    return start_coordinator("--bundle", tiny_bundle.folder, config=_CONFIG)


@pytest.fixture
def opening(tiny_bundle):
    """The first frame of a session that sends token ids."""
    return {
        "protocol": pb.PROTOCOL_V1,
        "fingerprint": tiny_bundle.fingerprint,
        "codec": pb.CODEC_FP32,
        "inputs": pb.INPUTS_TOKENS,
    }


@pytest.fixture
def connect(daemon, opening):
    """Return a function that makes a client and sends its first frame."""
    clients = []

    def start(first=None, **terms):
        first = first or {"open": pb.Open(**opening | terms)}
        clients.append(Client(daemon.address, first))
        return clients[-1]

    yield start
    for client in clients:
        client.close()


@pytest.fixture
def describe(daemon):
    """Return a function that asks the coordinator how it is."""
    with grpc.insecure_channel(daemon.address) as channel:
        stub = rpc.CollaborationStub(channel)
        yield lambda: stub.Describe(pb.DescribeRequest(), timeout=30)


@pytest.fixture
def memory_mib(daemon):
    """Return a function that gives the coordinator's resident memory."""
    process = psutil.Process(daemon.process.pid)
    return lambda: process.memory_info().rss / _MIB


@pytest.fixture(autouse=True)
def neighbour(daemon, tiny_bundle, start_engine, complete, wait_until, describe):
    """Somebody honest: right before, meanwhile if asked, and when all is over and freed."""
    engine = start_engine(daemon.address, of=tiny_bundle)
    choices = {"max_tokens": 24, "wire": "fp32"}
    right = complete(engine, "def add(a, b):", "full", **choices)

    def work():
        for mode in ("lossless", "cloud"):
            result = complete(engine, "def add(a, b):", mode, **choices)
            assert (result.tokens, result.degraded) == (right.tokens, False)

    work()
    yield work
    wait_until(lambda: not describe().sessions)
    work()
    wait_until(lambda: not (describe().sessions or describe().statistics.detached_sessions))
    assert describe().statistics.memory_bytes == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("opens", [[], ["--opens"]], ids=["half-open", "silent"])
def test_ten_thousand_streams_disturb_nobody_and_leave_nothing_behind(
    daemon, opens, start_engine, tiny_bundle, complete, describe, memory_mib, wait_until
):
    engine = start_engine(daemon.address, of=tiny_bundle)
    request = GenerationRequest("for item in items:\n", "lossless", max_tokens=40, wire="fp32")
    right = complete(engine, request.prompt, "full", max_tokens=40, wire="fp32")
    command = [sys.executable, _CROWD, daemon.address, *opens]
    memory = []
    for _ in range(4):
        generation = engine.start(request)
        steps = iter(generation)
        next(steps)
        crowd = subprocess.Popen(command, stdout=subprocess.PIPE)
        while crowd.poll() is None:
            next(steps, None)
            assert describe().sessions <= 16
            assert memory_mib() < _MOST_MIB
            time.sleep(0.1)
        list(steps)
        # A busy machine may lose the coordinator for a moment; the text is mended all the same.
        assert generation.result.tokens == right.tokens
        assert generation.result.unverified_from is None
        ends = json.loads(crowd.communicate()[0])
        # Where they come faster than gRPC hands them over, it cuts them off without our words.
        refused = sum(
            ends.pop(code, 0) for code in ("RESOURCE_EXHAUSTED", "CANCELLED", "UNAVAILABLE")
        )
        assert refused + ends.pop("DEADLINE_EXCEEDED") == 10_000
        assert 0 < ends.pop("opened", 0) <= refused if opens else not ends
        wait_until(lambda: not describe().sessions)
        memory.append(memory_mib())
    # How far a crowd gets at once depends on the machine's mood; it must not add up. One crowd may
    # get further than all before it; two crowds that both do are a leak.
    assert memory[3] <= max(memory[:2]) + 2 * _GROWTH_MIB


def test_many_connections_that_say_nothing_are_closed(daemon, neighbour):
    silent = [socket.create_connection(("127.0.0.1", daemon.port), 60) for _ in range(500)]
    neighbour()
    for connection in silent:
        while connection.recv(4096):  # what a server says first, and then the end
            pass
        connection.close()


def _frame(kind, flags, payload):
    """Return an HTTP/2 frame of the first stream; settings belong to the connection."""
    stream = 0 if kind == _SETTINGS else 1
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _request():
    """Return what begins a `Collaborate` call, by hand: nothing of gRPC's would send half of it."""
    names = {
        ":method": "POST",
        ":scheme": "http",
        ":path": _COLLABORATE,
        ":authority": "here",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    fields = [part.encode() for name in names.items() for part in name]
    coded = [bytes([0] * (n % 2 == 0) + [len(part)]) + part for n, part in enumerate(fields)]
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    return preface + _frame(_SETTINGS, 0, b"") + _frame(_HEADERS, _END_HEADERS, b"".join(coded))


def _ended(connection):
    """Read what has come; return whether the stream or the connection has ended."""
    try:
        data = connection.recv(65536)
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True
    while len(data) >= 9:
        size, (kind, flags) = int.from_bytes(data[:3], "big"), data[3:5]
        if kind == _RST_STREAM or (kind == _HEADERS and flags & _END_STREAM):
            return True
        data = data[9 + size :]
    return not data


@pytest.mark.parametrize("opened", [False, True])
def test_a_message_that_comes_byte_by_byte_holds_nothing(
    daemon, opening, opened, neighbour, describe
):
    with socket.create_connection(("127.0.0.1", daemon.port), 60) as connection:
        connection.sendall(_request())
        if opened:
            first = pb.CollaborateRequest(open=pb.Open(**opening)).SerializeToString()
            connection.sendall(_frame(_DATA, 0, struct.pack(">BI", 0, len(first)) + first))
        connection.sendall(_frame(_DATA, 0, struct.pack(">BI", 0, 1000)))
        neighbour()
        connection.settimeout(0.1)
        for _ in range(600):
            connection.sendall(_frame(_DATA, 0, b"x"))
            if _ended(connection):
                break
        else:
            raise AssertionError("it was never ended")


def test_calls_that_are_taken_back_at_once_leave_nothing(connect, neighbour, memory_mib):
    client, memory = connect(), []
    for _ in range(2):
        for _ in range(20):
            calls = [client.stub.Collaborate(iter(())) for _ in range(100)]
            for call in calls:
                call.cancel()
        neighbour()
        memory.append(memory_mib())
    assert memory[1] <= memory[0] + _GROWTH_MIB


def test_uploads_that_stand_still_leave_room_for_others(connect, neighbour):
    client, still = connect(), queue.SimpleQueue()
    session_id = client.opened().session_id
    client.put(0, 1)

    def upload(*first):
        frames = itertools.chain(first, iter(still.get, None))
        return client.stub.Upload.future(frames, timeout=60)

    own = [upload(pb.UploadRequest(session_id=session_id)) for _ in range(20)]
    others = [upload() for _ in range(200)]
    neighbour()
    for calls in (own, others):
        words = {call.exception().details() for call in calls}
        assert {call.code() for call in calls} <= {BUSY, TOO_LATE, GONE}
        assert any("link-busy: " in details for details in words)
    for _ in (*own, *others):
        still.put(None)


def test_a_large_message_packed_small_is_not_unpacked(daemon, memory_mib, neighbour):
    bomb, before = bytes(256 * _MIB), memory_mib()
    for packing in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        options = [("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(daemon.address, options, packing) as channel:
            call = channel.stream_stream(_COLLABORATE)(iter([bomb]), timeout=60)
            with pytest.raises(grpc.RpcError) as refused:
                list(call)
        assert refused.value.code() in (BUSY, TOO_LATE)
        neighbour()
    assert memory_mib() < before + 64


def test_a_first_message_that_is_too_large_is_refused(daemon, opening, connect):
    opened = pb.Open(**opening | {"fingerprint": "x" * (5 * _MIB)})
    code, details = connect({"open": opened}).refusal()
    assert code is BUSY
    assert "larger than max" in details


@pytest.mark.parametrize(
    ("method", "parse"),
    [
        ("/updraft.v1.Collaboration/Describe", pb.DescribeResponse.FromString),
        ("/grpc.health.v1.Health/Check", health_pb2.HealthCheckResponse.FromString),
        ("/grpc.health.v1.Health/Watch", health_pb2.HealthCheckResponse.FromString),
        (
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionResponse.FromString,
        ),
    ],
)
def test_garbage_is_refused_whichever_service_it_is_for(daemon, method, parse):
    with grpc.insecure_channel(daemon.address) as channel:
        for garbage in (b"\xff" * 9, b"\x0a\xff", b"\x0a\x02\xff\xff"):
            call = channel.stream_stream(method, None, parse)(iter([garbage]), timeout=60)
            if method.endswith("Describe") and garbage[0] == 0x0A and len(garbage) == 4:
                assert next(call).bundle_name  # an unknown field: a newer client's
                continue
            with pytest.raises(grpc.RpcError) as refused:
                next(call)
            assert refused.value.code() is NONSENSE
            assert (
                refused.value.details() == "protocol: a message came that is no frame of this call"
            )


def test_who_waits_for_what_it_never_sends_expires(connect):
    client = connect()
    client.say(ask=pb.Ask(length=5, position=5))
    code, details = client.refusal()
    assert code is TOO_LATE
    assert "no frame came for 4 s: the session has expired" in details


def test_what_is_foreseen_must_fit_the_context_too(connect, neighbour):
    client = connect()
    frame = {"epoch": 1, "payload": bytes(8), "if_replaced": pb.Replacement(position=0, token=3)}
    client.put(0, 1, drafts=[2])
    client.say(states=pb.States(position=63, count=2, **frame))
    code, details = client.refusal()
    assert code is NONSENSE
    assert "inputs up to position 65 exceed the context of 64" in details


def test_a_generation_does_not_follow_a_session_taken_up_again(connect, opening, neighbour):
    first = connect()
    session_id = first.opened().session_id
    first.put(0, 4)
    first.say(ask=pb.Ask(length=4, position=4))
    assert first.receive().HasField("token")
    empty = hashlib.blake2b(digest_size=16).digest()
    resume = pb.Resume(open=pb.Open(**opening), session_id=session_id, epoch=1, prefix_hash=empty)
    second = connect({"resume": resume})
    assert second.opened().resumed
    second.say(generate=pb.Generate(tokens=[1, 2], max_tokens=2))
    code, details = second.refusal()
    assert code is NONSENSE
    assert "frame 'generate' does not belong in a session in use" in details
    assert first.refusal()[0] is GONE


def test_the_epochs_come_to_an_end(connect, opening):
    last = 2**32 - 2
    client = connect()
    assert client.opened().session_id
    client.put(0, 1, epoch=last, drafts=[287], flush=True)
    verdict = client.receive().verdict
    assert (verdict.epoch, verdict.rejected) == (last, True)
    client.put(0, 1, epoch=last + 1)
    code, details = client.refusal()
    assert code is NONSENSE
    assert f"epoch {last + 1} came, {last} is the last" in details
    resume = pb.Resume(open=pb.Open(**opening), session_id="x", epoch=last + 1)
    anew = connect({"resume": resume})
    assert not anew.opened().resumed
    anew.put(0, 1, epoch=last + 1)
    assert anew.refusal()[0] is NONSENSE


def test_whoever_takes_a_session_over_wrongly_leaves_it_to_expire(connect, opening):
    first = connect()
    session_id = first.opened().session_id
    first.put(0, 4, epoch=7)
    first.say(ask=pb.Ask(epoch=7, length=4, position=4))
    assert first.receive().HasField("token")
    resume = pb.Resume(
        open=pb.Open(**opening),
        session_id=session_id,
        epoch=3,
        prefix_hash=hashlib.blake2b(digest_size=16).digest(),
    )
    code, details = connect({"resume": resume}).refusal()
    assert code is NONSENSE
    assert "resumed in epoch 3, the session is in 7 already" in details
    assert first.refusal()[0] is GONE


def test_a_prompt_of_millions_of_tokens_is_refused(connect, neighbour):
    client = connect()
    client.say(generate=pb.Generate(tokens=[1] * 4_000_000, max_tokens=1))
    neighbour()
    code, details = client.refusal()
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "4000000 tokens and max_tokens 1 exceed the context of 64" in details
