"""The agent's local API, used as people use it: with the real `openai` client."""

import http.client
import json
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

_PROMPT = "import os\n\n\ndef main():\n    "
_TOKENS = 12


@pytest.fixture(scope="session")
def agent(coordinator, agent_of):
    """An agent beside the session's coordinator, able to run the whole model."""
    with agent_of(coordinator.address, UPDRAFT_EDGE__DECODING__WHOLE_MODEL="true") as daemon:
        yield daemon


@pytest.fixture(scope="session")
def client(agent, client_of):
    with client_of(agent) as client:
        yield client


@pytest.fixture(scope="session")
def complete(client):
    """Return a function that asks for a completion, greedy unless told otherwise."""

    def ask(prompt=_PROMPT, **choices):
        sound = {"model": "code", "max_tokens": _TOKENS, "temperature": 0}
        return client.completions.create(prompt=prompt, **(sound | choices))

    return ask


def updraft_of(completion):
    return completion.model_extra["updraft"]


def test_a_completion_has_text_usage_and_what_it_cost(complete, manifest):
    completion = complete()
    assert completion.object == "text_completion"
    assert completion.model == manifest["name"]
    choice, usage, own = completion.choices[0], completion.usage, updraft_of(completion)
    assert choice.text == own["text"] != ""
    assert choice.finish_reason == own["finish_reason"]
    assert usage.completion_tokens == len(own["tokens"]) <= _TOKENS
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    width = manifest["architecture"]["width"]
    assert own["bytes"]["up"] >= 2 * width * (usage.total_tokens - 1)
    assert own["mode"] == "lossless"
    assert not own["degraded"]


def test_the_models_are_listed(client, manifest):
    assert [model.id for model in client.models.list()] == [manifest["name"]]


def test_a_stream_gives_the_same_text_in_pieces(complete):
    chunks = list(complete(stream=True, stream_options={"include_usage": True}))
    whole = complete()
    *pieces, last, usage = chunks
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == whole.choices[0].text
    assert [updraft_of(piece)["token"] for piece in pieces] == updraft_of(whole)["tokens"]
    assert all(piece.choices[0].finish_reason is None for piece in pieces)
    assert last.choices[0].finish_reason == whole.choices[0].finish_reason
    assert updraft_of(last)["tokens"] == updraft_of(whole)["tokens"]
    assert usage.choices == []
    assert usage.usage.total_tokens == whole.usage.total_tokens
    assert usage.usage.completion_tokens == whole.usage.completion_tokens


