"""One request at one node: the parts of its answer, checked as they come."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from updraft.cloud.fleet.splice import Part
from updraft.errors import ProtocolError, UpdraftError
from updraft.proto.v1 import fleet_pb2 as pb

# Characters that a token may stand for on average, and room for the first.
_TEXT_PER_TOKEN, _TEXT_ROOM = 64, 4096


class Refused(NamedTuple):
    """A node that will not, or could not, answer.

    Attributes:
        code: of the error, as in the catalogue.
    """

    code: str
    message: str


class Ended(NamedTuple):
    """The end of an answer, with what the node says that it cost."""

    finish_reason: str
    usage: pb.UsageRecord


Event = Part | Ended | Refused


class Attempt:
    """What a node says of one request; put in by its stream, read by who answers the client.

    Never more than the request's tokens wait in it.
    """

    def __init__(self, number: int, max_tokens: int) -> None:
        self.number = number
        self._max_tokens = max_tokens
        self._tokens = self._characters = 0
        self._events: asyncio.Queue[Event | UpdraftError] = asyncio.Queue()

    def put(self, part: Part) -> None:
        """Take a part; one that came before is dropped.

        Raises:
            ProtocolError: parts are missing before it, or it is more than was asked for.
        """
        after = part.position + part.tokens
        if after <= self._tokens and part.position < self._tokens:
            return
        self._characters += len(part.text)
        if part.position != self._tokens:
            raise ProtocolError(
                f"a part of answer {self.number} is for position {part.position}, the answer has "
                f"{self._tokens} tokens"
            )
        most = _TEXT_ROOM + _TEXT_PER_TOKEN * self._max_tokens
        if after > self._max_tokens or self._characters > most or not (part.tokens or part.text):
            raise ProtocolError(
                f"answer {self.number} has {after} tokens and {self._characters} characters with "
                f"this part of {part.tokens}; up to {self._max_tokens} and {most} were asked for"
            )
        self._tokens = after
        self._events.put_nowait(part)

    def end(self, event: Ended | Refused) -> None:
        """Let the answer end as the node says."""
        self._events.put_nowait(event)

    def fail(self, error: UpdraftError) -> None:
        """Let it end because the node is gone."""
        self._events.put_nowait(error)

    async def next(self) -> Event:
        """Return what comes next.

        Raises:
            UpdraftError: the node is gone.
        """
        event = await self._events.get()
        if isinstance(event, UpdraftError):
            raise event
        return event
