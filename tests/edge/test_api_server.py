"""The API around a real engine: who gets a place, what leaves the device, what memory is kept."""

import gc
import json
import socket
import threading
import urllib.error
import urllib.request
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace

import pytest
import uvicorn

from updraft.config.endpoint import parse_endpoint
from updraft.devices.meters.modelled import ModelledMeter
from updraft.edge.agent import _Server
from updraft.edge.api.server import Api
from updraft.edge.config import EdgeConfig
from updraft.edge.engine import Engine
from updraft.edge.link import CloudLink, Deadlines
from updraft.models.build import write_bundle
from updraft.models.partition import PartitionCache
from updraft.models.runtime import RuntimeOptions
from updraft.models.sequence import Sequence

_LONG = 3500
_CHAT = {"messages": [{"role": "user", "content": "add"}], "temperature": 0}
_CHAT_PATH, _TEXT_PATH = "/v1/chat/completions", "/v1/completions"


class Watched(Engine):
    """An engine that remembers its generations, but does not keep them."""

    def start(self, request, prompt=None):
        generation = super().start(request, prompt)
        self.started.append(weakref.ref(generation))
        return generation


class Agent:
    """The API of an engine, served by a thread of this process."""

    def __init__(self, engine, **settings):
        self.engine = engine
        engine.started = []
        self.api = Api(engine, EdgeConfig.model_validate(settings))
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self.api.app, log_config=None, lifespan="off", timeout_graceful_shutdown=5
        )
        self.server = _Server(self.api, config)
        self._thread = threading.Thread(target=self.server.run, args=([listener],))
        self._thread.start()

    def ask(self, path, body):
        """Return the status, what was said and when to come again."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data)
        try:
            with urllib.request.urlopen(request, timeout=100) as response:
                return response.status, response.read().decode(), None
        except urllib.error.HTTPError as refused:
            with refused:
                said = json.loads(refused.read())["error"]
                return refused.code, said, refused.headers.get("Retry-After")

    def open(self, path, body, read_bytes=None):
        """Send a request and return its connection, with nothing read yet."""
        connection = socket.socket()
        if read_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, read_bytes)
        connection.settimeout(100)
        connection.connect(("127.0.0.1", self.port))
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
        connection.sendall(head.encode() + data)
        return connection

    @property
    def health(self):
        return json.loads(self.ask("/healthz", None)[1])

    def close(self):
        self.server.should_exit = True
        self._thread.join()
        self.api.close()


@pytest.fixture(scope="module")
def roomy(tiny_plan, tiny_weights, tmp_path_factory):
    """The tiny bundle with room for long answers."""
    shape = tiny_plan.architecture.model_copy(update={"context_length": 4096})
    folder = tmp_path_factory.mktemp("roomy") / "tiny"
    # No token of a random model ends its text but by chance.
    return write_bundle(folder, replace(tiny_plan, architecture=shape), tiny_weights)


@pytest.fixture(scope="module")
def engine(roomy):
    return Watched(roomy, RuntimeOptions(), ModelledMeter(10))


@pytest.fixture
def agent(engine):
    """Return a function that serves the engine."""
    agents = []

    def start(engine=engine, **settings):
        agents.append(Agent(engine, **settings))
        return agents[-1]

    yield start
    for one in agents:
        one.close()


@pytest.fixture
def no_garbage():
    """Let nothing be collected but what nobody refers to."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def sequences():
    return sum(type(each) is Sequence for each in gc.get_objects())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [_CHAT_PATH, _TEXT_PATH])
def test_a_client_that_leaves_gives_its_context_back_at_once(
    agent, wait_until, no_garbage, path, stream
):
    served, before = agent(api={"max_generations": 1}), sequences()
    body = {"prompt": "add", "temperature": 0} if path == _TEXT_PATH else _CHAT
    body = {**body, "max_tokens": _LONG, "stream": stream, "n": 4}
    running = served.open(path, body)
    wait_until(lambda: served.engine.started and sequences() > before)
    queued = served.open(path, body)
    wait_until(lambda: served.health["waiting"] == 1)
    queued.close()
    wait_until(lambda: served.health["waiting"] == 0)
    assert served.health["generations"] == 1
    running.close()
    wait_until(lambda: served.health["generations"] == 0)
    wait_until(lambda: all(generation() is None for generation in served.engine.started))
    assert len(served.engine.started) == 1  # neither the other choices nor the queued request
    assert sequences() == before


def test_an_answer_that_has_ended_keeps_nothing(agent, wait_until, no_garbage):
    served, before = agent(), sequences()
    for stream in (False, True):
        status, said, _ = served.ask(_CHAT_PATH, {**_CHAT, "max_tokens": 3, "stream": stream})
        assert status == 200, said
    wait_until(lambda: all(generation() is None for generation in served.engine.started))
    assert sequences() == before


def test_a_client_that_does_not_read_is_cut_off(agent, wait_until):
    served = agent(api={"max_generations": 1, "write_timeout_s": 0.3})
    body = {**_CHAT, "stream": True, "logprobs": True, "top_logprobs": 20, "n": 16}
    idle = served.open(_CHAT_PATH, {**body, "max_tokens": _LONG}, read_bytes=4096)
    wait_until(lambda: served.engine.started)
    with closing(idle):
        wait_until(lambda: served.health["generations"] == 0)
        assert len(served.engine.started) < 16
        assert served.ask(_CHAT_PATH, {**_CHAT, "max_tokens": 2})[0] == 200


