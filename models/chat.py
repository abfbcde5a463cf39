"""Messages to the text that a model was trained to see, by the template of its bundle."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from updraft.errors import BundleError, RequestError, RuntimeMissing
from updraft.models.bundle import Bundle
from updraft.models.tokenizer import Tokenizer

# For bundles without a template, whose models were not trained on chats.
PLAIN_TEMPLATE = """\
{%- if tools %}{{ 'To use a tool, write:' }}
{{ '<tool_call>' }}
{{ '{"name": …, "arguments": {…}}' }}
{{ '</tool_call>' }}
{{ 'Tools:' }}
{% for tool in tools %}{{ tool.function | tojson }}
{% endfor %}
{% endif %}
{%- for message in messages %}
{{- {'system': 'System', 'user': 'User', 'assistant': 'Assistant', 'tool': 'Tool'}[message.role] }}:
{%- if message.content %} {{ message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}

{{ '<tool_call>' }}
{{ call.function | tojson }}
{{ '</tool_call>' }}
{%- endfor %}{{ '\\n\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"""

# A model that was not trained on chats goes on with the next question.
_PLAIN_STOP = ("\n\nUser:", "\n\nTool:")
_MAX_TEMPLATE_BYTES = 1 << 20
_LONGEST_REASON = 500
# Time for the process to start, on a board that is busy.
_START_S = 60.0


class ChatTemplate:
    """Renders a bundle's chat template as transformers does, in a process of its own.

    A template is a program that came with a model. It runs in jinja2's sandbox, and what the
    sandbox does not bound, the process does: its memory and its time. It starts with the first
    chat.

    Args:
        tokenizer: the bundle's, where it is loaded already.
        deadline_s: time for one chat.

    Attributes:
        source: the template.
        stop: strings that end an answer, where the model does not know where to end.
    """

    def __init__(
        self, bundle: Bundle, tokenizer: Tokenizer | None = None, deadline_s: float = 10.0
    ) -> None:
        self._bundle = bundle
        self._tokenizer = tokenizer or Tokenizer(bundle)
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        name = bundle.manifest.tokenizer.chat_template
        self.is_plain = name is None
        self.source = PLAIN_TEMPLATE if name is None else _read(bundle, name)
        self.stop = _PLAIN_STOP if self.is_plain else ()

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """Return the text of a chat; messages and tools are as transformers takes them.

        Raises:
            RequestError: the template refuses these messages, or they take it too long or too
                much memory.
            BundleError: the template is none.
            RuntimeMissing: no process can be started.
        """
        question = {
            "messages": list(messages),
            "tools": None if tools is None else list(tools),
            "add_generation_prompt": add_generation_prompt,
        }
        with self._lock:
            answer = self._ask(question)
        if (text := answer.get("text")) is not None:
            return str(text)
        reason = str(answer["reason"])[:_LONGEST_REASON]
        if answer["fault"] == "template":
            name = self._bundle.manifest.tokenizer.chat_template or "plain"
            raise BundleError(f"{self._bundle.path(name)}: not a chat template: {reason}")
        raise RequestError(f"messages: the bundle's chat template refuses them: {reason}")

    def encode(self, text: str) -> list[int]:
        """Tokenize a text that `render` gave.

        Raises:
            RequestError: it is empty, or larger than is taken.
        """
        # The plain template spells no special tokens, so that no message can.
        if self.is_plain:
            return self._tokenizer.encode(text)
        return self._tokenizer.encode_chat(text)

    def close(self) -> None:
        """End the process, if there is one; idempotent."""
        with self._lock:
            self._end()

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Ask the process; start one if there is none, and end it if it takes too much."""
        if self._process is None:
            self._process = self._start()
            terms = {
                "template": self.source,
                "variables": self._variables(),
                "deadline_s": self._deadline_s,
            }
            answer = self._exchange(self._process, terms, _START_S)
            if "fault" in answer:
                return answer
        return self._exchange(self._process, question, self._deadline_s)

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                [sys.executable, "-m", "updraft.models.chat_worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            raise RuntimeMissing(f"chat templates need a process of their own: {error}") from error

    def _exchange(
        self, process: subprocess.Popen[bytes], said: dict[str, Any], deadline_s: float
    ) -> dict[str, Any]:
        assert process.stdin is not None, "it is a pipe"
        assert process.stdout is not None, "it is a pipe"
        watch = threading.Timer(deadline_s, process.kill)
        watch.start()
        try:
            with suppress(BrokenPipeError):  # it is gone: nothing can be read either
                process.stdin.write(json.dumps(said).encode() + b"\n")
                process.stdin.flush()
            line = process.stdout.readline()
        finally:
            watch.cancel()
        if line.endswith(b"\n"):
            answer: dict[str, Any] = json.loads(line)
            if answer.get("fault") == "template":
                self._end()
            return answer
        self._end()
        reason = f"they took more than {deadline_s:g} s or too much memory: send fewer"
        return {"fault": "messages", "reason": reason}

    def _variables(self) -> dict[str, str]:
        variables = {}
        for name, token in (
            ("bos_token", self._tokenizer.begin_token),
            ("eos_token", self._tokenizer.end_of_text),
        ):
            if token is not None and (text := self._tokenizer.spelling(token)) is not None:
                variables[name] = text
        return variables

    def _end(self) -> None:
        if (process := self._process) is None:
            return
        self._process = None
        process.kill()
        with suppress(BrokenPipeError):
            process.communicate()


def _read(bundle: Bundle, name: str) -> str:
    path = bundle.path(name)
    try:
        raw = path.read_bytes()
        if len(raw) > _MAX_TEMPLATE_BYTES:
            raise BundleError(f"{path}: larger than {_MAX_TEMPLATE_BYTES} bytes")
        return raw.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: not a chat template: {error}") from error
