"""The process that runs a chat template; `models/chat.py` starts it and asks.

It reads one JSON object per line, first the template, then chats, and answers each with one: with
nothing or `text`, or else `fault` and `reason`.
"""

from __future__ import annotations

import json
import resource
import sys
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

_MEMORY_BYTES = 512 << 20
# As much as the tokenizer takes.
_MOST_CHARACTERS = 1 << 20


class _Generation(Extension):
    """Takes `{% generation %}`, by which trainers mark answers, for what stands in it."""

    tags = {"generation"}  # noqa: RUF012  # as jinja2 declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def environment() -> ImmutableSandboxedEnvironment:
    """Return what templates of checkpoints are written for: what transformers gives them."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    made.filters["tojson"] = _to_json
    made.globals["raise_exception"] = _refuse
    made.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
    return made


def render(template: jinja2.Template, chat: dict[str, Any]) -> str:
    """Return the text of a chat.

    Raises:
        ValueError: it is longer than is taken.
    """
    pieces, length = [], 0
    for piece in template.generate(chat):
        length += len(piece)
        if length > _MOST_CHARACTERS:
            raise ValueError(f"the chat has more than {_MOST_CHARACTERS} characters")
        pieces.append(piece)
    return "".join(pieces)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Not jinja2's own, which escapes for HTML.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _limit(deadline_s: float) -> None:
    """Bound what one chat takes, also where nobody is left to end this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    most = int(usage.ru_utime + usage.ru_stime + deadline_s) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))


def _answer(template: jinja2.Template, line: bytes, variables: dict[str, Any]) -> dict[str, str]:
    try:
        return {"text": render(template, {**variables, **json.loads(line)})}
    except MemoryError:
        return {"fault": "messages", "reason": "they take too much memory: send fewer"}
    except RecursionError:
        return {"fault": "messages", "reason": "it calls itself without end"}
    except Exception as error:  # whatever a template does is its author's and the messages' fault
        return {"fault": "messages", "reason": str(error) or type(error).__name__}


def main() -> None:
    """Serve until the questions end."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    terms = json.loads(sys.stdin.buffer.readline())
    _limit(terms["deadline_s"])
    try:
        template = environment().from_string(terms["template"])
    except (jinja2.TemplateError, RecursionError, MemoryError, SyntaxError) as error:
        _say({"fault": "template", "reason": str(error) or type(error).__name__})
        return
    _say({})
    for line in sys.stdin.buffer:
        _limit(terms["deadline_s"])
        _say(_answer(template, line, terms["variables"]))


def _say(answer: dict[str, str]) -> None:
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
