"""Nonsense on the wire: a status and a message for who sent it, nothing for anybody else."""

import socket

import grpc
import numpy as np
import pytest

from updraft.edge.request import GenerationRequest
from updraft.proto.v1 import collaboration_pb2 as pb

NONSENSE, REFUSED = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT
_METHOD = "/updraft.v1.Collaboration/Collaborate"
_HUGE = 2**32 - 1


@pytest.fixture
def width(bundle):
    return bundle.manifest.architecture.width


@pytest.fixture
def context(bundle):
    return bundle.manifest.architecture.context_length


@pytest.fixture
def frame(bundle, width):
    """Makes frames: sound ones unless told otherwise."""

    class Frame:
        @staticmethod
        def open(**changes):
            sound = {"protocol": 1, "fingerprint": bundle.fingerprint, "codec": 1}
            return pb.CollaborateRequest(open=pb.Open(**(sound | changes)))

        @staticmethod
        def states(position=0, count=1, value=0.5, payload=None, **others):
            if payload is None:
                payload = np.full((min(count, 1000), width), value, "<f4").tobytes()
            states = pb.States(position=position, count=count, payload=payload, **others)
            return pb.CollaborateRequest(states=states)

        @staticmethod
        def ask(length=1, epoch=0, position=1):
            return pb.CollaborateRequest(ask=pb.Ask(epoch=epoch, length=length, position=position))

        @staticmethod
        def generate(tokens=(1, 2), max_tokens=2):
            generate = pb.Generate(tokens=tokens, max_tokens=max_tokens)
            return pb.CollaborateRequest(generate=generate)

    return Frame


@pytest.fixture
def say(stub):
    """Return a function that sends frames and gives what came back after Opened."""

    def send(*frames):
        answers = list(stub.Collaborate(iter(frames), timeout=60))
        return [answer for answer in answers[1:] if not answer.HasField("ack")]

    return send


@pytest.fixture
def talk(say):
    """Return a function that sends frames and gives the tokens that came back."""
    return lambda *frames: [answer.token for answer in say(*frames)]


@pytest.fixture
def refusal(talk):
    """Return a function that sends frames and gives status and message of the refusal."""

    def send(*frames):
        with pytest.raises(grpc.RpcError) as refused:
            talk(*frames)
        return refused.value.code(), refused.value.details()

    return send


@pytest.fixture(autouse=True)
def neighbour(engine, complete, snippets, wait_until):
    """A session of somebody else runs through every test, and must not notice."""
    choices = {"theta": 1.5, "wire": "fp32", "max_tokens": 8}
    undisturbed = complete(engine, snippets[0], "full", **choices)
    generation = engine.start(GenerationRequest(snippets[0], "threshold", **choices))
    steps = iter(generation)
    next(steps)
    yield
    for _ in steps:
        pass
    assert generation.result.tokens == undisturbed.tokens
    assert not generation.result.degraded
    wait_until(lambda: engine.link.describe().sessions == 0)


def test_the_first_frame_must_be_open(refusal, frame):
    for first in (frame.states(), frame.ask(), frame.generate(), pb.CollaborateRequest()):
        assert refusal(first) == (
            NONSENSE,
            "protocol: the first frame of a session must be Open or Resume",
        )
    assert refusal()[0] is NONSENSE


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"protocol": 0}, NONSENSE, "speaks protocol 0, this coordinator 1"),
        ({"protocol": 77}, NONSENSE, "upgrade the older side"),
        ({"fingerprint": "0" * 64}, NONSENSE, "the agent runs model '000000000000'"),
        ({"fingerprint": ""}, NONSENSE, "give both the same bundle"),
        ({"codec": 0}, NONSENSE, "codec 0 is not one of this bundle's"),
        ({"codec": 77}, NONSENSE, "codec 77 is not one of this bundle's"),
        ({"temperature": -1.0}, REFUSED, "temperature -1.0 lies outside 0 to 100"),
        ({"temperature": float("nan")}, REFUSED, "temperature nan lies outside 0 to 100"),
        ({"temperature": float("inf")}, REFUSED, "temperature inf lies outside 0 to 100"),
        ({"inputs": 7}, NONSENSE, "inputs 7 are neither states nor tokens"),
        ({"logits_above": -0.1}, REFUSED, "logits_above -0.1 lies outside 0 to 1"),
        ({"logits_above": float("nan")}, REFUSED, "logits_above nan lies outside 0 to 1"),
    ],
)
def test_an_open_that_does_not_fit_is_refused(refusal, frame, changes, status, message):
    code, details = refusal(frame.open(**changes), frame.states(), frame.ask())
    assert code is status
    assert message in details


