"""Servers of OpenAI's API as backends: what they take, how they fail, and when they are let be."""

import asyncio
import logging
import runpy
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from updraft.cloud.backends.backend import Capabilities, Finish, Piece, Question
from updraft.cloud.backends.breaker import Breaker
from updraft.cloud.backends.config import BackendSettings
from updraft.cloud.backends.openai_wire import call_of, fault_of, read_answer, read_event
from updraft.cloud.backends.opening import open_backend
from updraft.errors import (
    ConfigError,
    LinkBroken,
    LinkBusy,
    LinkError,
    LinkTimeout,
    RequestError,
)
from updraft.models.constraint import Constraint

_ODD = runpy.run_path(str(Path(__file__).parents[1] / "odd_server.py"))
_WORDS = _ODD["WORDS"]
_TEXT = Question("Tell me", (), 64)
_CHAT = Question(None, ({"role": "user", "content": "Tell me"},), 64)
_ALL = Capabilities(*[True] * 5, json_schema=True, grammar=True, logprobs=True)
_SCHEMA = Constraint("json_schema", '{"type": "object"}')


@pytest.fixture(scope="module")
def running():
    server = _ODD["OddServer"]()
    yield server
    server.close()


@pytest.fixture
def server(running):
    running.behaviour, running.failures = "well", None
    running.refusal = 400
    running.refuses, running.paths = set(), {"completions", "chat/completions"}
    running.bodies, running.headers = [], []
    return running


def backend_of(server, **choices):
    settings = BackendSettings(kind="openai", url=server.url, **({"retries": 1} | choices))
    return open_backend(settings, None, None)


async def collect(backend, question=_TEXT):
    async with aclosing(backend.answer(question)) as events:
        return [event async for event in events]


def ask(server, question=_TEXT, **choices):
    async def run():
        backend = backend_of(server, **choices)
        try:
            return await collect(backend, question)
        finally:
            await backend.close()

    return asyncio.run(run())


@pytest.mark.parametrize("question", [_TEXT, _CHAT])
def test_an_answer_comes_in_pieces_with_what_it_took(server, question):
    *pieces, end = ask(server, question)
    assert [piece.text for piece in pieces] == _WORDS
    assert end[:3] == ("stop", 7, len(_WORDS))
    assert 0 < sum(piece.compute_s for piece in pieces) <= end.compute_s
    [body] = server.bodies
    assert body["model"] == "odd"
    assert body["stream_options"] == {"include_usage": True}
    assert ("prompt" in body) == (question is _TEXT)


def test_an_answer_as_long_as_was_asked_says_so(server):
    assert ask(server, Question("Tell me", (), 3))[-1].reason == "length"


@pytest.mark.parametrize("refusal", [400, 422, 500, 501])
def test_what_a_server_does_not_take_is_left_out(server, refusal):
    server.refusal = refusal
    server.refuses = {"stream", "seed", "logprobs", "response_format", "stream_options"}
    piece, end = ask(server)
    assert piece.text == "".join(_WORDS)
    assert piece.tokens == len(_WORDS) == end.new_tokens
    [body] = server.bodies
    assert server.refuses & set(body) == set()


def test_usage_is_counted_where_a_server_does_not_tell_it(server):
    server.refuses = {"stream_options"}
    assert ask(server)[-1].new_tokens == len(_WORDS)


def test_a_form_is_asked_for_or_the_request_refused(server):
    held = Question("Tell me", (), 64, constraint=_SCHEMA)
    ask(server, held)
    assert server.bodies[0]["response_format"]["json_schema"]["schema"] == {"type": "object"}
    with pytest.raises(RequestError, match="'regex' is not known"):
        ask(server, Question("Tell me", (), 64, constraint=Constraint("regex", "a+")))
    server.refuses = {"response_format"}
    with pytest.raises(RequestError, match="no response_format"):
        ask(server, held)
    assert len(server.bodies) == 1


def test_a_server_of_chats_takes_no_texts_to_be_continued(server):
    server.paths = {"chat/completions"}
    assert ask(server, _CHAT)[-1].reason == "stop"
    with pytest.raises(RequestError, match="it takes chats only"):
        ask(server)


