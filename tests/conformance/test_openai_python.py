"""What the real Python client of OpenAI expects, against a real agent."""

import json
import urllib.request
from typing import Literal

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

_MODEL = "tiny"
_ASK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "add(1, 2)"}]
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "Look it up",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"enum": ["Zürich", "Bern"]},
                    "days": {"type": "integer", "minimum": 1, "maximum": 9},
                },
                "required": ["city", "days"],
                "additionalProperties": False,
            },
        },
    }
    for name in ("weather", "traffic")
]
_SCHEMA = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["red", "green"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["colour", "count"],
    "additionalProperties": False,
}


@pytest.fixture(scope="session")
def chat(client):
    """Return a function that asks for a chat's continuation, greedy unless told otherwise."""

    def ask(messages=_ASK, **choices):
        sound = {"model": _MODEL, "max_completion_tokens": 24, "temperature": 0}
        return client.chat.completions.create(messages=messages, **(sound | choices))

    return ask


def text_of(chunks):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def test_a_chat_has_a_message_and_its_usage(chat):
    answer = chat()
    assert isinstance(answer, ChatCompletion)
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == _MODEL
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in {"length", "stop"}
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 < usage.completion_tokens <= 24
    own = usage.model_extra["updraft"]
    assert own["mode"] == "standalone"
    assert own["uplink_bytes"] == own["cloud_tokens"] == 0
    assert sum(own["decisions"].values()) == usage.completion_tokens


def test_a_stream_says_the_same_in_pieces(chat):
    whole = chat().choices[0].message.content
    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    assert all(isinstance(chunk, ChatCompletionChunk) for chunk in chunks)
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert text_of(chunks) == whole
    *pieces, last, usage = chunks
    assert all(piece.choices[0].finish_reason is None for piece in pieces)
    assert last.choices[0].finish_reason in {"length", "stop"}
    assert usage.choices == []
    assert usage.usage.completion_tokens == chat().usage.completion_tokens
    assert all(chunk.usage is None for chunk in (*pieces, last))
    assert not [c for c in chat(stream=True) if c.usage is not None]


class Count(BaseModel):
    colour: Literal["red", "green"]
    count: Literal[1, 2, 3]


def test_the_helper_for_streams_reads_an_answer_into_a_class(client):
    with client.chat.completions.stream(
        model=_MODEL, messages=_ASK, max_completion_tokens=200, response_format=Count, seed=1
    ) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        final = stream.get_final_completion()
    assert text == final.choices[0].message.content
    assert Count.model_validate_json(text) == final.choices[0].message.parsed


def test_logprobs_have_the_shape_of_chats(chat):
    answer = chat(logprobs=True, top_logprobs=4)
    content = answer.choices[0].logprobs.content
    assert b"".join(bytes(entry.bytes) for entry in content).decode(errors="replace") == (
        answer.choices[0].message.content
    )
    for entry in content:
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) == 4
        assert entry.top_logprobs[0].bytes == entry.bytes  # greedy
        assert entry.top_logprobs[0].logprob == entry.logprob
    streamed = chat(logprobs=True, stream=True)
    given = [c.choices[0].logprobs.content for c in streamed if c.choices[0].logprobs]
    assert [entry.bytes for part in given for entry in part] == [entry.bytes for entry in content]
    assert chat().choices[0].logprobs is None


