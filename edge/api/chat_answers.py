"""Answers of the shape `chat.completion`: what the assistant says, and the tools that it calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from updraft.edge.api.answers import Answers
from updraft.edge.api.calls import Argued, Called, CallReader, Piece, Said
from updraft.edge.api.logprobs import Scored, Scores
from updraft.edge.api.model import Served
from updraft.edge.api.serving import Ended, Order, Written
from updraft.edge.api.tools import Toolbox
from updraft.edge.request import GeneratedToken

if TYPE_CHECKING:
    from updraft.edge.api.chat import ChatBody


class ChatAnswers(Answers):
    """The choices of a chat, as they are written.

    Args:
        toolbox: the tools that may be called, if any.
    """

    kind, whole_object, chunk_object = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def __init__(
        self, body: ChatBody, served: Served, orders: list[Order], toolbox: Toolbox | None
    ) -> None:
        super().__init__(body, served.name, orders)
        self._choices = [_Choice(served, toolbox, bool(body.logprobs)) for _ in orders]

    def first(self) -> list[dict[str, Any]]:
        delta = {"role": "assistant", "content": ""}
        return [self._chunk([_delta(i, delta)], None) for i in range(len(self._choices))]

    def written(self, event: Written) -> list[dict[str, Any]]:
        choice = self._choices[event.choice]
        pieces, scores = choice.write(event.token)
        deltas = [_delta(event.choice, _said(piece)) for piece in pieces]
        deltas = deltas or [_delta(event.choice, {})]
        deltas[0]["logprobs"] = choice.logprobs(scores)
        return deltas

    def ended(self, event: Ended) -> list[dict[str, Any]]:
        choice = self._choices[event.choice]
        deltas = [_delta(event.choice, _said(piece)) for piece in choice.finish()]
        if choice.calls and self._reasons[event.choice] == "stop":
            self._reasons[event.choice] = "tool_calls"
        return [*deltas, _delta(event.choice, {}) | {"finish_reason": self._reasons[event.choice]}]

    def choice(self, index: int) -> dict[str, Any]:
        choice = self._choices[index]
        return {
            "index": index,
            "message": choice.message(),
            "logprobs": choice.logprobs(choice.scored),
            "finish_reason": self._reasons[index],
        }


class _Choice:
    """One answer on its way.

    Attributes:
        calls: the tools that it calls, as messages hold them.
        scored: the scores of its tokens so far.
    """

    def __init__(self, served: Served, toolbox: Toolbox | None, scored: bool) -> None:
        self.calls: list[dict[str, Any]] = []
        self.scored: list[Scored] = []
        self._text = ""
        self._scores = Scores(served.engine.tokenizer) if scored else None
        self._toolbox = toolbox
        self._reader = None
        if toolbox is not None:
            self._reader = CallReader(toolbox.dialect, opened=bool(toolbox.opening))

    def write(self, token: GeneratedToken) -> tuple[list[Piece], list[Scored]]:
        """Take a token; returns what it says or calls, and the scores that go out with it."""
        scores = [] if self._scores is None else self._scores.take(token)
        self.scored += scores
        text = token.text
        if self._toolbox is not None and token.token == self._toolbox.mark:
            text += self._toolbox.dialect.mark
        if self._reader is None:
            pieces: list[Piece] = [Said(text)] if text else []
        else:
            pieces = self._reader.push(text)
        self._keep(pieces)
        return pieces, scores

    def finish(self) -> list[Piece]:
        """Return what was kept back."""
        pieces = [] if self._reader is None else self._reader.finish()
        self._keep(pieces)
        return pieces

    def message(self) -> dict[str, Any]:
        """Return the whole message."""
        said: dict[str, Any] = {"role": "assistant", "content": self._text, "refusal": None}
        if self.calls:
            said |= {"content": self._text or None, "tool_calls": self.calls}
        return said

    def logprobs(self, scores: list[Scored]) -> dict[str, Any] | None:
        """Return `logprobs` of a choice, if they were asked for."""
        return None if self._scores is None else self._scores.for_chat(scores)

    def _keep(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            if isinstance(piece, Said):
                self._text += piece.text
            elif isinstance(piece, Called):
                self.calls.append(_call(piece))
            else:
                self.calls[piece.call]["function"]["arguments"] += piece.text


def _call(piece: Called) -> dict[str, Any]:
    function = {"name": piece.name, "arguments": ""}
    return {"id": piece.id, "type": "function", "function": function}


def _said(piece: Piece) -> dict[str, Any]:
    """Return the delta of a piece."""
    if isinstance(piece, Said):
        return {"content": piece.text}
    if isinstance(piece, Argued):
        return {"tool_calls": [{"index": piece.call, "function": {"arguments": piece.text}}]}
    return {"tool_calls": [{"index": piece.call, **_call(piece)}]}


def _delta(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
