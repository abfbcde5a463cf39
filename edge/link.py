"""The edge's end of the wire: a channel to the coordinator, and the sessions on it.

gRPC runs on an event loop in a thread of its own, so that the decoding loop stays plain,
synchronous code: it hands frames over without waiting, and waits only for answers.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import grpc

from updraft.config.endpoint import Endpoint, TlsMaterial
from updraft.edge.channel import explain, new_event_loop, open_channel
from updraft.edge.session import CloudSession, Revival, Terms
from updraft.errors import LinkClosed, UpdraftError
from updraft.proto.v1 import collaboration_pb2 as pb
from updraft.proto.v1 import collaboration_pb2_grpc as rpc
from updraft.proto.v1.escalation_pb2_grpc import EscalationStub

T = TypeVar("T")


@dataclass(frozen=True)
class Deadlines:
    """How long the edge waits before it goes on alone.

    Attributes:
        open_s: for a session to be opened, connecting included.
        answer_s: for one answer.
        session_s: for a whole session.
        text_s: for the next piece of text in `request`, its turn at the backend included.
    """

    open_s: float = 3.0
    answer_s: float = 5.0
    session_s: float = 3600.0
    text_s: float = 60.0


class Served(NamedTuple):
    """What a coordinator says of itself."""

    fingerprint: str
    bundle_name: str
    sessions: int
    max_sessions: int


class CloudLink:
    """A channel to one coordinator; open as many sessions on it as needed."""

    def __init__(
        self,
        endpoint: Endpoint,
        fingerprint: str,
        tls: TlsMaterial | None = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        deadlines = deadlines or Deadlines()
        self.endpoint = endpoint
        self.open_s, self.answer_s = deadlines.open_s, deadlines.answer_s
        self.session_s, self.text_s = deadlines.session_s, deadlines.text_s
        self._fingerprint = fingerprint
        self._loop = new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="link", daemon=True)
        self._thread.start()
        self._channel: grpc.aio.Channel = self.submit(self._connect(tls)).result()

    def describe(self) -> Served:
        """Ask the coordinator what it serves.

        Raises:
            LinkError: it cannot be reached.
        """

        async def ask() -> pb.DescribeResponse:
            return await self.stub().Describe(pb.DescribeRequest(), timeout=self.open_s)

        try:
            answer = self.submit(ask()).result()
        except grpc.aio.AioRpcError as error:
            raise self.explain(error) from error
        return Served(answer.fingerprint, answer.bundle_name, answer.sessions, answer.max_sessions)

    def open(self, terms: Terms) -> CloudSession:
        """Start a session; it opens in the background and says there what went wrong."""
        first = pb.CollaborateRequest(open=terms.to_frame(self._fingerprint))
        return CloudSession(self, first)

    def resume(self, terms: Terms, revival: Revival) -> CloudSession:
        """Start a stream that takes a session up again, likewise in the background."""
        resume = pb.Resume(open=terms.to_frame(self._fingerprint), **revival._asdict())
        return CloudSession(self, pb.CollaborateRequest(resume=resume))

    def close(self) -> None:
        """Close the channel; sessions on it end."""
        if self._loop.is_running():
            self.submit(self._shut_down()).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def explain(self, error: grpc.aio.AioRpcError) -> UpdraftError:
        """Turn a gRPC status into an error that says who is at fault."""
        return explain(self.endpoint, error)

    def stub(self) -> rpc.CollaborationStub:
        """Return a client on this channel."""
        return rpc.CollaborationStub(self._channel)

    def escalation(self) -> EscalationStub:
        """Return a client on this channel, for whole requests."""
        return EscalationStub(self._channel)

    def call_soon(self, function: Any, *arguments: Any) -> None:
        """Run a function on the link's thread.

        Raises:
            LinkClosed: the link was closed.
        """
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError as error:
            raise LinkClosed("the link is closed") from error

    def start_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task; call on the link's thread."""
        return self._loop.create_task(work)

    async def _connect(self, tls: TlsMaterial | None) -> grpc.aio.Channel:
        return open_channel(self.endpoint, tls)

    async def _shut_down(self) -> None:
        await self._channel.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run work on the link's thread.

        Raises:
            LinkClosed: the link was closed.
        """
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as error:
            work.close()
            raise LinkClosed("the link is closed") from error
