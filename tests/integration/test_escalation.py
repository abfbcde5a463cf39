"""Whole requests answered by the coordinator's backend: our partitions, an agent, odd servers."""

import json
import os
import runpy
import threading
from pathlib import Path

import grpc
import openai
import pytest

from updraft.edge.link import Deadlines
from updraft.edge.request import GenerationRequest
from updraft.errors import LinkError, RequestError
from updraft.models.constraint import Constraint
from updraft.models.tokenizer import Tokenizer
from updraft.proto.v1 import escalation_pb2 as pb
from updraft.proto.v1 import escalation_pb2_grpc as rpc

_ODD = runpy.run_path(str(Path(__file__).parents[1] / "odd_server.py"))
_ODD_TEXT = "".join(_ODD["WORDS"])
_PROMPT = "import os\n\n\ndef main():\n    "
_EXACT = {"wire": "fp32", "max_tokens": 24}
_WARM = {"temperature": 0.8, "seed": 3}
_CHAT = json.dumps([{"role": "user", "content": "def add(a, b):"}])
_KEY = "sk-0123456789"


@pytest.fixture(scope="module")
def odd_server():
    server = _ODD["OddServer"]()
    yield server
    server.close()


@pytest.fixture
def odd(odd_server):
    odd_server.behaviour, odd_server.failures = "well", None
    return odd_server


@pytest.fixture(scope="module")
def before(daemon_of, odd_server):
    """A coordinator whose backend is the odd server; it lets two answers run and one wait."""
    settings = {
        "KIND": "openai",
        "URL": odd_server.url,
        "API_KEY": _KEY,
        "RETRIES": "0",
        "MAX_CONCURRENT": "2",
        "MAX_WAITING": "1",
        "WAIT_TIMEOUT_S": "2",
        "NEXT_TEXT_TIMEOUT_S": "2",
        "PROBE_INTERVAL_S": "0.2",
        "MAX_PROMPT_BYTES": "10000",
    }
    environment = {f"UPDRAFT_CLOUD__BACKEND__{key}": value for key, value in settings.items()}
    daemon = daemon_of(
        "cloud", "serve", "--listen", "127.0.0.1:0", environment=os.environ | environment
    )
    yield daemon
    log = daemon.close()
    assert "Traceback" not in log, log
    assert _KEY not in log


@pytest.fixture
def odd_engine(before, start_engine, odd, wait_until):
    """An engine whose requests the odd server answers."""
    engine = start_engine(before.address)
    wait_until(lambda: backend_of(before.address).ready)
    return engine


@pytest.fixture
def odd_stub(before, odd, wait_until):
    wait_until(lambda: backend_of(before.address).ready)
    with grpc.insecure_channel(before.address) as channel:
        yield rpc.EscalationStub(channel)


def backend_of(address):
    with grpc.insecure_channel(address) as channel:
        return rpc.EscalationStub(channel).GetBackend(pb.GetBackendRequest(), timeout=30)


def question(**fields):
    return pb.EscalationAnswerRequest(
        question=pb.Question(**({"text": _PROMPT, "max_tokens": 50} | fields))
    )


@pytest.mark.parametrize("choices", [{}, _WARM, {"stop": ("(",)}])
def test_partitions_give_the_text_of_cloud(engine, complete, choices):
    answer = complete(engine, _PROMPT, "request", **_EXACT, **choices)
    reference = complete(engine, _PROMPT, "cloud", **_EXACT, **choices)
    assert answer.text == reference.text
    assert answer.finish_reason == reference.finish_reason
    assert not answer.degraded
    assert answer.cloud_calls == 1
    assert answer.cloud_positions >= len(engine.tokenizer.encode(_PROMPT))
    assert answer.cloud_s > 0
    assert answer.uplink_bytes >= len(_PROMPT)
    assert answer.downlink_bytes >= len(answer.text.encode())
    assert answer.decisions["cloud"] == len(answer.tokens)


def test_what_it_took_is_counted_to_the_last_token(engine, complete):
    answer = complete(engine, _PROMPT, "request", max_tokens=9)
    assert answer.finish_reason == "length"
    assert answer.cloud_positions == len(engine.tokenizer.encode(_PROMPT)) + 9


