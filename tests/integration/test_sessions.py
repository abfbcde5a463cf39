"""Sessions of a coordinator: their limits, their expiry, and many of them at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from updraft.edge.session import Inputs, Terms
from updraft.errors import LinkBusy, LinkTimeout
from updraft.models.sampling import Sampling
from updraft.proto.v1 import collaboration_pb2 as pb
from updraft.proto.v1 import collaboration_pb2_grpc as rpc

SERVICE = "updraft.v1.Collaboration"
_CLIENTS = 32
_TOKENS = 24


def opened(link):
    """Open a session and wait for it."""
    session = link.open(Terms("fp16", Sampling()))
    session.opened.result(30)
    return session


def state(bundle, position):
    """Return one state as it is sent."""
    return Inputs(0, position, 1, bytes(2 * bundle.manifest.architecture.width))


def test_a_session_above_the_limit_is_refused_until_another_ends(
    start_coordinator, start_engine, wait_until
):
    daemon = start_coordinator(config="[sessions]\nmax_sessions = 2\n")
    link = start_engine(daemon.address).link
    first, second = (opened(link) for _ in range(2))
    with pytest.raises(LinkBusy, match=r"serves 2 sessions, its limit; try later"):
        opened(link)
    assert link.describe()[2:] == (2, 2)
    first.finish()
    wait_until(lambda: link.describe().sessions == 1)
    third = opened(link)
    for session in (second, third):
        session.finish()
    wait_until(lambda: link.describe().sessions == 0)


def test_a_session_that_was_left_makes_room_for_a_new_one(
    start_coordinator, start_engine, bundle, wait_until
):
    daemon = start_coordinator(config="[sessions]\nmax_sessions = 1\n")
    link = start_engine(daemon.address).link
    left = opened(link)
    left.send(state(bundle, 0))
    left.ask(0, 1, 1)
    left.receive()
    left.cancel()
    wait_until(lambda: link.describe().sessions == 0)
    opened(link).finish()


def test_sessions_in_little_memory_give_the_tokens_that_each_gives_alone(
    start_coordinator, start_engine, complete, snippets, bundle
):
    limits = "[sessions]\nmemory_mib = 12\n"
    engine = start_engine(start_coordinator(config=limits).address)
    results = at_once(engine, complete, snippets, 10)
    alone = [one_of(engine, complete, snippets, number) for number in range(10)]
    assert [result.tokens for result in results] == [result.tokens for result in alone]
    assert not any(result.degraded for result in results)
    with grpc.insecure_channel(str(engine.link.endpoint)) as channel:
        answer = rpc.CollaborationStub(channel).Describe(pb.DescribeRequest(), timeout=30)
    assert 0 < answer.statistics.peak_memory_bytes <= 12 << 20
    assert answer.statistics.restored > 0


def test_a_busy_coordinator_leaves_the_edge_decoding_alone(
    start_coordinator, start_engine, complete, snippets
):
    daemon = start_coordinator(config="[sessions]\nmax_sessions = 1\n")
    engine = start_engine(daemon.address)
    held = opened(engine.link)
    result = complete(engine, snippets[0], "threshold", theta=1.5, max_tokens=4)
    assert (result.degraded, len(result.tokens)) == (True, 4)
    held.finish()


def test_a_silent_session_expires_and_frees_its_place(start_coordinator, start_engine, wait_until):
    daemon = start_coordinator(config="[sessions]\nmax_sessions = 1\nidle_expiry_s = 0.5\n")
    link = start_engine(daemon.address).link
    silent = opened(link)
    with pytest.raises(LinkTimeout, match=r"no frame came for 0\.5 s: the session has expired"):
        silent.receive()
    wait_until(lambda: link.describe().sessions == 0)
    opened(link).finish()


def test_a_session_that_sends_states_does_not_expire_before_it_is_silent(
    start_coordinator, start_engine, bundle
):
    daemon = start_coordinator(config="[sessions]\nidle_expiry_s = 1\n")
    session = opened(start_engine(daemon.address).link)
    for position in range(8):
        threading.Event().wait(0.2)
        session.send(state(bundle, position))
    session.ask(0, 8, 8)
    assert session.receive().computed_positions == 8
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
    alone = [one_of(engine, complete, snippets, number) for number in range(_CLIENTS)]
    together = at_once(engine, complete, snippets, _CLIENTS)
    assert [result.tokens for result in together] == [result.tokens for result in alone]
    assert not any(result.degraded for result in together)
    wait_until(lambda: engine.link.describe().sessions == 0)


def one_of(engine, complete, snippets, number):
    """Run one of many different requests."""
    return complete(
        engine,
        snippets[number % len(snippets)],
        ("threshold", "lossless", "cloud")[number % 3],
        theta=1.5,
        max_tokens=_TOKENS,
        temperature=0.9,
        seed=number,
        wire="fp32",
    )


def at_once(engine, complete, snippets, count):
    """Run the first of those requests together."""
    with ThreadPoolExecutor(count) as threads:
        return list(
            threads.map(lambda number: one_of(engine, complete, snippets, number), range(count))
        )


def test_many_abandoned_sessions_leave_nothing_behind(engine, wait_until):
    for number in range(_CLIENTS):
        session = opened(engine.link)
        if number % 2:
            session.generate([1] * 8, 200)
        session.cancel()
    wait_until(lambda: engine.link.describe().sessions == 0)


def test_an_agent_that_dies_leaves_nothing_behind(coordinator, engine, wait_until, start_engine):
    other = start_engine(coordinator.address)
    opened(other.link)
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