def test_requests_wait_in_turn_and_then_are_refused(agent, wait_until):
    served = agent(api={"max_generations": 1, "queue_length": 2, "queue_wait_s": 60})
    first = served.open(_CHAT_PATH, {**_CHAT, "max_tokens": _LONG, "stream": True})
    wait_until(lambda: served.health["generations"] == 1)
    with ThreadPoolExecutor(2) as threads:
        waiting = [
            threads.submit(served.ask, _CHAT_PATH, {**_CHAT, "max_tokens": 2}) for _ in range(2)
        ]
        wait_until(lambda: served.health["waiting"] == 2)
        status, error, again = served.ask(_CHAT_PATH, {**_CHAT, "max_tokens": 2})
        assert (status, error["code"], error["type"]) == (429, "busy", "rate_limit_error")
        assert int(again) >= 1
        first.close()
        assert [each.result()[0] for each in waiting] == [200, 200]


def test_who_waits_is_refused_when_the_agent_ends_and_who_runs_ends(agent, wait_until):
    served = agent(api={"max_generations": 1})
    body = {**_CHAT, "max_tokens": 60, "stream": True, "seed": 3}
    with ThreadPoolExecutor(2) as threads:
        slow = served.open(_CHAT_PATH, {**body, "max_tokens": _LONG, "n": 16})
        wait_until(lambda: served.health["generations"] == 1)
        waiting = threads.submit(served.ask, _CHAT_PATH, body)
        wait_until(lambda: served.health["waiting"] == 1)
        served.server.should_exit = True
        status, error, again = waiting.result()
        assert (status, error["code"]) == (503, "shutting-down")
        assert int(again) >= 1
        slow.close()


def test_a_client_that_leaves_while_its_prompt_is_read_ends_that(
    agent, wait_until, no_garbage, monkeypatch
):
    served, runs, may_go_on = agent(), [], threading.Event()
    run = PartitionCache.run

    def slow(self, *arguments):
        runs.append(1)
        assert may_go_on.wait(60)
        return run(self, *arguments)

    monkeypatch.setattr(PartitionCache, "run", slow)
    before = sequences()
    connection = served.open(_TEXT_PATH, {"prompt": [7] * _LONG, "max_tokens": 4})
    wait_until(lambda: runs)
    (generation,) = served.engine.started
    connection.close()
    wait_until(generation()._cancelled.is_set)
    may_go_on.set()
    wait_until(lambda: served.health["generations"] == 0)
    assert len(runs) == 1  # of dozens of chunks
    assert sequences() == before


@pytest.fixture
def wire():
    """What listens where a coordinator should, and every byte that comes there."""
    listener, came = socket.create_server(("127.0.0.1", 0)), []

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            came.append(b"")
            connection.settimeout(0.2)
            with connection, suppress(OSError):
                came.append(connection.recv(1 << 16))

    thread = threading.Thread(target=accept)
    thread.start()
    yield listener.getsockname()[1], came
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.fixture
def linked(roomy, wire):
    """An engine that believes in a coordinator on the other side of the wire."""
    deadlines = Deadlines(open_s=0.5, answer_s=0.5)
    link = CloudLink(parse_endpoint(f"127.0.0.1:{wire[0]}"), roomy.fingerprint, None, deadlines)
    yield Watched(roomy, RuntimeOptions(), ModelledMeter(10), link, whole_model=True)
    link.close()


_PRIVATE = (
    {"privacy": "local-only"},
    {"privacy": "local-only", "mode": "full"},
    {"privacy": "local-only", "mode": "standalone", "theta": 1.5},
    {"privacy": "local-only", "max_uplink_bytes": 1},
)


def test_nothing_of_a_private_request_leaves_the_device(agent, linked, wire):
    mode = {"mode": "lossless", "on_stop": "escalate", "whole_model": True}
    served, (_, came) = agent(linked, decoding=mode), wire
    for own in _PRIVATE:
        for body, path in ((_CHAT, _CHAT_PATH), ({"prompt": "add"}, _TEXT_PATH)):
            for stream in (False, True):
                asked = {**body, "max_tokens": 8, "updraft": own, "stream": stream}
                status, said, _ = served.ask(path, asked)
                assert status == 200, said
                if not stream:
                    used = json.loads(said)["usage"]["updraft"]
                    assert used["mode"] in {"full", "standalone"}
                    assert used["uplink_bytes"] == used["cloud_tokens"] == 0
    assert came == []
    # The same without the word does go out.
    assert served.ask(_TEXT_PATH, {"prompt": "add", "max_tokens": 2})[0] == 200
    assert any(came)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"mode": "cloud"}, "sends to the coordinator"),
        ({"mode": "auto"}, "sends to the coordinator"),
        ({"mode": "request"}, "sends to the coordinator"),
        ({"on_stop": "escalate", "stop_at": 0.5}, "on_stop 'escalate'"),
        ({"max_latency_ms": 5}, "max_latency_ms"),
    ],
)
def test_a_private_request_that_would_have_to_leave_is_refused(agent, linked, wire, own, message):
    body = {**_CHAT, "updraft": {"privacy": "local-only", **own}}
    status, error, _ = agent(linked).ask(_CHAT_PATH, body)
    assert (status, error["code"]) == (400, "request")
    assert message in error["message"]
    assert wire[1] == []