def test_stop_strings_end_the_text_before_them(chat):
    whole = chat().choices[0].message.content
    stop = whole[len(whole) // 2 :][:2]
    answer = chat(stop=stop)
    assert answer.choices[0].message.content == whole[: whole.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


def test_a_seed_gives_the_same_text_again(chat):
    def draw(seed, **choices):
        return chat(temperature=1.2, seed=seed, **choices).choices[0].message.content

    assert draw(7) == draw(7)
    assert len({draw(seed) for seed in range(4)}) > 1
    assert draw(7, top_p=0.0) == chat().choices[0].message.content


def test_choices_are_numbered(chat):
    answer = chat(n=3, temperature=1.2, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    chunks = list(chat(n=3, temperature=1.2, seed=1, stream=True))
    for choice in answer.choices:
        own = [c for c in chunks if c.choices[0].index == choice.index]
        assert text_of(own) == choice.message.content


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_an_answer_keeps_a_json_schema(chat, temperature):
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": _SCHEMA, "strict": True}}
    answer = chat(
        response_format=form, temperature=temperature, seed=2, max_completion_tokens=200
    ).choices[0]
    assert answer.finish_reason == "stop"
    said = json.loads(answer.message.content)
    assert said["colour"] in {"red", "green"}
    assert 0 <= said["count"] <= 99


def test_an_answer_is_any_json_object(chat):
    answer = chat(response_format={"type": "json_object"}, max_completion_tokens=40)
    assert answer.choices[0].message.content.lstrip().startswith("{")


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_answer_taken(chat, stream):
    choices = {"tools": _TOOLS, "max_completion_tokens": 300, "temperature": 1.0, "seed": 4}
    named = {"type": "function", "function": {"name": "traffic"}}
    answer = chat(tool_choice=named, stream=stream, **choices)
    message, reason = read_stream(answer) if stream else read(answer)
    assert reason == "tool_calls"
    (call,) = message["tool_calls"]
    assert call["function"]["name"] == "traffic"
    arguments = json.loads(call["function"]["arguments"])
    assert arguments["city"] in {"Zürich", "Bern"}
    assert 1 <= arguments["days"] <= 9
    told = {"role": "tool", "tool_call_id": call["id"], "content": '{"jam": false}'}
    after = chat([*_ASK, message, told], tools=_TOOLS)
    assert after.choices[0].finish_reason in {"length", "stop", "tool_calls"}
    assert after.usage.prompt_tokens > answer_tokens(chat)


def answer_tokens(chat):
    return chat(tools=_TOOLS, max_completion_tokens=1).usage.prompt_tokens


def read(answer):
    choice = answer.choices[0]
    return choice.message.model_dump(exclude_none=True), choice.finish_reason


def read_stream(chunks):
    calls, reason = {}, None
    for chunk in chunks:
        choice = chunk.choices[0]
        reason = choice.finish_reason or reason
        for delta in choice.delta.tool_calls or []:
            if delta.id:
                calls[delta.index] = {
                    "id": delta.id,
                    "type": "function",
                    "function": {"name": delta.function.name, "arguments": ""},
                }
            calls[delta.index]["function"]["arguments"] += delta.function.arguments
    return {"role": "assistant", "tool_calls": list(calls.values())}, reason


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_families_call_tools_in_their_own_ways(family, chat_bundle, agent_of, client_of):
    client = client_of(agent_of(chat_bundle(family)))
    answer = client.chat.completions.create(
        model=_MODEL,
        messages=[{"role": "user", "content": "Weather?"}],
        tools=_TOOLS,
        tool_choice="required",
        parallel_tool_calls=False,
        max_completion_tokens=300,
        seed=1,
    )
    (call,) = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.content is None
    assert call.function.name in {"weather", "traffic"}
    assert set(json.loads(call.function.arguments)) == {"city", "days"}
    told = {"role": "tool", "tool_call_id": call.id, "content": "21"}
    message = answer.choices[0].message.model_dump(exclude_none=True)
    messages = [{"role": "user", "content": "Weather?"}, message, told]
    after = client.chat.completions.create(model=_MODEL, messages=messages, max_tokens=2)
    assert after.usage.completion_tokens > 0


def test_tools_that_may_not_be_called_are_not(chat):
    answer = chat(tools=_TOOLS, tool_choice="none")
    assert answer.usage.prompt_tokens == chat().usage.prompt_tokens
    assert answer.choices[0].message.tool_calls is None


def test_the_model_is_listed_and_described(client):
    assert [model.id for model in client.models.list()] == [_MODEL]
    model = client.models.retrieve(_MODEL)
    assert model.owned_by == "updraft"
    assert model.model_extra["updraft"]["tools"] == "hermes"


_PARTS = [{"type": "image_url", "image_url": {"url": "x"}}]
_DEEP = {"type": "object"}
for _ in range(150):
    _DEEP = {"type": "object", "properties": {"a": _DEEP}, "required": ["a"]}


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"messages": []}, "messages: List should have at least 1 item"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": _PARTS}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0: it has no content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0: tool_call_id"),
        ({"messages": _ASK * 2500}, "messages: List should have at most 4096 items"),
        ({"messages": _ASK * 2000}, "shorten it by at least"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens 3 and max_completion_tokens 4"),
        ({"max_completion_tokens": 10**6}, "new tokens fit"),
        ({"top_logprobs": 2}, "top_logprobs: only with logprobs true"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs 21 lies outside 0 to 20"),
        ({"n": 99}, "n 99 lies outside"),
        ({"frequency_penalty": 0.5}, "frequency_penalty 0.5 is not supported"),
        ({"modalities": ["text", "audio"]}, "modalities ['text', 'audio'] is not supported"),
        ({"reasoning_effort": "high"}, "reasoning_effort 'high' is not supported"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"extra_body": {"top_k": 3}}, "top_k: Extra inputs"),
        ({"tool_choice": "required"}, "tool_choice: there are no tools"),
        ({"tools": _TOOLS * 2}, "two have the same name"),
        (
            {"tools": _TOOLS, "tool_choice": {"type": "function", "function": {"name": "fly"}}},
            "tool_choice 'fly' is none of weather, traffic",
        ),
        (
            {"tools": _TOOLS, "response_format": {"type": "json_object"}},
            "response_format: an answer that may call tools",
        ),
        ({"response_format": {"type": "xml"}}, "response_format: Input tag 'xml'"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": 5}}}},
            "json_schema",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"enum": ["y" * (70 << 10)]}},
                }
            },
            "at most 65536 are taken",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_served_is_refused_by_name(chat, choices, message, stream):
    with pytest.raises(openai.BadRequestError) as refused:
        chat(**choices, stream=stream)
    assert message in refused.value.body["message"]
    assert refused.value.type == "invalid_request_error"