def test_a_chat_is_sent_as_a_chat(engine, complete):
    plain = complete(engine, _PROMPT, "request", **_EXACT)
    chat = complete(engine, _PROMPT, "request", **_EXACT, messages=_CHAT)
    assert chat.text != plain.text
    assert chat.cloud_positions != plain.cloud_positions


@pytest.mark.parametrize(
    "constraint",
    [Constraint("regex", "[a-c]{8}"), Constraint("json_schema", '{"enum": ["yes", "no"]}')],
)
def test_partitions_hold_answers_to_a_form(engine, complete, constraint):
    answer = complete(engine, _PROMPT, "request", **_EXACT, constraint=constraint)
    reference = complete(engine, _PROMPT, "cloud", **_EXACT, constraint=constraint)
    assert answer.text == reference.text != ""
    assert (answer.finish_reason, answer.degraded) == ("stop", False)


def test_partitions_say_what_they_take(coordinator, bundle):
    backend = backend_of(coordinator.address)
    assert (backend.kind, backend.model, backend.ready) == (
        "partitions",
        bundle.manifest.name,
        True,
    )
    assert backend.capabilities.chat
    assert backend.capabilities.grammar


def test_another_agent_is_a_backend(daemon_of, start_coordinator, start_engine, engine, complete):
    whole = {"MODE": "full", "WIRE": "fp32", "WHOLE_MODEL": "true"}
    environment = {f"UPDRAFT_EDGE__DECODING__{key}": value for key, value in whole.items()}
    agent = daemon_of(
        "edge", "serve", "--listen", "127.0.0.1:0", environment=os.environ | environment
    )
    try:
        config = f'[backend]\nkind = "openai"\nurl = "http://{agent.address}/v1"\n'
        address = start_coordinator(config=config).address
        ours = start_engine(address)
        for choices in ({}, _WARM):
            answer = complete(ours, _PROMPT, "request", **_EXACT, **choices)
            assert answer.text == complete(engine, _PROMPT, "full", **_EXACT, **choices).text
            assert not answer.degraded
        chat = complete(ours, _PROMPT, "request", **_EXACT, messages=_CHAT)
        assert chat.text == complete(engine, _PROMPT, "request", **_EXACT, messages=_CHAT).text
        took = backend_of(address).capabilities
        assert took.text
        assert took.chat
        assert took.streams
        assert took.json_schema
        running = ours.start(GenerationRequest(_PROMPT, "request", max_tokens=300))
        tokens = iter(running)
        began = next(tokens).text
        agent.kill()
        assert sum(1 for _ in tokens) > 0
        assert running.result.text.startswith(began)
    finally:
        assert "Traceback" not in agent.close()


def test_text_of_another_tokenizer_comes_through_as_it_is(odd_engine, complete):
    answer = complete(odd_engine, "Tell me", "request", max_tokens=64)
    assert answer.text == _ODD_TEXT
    assert answer.finish_reason == "stop"
    assert answer.cloud_positions == 7 + len(_ODD["WORDS"])
    assert Tokenizer(odd_engine.bundle).decode(answer.tokens) == _ODD_TEXT


def test_max_tokens_counts_the_devices_tokens(odd_engine, odd, complete):
    odd.behaviour = "endless"
    answer = complete(odd_engine, "Tell me", "request", max_tokens=10)
    assert len(answer.tokens) == 10
    assert answer.finish_reason == "length"
    odd.behaviour = "well"
    short = complete(odd_engine, "Tell me", "request", max_tokens=3)
    assert short.finish_reason == "length"
    assert _ODD_TEXT.startswith(short.text)


def test_a_stop_string_ends_the_answer_and_the_servers_work(odd_engine, odd, complete, wait_until):
    odd.behaviour, left = "endless", odd.left
    answer = complete(odd_engine, "Tell me", "request", max_tokens=400, stop=("and and",))
    assert answer.text == "Once "
    assert answer.finish_reason == "stop"
    wait_until(lambda: odd.left == left + 1)


