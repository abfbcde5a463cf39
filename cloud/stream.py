"""One stream of a client: answers leave in order, credit is counted, silence is noticed."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

import grpc

from updraft.cloud.events import Event, Evicted, Logits, NeedFrom, Token, Verdict
from updraft.cloud.session import Session
from updraft.errors import LinkTimeout, ProtocolError, UpdraftError
from updraft.models.logprobs import LogProbabilities
from updraft.proto.v1 import collaboration_pb2 as pb

# Answers that wait for a client to read them: from the first number on a generation pauses,
# beyond the second the client is cut off.
_PAUSE_AT, _MOST_UNREAD = 32, 1024
# The same in bytes: verdicts with logits are large.
_MOST_UNREAD_BYTES = 32 << 20

_log = logging.getLogger(__name__)


class Stream:
    """The coordinator's end of a `Collaborate` call; lives on the event loop.

    Nothing here waits except `drain`: who has something to say leaves it in the outbox.

    Attributes:
        session: None until the first frame was accepted.
        heard: when the client last said something, or was last answered, by the monotonic clock.
        fault: why the stream was ended from this side.
        writing_since: when the answer that is being written began to wait for the client.
        spoke: set whenever an answer is left in the outbox.
    """

    def __init__(
        self,
        context: grpc.aio.ServicerContext,
        credit: int,
        on_room: Callable[[Session], None],
    ) -> None:
        """Begin with the first frame still to come.

        Args:
            credit: positions that the client may have on their way.
            on_room: called when a generation may go on, because its client has read enough.
        """
        self.session: Session | None = None
        self.heard = monotonic()
        self.fault: UpdraftError | None = None
        self.writing_since: float | None = None
        self.spoke = asyncio.Event()
        self._context = context
        self._on_room = on_room
        self._task = asyncio.current_task()
        self._outbox: deque[pb.CollaborateResponse] = deque()
        self._unread_bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self._credit = credit
        self._received = self._acknowledged = self._promised = 0

    def open(self, session: Session, opened: pb.Opened) -> None:
        """Connect a session with this stream and tell the client."""
        self.session, session.outlet = session, self
        self._put(pb.CollaborateResponse(opened=opened))

    def send(self, event: Event) -> None:
        if isinstance(event, Token | Verdict):  # to ask for inputs over and over is no answer
            self.heard = monotonic()
        self._put(_response(event))

    def fail(self, error: UpdraftError) -> None:
        if self.fault is None and self._task is not None:
            self.fault = error
            self._task.cancel()

    def receive(self, positions: int) -> None:
        """Count positions that came, and give credit back.

        Raises:
            ProtocolError: they are more than the client had credit for.
        """
        self._received += positions
        if self._received - self._acknowledged > self._credit:
            raise ProtocolError(
                f"{self._received - self._acknowledged} positions came without credit, "
                f"{self._credit} may be on their way: wait for Ack"
            )
        if self._received - self._promised >= self._credit // 4:
            self._promised = self._received
            self._put(pb.CollaborateResponse(ack=pb.Ack(received=self._received)))

    async def drain(self) -> None:
        """Wait until everything is written."""
        while self._writer is not None:
            await asyncio.wait((self._writer,))

    def stop_writing(self) -> None:
        """Drop what was not written."""
        self._outbox.clear()
        if self._writer is not None:
            self._writer.cancel()

    def _put(self, response: pb.CollaborateResponse) -> None:
        self._outbox.append(response)
        self._unread_bytes += response.ByteSize()
        self.spoke.set()
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())
        unread = len(self._outbox)
        if unread >= _PAUSE_AT and self.session is not None:
            self.session.paused = True
        if unread > _MOST_UNREAD or self._unread_bytes > _MOST_UNREAD_BYTES:
            self.fail(LinkTimeout(f"the client does not read: {unread} answers wait for it"))

    async def _write(self) -> None:
        try:
            while self._outbox:
                self.writing_since = monotonic()
                response = self._outbox.popleft()
                self._unread_bytes -= response.ByteSize()
                if response.HasField("ack"):
                    self._acknowledged = response.ack.received
                await self._context.write(response)
                self._unpause()
        except Exception as error:  # gRPC has no class of its own for a client that is gone
            _log.debug("a client is gone: %r", error)
        finally:
            self._writer = self.writing_since = None

    def _unpause(self) -> None:
        session = self.session
        if session is not None and session.paused and len(self._outbox) < _PAUSE_AT:
            session.paused = False
            try:
                self._on_room(session)
            except UpdraftError as error:
                self.fail(error)


def _response(event: Event) -> pb.CollaborateResponse:
    if isinstance(event, Verdict):
        return pb.CollaborateResponse(
            verdict=pb.Verdict(
                epoch=event.epoch,
                position=event.position,
                tokens=[pick.token for pick in event.picks],
                rejected=event.rejected,
                confidences=[pick.confidence for pick in event.picks],
                computed_positions=event.cost.computed_positions,
                compute_s=event.cost.compute_s,
                logits=[_logits(pick.logits) for pick in event.picks if pick.logits is not None],
                log_probabilities=[
                    _log_probabilities(pick.logprobs)
                    for pick in event.picks
                    if pick.logprobs is not None
                ],
            )
        )
    if isinstance(event, Token):
        return pb.CollaborateResponse(
            token=pb.Token(
                position=event.position,
                token=event.pick.token,
                confidence=event.pick.confidence,
                computed_positions=event.cost.computed_positions,
                compute_s=event.cost.compute_s,
                last=event.last,
                log_probabilities=None
                if event.pick.logprobs is None
                else _log_probabilities(event.pick.logprobs),
            )
        )
    if isinstance(event, NeedFrom):
        need = pb.NeedFrom(epoch=event.epoch, position=event.position)
        return pb.CollaborateResponse(need_from=need)
    assert isinstance(event, Evicted), "there is no other event"
    return pb.CollaborateResponse(evicted=pb.Evicted())


def _log_probabilities(logprobs: LogProbabilities) -> pb.LogProbabilities:
    return pb.LogProbabilities(
        chosen=logprobs.chosen,
        tokens=[token for token, _ in logprobs.top],
        values=[value for _, value in logprobs.top],
    )


def _logits(logits: Logits) -> pb.Logits:
    tokens: Any = () if logits.tokens is None else logits.tokens
    return pb.Logits(tokens=tokens, values=logits.values)
