"""The agent's local API, used as people use it: with the real `openai` client."""

import http.client
import json
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from updraft.models.tokenizer import Tokenizer

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
        ({"prompt": []}, "prompt: the list is empty"),
        ({"prompt": ["a", ""]}, "the prompt is empty"),
        ({"prompt": [[]]}, "give at least one token"),
        ({"prompt": [1, 1 << 20]}, "token 1048576 lies outside 0 to "),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": ["a"] * 33, "n": 2}, "make 66 answers; at most 64"),
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
        ({"n": 17}, "n 17 lies outside 1 to 16"),
        ({"n": 0}, "n 0 lies outside 1 to 16"),
        ({"best_of": 3}, "best_of 3 is not supported"),
        ({"echo": True, "logprobs": 1}, "echo: the prompt's logprobs are not supported"),
        ({"logprobs": 6}, "logprobs 6 lies outside 0 to 5"),
        ({"top_p": 1.5}, "top_p 1.5 lies outside"),
        ({"suffix": "end"}, "suffix 'end' is not supported"),
        ({"frequency_penalty": 1}, "frequency_penalty 1 is not supported"),
        ({"logit_bias": {"5": 1}}, "logit_bias {'5': 1} is not supported"),
        (
            {"extra_body": {"updraft": {"mode": "cloud", "max_uplink_bytes": 9}}},
            "updraft.max_uplink_bytes: mode 'cloud' cannot keep it",
        ),
        (
            {"extra_body": {"updraft": {"mode": "cloud", "privacy": "local-only"}}},
            "updraft.privacy 'local-only': mode 'cloud' sends to the coordinator",
        ),
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
    neutral["extra_body"] = {"store": True, "metadata": {"a": "b"}, "service_tier": "flex"}
    assert complete(**neutral).choices[0].text == complete().choices[0].text


@pytest.mark.parametrize(
    ("body", "status", "code", "message"),
    [
        (b"", 400, "request", "EOF"),
        (b"\xff\xfe", 400, "request", "Invalid JSON"),
        (b"[1]", 400, "request", "Input should be an object"),
        (b"{}", 400, "request", "prompt: Field required"),
        (b'{"prompt": "\\ud800"}', 400, "request", "Invalid JSON"),
        (b"[" * 100_000, 400, "request", "Invalid JSON"),
        (b'{"prompt": [' + b"-1," * 9_000 + b"0]}", 400, "request", "lies outside"),
        (
            b'{"prompt": "' + b"x" * (5 << 20) + b'"}',
            413,
            "too-large",
            "larger than 4194304 bytes",
        ),
    ],
    ids=["empty", "no text", "list", "no fields", "surrogate", "deep", "tokens", "large"],
)
def test_a_body_that_is_no_request_is_refused(agent, complete, body, status, code, message):
    connection = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=60)
    connection.request("POST", "/v1/completions", body, {"content-type": "application/json"})
    response = connection.getresponse()
    error = json.loads(response.read())["error"]
    connection.close()
    assert (response.status, error["code"]) == (status, code)
    assert error["type"] == "invalid_request_error"
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


def test_another_model_is_not_found(client, manifest):
    with pytest.raises(
        openai.NotFoundError, match="'gpt-9' is not served here; this agent serves 'code'"
    ):
        client.completions.create(model="gpt-9", prompt="x")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("org/gpt-9")
    assert client.models.retrieve(manifest["name"]).id == manifest["name"]


def test_each_prompt_gets_n_choices_and_counts_once(complete):
    prompts = ["def main(", "import "]
    alone = [complete(prompt, max_tokens=4) for prompt in prompts]
    answer = complete(prompts, max_tokens=4, n=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    expected = [one.choices[0].text for one in alone for _ in range(2)]
    assert [choice.text for choice in answer.choices] == expected
    assert answer.usage.prompt_tokens == sum(one.usage.prompt_tokens for one in alone)
    assert answer.usage.completion_tokens == 2 * sum(o.usage.completion_tokens for o in alone)
    streamed = [""] * 4
    for chunk in complete(prompts, max_tokens=4, n=2, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert streamed == expected


def test_choices_of_one_request_are_drawn_apart(complete):
    choices = {"temperature": 1.0, "max_tokens": 16, "seed": 3}
    several = complete(n=3, **choices).choices
    assert len({choice.text for choice in several}) > 1
    assert several[0].text == complete(**choices).choices[0].text


def test_a_prompt_may_be_tokens_and_be_repeated(complete, bundle):
    tokens = Tokenizer(bundle).encode(_PROMPT)
    whole = complete().choices[0].text
    assert complete(tokens).choices[0].text == whole
    assert complete([tokens]).choices[0].text == whole
    assert complete(echo=True).choices[0].text == _PROMPT + whole
    chunks = complete(tokens, echo=True, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == _PROMPT + whole


def test_what_an_answer_took_is_in_its_usage(complete):
    usage = complete(extra_body={"updraft": {"mode": "cloud"}}).usage
    own = usage.model_extra["updraft"]
    assert own["mode"] == "cloud"
    assert own["cloud_tokens"] > 0
    assert own["uplink_bytes"] > 0
    assert own["decisions"]["cloud"] == usage.completion_tokens
    assert own["degraded"] is False


def test_logprobs_are_those_of_the_best_tokens(complete):
    answer = complete(logprobs=3, extra_body={"updraft": {"mode": "full"}})
    logprobs = answer.choices[0].logprobs
    text = answer.choices[0].text
    assert "".join(logprobs.tokens) == text
    assert [text[at:] for at in logprobs.text_offset] == [
        "".join(logprobs.tokens[i:]) for i in range(len(logprobs.tokens))
    ]
    for token, logprob, top in zip(
        logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True
    ):
        assert len(top) == 3
        assert max(top, key=top.get) == token  # greedy
        assert top[token] == logprob <= 0
