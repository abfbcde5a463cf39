"""Questions as bodies of OpenAI's HTTP API, and what comes back as pieces of text."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from updraft.cloud.backends.backend import Capabilities, FinishReason, Question
from updraft.errors import LinkBroken, LinkBusy, RequestError, UpdraftError
from updraft.models.constraint import Constraint

# The API takes so many; the rest end the text on our side.
_MOST_STOPS = 4
_LONGEST_REASON = 300
# Also these mean that the request was understood and cannot be served.
_REFUSALS = (400, 413, 422)
_TO_BE_TRIED_AGAIN = (408, 429, 500, 502, 503, 504)


class Call(NamedTuple):
    """Where a question goes, and as what."""

    path: str
    body: dict[str, Any]


class Said(NamedTuple):
    """What one event of a stream, or a whole answer, says."""

    text: str
    finish: FinishReason | None
    prompt_tokens: int | None
    new_tokens: int | None


def call_of(question: Question, model: str, takes: Capabilities) -> Call:
    """Return the call that asks a server.

    Raises:
        RequestError: the server does not take what the answer depends on.
    """
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": question.max_tokens,
        "temperature": question.temperature,
    }
    if question.text is None:
        path = "chat/completions"
        body["messages"] = list(question.messages)
    else:
        path = "completions"
        body["prompt"] = question.text
    known = takes.text if question.text is not None else takes.chat
    if not known:
        other = "chats" if takes.chat else "texts to be continued"
        raise RequestError(f"the backend's server has no {path}: it takes {other} only")
    if question.top_p < 1:
        body["top_p"] = question.top_p
    if question.top_k is not None:
        body["top_k"] = question.top_k
    if takes.seeds:
        body["seed"] = question.seed
    if question.stop:
        body["stop"] = list(question.stop[:_MOST_STOPS])
    if question.constraint is not None:
        body["response_format"] = _response_format(question.constraint, takes)
    if takes.streams:
        body["stream"] = True
        if takes.counts:
            body["stream_options"] = {"include_usage": True}
    return Call(path, body)


def _response_format(constraint: Constraint, takes: Capabilities) -> dict[str, Any]:
    if constraint.kind not in ("json_schema", "json_object"):
        raise RequestError(
            f"a constraint of kind {constraint.kind!r} is not known to servers of OpenAI's API: "
            "give a JSON schema, or use a mode that decodes by the bundle"
        )
    if not takes.json_schema:
        raise RequestError(
            "the backend's server takes no response_format, so that the answer could have any "
            "form: leave it out, or use a mode that decodes by the bundle"
        )
    if constraint.kind == "json_object":
        return {"type": "json_object"}
    schema = json.loads(constraint.text)
    if isinstance(schema, dict):
        schema.pop("x-guidance", None)  # how the bundle's own grammar writes it
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": True},
    }


def read_event(data: str) -> Said:
    """Read the data of one event.

    Raises:
        LinkError: it is no JSON, no completion, or says that the server failed.
    """
    try:
        return read_answer(json.loads(data))
    except (ValueError, RecursionError) as error:
        raise LinkBroken("the backend's server said something that is no JSON") from error


def read_answer(answer: Any) -> Said:
    """Read a whole answer, or what one event of it carries.

    Raises:
        LinkError: it is no completion, or says that the server failed.
    """
    if isinstance(answer, dict) and answer.get("error") is not None:
        raise LinkBroken(f"the backend's server failed: {_words(answer)}")
    try:
        usage = answer.get("usage") or {}
        text, finish = "", None
        if answer.get("choices"):
            choice = answer["choices"][0]
            part = choice.get("delta") or choice.get("message") or {}
            found = choice.get("text", part.get("content"))
            text = "" if found is None else found
            finish = _finish(choice.get("finish_reason"))
        if not isinstance(text, str):
            raise TypeError(type(text))
        return Said(text, finish, _count(usage, "prompt"), _count(usage, "completion"))
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise LinkBroken("the backend's server said something that is no completion") from error


def _finish(reason: Any) -> FinishReason | None:
    """Servers have reasons of their own; all but one mean that the model ended the text."""
    if reason is None:
        return None
    return "length" if reason == "length" else "stop"


def _count(usage: dict[str, Any], of: str) -> int | None:
    count = usage.get(f"{of}_tokens")
    return count if isinstance(count, int) and 0 <= count < 1 << 31 else None


def fault_of(status: int, body: bytes) -> UpdraftError:
    """Return the error that a server's HTTP status means here."""
    try:
        words = _words(json.loads(body))
    except (ValueError, RecursionError):
        words = "it says no reason"
    if status in _REFUSALS:
        return RequestError(f"the backend's server refuses the request: {words}")
    if status in (401, 403):  # its words may quote the key
        return LinkBroken(
            f"the backend's server refuses the coordinator's key (HTTP {status}): "
            "see backend.api_key_file"
        )
    if status == 429:
        return LinkBusy(f"the backend's server is at a limit of its own: {words}")
    return LinkBroken(f"the backend's server answers with HTTP {status}: {words}")


def may_be_tried_again(status: int) -> bool:
    """Whether the same request may be answered in a moment."""
    return status in _TO_BE_TRIED_AGAIN


def _words(answer: Any) -> str:
    """Return what a server says of its error, in one line and not too long."""
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    said = error.get("message", error.get("detail")) if isinstance(error, dict) else error
    line = " ".join(str(said or "it says no reason").split())
    line = "".join(character for character in line if character.isprintable())
    return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 1] + "…"