@pytest.mark.parametrize("behaviour", ["dies", "stalls", "no json", "says error", "ends"])
def test_a_server_that_fails_in_the_middle_leaves_the_device_to_go_on(
    odd_engine, odd, complete, behaviour
):
    odd.behaviour = behaviour
    answer = complete(odd_engine, _PROMPT, "request", max_tokens=12)
    assert answer.text.startswith("Once")
    assert answer.degraded
    given = len(odd_engine.tokenizer.encode("Once"))
    assert answer.unverified_from == len(odd_engine.tokenizer.encode(_PROMPT)) + given
    assert answer.decisions["cloud"] == given
    assert sum(answer.decisions.values()) == len(answer.tokens) <= 12


def test_a_failing_server_is_left_alone_and_used_again(odd_engine, odd, complete, wait_until):
    alone = complete(odd_engine, _PROMPT, "standalone", max_tokens=12).text
    odd.behaviour = "status 500"
    assert complete(odd_engine, _PROMPT, "request", max_tokens=12).text == alone
    asked = len(odd.bodies)
    again = complete(odd_engine, _PROMPT, "request", max_tokens=12)
    assert (again.text, again.degraded, again.cloud_calls) == (alone, True, 0)
    assert len(odd.bodies) == asked
    # The way to the coordinator itself is as good as before.
    assert not complete(odd_engine, _PROMPT, "lossless", max_tokens=4).degraded
    odd.behaviour = "well"
    wait_until(lambda: not complete(odd_engine, "Tell me", "request", max_tokens=64).degraded)


def test_a_server_that_refuses_the_request_is_heard(odd_engine, odd, before, complete):
    odd.behaviour = "status 400"
    with pytest.raises(RequestError, match="the context is 10 tokens, your text"):
        complete(odd_engine, _PROMPT, "request")
    assert "your text" not in before.log  # it may quote the prompt


def test_without_a_coordinator_the_device_answers(start_engine, complete):
    engine = start_engine("127.0.0.1:9", deadlines=Deadlines(open_s=1, answer_s=1))
    answer = complete(engine, _PROMPT, "request", max_tokens=8)
    assert answer.degraded
    assert answer.text == complete(engine, _PROMPT, "standalone", max_tokens=8).text


def test_a_text_too_long_for_the_device_needs_the_backend(odd_engine, odd, complete):
    long = "x = 1\n" * odd_engine.bundle.manifest.architecture.context_length
    assert complete(odd_engine, long, "request", max_tokens=64).text == _ODD_TEXT
    odd.behaviour = "dies"
    with pytest.raises(LinkError, match="alone this device cannot go on"):
        complete(odd_engine, long, "request", max_tokens=64)


def test_a_cancelled_request_ends_the_servers_work_at_once(odd_engine, odd, wait_until):
    odd.behaviour = "silent"
    running = odd_engine.start(GenerationRequest(_PROMPT, "request", max_tokens=200))
    asked = len(odd.bodies)
    thread = threading.Thread(target=lambda: list(running))
    thread.start()
    wait_until(lambda: len(odd.bodies) > asked)
    running.cancel()
    thread.join(60)
    assert not thread.is_alive()
    assert running.result.finish_reason == "cancelled"
    assert not running.result.degraded
    odd.behaviour, left = "endless", odd.left
    running = odd_engine.start(GenerationRequest(_PROMPT, "request", max_tokens=400))
    for index, _ in enumerate(running):
        if index == 2:
            running.cancel()
    wait_until(lambda: odd.left == left + 1)


def test_further_requests_wait_and_then_are_refused(odd_stub, odd, before, wait_until):
    odd.behaviour = "endless"
    answers = [odd_stub.Answer(question(max_tokens=4000), timeout=60) for _ in range(2)]
    for answer in answers:
        assert next(answer).HasField("accepted")
        next(answer)
    third = odd_stub.Answer(question(), timeout=60)
    assert next(third).HasField("accepted")
    fourth = odd_stub.Answer(question(), timeout=60)
    with pytest.raises(grpc.RpcError) as caught:
        next(fourth)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "2 requests are being answered and 1 wait" in caught.value.details()
    with pytest.raises(grpc.RpcError) as caught:
        next(third)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "busy with others for 2 s" in caught.value.details()
    left = odd.left
    for answer in answers:
        answer.cancel()
    wait_until(lambda: odd.left == left + 2)
    wait_until(lambda: backend_of(before.address).running == 0)