def test_a_server_of_nothing_is_named_with_where_to_look(server):
    server.paths = set()
    with pytest.raises(LinkBroken, match=r"'odd': look at backend\.url"):
        ask(server)


@pytest.mark.parametrize(
    ("behaviour", "error", "words"),
    [
        ("status 400", RequestError, r"the context is 10 tokens, your text \[31mhas 11"),
        ("status 413", RequestError, "refuses the request"),
        ("status 401", LinkBroken, r"refuses the coordinator's key \(HTTP 401\)"),
        ("status 404", LinkBroken, "HTTP 404"),
        ("status 429", LinkBusy, "at a limit of its own"),
        ("status 500", LinkBroken, "HTTP 500"),
        ("redirect", LinkBroken, "HTTP 307"),
        ("html", LinkBroken, "does not speak as it should"),
        ("models: none", LinkBroken, "no list of models"),
    ],
)
def test_a_failure_before_the_first_piece(server, behaviour, error, words):
    server.behaviour = behaviour
    with pytest.raises(error, match=words):
        ask(server)


@pytest.mark.parametrize(
    ("behaviour", "error", "words"),
    [
        ("stalls", LinkTimeout, "nothing for 2 s"),
        ("dies", LinkBroken, "broke the connection"),
        ("no json", LinkBroken, "no JSON"),
        ("no completion", LinkBroken, "no completion"),
        ("huge", LinkBroken, "does not speak as it should"),
        ("says error", LinkBroken, "CUDA out of memory"),
        ("ends", LinkBroken, "in the middle"),
    ],
)
def test_a_failure_in_the_middle_is_not_tried_again(server, behaviour, error, words):
    server.behaviour = behaviour

    async def run():
        backend, pieces = backend_of(server, retries=3, next_text_timeout_s=2), []
        with pytest.raises(error, match=words):
            async with aclosing(backend.answer(_TEXT)) as events:
                async for event in events:
                    pieces.append(event.text)  # noqa: PERF401  # some before the failure
        await backend.close()
        return pieces

    assert asyncio.run(run()) == _WORDS[:1]
    assert len(server.bodies) == 1


@pytest.mark.parametrize("behaviour", ["status 503", "status 429", "status 500"])
def test_what_may_pass_is_tried_again(server, behaviour):
    server.behaviour, server.failures = behaviour, 1
    assert ask(server)[-1].reason == "stop"
    assert len(server.bodies) == 2


def test_a_server_that_says_nothing(server):
    server.behaviour = "silent"
    with pytest.raises(LinkTimeout, match="nothing for 2 s"):
        ask(server, first_text_timeout_s=2)


def test_a_server_that_is_not_there(server):
    class Nobody:
        url = "http://127.0.0.1:9/v1"

    with pytest.raises(LinkBroken, match="cannot be reached"):
        ask(Nobody)


def test_leaving_an_answer_ends_the_servers_work(server, wait_until):
    server.behaviour = "endless"
    left = server.left

    async def run():
        backend = backend_of(server)
        async with aclosing(backend.answer(_TEXT)) as events:
            async for _ in events:
                break
        await asyncio.to_thread(wait_until, lambda: server.left == left + 1)
        await backend.close()

    asyncio.run(run())


def test_a_server_that_keeps_failing_is_let_be(server):
    server.behaviour = "status 500"

    async def run():
        backend = backend_of(server, retries=0)
        for _ in range(3):
            with pytest.raises(LinkBroken, match="HTTP 500"):
                await collect(backend)
        assert not backend.ready
        with pytest.raises(LinkBroken, match="it is tried again in"):
            await collect(backend)
        await backend.close()

    asyncio.run(run())
    assert len(server.bodies) == 3


def test_looking_after_a_server_finds_that_it_is_back(server, wait_until):
    server.behaviour = "models: none"

    async def run():
        backend = backend_of(server, probe_interval_s=0.05)
        backend.start()
        await asyncio.to_thread(wait_until, lambda: len(server.headers) > 3)
        assert not backend.ready
        server.behaviour = "well"
        await asyncio.to_thread(wait_until, lambda: backend.ready)
        assert backend.model == "odd"
        assert backend.capabilities == Capabilities(*[True] * 6, logprobs=True)
        await backend.close()

    asyncio.run(run())


