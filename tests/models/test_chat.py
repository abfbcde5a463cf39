"""Chat templates: the text that transformers gives, and bounds on what a template may take."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from updraft.errors import BundleError, RequestError
from updraft.models.chat import PLAIN_TEMPLATE, ChatTemplate

_TEMPLATES = Path(__file__).parents[1] / "templates"
_FAMILIES = sorted(path.stem for path in _TEMPLATES.glob("*.jinja"))
_CALL = {
    "id": "abcdefghi",
    "type": "function",
    "function": {"name": "weather", "arguments": {"city": "Zürich", "days": [1, 2]}},
}
_CHATS = {
    "one question": [{"role": "user", "content": "Hi <b>& 'you'</b>"}],
    "a system message": [
        {"role": "system", "content": "Be brief.  "},
        {"role": "user", "content": "größe 漢字 🙂\n\n"},
        {"role": "assistant", "content": "Yes. "},
        {"role": "user", "content": "Go on"},
    ],
    "a tool": [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "tool_calls": [_CALL]},
        {"role": "tool", "content": '{"temperature": 21.5}', "tool_call_id": "abcdefghi"},
    ],
}
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather <somewhere>",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]


@pytest.fixture(scope="session")
def template_of(tiny_bundle, with_template):
    """Return a function that makes the template of a bundle that has this one."""
    made = []

    def make(source, **choices):
        made.append(ChatTemplate(with_template(tiny_bundle, source), **choices))
        return made[-1]

    yield make
    for template in made:
        template.close()


@pytest.fixture(scope="session")
def family(template_of):
    """The templates of the families that are supported, by name."""
    return {name: template_of((_TEMPLATES / f"{name}.jinja").read_text()) for name in _FAMILIES}


@pytest.mark.parametrize("chat", _CHATS)
@pytest.mark.parametrize("name", _FAMILIES)
@pytest.mark.parametrize("tools", [None, _TOOLS], ids=["no tools", "tools"])
def test_a_chat_is_the_text_that_transformers_gives(family, name, chat, tools):
    template = family[name]
    tokenizer = template._tokenizer
    (expected,), _ = render_jinja_template(
        [_CHATS[chat]],
        tools=tools,
        chat_template=template.source,
        add_generation_prompt=True,
        bos_token=tokenizer.spelling(1),
        eos_token=tokenizer.spelling(tokenizer.end_of_text),
    )
    assert template.render(_CHATS[chat], tools) == expected != ""


def test_a_chat_may_end_without_an_invitation_to_answer(family):
    chat = _CHATS["one question"]
    whole, ended = (family["qwen"].render(chat, add_generation_prompt=on) for on in (True, False))
    assert whole == ended + "<|im_start|>assistant\n"


def test_a_template_that_refuses_says_why(family):
    chat = [{"role": "assistant", "content": "I begin"}]
    with pytest.raises(RequestError, match=r"refuses them: .*roles must alternate"):
        family["mistral"].render(chat)


def test_special_tokens_of_a_template_are_those_tokens(template_of, tiny_bundle):
    template = template_of("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}")
    tokenizer = template._tokenizer
    tokens = template.encode(template.render([{"role": "user", "content": "a"}]))
    assert tokens[0] == 1
    assert tokens[-1] == tokenizer.end_of_text


def test_a_bundle_without_a_template_gets_a_plain_one(tiny_bundle):
    template = ChatTemplate(tiny_bundle)
    text = template.render([{"role": "system", "content": "S"}, *_CHATS["a tool"]], _TOOLS)
    assert text.endswith('Tool: {"temperature": 21.5}\n\nAssistant:')
    assert "System: S\n\nUser: Weather?\n\nAssistant:\n<tool_call>\n" in text
    assert json.dumps(_TOOLS[0]["function"], ensure_ascii=False) in text
    assert template.is_plain
    assert template.stop
    spelled = template._tokenizer.spelling(template._tokenizer.end_of_text)
    assert template._tokenizer.end_of_text not in template.encode(f"User: {spelled}")
    (expected,), _ = render_jinja_template(
        [_CHATS["a tool"]], chat_template=PLAIN_TEMPLATE, add_generation_prompt=True
    )
    assert template.render(_CHATS["a tool"]) == expected
    template.close()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "{% set n = namespace(x='a' * 1000) %}"
            "{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
            "too much memory",
        ),
        ("{{ 'a'.ljust(10 ** 10) }}", "too much memory"),
        ("{{ 'a' * 2097152 }}", "more than 1048576 characters"),
        ("{{ range(10 ** 9) }}", "Range too big"),
        ("{% for i in range(99999) %}{{ 'a' * 99 }}{% endfor %}", "more than 1048576 characters"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "calls itself without end"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ nothing.at.all }}", "undefined"),
        ("{{ 1 / 0 }}", "division by zero"),
    ],
)
def test_a_template_takes_no_more_than_it_may(template_of, source, reason):
    with pytest.raises(RequestError, match=reason):
        template_of(source).render(_CHATS["one question"])


def test_a_template_that_does_not_end_is_ended_and_the_next_chat_is_served(template_of):
    loop = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    template = template_of("{% if messages[1] %}" + loop + "{% endif %}Hi", deadline_s=0.5)
    with pytest.raises(RequestError, match=r"took more than 0\.5 s"):
        template.render(_CHATS["one question"] * 2)
    template._deadline_s = 60
    assert template.render(_CHATS["one question"]) == "Hi"


@pytest.mark.parametrize("source", ["{% if %}", "{{ " + "(" * 5000 + ")" * 5000 + " }}", "{% x %}"])
def test_what_is_no_template_is_a_fault_of_the_bundle(template_of, source):
    with pytest.raises(BundleError, match=r"chat\.jinja: not a chat template"):
        template_of(source).render(_CHATS["one question"])


def test_a_chat_of_ten_thousand_messages_is_rendered(family):
    text = family["qwen"].render([{"role": "user", "content": "x"}] * 10_000)
    assert text.count("<|im_start|>user") == 10_000


def test_the_process_ends_with_the_one_that_started_it(tiny_bundle, wait_until):
    code = (
        "import sys; from pathlib import Path\n"
        "from updraft.models.bundle import open_bundle\n"
        "from updraft.models.chat import ChatTemplate\n"
        "template = ChatTemplate(open_bundle(Path(sys.argv[1])))\n"
        "template.render([{'role': 'user', 'content': 'x'}])\n"
        "print(template._process.pid, flush=True); input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tiny_bundle.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        worker = Path("/proc") / parent.stdout.readline().decode().strip() / "cmdline"
        assert b"chat_worker" in worker.read_bytes()
        parent.kill()
    wait_until(lambda: not worker.exists() or b"chat_worker" not in worker.read_bytes())
