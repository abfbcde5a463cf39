"""What a client gets to see of an answer: who gives it, each part once, and what it cost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

from updraft.cloud.fleet.attempt import Ended
from updraft.cloud.fleet.splice import Given, Part, Splice
from updraft.proto.v1 import fleet_pb2 as pb


class Client:
    """The client's side of one request; times count from when it is made.

    Nothing here waits for the client but `write`, so that one who does not read keeps no node
    from other work. What waits for it is never more than the answer it asked for.
    """

    def __init__(self) -> None:
        self._outbox: asyncio.Queue[pb.AnswerResponse | None] = asyncio.Queue()
        self._splice = Splice()
        self._started = monotonic()
        self._first_token_ms: float | None = None
        self._routed = pb.Routed()

    async def write(self, write: Callable[[pb.AnswerResponse], Awaitable[None]]) -> None:
        """Write everything to the client until the end of the answer."""
        while (response := await self._outbox.get()) is not None:
            await write(response)

    def begin(self, version: str, routed: pb.Routed) -> None:
        """Begin with a node's answer; the client hears of it unless its text goes on."""
        self._routed = routed
        if not self._splice.begin(f"{routed.expert} {version}"):
            self._start_anew()

    def take(self, part: Part) -> None:
        """Pass on what the client lacks of a part."""
        self._pass_on(self._splice.add(part))

    def end(self, ended: Ended) -> None:
        """End the answer; its latency is what the client had to wait."""
        self._pass_on(self._splice.end())
        latency_ms = self._elapsed_ms()
        usage = pb.UsageRecord()
        usage.CopyFrom(ended.usage)
        usage.latency_ms = latency_ms
        usage.first_token_ms = latency_ms if self._first_token_ms is None else self._first_token_ms
        end = pb.AnswerEnd(finish_reason=ended.finish_reason, usage=usage, routed=self._routed)
        self._outbox.put_nowait(pb.AnswerResponse(end=end))
        self._outbox.put_nowait(None)

    def _pass_on(self, given: Given) -> None:
        if given.anew:
            self._start_anew()
        if given.part is not None:
            if self._first_token_ms is None:
                self._first_token_ms = self._elapsed_ms()
            position, text, tokens = given.part
            part = pb.AnswerPart(position=position, text=text, tokens=tokens)
            self._outbox.put_nowait(pb.AnswerResponse(part=part))

    def _start_anew(self) -> None:
        self._first_token_ms = None
        self._outbox.put_nowait(pb.AnswerResponse(routed=self._routed))

    def _elapsed_ms(self) -> float:
        return 1000 * (monotonic() - self._started)