def test_a_deadline_ends_the_servers_work(odd_stub, odd, wait_until):
    odd.behaviour, left = "endless", odd.left
    with pytest.raises(grpc.RpcError) as caught:
        list(odd_stub.Answer(question(max_tokens=4000), timeout=2))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: odd.left == left + 1)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"text": ""}, "0 bytes"),
        ({"text": "x" * 10_001}, "10001 bytes, this backend takes 1 to 10000"),
        ({"max_tokens": 0}, "max_tokens 0"),
        ({"max_tokens": 8193}, "1 to 8192"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": 0}, "top_k 0 lies outside"),
        ({"seed": 1 << 63}, "seed"),
        ({"stop": [""]}, "stop takes"),
        ({"stop": ["a"] * 17}, "stop takes"),
        ({"text": None}, "a text or a chat"),
        ({"text": None, "chat": pb.Chat(messages="{")}, "no JSON array"),
        ({"text": None, "chat": pb.Chat(messages="[1]")}, "no JSON array"),
        ({"text": None, "chat": pb.Chat(messages="[]")}, "0 came"),
        ({"text": None, "chat": pb.Chat(messages="[" * 9000)}, "no JSON array"),
        ({"form": pb.Form(kind="poem", text="sonnet")}, "constraint 'poem' is unknown"),
        ({"form": pb.Form(kind="json_schema", text="{")}, "is no JSON"),
    ],
)
def test_questions_that_make_no_sense(odd_stub, fields, words):
    with pytest.raises(grpc.RpcError) as caught:
        list(odd_stub.Answer(question(**fields), timeout=30))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().startswith("request: ")
    assert words in caught.value.details()


def test_bytes_that_are_no_question_are_refused(before):
    with grpc.insecure_channel(before.address) as channel:
        call = channel.unary_stream("/updraft.v1.Escalation/Answer")
        with pytest.raises(grpc.RpcError) as caught:
            list(call(b"\xff" * 9, timeout=30))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_a_backend_of_nowhere_is_named_at_the_start(start_coordinator):
    with pytest.raises(RuntimeError, match=r"backend\.url"):
        start_coordinator(config='[backend]\nkind = "openai"\n')


def test_the_api_streams_what_the_backend_says(before, daemon_of, odd):
    arguments = ("edge", "serve", "--listen", "127.0.0.1:0", "--cloud", before.address)
    agent = daemon_of(*arguments)
    try:
        client = openai.OpenAI(base_url=f"http://{agent.address}/v1", api_key="none", max_retries=0)
        asked = {"model": "code", "max_tokens": 64, "extra_body": {"updraft": {"mode": "request"}}}
        messages = [{"role": "user", "content": "Tell me"}]
        with client:
            plain = client.completions.create(prompt="Tell me", **asked)
            assert plain.choices[0].text == _ODD_TEXT
            assert plain.usage.model_extra["updraft"]["cloud_tokens"] == 7 + len(_ODD["WORDS"])
            chunks = client.chat.completions.create(messages=messages, stream=True, **asked)
            said = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
            assert "".join(said) == _ODD_TEXT
            assert odd.bodies[-1]["messages"] == messages
    finally:
        assert "Traceback" not in agent.close()


def test_probabilities_of_another_model_are_not_told(odd_engine):
    with pytest.raises(RequestError, match="logprobs: mode 'request'"):
        odd_engine.start(GenerationRequest(_PROMPT, "request", logprobs=2))


def test_a_closed_link_ends_an_answer(before, start_engine, odd):
    odd.behaviour = "endless"
    engine = start_engine(before.address)
    running = iter(engine.start(GenerationRequest(_PROMPT, "request", max_tokens=200)))
    next(running)
    engine.link.close()
    rest = list(running)
    assert rest
    assert not rest[-1].verified
