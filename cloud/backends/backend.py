"""The interface of everything that answers whole requests."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from updraft.models.constraint import Constraint

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Question:
    """What is to be answered, checked when it came.

    Attributes:
        text: to be continued; None where `messages` are given.
        messages: a chat, each message as the chat completions API takes it.
        top_p, top_k: 1 and None limit nothing.
        stop: strings that end the text; they are not part of it.
        constraint: what form the answer must have.
    """

    text: str | None
    messages: tuple[dict[str, Any], ...]
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    top_p: float = 1.0
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    constraint: Constraint | None = None


class Piece(NamedTuple):
    """A piece of the answer.

    Attributes:
        text: whole characters.
        tokens: as the backend counts; 0: not known.
        compute_s: how long it worked since the last piece.
    """

    text: str
    tokens: int
    compute_s: float


class Finish(NamedTuple):
    """The end of an answer, and what all of it took; tokens as the backend counts."""

    reason: FinishReason
    prompt_tokens: int
    new_tokens: int
    compute_s: float


@dataclass(frozen=True)
class Capabilities:
    """What a backend was found to take.

    Attributes:
        text: prompts that are to be continued, and `chat`, chats.
        streams: answers come in pieces; else in one.
        counts: a streamed answer ends with what it took.
        seeds: sampling is repeated with the same seed.
        json_schema: answers can be held to a schema, and `grammar`, to expressions and grammars.
        logprobs: answers can come with the probabilities of their tokens.
    """

    text: bool = False
    chat: bool = False
    streams: bool = False
    counts: bool = False
    seeds: bool = False
    json_schema: bool = False
    grammar: bool = False
    logprobs: bool = False


class Backend(Protocol):
    """Answers requests; lives on the coordinator's event loop.

    Attributes:
        kind: as configured.
    """

    kind: str

    @property
    def model(self) -> str:
        """What it calls its model; empty while that is not known."""

    @property
    def ready(self) -> bool:
        """Whether it can be used now, as far as is known."""

    @property
    def capabilities(self) -> Capabilities:
        """What it takes, as far as is known."""

    def start(self) -> None:
        """Begin to look after it; call on the event loop."""

    async def close(self) -> None:
        """Let it go; answers that run end."""

    def answer(self, question: Question) -> AsyncGenerator[Piece | Finish, None]:
        """Answer in pieces, the last of them a `Finish`; leaving the iterator ends its work.

        Raises:
            RequestError: it can never be answered as asked.
            LinkError: the backend cannot be used now, or failed in the middle.
        """