def test_a_stop_string_ends_the_text_before_it(complete):
    whole = complete().choices[0].text
    stop = whole[len(whole) // 2 :][:2]
    for stream in (False, True):
        answer = complete(stop=[stop], stream=stream)
        chunks = list(answer) if stream else [answer]
        assert "".join(chunk.choices[0].text for chunk in chunks) == whole[: whole.index(stop)]
        assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_seed_gives_the_same_text_again_and_none_gives_others(complete):
    choices = {"temperature": 1.0, "max_tokens": 32}
    once = complete(seed=5, **choices).choices[0].text
    assert complete(seed=5, **choices).choices[0].text == once
    assert len({complete(**choices).choices[0].text for _ in range(4)}) > 1


def test_the_modes_can_be_chosen_per_request(complete):
    found = {}
    for mode in ("full", "cloud", "threshold", "standalone"):
        extra = {"updraft": {"mode": mode, "theta": 1.5, "wire": "fp32"}}
        found[mode] = updraft_of(complete(extra_body=extra))
        assert found[mode]["mode"] == mode
    assert found["full"]["tokens"] == found["cloud"]["tokens"] == found["threshold"]["tokens"]
    assert found["standalone"]["cloud"]["calls"] == 0


@pytest.mark.parametrize("prompt", ["# 🙂 größe 漢字\nname = ", "\x00\t\r\n", "<|end|>"])
@pytest.mark.parametrize("stream", [False, True])
def test_any_text_is_a_prompt(complete, prompt, stream):
    answer = complete(prompt, stream=stream, temperature=2.0, seed=1, max_tokens=24)
    chunks = list(answer) if stream else [answer]
    assert chunks[-1].choices[0].finish_reason in {"length", "stop"}


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"prompt": ""}, "the prompt is empty"),
        ({"prompt": ["a", "b"]}, "one prompt per request is served, 2 came"),
        ({"prompt": [1, 2, 3]}, "prompt"),
        ({"prompt": "word + " * 4000}, "shorten it by at least"),
        ({"prompt": "x" * (1 << 20) + "y"}, "at most 1048576 are taken"),
        ({"max_tokens": 0}, "max_tokens 0: at least 1 is needed"),
        ({"max_tokens": 10**6}, "new tokens fit"),
        ({"temperature": -1}, "temperature -1.0 lies outside"),
        ({"seed": -1}, "seed -1 lies outside"),
        ({"stop": [""]}, "none of them empty"),
        ({"extra_body": {"updraft": {"mode": "turbo"}}}, "updraft.mode: Input should be 'full'"),
        ({"extra_body": {"updraft": {"theta": 2.1}}}, "theta 2.1 lies outside 0 to 2"),
        ({"extra_body": {"updraft": {"thet": 1}}}, "updraft.thet: Extra inputs"),
        ({"extra_body": {"top_k": 3}}, "top_k: Extra inputs are not permitted"),
        ({"n": 2}, "n 2 is not supported"),
        ({"best_of": 3}, "best_of 3 is not supported"),
        ({"echo": True}, "echo True is not supported"),
        ({"logprobs": 1}, "logprobs 1 is not supported"),
        ({"top_p": 0.9}, "top_p 0.9 is not supported"),
        ({"suffix": "end"}, "suffix 'end' is not supported"),
        ({"frequency_penalty": 1}, "frequency_penalty 1 is not supported"),
        ({"logit_bias": {"5": 1}}, "logit_bias {'5': 1} is not supported"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_served_is_refused_with_our_message(complete, choices, message, stream):
    with pytest.raises(openai.BadRequestError) as refused:
        complete(**choices, stream=stream)
    assert message in refused.value.body["message"]
    assert refused.value.code == "request"


def test_parameters_that_change_nothing_are_taken(complete):
    neutral = {"n": 1, "best_of": 1, "echo": False, "top_p": 1, "presence_penalty": 0, "user": "x"}
    assert complete(**neutral).choices[0].text == complete().choices[0].text


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "EOF"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"[1]", "Input should be an object"),
        (b"{}", "prompt: Field required"),
        (b'{"prompt": "\\ud800"}', "Invalid JSON"),
        (b"[" * 100_000, "Invalid JSON"),
        (b'{"prompt": "' + b"x" * (5 << 20) + b'"}', "larger than 4194304 bytes"),
    ],
)
def test_a_body_that_is_no_request_is_refused(agent, complete, body, message):
    connection = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=60)
    connection.request("POST", "/v1/completions", body, {"content-type": "application/json"})
    response = connection.getresponse()
    error = json.loads(response.read())["error"]
    connection.close()
    assert (response.status, error["code"]) == (400, "request")
    assert message in error["message"]
    assert complete().choices[0].text


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/completions", 405), ("GET", "/nothing", 404)]
)
def test_a_path_that_is_not_there_is_an_error_in_json(agent, method, path, status):
    connection = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=60)
    connection.request(method, path)
    response = connection.getresponse()
    assert response.status == status
    assert json.loads(response.read())["error"]["message"]
    connection.close()


def test_requests_at_the_same_time_get_what_each_gets_alone(complete):
    def one(number):
        extra = {"updraft": {"mode": ("threshold", "cloud", "full")[number % 3], "theta": 0.5}}
        choices = {"temperature": 0.7, "seed": number, "max_tokens": 16, "extra_body": extra}
        return updraft_of(complete(**choices))["tokens"]

    alone = [one(number) for number in range(12)]
    with ThreadPoolExecutor(4) as threads:  # as many as the agent runs at a time
        assert list(threads.map(one, range(12))) == alone
