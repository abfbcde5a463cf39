"""`Resume`: what the cloud has is not sent again, what it lacks is, and what is over is freed."""

import time

import grpc
import numpy as np
import pytest

from updraft.benchmarks.collab.emulator import Emulator
from updraft.config.endpoint import parse_endpoint
from updraft.edge.request import GenerationRequest
from updraft.edge.session import Inputs, Terms
from updraft.edge.upstream import Upstream
from updraft.edge.window import Window
from updraft.models.sampling import Sampling
from updraft.proto.v1 import collaboration_pb2 as pb
from updraft.proto.v1 import collaboration_pb2_grpc as rpc

_TOKENS = 40
_STRIKE_AT = 10
# Long enough for an upload of its own, and no text that an exit is always sure of.
_LONG = "x = [1, 2, 3]\n" * 20 + "class Stack:\n    def __init__(self, "
_WIRE = "fp16"
_MODES = [
    ("lossless", {}),
    ("threshold", {"theta": 0.9}),
    ("threshold", {"theta": 1.5}),
    ("ids", {}),
]


@pytest.fixture(scope="module")
def link(coordinator):
    """A link before the session's coordinator."""
    emulator = Emulator(parse_endpoint(coordinator.address))
    yield emulator
    emulator.close()


class Sessions:
    """Every session that an engine starts, first to last."""

    def __init__(self, engine):
        self.started = []
        link = engine.link
        for name in ("open", "resume"):
            setattr(link, name, self._noting(getattr(link, name)))

    def _noting(self, start):
        def noted(*arguments):
            self.started.append(start(*arguments))
            return self.started[-1]

        return noted

    @property
    def opened(self):
        """What the coordinator said of those that it opened."""
        done = (session.opened for session in self.started if session.opened.done())
        return [future.result() for future in done if future.exception() is None]


def row_bytes(engine, mode):
    return 4 if mode == "ids" else 2 * engine.bundle.manifest.architecture.width


def run(engine, mode, strike, prompt=_LONG, **choices):
    """Run a generation that a fault hits in its middle, on a device that waits for the cloud."""
    request = GenerationRequest(
        prompt, mode, max_tokens=_TOKENS, wire=_WIRE, outage="repair", repair_wait_s=60, **choices
    )
    generation = engine.start(request)
    for count, token in enumerate(generation, start=1):
        if count == _STRIKE_AT:
            strike()
        if not token.verified:
            time.sleep(0.02)
    return generation.result


@pytest.mark.parametrize(("mode", "choices"), _MODES)
def test_after_a_cut_the_session_goes_on_and_the_prompt_is_not_sent_again(
    link, start_engine, mode, choices
):
    engine = start_engine(str(link.endpoint))
    undisturbed = run(engine, mode, lambda: None, **choices)
    sessions = Sessions(engine)
    result = run(engine, mode, lambda: link.black_out(0, cut=True), **choices)
    first, *later = sessions.opened
    prompt = len(engine.tokenizer.encode(_LONG))
    if not result.degraded:
        assert (mode, choices) == ("threshold", {"theta": 0.9}), "only it may need no cloud"
        return
    assert not first.resumed
    assert later
    assert all(opened.resumed for opened in later)
    assert {opened.session_id for opened in later} == {first.session_id}
    assert all(opened.position >= prompt for opened in later)
    assert result.tokens == undisturbed.tokens
    assert result.uplink_bytes < undisturbed.uplink_bytes + prompt * row_bytes(engine, mode) / 2


@pytest.mark.parametrize(("mode", "choices"), [_MODES[0], _MODES[2], _MODES[3]])
def test_after_a_restart_everything_is_sent_again(start_coordinator, start_engine, mode, choices):
    daemon = start_coordinator()
    engine = start_engine(daemon.address)
    sessions = Sessions(engine)

    def restart():
        daemon.kill()
        start_coordinator(port=daemon.port)

    result = run(engine, mode, restart, **choices)
    first, second = sessions.opened
    assert not second.resumed
    assert second.position == 0
    assert second.session_id != first.session_id
    prompt = len(engine.tokenizer.encode(_LONG))
    sent_twice = 2 * (prompt + _STRIKE_AT) + _TOKENS - _STRIKE_AT - 2
    assert result.uplink_bytes >= sent_twice * row_bytes(engine, mode)
    assert engine.link.describe().sessions == 0


@pytest.mark.parametrize("mode", ["lossless", "ids", "cloud", "threshold"])
@pytest.mark.parametrize("how", ["to its end", "cancelled", "left"])
def test_what_is_over_is_freed(engine, stub, snippets, wait_until, mode, how):
    def held():
        statistics = describe(stub).statistics
        return describe(stub).sessions, statistics.detached_sessions, statistics.memory_bytes

    wait_until(lambda: describe(stub).sessions == 0)
    _, detached, before = held()
    generation = engine.start(GenerationRequest(snippets[0], mode, theta=1.5, max_tokens=_TOKENS))
    steps = iter(generation)
    next(steps)
    if how == "cancelled":
        generation.cancel()
    if how == "left":
        steps.close()
    for _ in steps:
        pass
    wait_until(lambda: held() == (0, detached, before))


def test_a_session_that_was_resumed_is_freed_too(
    start_coordinator, start_engine, snippets, wait_until
):
    daemon = start_coordinator()
    emulator = Emulator(parse_endpoint(daemon.address))
    try:
        engine = start_engine(str(emulator.endpoint))
        for mode in ("lossless", "ids", "cloud", "threshold"):
            run(engine, mode, lambda: emulator.black_out(0, cut=True), snippets[0], theta=1.5)
        with grpc.insecure_channel(daemon.address) as channel:
            stub = rpc.CollaborationStub(channel)
            wait_until(lambda: describe(stub).sessions == 0)
            statistics = describe(stub).statistics
            assert (statistics.detached_sessions, statistics.memory_bytes) == (0, 0)
    finally:
        emulator.close()


def describe(stub):
    return stub.Describe(pb.DescribeRequest())


def test_a_client_that_missed_two_rejections_goes_on(engine):
    """What was kept aside for one replacement may have been judged, and replaced, as well."""
    prompt = engine.tokenizer.encode("for index, value in enumerate(")
    rows = len(prompt)
    terms = Terms(_WIRE, Sampling(), tokens=True)
    session = engine.link.open(terms)

    def put(epoch, position, tokens, draft, if_replaced=None):
        payload = np.array(tokens, "<u4").tobytes()
        session.send(
            Inputs(
                epoch,
                position,
                len(tokens),
                payload,
                [draft],
                flush=True,
                if_replaced=if_replaced,
            )
        )

    session.ask(0, rows, rows)
    session.send(Inputs(0, 0, rows, np.array(prompt, "<u4").tobytes()))
    right = session.receive().token
    put(1, rows, [right], draft=0, if_replaced=(rows - 1, right))
    put(0, rows - 1, prompt[-1:], draft=0)
    verdicts = [session.receive() for _ in range(2)]
    assert [(verdict.epoch, verdict.rejected) for verdict in verdicts] == [(0, True), (1, True)]

    split = engine.bundle.manifest.split
    window = Window(engine.model.below(split), split)
    window.follow(prompt)
    window.sequence.advance(split)
    upstream = Upstream(window, None)
    upstream.attach(session, 0)
    upstream.confirm(rows)
    again = engine.link.resume(terms, upstream.revival(session.opened.result().session_id))
    opened = again.opened.result()
    assert (opened.resumed, opened.position) == (True, rows)
    again.finish()
    session.cancel()