def test_states_that_make_no_sense_are_refused(refusal, frame, width):
    not_a_number, infinite = (frame.states(value=value) for value in (float("nan"), float("-inf")))
    for bad, message in [
        (frame.states(payload=b""), f"has 0 bytes, fp32 takes {4 * width}"),
        (frame.states(payload=bytes(4 * width + 1)), f"has {4 * width + 1} bytes"),
        (frame.states(count=2, payload=bytes(4 * width)), f"fp32 takes {8 * width}"),
        (not_a_number, "values that are not finite"),
        (infinite, "values that are not finite"),
        (frame.states(position=_HUGE), f"inputs up to position {_HUGE + 1} exceed the context"),
        (frame.states(drafts=[1, 2]), "2 drafts came after 1 inputs"),
        (frame.states(drafts=[1], committed=[True] * 2), "2 marks came beside 1 drafts"),
        (frame.states(drafts=[_HUGE]), f"draft {_HUGE} is no token"),
        (frame.states(count=0), "a frame of 0 positions, 1 to 128 are taken"),
        (frame.states(count=129), "a frame of 129 positions, 1 to 128 are taken"),
        (frame.states(count=_HUGE), f"a frame of {_HUGE} positions"),
    ]:
        code, details = refusal(frame.open(), bad, frame.ask())
        assert code is NONSENSE
        assert message in details


def test_states_beyond_the_context_are_refused(refusal, talk, frame, context):
    whole = [frame.states(position=at) for at in range(context)]
    (token,) = talk(frame.open(), *whole, frame.ask(length=context))
    assert token.computed_positions == context
    code, details = refusal(frame.open(), *whole, frame.states(position=context))
    assert code is NONSENSE
    assert f"inputs up to position {context + 1} exceed the context of {context}" in details


def test_an_ask_must_fit_the_context(refusal, frame, context):
    for length in (0, context + 1, _HUGE):
        code, details = refusal(frame.open(), frame.states(), frame.ask(length=length))
        assert code is NONSENSE
        assert f"asked about {length} inputs, 1 to {context} fit the context" in details


def test_too_many_asks_at_once_are_refused(refusal, frame):
    code, details = refusal(frame.open(), *(frame.ask(length=9) for _ in range(100)))
    assert code is NONSENSE
    assert "asks wait already" in details


def test_an_ask_for_more_than_came_is_answered_with_what_is_missing(say, frame):
    for frames, epoch, position in [
        ([frame.ask(length=1)], 0, 0),
        ([frame.states(count=3), frame.ask(length=5)], 0, 3),
        ([frame.states(count=3), frame.states(position=4), frame.ask(length=5)], 0, 3),
        ([frame.states(count=3), frame.ask(length=3, epoch=2)], 2, 0),
        ([frame.states(epoch=3, position=1), frame.ask(length=2, epoch=3)], 3, 0),
    ]:
        (answer,) = say(frame.open(), *frames)
        assert (answer.need_from.epoch, answer.need_from.position) == (epoch, position)


def test_a_generation_that_cannot_be_served_is_refused(refusal, frame, bundle, context):
    vocabulary = bundle.manifest.architecture.vocabulary_size
    for generate, message in [
        (frame.generate(tokens=()), "at least one token"),
        (frame.generate(tokens=(1, vocabulary)), "within the vocabulary"),
        (frame.generate(tokens=(_HUGE,)), "within the vocabulary"),
        (frame.generate(max_tokens=0), "max_tokens must be at least 1"),
        (frame.generate(max_tokens=_HUGE), f"exceed the context of {context}"),
        (frame.generate(tokens=[1] * context), f"exceed the context of {context}"),
    ]:
        code, details = refusal(frame.open(), generate)
        assert code is REFUSED
        assert message in details


