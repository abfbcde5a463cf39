"""The agent's local API at its limits: too many, gone clients, a coordinator that dies."""

import json
import socket
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

_ASK = {"model": "code", "prompt": "import os\n\n\ndef main():\n    ", "temperature": 0}
_CLOUD = {"updraft": {"mode": "cloud"}}
_SENT = 6


def health(agent):
    with urllib.request.urlopen(f"http://{agent.address}/healthz", timeout=60) as response:
        return json.load(response)


@pytest.fixture
def own_coordinator(start_daemon):
    return start_daemon("cloud", "serve", "--listen", "127.0.0.1:0")


@pytest.mark.parametrize("stream", [False, True])
def test_generations_above_the_limit_are_refused_until_there_is_room(
    own_coordinator, agent_of, client_of, stream
):
    limits = {
        "UPDRAFT_EDGE__API__MAX_GENERATIONS": "1",
        "UPDRAFT_EDGE__API__QUEUE_LENGTH": "0",
        "UPDRAFT_EDGE__CLOUD__OPEN_TIMEOUT_S": "60",
        "UPDRAFT_EDGE__CLOUD__ANSWER_TIMEOUT_S": "60",
    }
    with agent_of(own_coordinator.address, **limits) as agent, client_of(agent) as client:
        # A coordinator that hangs keeps whoever is first, so the others surely find no room.
        own_coordinator.hang()

        def ask(_):
            try:
                completion = client.completions.create(
                    **_ASK, max_tokens=2, extra_body=_CLOUD, stream=stream
                )
                last = list(completion)[-1] if stream else completion
            except openai.RateLimitError as refused:
                if refused.body["message"].startswith("1 requests are answered and 0 wait"):
                    assert int(refused.response.headers["retry-after"]) > 0
                    return refused.code
                raise
            finally:
                answered.append(1)
                if len(answered) == _SENT - 1:
                    own_coordinator.resume()
            return len(last.model_extra["updraft"]["tokens"])

        answered = []
        with ThreadPoolExecutor(_SENT) as threads:
            outcomes = list(threads.map(ask, range(_SENT)))
        assert sorted(outcomes, key=str) == [2, *["busy"] * (_SENT - 1)]
        assert client.completions.create(**_ASK, max_tokens=2).choices[0].text
        assert health(agent)["generations"] == 0


def test_a_client_that_leaves_in_mid_stream_frees_its_place(
    coordinator, agent_of, client_of, wait_until
):
    with agent_of(coordinator.address) as agent, client_of(agent) as client:
        for _ in range(6):  # more than may run at a time
            stream = client.completions.create(**_ASK, max_tokens=200, stream=True)
            next(iter(stream))
            stream.close()
        wait_until(lambda: health(agent)["generations"] == 0)
        assert client.completions.create(**_ASK, max_tokens=2).choices[0].text


def test_a_client_that_leaves_without_reading_frees_its_place(
    coordinator, agent_of, client_of, wait_until
):
    body = json.dumps(_ASK | {"max_tokens": 200}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with agent_of(coordinator.address) as agent, client_of(agent) as client:
        for _ in range(6):
            with socket.create_connection(("127.0.0.1", agent.port), timeout=60) as connection:
                connection.sendall(head.encode() + body)
        wait_until(lambda: health(agent)["generations"] == 0)
        assert client.completions.create(**_ASK, max_tokens=2).choices[0].text


def test_a_stream_outlives_its_coordinator_and_says_so(own_coordinator, agent_of, client_of):
    never_sure = {"updraft": {"mode": "threshold", "theta": 1.5}}
    with agent_of(own_coordinator.address) as agent, client_of(agent) as client:
        undisturbed = client.completions.create(**_ASK, max_tokens=200, extra_body=never_sure)
        stream = client.completions.create(
            **_ASK, max_tokens=200, extra_body=never_sure, stream=True
        )
        chunks = []
        for chunk in stream:
            if not chunks:
                own_coordinator.kill()
            chunks.append(chunk)
        *pieces, last = (chunk.model_extra["updraft"] for chunk in chunks)
        expected = undisturbed.model_extra["updraft"]
        verified = [piece["verified"] for piece in pieces].count(True)
        assert last["degraded"] is True
        assert last["unverified_from"] == pieces[verified]["position"]
        assert last["tokens"][:verified] == expected["tokens"][:verified]
        assert len(last["tokens"]) == 200 or last["finish_reason"] == "stop"
        assert "".join(chunk.choices[0].text for chunk in chunks) == last["text"]


def test_a_coordinator_with_another_model_is_an_error_not_a_fallback(
    start_daemon, tiny_bundle, agent_of, client_of
):
    daemon = start_daemon(
        "cloud", "serve", "--listen", "127.0.0.1:0", "--bundle", tiny_bundle.folder
    )
    with agent_of(daemon.address) as agent, client_of(agent) as client:
        with pytest.raises(openai.InternalServerError) as refused:
            client.completions.create(**_ASK, max_tokens=2)
        assert (refused.value.status_code, refused.value.code) == (502, "protocol")
        with pytest.raises(openai.APIError, match="give both the same bundle"):
            list(client.completions.create(**_ASK, max_tokens=2, stream=True))
        assert health(agent)["generations"] == 0


def test_an_agent_without_a_coordinator_serves_alone(agent_of, client_of):
    with agent_of(None) as agent, client_of(agent) as client:
        own = client.completions.create(**_ASK, max_tokens=2).model_extra["updraft"]
        assert (own["mode"], own["degraded"]) == ("standalone", False)
        with pytest.raises(openai.BadRequestError, match="needs a coordinator"):
            client.completions.create(**_ASK, extra_body=_CLOUD)
        assert health(agent)["coordinator"] is None
