"""Sessions of a coordinator: their limits, their expiry, and many of them at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from updraft.errors import LinkBusy, LinkTimeout
from updraft.models.runtime import RuntimeOptions
from updraft.models.sampling import Sampling
from updraft.models.sequence import Model
from updraft.proto.v1 import collaboration_pb2_grpc as rpc

SERVICE = "updraft.v1.Collaboration"
_CLIENTS = 32
_TOKENS = 24


def test_a_session_above_the_limit_is_refused_until_another_ends(start_coordinator, start_engine):
    daemon = start_coordinator(config="[sessions]\nmax_sessions = 2\n")
    link = start_engine(daemon.address).link
    first, second = (link.open("fp16", Sampling()) for _ in range(2))
    with pytest.raises(LinkBusy, match=r"serves 2 sessions, its limit; try later"):
        link.open("fp16", Sampling())
    assert link.describe()[2:] == (2, 2)
    first.finish()
    third = link.open("fp16", Sampling())
    for session in (second, third):
        session.finish()
    assert link.describe().sessions == 0


def test_a_session_beyond_the_memory_is_refused_until_another_ends(
    bundle, start_coordinator, start_engine
):
    shape = bundle.manifest.architecture
    each = Model.load(bundle, range(shape.layers), RuntimeOptions()).sequence_bytes
    memory_mib = (2 * each - 1 >> 20) + 1
    fitting = (memory_mib << 20) // each
    daemon = start_coordinator(config=f"[sessions]\nmemory_mib = {memory_mib}\n")
    link = start_engine(daemon.address).link
    sessions = [link.open("fp16", Sampling()) for _ in range(fitting)]
    with pytest.raises(LinkBusy, match=rf"a session takes {each >> 10} KiB and \d+ KiB"):
        link.open("fp16", Sampling())
    sessions.pop().finish()
    sessions.append(link.open("fp16", Sampling()))
    for session in sessions:
        session.finish()


def test_a_busy_coordinator_leaves_the_edge_decoding_alone(
    start_coordinator, start_engine, complete, snippets
):
    daemon = start_coordinator(config="[sessions]\nmax_sessions = 1\n")
    engine = start_engine(daemon.address)
    held = engine.link.open("fp16", Sampling())
    result = complete(engine, snippets[0], "threshold", theta=1.5, max_tokens=4)
    assert (result.degraded, len(result.tokens)) == (True, 4)
    held.finish()


def test_a_silent_session_expires_and_frees_its_place(start_coordinator, start_engine, wait_until):
    daemon = start_coordinator(config="[sessions]\nmax_sessions = 1\nidle_expiry_s = 0.5\n")
    link = start_engine(daemon.address).link
    silent = link.open("fp16", Sampling())
    with pytest.raises(LinkTimeout, match=r"no frame came for 0\.5 s: the session has expired"):
        silent.receive()
    wait_until(lambda: link.describe().sessions == 0)
    link.open("fp16", Sampling()).finish()


def test_a_session_that_sends_states_does_not_expire_before_it_is_silent(
    start_coordinator, start_engine, bundle
):
    daemon = start_coordinator(config="[sessions]\nidle_expiry_s = 1\n")
    session = start_engine(daemon.address).link.open("fp16", Sampling())
    state = bytes(2 * bundle.manifest.architecture.width)
    for position in range(8):
        threading.Event().wait(0.2)
        session.send_states(0, position, 1, state)
    assert session.ask(0, 8, 8).computed_positions == 8
    session.finish()


def test_a_stream_that_never_opens_is_closed(start_coordinator):
    daemon = start_coordinator(config="[sessions]\nopen_timeout_s = 0.3\n")
    done = threading.Event()

    def silence():
        done.wait()
        yield from ()

    with grpc.insecure_channel(daemon.address) as channel:
        stream = rpc.CollaborationStub(channel).Collaborate(silence(), timeout=60)
        with pytest.raises(grpc.RpcError) as refused:
            next(stream)
        done.set()
    assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "no frame came for 0.3 s" in refused.value.details()


def test_many_sessions_at_once_get_the_tokens_that_each_gets_alone(
    engine, complete, snippets, wait_until
):
    def one(number):
        return complete(
            engine,
            snippets[number % len(snippets)],
            ("threshold", "cloud")[number % 2],
            theta=1.5,
            max_tokens=_TOKENS,
            temperature=0.9,
            seed=number,
            wire="fp32",
        )

    alone = [one(number) for number in range(_CLIENTS)]
    with ThreadPoolExecutor(_CLIENTS) as threads:
        together = list(threads.map(one, range(_CLIENTS)))
    assert [result.tokens for result in together] == [result.tokens for result in alone]
    assert not any(result.degraded for result in together)
    wait_until(lambda: engine.link.describe().sessions == 0)


def test_many_abandoned_sessions_leave_nothing_behind(engine, wait_until):
    for number in range(_CLIENTS):
        session = engine.link.open("fp16", Sampling())
        if number % 2:
            session.generate([1] * 8, 200)
        session.cancel()
    wait_until(lambda: engine.link.describe().sessions == 0)


def test_an_agent_that_dies_leaves_nothing_behind(coordinator, engine, wait_until, start_engine):
    other = start_engine(coordinator.address)
    other.link.open("fp16", Sampling())
    other.link.close()
    wait_until(lambda: engine.link.describe().sessions == 0)


@pytest.mark.parametrize("service", ["", SERVICE])
def test_the_health_service_says_serving(coordinator, service):
    with grpc.insecure_channel(coordinator.address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=30)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_and_describes_the_service(coordinator):
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
    ]
    with grpc.insecure_channel(coordinator.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        listed, described = stub.ServerReflectionInfo(iter(requests), timeout=30)
    names = {service.name for service in listed.list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= names
    raw = described.file_descriptor_response.file_descriptor_proto[0]
    assert FileDescriptorProto.FromString(raw).package == "updraft.v1"