def test_schemas_without_end_leave_the_agent_up(chat):
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": _DEEP}}
    with pytest.raises(openai.BadRequestError):
        chat(response_format=form)
    loop = {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
    form["json_schema"]["schema"] = loop
    with pytest.raises(openai.BadRequestError):
        chat(response_format=form)
    assert chat().choices[0].message.content


def test_parameters_that_change_nothing_are_taken(chat):
    neutral = {"store": False, "metadata": {"a": "b"}, "user": "x", "service_tier": "auto"}
    neutral |= {"modalities": ["text"], "presence_penalty": 0, "logit_bias": {}}
    answer = chat(**neutral, safety_identifier="y", prompt_cache_key="z")
    assert answer.choices[0].message.content == chat().choices[0].message.content


def test_another_model_is_not_found(chat):
    with pytest.raises(openai.NotFoundError) as refused:
        chat(model="gpt-9")
    assert refused.value.code == "model-not-found"


def test_a_client_that_aborts_frees_its_place(agent, client, wait_until):
    for _ in range(6):  # more than may run at a time
        stream = client.chat.completions.create(
            model=_MODEL, messages=_ASK, max_tokens=3000, stream=True
        )
        next(iter(stream))
        stream.close()

    def running():
        with urllib.request.urlopen(f"http://{agent.address}/healthz", timeout=60) as response:
            return json.load(response)["generations"]

    wait_until(lambda: running() == 0)


def test_legacy_completions_are_served_too(client):
    answer = client.completions.create(
        model=_MODEL, prompt=["a", "b"], max_tokens=4, logprobs=2, temperature=0
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert len(answer.choices[0].logprobs.tokens) == len(answer.choices[0].logprobs.top_logprobs)
