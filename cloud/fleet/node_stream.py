"""One node's stream: work and roles go down in order, what comes up is checked and handed on."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from updraft.cloud.fleet.attempt import Attempt, Ended, Refused
from updraft.cloud.fleet.splice import Part
from updraft.cloud.intake import NO_FRAME
from updraft.errors import LinkTimeout, ProtocolError, UpdraftError
from updraft.proto.v1 import fleet_pb2 as pb

# Frames that may wait for a node to read them; beyond, the node is cut off.
_MOST_UNREAD = 256
_LONGEST_MESSAGE = 1000

_log = logging.getLogger(__name__)


class NodeStream:
    """The coordinator's end of a `Join` call; lives on the event loop.

    Attributes:
        number: of the stream, never used again.
        on: the role that the node was told last; None before the first.
        fault: why the stream was ended from this side.
    """

    def __init__(self, context: grpc.aio.ServicerContext, number: int) -> None:
        self.number = number
        self.on: bool | None = None
        self.fault: UpdraftError | None = None
        self._context = context
        self._task = asyncio.current_task()
        self._outbox: deque[pb.JoinResponse] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._attempts: dict[int, Attempt] = {}
        self._newest = 0

    async def read(self) -> Any:
        """Return the next frame; None when the node has said all.

        Raises:
            ProtocolError: what came is no frame.
        """
        try:
            frame = await self._context.read()
        except DecodeError as error:
            raise ProtocolError(NO_FRAME) from error
        return None if frame is grpc.aio.EOF else frame

    def tell(self, response: pb.JoinResponse) -> None:
        """Leave a frame to be sent; a node that does not read is cut off."""
        self._outbox.append(response)
        if len(self._outbox) > _MOST_UNREAD:
            self.fail(LinkTimeout(f"the node does not read: {len(self._outbox)} frames wait"))
        elif self._writer is None and self.fault is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())

    def tell_role(self, plan_version: int, on: bool) -> None:
        """Tell the node its role, where it is another than before."""
        if on is not self.on:
            self.on = on
            self.tell(pb.JoinResponse(role=pb.Role(plan_version=plan_version, on=on)))

    def give(self, work: pb.Work) -> Attempt:
        """Send work and return where its answer comes in; `take_back` it in the end."""
        attempt = self._attempts[work.id] = Attempt(work.id, work.max_tokens)
        self._newest = work.id
        if self.fault is not None:
            attempt.fail(self.fault)
        self.tell(pb.JoinResponse(work=work))
        return attempt

    def take_back(self, number: int) -> None:
        """Forget work; the node is told, unless it has ended it itself."""
        if self._attempts.pop(number, None) is not None and self.fault is None:
            self.tell(pb.JoinResponse(cancel=pb.CancelWork(id=number)))

    def answer(self, frame: pb.JoinRequest) -> bool:
        """Take a frame about an answer; False where the frame is about something else.

        Raises:
            ProtocolError: it makes no sense, or nobody asked for it.
        """
        kind = frame.WhichOneof("frame")
        if kind not in {"part", "end", "fault"}:
            return False
        about = getattr(frame, kind)
        if about.id > self._newest:
            raise ProtocolError(f"an answer came for work {about.id}, which was never given")
        attempt = self._attempts.get(about.id)
        if attempt is None:
            return True  # it was taken back, and the node has not heard of it yet
        if kind == "part":
            attempt.put(Part(about.position, about.text, about.tokens))
        else:
            del self._attempts[about.id]
            attempt.end(_ended(about) if kind == "end" else _refused(about))
        return True

    def fail(self, error: UpdraftError) -> None:
        """End the stream from this side, and all that the node worked on."""
        if self.fault is None:
            self.fault = error
            self.lose(error)
            if self._task is not None:
                self._task.cancel()

    def lose(self, error: UpdraftError) -> None:
        """Let everything that the node worked on be answered elsewhere."""
        attempts, self._attempts = self._attempts, {}
        for attempt in attempts.values():
            attempt.fail(error)

    def stop_writing(self) -> None:
        """Drop what was not written."""
        self._outbox.clear()
        if self._writer is not None:
            self._writer.cancel()

    async def _write(self) -> None:
        try:
            while self._outbox:
                await self._context.write(self._outbox.popleft())
        except Exception as error:  # gRPC has no class of its own for a peer that is gone
            _log.debug("a node is gone: %r", error)
        finally:
            self._writer = None


def _ended(end: pb.AnswerEnd) -> Ended:
    for name in ("latency_ms", "first_token_ms", "energy_j"):
        value = getattr(end.usage, name)
        if not (math.isfinite(value) and value >= 0):
            raise ProtocolError(f"the end of answer {end.id} says {name} = {value}")
    return Ended(end.finish_reason[:_LONGEST_MESSAGE], end.usage)


def _refused(fault: pb.AnswerFault) -> Refused:
    return Refused(fault.code[:_LONGEST_MESSAGE], fault.message[:_LONGEST_MESSAGE])