def test_a_frame_that_does_not_belong_there_is_refused(refusal, frame):
    resume = pb.CollaborateRequest(resume=pb.Resume(open=frame.open().open))
    for misplaced, kind in [
        (frame.open(), "open"),
        (resume, "resume"),
        (frame.generate(), "generate"),
        (pb.CollaborateRequest(), "None"),
    ]:
        code, details = refusal(frame.open(), frame.states(), misplaced)
        assert code is NONSENSE
        assert f"frame {kind}" in details.replace("'", "")
        assert "does not belong in" in details
    for misplaced in (frame.states(), frame.ask(), frame.generate()):
        code, details = refusal(frame.open(), frame.generate(max_tokens=100), misplaced)
        assert code is NONSENSE
        assert "does not belong in a" in details


def test_states_that_come_twice_change_nothing(talk, frame):
    first, second = frame.states(count=4), frame.states(position=4, value=-0.5)
    asks = [frame.ask(length=5, position=5)]
    plain = talk(frame.open(), first, second, *asks)
    overlapping = frame.states(position=1, count=3, value=9.0)
    twice = talk(frame.open(), first, first, overlapping, second, first, second, *asks)
    assert [answer(token) for token in twice] == [answer(token) for token in plain]


def test_states_of_an_older_epoch_change_nothing(talk, frame):
    new = [frame.states(epoch=2, count=3), frame.ask(length=3, epoch=2, position=9)]
    plain = talk(frame.open(), *new)
    older = frame.states(epoch=1, count=3, value=7.0)
    late = talk(frame.open(), frame.states(count=5), older, new[0], older, frame.states(), new[1])
    assert [answer(token) for token in late] == [answer(token) for token in plain]


def answer(token):
    return token.position, token.token, token.confidence, token.computed_positions


def test_the_largest_finite_values_and_keys_get_an_answer(talk, frame, bundle):
    largest = float(np.finfo("<f4").max)
    opened = frame.open(seed=2**64 - 1, temperature=1.0)
    (token,) = talk(opened, frame.states(value=largest), frame.ask(position=_HUGE))
    assert 0 <= token.token < bundle.manifest.architecture.vocabulary_size


def test_a_session_may_end_right_after_open(talk, frame):
    assert talk(frame.open()) == []


@pytest.mark.parametrize("opens", [False, True])
@pytest.mark.parametrize("garbage", [b"\xff" * 9, b"\x0a\xff\xff\xff\xff\x0f", b"\x12\x7f"])
def test_a_message_of_garbage_ends_its_own_stream_alone(coordinator, frame, opens, garbage):
    messages = [frame.open().SerializeToString()] * opens + [garbage]
    with grpc.insecure_channel(coordinator.address) as channel:
        stream = channel.stream_stream(_METHOD)(iter(messages), timeout=60)
        with pytest.raises(grpc.RpcError) as refused:
            list(stream)
    assert refused.value.code() is NONSENSE
    assert refused.value.details() == "protocol: a message came that is no frame of this call"


def test_a_message_that_is_too_large_is_refused(refusal, frame):
    code, details = refusal(frame.open(), frame.states(payload=bytes(5 << 20)))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in details


@pytest.mark.parametrize(
    "garbage",
    [
        np.random.default_rng(1).bytes(4096),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 2048,
        b"",
    ],
)
def test_garbage_on_the_port_is_dropped(coordinator, engine, garbage):
    with socket.create_connection(("127.0.0.1", coordinator.port), timeout=60) as connection:
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        try:
            while connection.recv(4096):
                pass
        except ConnectionResetError:
            pass
    assert engine.link.describe().bundle_name == engine.bundle.manifest.name