def test_the_key_goes_to_the_server_and_nowhere_else(server, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    key = "sk-0123456789"
    (tmp_path / "key").write_text(f"{key}\n")
    server.behaviour = "status 403"
    for way in ({"api_key_file": tmp_path / "key"}, {"api_key": SecretStr(key)}):
        with pytest.raises(LinkBroken) as caught:
            ask(server, **way)
        assert server.headers[-1]["authorization"] == f"Bearer {key}"
        assert key not in str(caught.value)
    settings = BackendSettings(api_key=key)
    assert key not in caplog.text + repr(settings) + settings.model_dump_json()


@pytest.mark.parametrize(
    ("choices", "fault"),
    [
        ({"url": None}, "needs the server's"),
        ({"url": "127.0.0.1:8000"}, "no address of a server"),
        ({"url": "ftp://127.0.0.1/v1"}, "no address of a server"),
        ({"url": "http://127.0.0.1:port/v1"}, "no address of a server"),
        ({"url": "http://[::1/v1"}, "no address of a server"),
        ({"url": "http://user:pass@127.0.0.1/v1"}, "no key belongs there"),
        ({"api_key_file": Path("/nowhere/key")}, "cannot be read"),
        ({"api_key": SecretStr("two\nlines")}, "holds no key"),
        ({"api_key": SecretStr(" ")}, "holds no key"),
        ({"api_key": SecretStr("a"), "api_key_file": Path("b")}, "leave one out"),
    ],
)
def test_settings_that_make_no_sense(choices, fault):
    settings = BackendSettings(**({"kind": "openai", "url": "http://127.0.0.1/v1"} | choices))
    with pytest.raises(ConfigError, match=fault) as caught:
        open_backend(settings, None, None)
    assert "pass" not in str(caught.value)


def test_a_breaker_lets_one_try_at_a_time_and_waits_longer_each_time():
    now = 0.0
    breaker = Breaker(lambda: now)
    for _ in range(3):
        breaker.check()
        breaker.failed("it is down")
    assert not breaker.closed
    pauses = []
    for _ in range(3):
        before = now
        while True:
            try:
                breaker.check()
            except LinkBroken as error:
                assert "down" in str(error)
                now += 0.05
            else:
                break
        pauses.append(now - before)
        with pytest.raises(LinkBroken):
            breaker.check()  # the try has not ended yet
        breaker.failed("it is still down")
    assert pauses[0] < pauses[1] < pauses[2]
    breaker.succeeded()
    for _ in range(10):
        breaker.check()


def test_only_what_is_known_goes_up():
    question = Question("a", (), 5, 0.5, 9, 0.9, 40, tuple("stuvwxyz"), Constraint("json_object"))
    call = call_of(question, "m", _ALL)
    assert call.path == "completions"
    assert call.body == {
        "model": "m",
        "max_tokens": 5,
        "temperature": 0.5,
        "prompt": "a",
        "top_p": 0.9,
        "top_k": 40,
        "seed": 9,
        "stop": ["s", "t", "u", "v"],
        "response_format": {"type": "json_object"},
        "stream": True,
        "stream_options": {"include_usage": True},
    }


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "text",
                    "delta",
                    "message",
                    "content",
                    "usage",
                    "error",
                    "detail",
                    "finish_reason",
                    "prompt_tokens",
                ]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(_JSON)
def test_whatever_json_a_server_says_is_an_answer_or_a_broken_link(value):
    try:
        said = read_answer(value)
    except LinkError:
        return
    assert isinstance(said.text, str)
    assert said.finish in (None, "stop", "length")


@given(st.integers(100, 599), st.binary(max_size=40) | _JSON.map(lambda v: str(v).encode()))
def test_whatever_status_comes_has_an_error(status, body):
    assert isinstance(fault_of(status, body), RequestError | LinkError)


@pytest.mark.parametrize("data", ["", "{", "[" * 100_000, "9" * 10_000, "NaN", "null", "[1]"])
def test_events_that_are_no_completions(data):
    with pytest.raises(LinkBroken):
        read_event(data)


def test_pieces_and_ends_are_plain():
    assert Piece("a", 1, 0.5)._asdict().keys() == {"text", "tokens", "compute_s"}
    assert Finish("stop", 1, 2, 0.5).reason == "stop"
