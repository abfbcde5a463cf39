"""`POST /v1/chat/completions`: a chat is continued."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from updraft.edge.api.body import Body, Strict
from updraft.edge.api.chat_answers import ChatAnswers
from updraft.edge.api.logprobs import MOST_TOP_LOGPROBS
from updraft.edge.api.messages import MOST_MESSAGES, Message
from updraft.edge.api.model import Served
from updraft.edge.api.tools import MOST_TOOLS, Tool, Toolbox, ToolChoice
from updraft.errors import RequestError
from updraft.models.constraint import Constraint

# Of an answer that no max_tokens bounds, if the context has room for it.
_DEFAULT_TOKENS = 1024


class JsonSchema(Strict):
    """The schema of `response_format`; it is always kept strictly."""

    name: str | None = None
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class TextFormat(Strict):
    """Any text."""

    type: Literal["text"]


class ObjectFormat(Strict):
    """Any JSON object."""

    type: Literal["json_object"]


class SchemaFormat(Strict):
    """JSON that a schema allows."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[TextFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")]


class ChatBody(Body):
    """Body of a chat request."""

    neutral: ClassVar[dict[str, tuple[object, ...]]] = {
        **Body.neutral,
        "modalities": (["text"],),
        "reasoning_effort": ("none",),
        "verbosity": ("medium",),
        "audio": (),
        "prediction": (),
        "web_search_options": (),
        "functions": ([],),
        "function_call": ("none",),
    }

    messages: list[Message] = Field(min_length=1, max_length=MOST_MESSAGES)
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = Field(default=None, max_length=MOST_TOOLS)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    modalities: Any = None
    reasoning_effort: Any = None
    verbosity: Any = None
    audio: Any = None
    prediction: Any = None
    web_search_options: Any = None
    functions: Any = None
    function_call: Any = None

    def check(self) -> None:
        super().check()
        most = self.max_tokens, self.max_completion_tokens
        if None not in most and most[0] != most[1]:
            raise RequestError(f"max_tokens {most[0]} and max_completion_tokens {most[1]} differ")
        if self.top_logprobs is not None:
            if not self.logprobs:
                raise RequestError("top_logprobs: only with logprobs true")
            if not 0 <= self.top_logprobs <= MOST_TOP_LOGPROBS:
                raise RequestError(
                    f"top_logprobs {self.top_logprobs} lies outside 0 to {MOST_TOP_LOGPROBS}"
                )
        if not self.tools and self.tool_choice not in (None, "none", "auto"):
            raise RequestError("tool_choice: there are no tools")
        if self.uses_tools and self.constraint() is not None:
            raise RequestError(
                "response_format: an answer that may call tools cannot be bound to a format; "
                "leave one out, or say tool_choice 'none'"
            )

    @property
    def uses_tools(self) -> bool:
        """Whether the model may call tools."""
        return bool(self.tools) and self.tool_choice != "none"

    def constraint(self) -> Constraint | None:
        """Return the grammar of `response_format`.

        Raises:
            RequestError: the schema is too large.
        """
        form = self.response_format
        if form is None or isinstance(form, TextFormat):
            return None
        if isinstance(form, ObjectFormat):
            return Constraint("json_object")
        return Constraint("json_schema", json.dumps(form.json_schema.schema_))


def converse(body: ChatBody, served: Served) -> ChatAnswers:
    """Return what is to be decoded, ready to be answered.

    Raises:
        RequestError: it can never be served.
        BundleError: the bundle's chat template is none.
    """
    messages = [message.described(number) for number, message in enumerate(body.messages)]
    toolbox = _toolbox(body, served)
    tools = None if toolbox is None else [tool.described() for tool in body.tools or []]
    text = served.chat.render(messages, tools)
    if toolbox is not None:
        text += toolbox.opening
    tokens = served.chat.encode(text)
    asked = body.request(
        text,
        tokens,
        _max_tokens(body, served.context_length - len(tokens)),
        served.config.decoding,
        served.has_cloud,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        constraint=body.constraint() if toolbox is None else toolbox.constraint(),
        stop=served.chat.stop,
        messages=_as_sent(body),
    )
    if toolbox is not None and asked.mode == "request":
        raise RequestError("tools: mode 'request' has another model answer, which is not told them")
    return ChatAnswers(body, served, served.orders(body, asked, tokens), toolbox)


def _toolbox(body: ChatBody, served: Served) -> Toolbox | None:
    if not body.uses_tools:
        return None
    if served.dialect is None:
        raise RequestError(
            f"tools: the chat template of bundle {served.name!r} knows none; the model was not "
            "trained to call them"
        )
    parallel = body.parallel_tool_calls is not False
    return Toolbox(body.tools or [], body.tool_choice, parallel, served.dialect, served.mark)


def _max_tokens(body: ChatBody, room: int) -> int:
    given = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    return max(1, min(room, _DEFAULT_TOKENS)) if given is None else given


def _as_sent(body: ChatBody) -> str:
    """Return the messages as another server of this API takes them."""
    return json.dumps([message.model_dump(exclude_none=True) for message in body.messages])
