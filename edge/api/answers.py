"""What becomes of a request's events: chunks of a stream, or one whole answer."""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from updraft.edge.api.account import Account, cost_of
from updraft.edge.api.body import Body
from updraft.edge.api.serving import Ended, Event, Order, Written
from updraft.edge.request import GeneratedToken


class Answers(ABC):
    """The answers to one request, in the shape of its endpoint.

    Args:
        kind: begins the answer's id; `whole_object` and `chunk_object` name what it is.

    Attributes:
        orders: what is to be decoded, one per choice.
        stream: whether the client wants chunks.
    """

    kind: str
    whole_object: str
    chunk_object: str

    def __init__(self, body: Body, model: str, orders: Sequence[Order]) -> None:
        self.orders = orders
        self.stream = bool(body.stream)
        self._with_usage = body.with_usage
        self._account = Account(body.choices)
        self._reasons = ["length"] * len(orders)
        self._identity = {
            "id": f"{self.kind}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }

    def first(self) -> list[dict[str, Any]]:
        """Return the chunks that come before any token."""
        return []

    def take(self, event: Event) -> list[dict[str, Any]]:
        """Take what happened and return the chunks that say so."""
        if isinstance(event, Written):
            own = _token(event.token)
            return [self._chunk([choice], own) for choice in self.written(event)]
        self._account.add(event)
        reason = event.result.finish_reason
        self._reasons[event.choice] = "length" if reason == "cancelled" else reason
        *pieces, last = self.ended(event)
        return [
            *(self._chunk([choice], None) for choice in pieces),
            self._chunk([last], cost_of(event)),
        ]

    def last(self) -> list[dict[str, Any]]:
        """Return the chunks that come after all tokens."""
        if not self._with_usage:
            return []
        return [self._chunk([], None) | {"usage": self._account.usage()}]

    def whole(self) -> dict[str, Any]:
        """Return the answer to a request that does not stream, when all has been taken."""
        return {
            **self._identity,
            "object": self.whole_object,
            "choices": [self.choice(index) for index in range(len(self.orders))],
            "usage": self._account.usage(),
            "updraft": self._account.costs(),
        }

    @abstractmethod
    def written(self, event: Written) -> list[dict[str, Any]]:
        """Return the choices of chunks that a token makes."""

    @abstractmethod
    def ended(self, event: Ended) -> list[dict[str, Any]]:
        """Return the choices of chunks that the end of an answer makes; at least one."""

    @abstractmethod
    def choice(self, index: int) -> dict[str, Any]:
        """Return one of the choices of a whole answer."""

    def _chunk(self, choices: list[dict[str, Any]], own: dict[str, Any] | None) -> dict[str, Any]:
        chunk = {**self._identity, "object": self.chunk_object, "choices": choices}
        if self._with_usage:
            chunk["usage"] = None
        if own is not None:
            chunk["updraft"] = own
        return chunk


def _token(token: GeneratedToken) -> dict[str, Any]:
    """Return `updraft` of a streamed token: where it came from."""
    return {
        "position": token.position,
        "token": token.token,
        "source": token.source,
        "confidence": round(token.confidence, 6),
        "verified": token.verified,
    }
