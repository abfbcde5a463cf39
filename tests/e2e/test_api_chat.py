"""Chats with the shipped bundle, beside a coordinator and within a budget."""

import json

import openai
import pytest

_ASK = [{"role": "user", "content": "Write a loop."}]
_COLOURS = ["red", "green", "blue"]
_SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": _COLOURS}, "count": {"type": "integer", "maximum": 99}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}
_FORM = {"type": "json_schema", "json_schema": {"name": "x", "schema": _SCHEMA}}
_PICK = {
    "type": "function",
    "function": {"name": "pick", "parameters": {**_SCHEMA, "required": ["colour"]}},
}


@pytest.fixture(scope="module")
def agent(coordinator, agent_of):
    with agent_of(coordinator.address, UPDRAFT_EDGE__DECODING__WHOLE_MODEL="true") as daemon:
        yield daemon


@pytest.fixture(scope="module")
def chat(agent, client_of):
    """Return a function that asks in a mode; the answer's choice and what it took."""
    with client_of(agent) as client:

        def ask(mode, **choices):
            sound = {"model": "code", "messages": _ASK, "max_tokens": 48, "seed": 5}
            extra = {"updraft": {"mode": mode, "wire": "fp32", "theta": 1.5}}
            answer = client.chat.completions.create(**(sound | choices), extra_body=extra)
            return answer.choices[0], answer.model_extra["updraft"]

        yield ask


@pytest.mark.parametrize("temperature", [0, 0.9])
def test_a_chat_says_the_same_with_and_without_the_cloud(chat, temperature):
    _, full = chat("full", temperature=temperature)
    for mode in ("cloud", "lossless", "threshold"):
        choice, own = chat(mode, temperature=temperature)
        assert own["tokens"] == full["tokens"]
        assert choice.message.content == full["text"]
        assert own["cloud"]["tokens"] > 0


def test_a_schema_is_kept_with_and_without_the_cloud(chat):
    _, full = chat("full", response_format=_FORM, temperature=0.9)
    assert json.loads(full["text"])["colour"] in _COLOURS
    for mode in ("cloud", "lossless", "threshold"):
        assert chat(mode, response_format=_FORM, temperature=0.9)[1]["tokens"] == full["tokens"]


def test_a_tool_is_called_without_a_template_of_its_own(chat):
    choice, own = chat("lossless", tools=[_PICK], tool_choice="required", temperature=0.9)
    (call,) = choice.message.tool_calls[:1]
    assert call.function.name == "pick"
    assert json.loads(call.function.arguments)["colour"] in _COLOURS
    assert own["cloud"]["tokens"] > 0
    assert own["degraded"] is False


def test_a_tool_may_be_called_at_will(chat):
    choice, own = chat("lossless", tools=[_PICK], temperature=0)
    assert choice.finish_reason in {"length", "stop", "tool_calls"}
    assert own["tokens"] == chat("full", tools=[_PICK], temperature=0)[1]["tokens"]


def test_a_chat_spends_of_the_same_budget(start_daemon, client_of, tmp_path):
    (tmp_path / "budgets.toml").write_text(
        '[device.here]\nmodel = "x86"\nenergy_per_day = "1.5 J"\n'
    )
    config = tmp_path / "agent.toml"
    config.write_text(
        '[energy]\nmeter = "modelled"\nactive_power_w = 20\nidle_w = 5\n'
        f'[budget]\nfile = "{tmp_path}/budgets.toml"\ndevice = "here"\n'
        f'ledger = "{tmp_path}/ledger.sqlite"\n'
    )
    daemon = start_daemon("edge", "serve", "--listen", "127.0.0.1:0", "--config", config)
    with client_of(daemon) as client:
        choices = {"model": "code", "messages": _ASK, "max_tokens": 12}
        first = client.chat.completions.create(**choices, n=2)
        own = first.usage.model_extra["updraft"]
        assert own["left"]["energy_per_day"] == pytest.approx(1.5 - own["energy_j"], abs=1e-3)
        assert client.get("/budget", cast_to=object)["today"]["requests"] == 2
        with pytest.raises(openai.RateLimitError) as refused:
            for _ in range(200):
                client.chat.completions.create(**choices)
        assert refused.value.code == "budget"
        assert int(refused.value.response.headers["retry-after"]) > 0
