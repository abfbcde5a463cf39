"""The messages of a chat, as clients send them and as chat templates read them."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from updraft.edge.api.body import Strict
from updraft.errors import RequestError

MOST_MESSAGES = 4096
_MOST_CALLS = 128


class TextPart(Strict):
    """A part of a message; only text is read."""

    type: Literal["text"]
    text: str


class CalledFunction(Strict):
    """What an assistant called; the arguments are JSON in a string."""

    name: str
    arguments: str


class ToolCall(Strict):
    """A call in an assistant's message."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None


class Message(Strict):
    """One message; `developer` is what `system` was called before.

    Attributes:
        tool_call_id: of the call that a `tool` message answers.
        refusal, annotations, audio, function_call: in messages that a client gives back as it
            got them; they must be empty.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = Field(default=None, max_length=_MOST_CALLS)
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    refusal: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    audio: None = None
    function_call: None = None

    def described(self, number: int) -> dict[str, Any]:
        """Return it as chat templates read it.

        Args:
            number: of it in the chat, for the error.

        Raises:
            RequestError: parts that do not go with its role, or arguments that are no JSON object.
        """
        self._check(f"messages.{number}")
        content = self.content or ""
        if not isinstance(content, str):
            content = "".join(part.text for part in content)
        role = "system" if self.role == "developer" else self.role
        said: dict[str, Any] = {"role": role, "content": content}
        for key in ("name", "tool_call_id", "reasoning_content"):
            if (value := getattr(self, key)) is not None:
                said[key] = value
        if self.tool_calls:
            said["tool_calls"] = [
                {
                    "id": call.id,
                    "type": call.type,
                    "function": {
                        "name": call.function.name,
                        "arguments": _arguments(call.function, f"messages.{number}"),
                    },
                }
                for call in self.tool_calls
            ]
        return said

    def _check(self, where: str) -> None:
        if self.content is None and not self.tool_calls:
            raise RequestError(f"{where}: it has no content")
        if self.tool_calls and self.role != "assistant":
            raise RequestError(f"{where}: a message of role {self.role!r} calls no tools")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise RequestError(
                f"{where}: tool_call_id belongs to messages of role 'tool', and to each of them"
            )


def _arguments(function: CalledFunction, where: str) -> dict[str, Any]:
    try:
        arguments = json.loads(function.arguments or "{}")
    except (ValueError, RecursionError) as error:
        raise RequestError(
            f"{where}: the arguments of {function.name!r} are not JSON: {error}"
        ) from error
    if not isinstance(arguments, dict):
        raise RequestError(f"{where}: the arguments of {function.name!r} are no JSON object")
    return arguments
