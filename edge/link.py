"""The edge's end of the wire: a channel to the coordinator and the sessions on it.

gRPC runs on an event loop in a thread of its own, so that the decoding loop stays plain,
synchronous code: it hands frames over without waiting, and waits only for answers.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Coroutine
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import grpc

from updraft.config.endpoint import Endpoint, TlsMaterial
from updraft.errors import (
    LinkBroken,
    LinkBusy,
    LinkClosed,
    LinkTimeout,
    ProtocolError,
    RequestError,
    UpdraftError,
)
from updraft.models.manifest import CodecName
from updraft.models.sampling import Sampling
from updraft.proto.v1 import collaboration_pb2 as pb
from updraft.proto.v1 import collaboration_pb2_grpc as rpc

_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Deadlines:
    """How long the edge waits before it goes on alone.

    Attributes:
        open_s: for a session to be opened, connecting included.
        answer_s: for one token.
        session_s: for a whole session.
    """

    open_s: float = 3.0
    answer_s: float = 5.0
    session_s: float = 3600.0


class CloudToken(NamedTuple):
    """The cloud's token and what it cost there."""

    position: int
    token: int
    confidence: float
    computed_positions: int
    compute_s: float
    last: bool


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
        self.endpoint = endpoint
        self.deadlines = deadlines or Deadlines()
        self._fingerprint = fingerprint
        self._loop = _new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="link", daemon=True)
        self._thread.start()
        self._channel: grpc.aio.Channel = self._submit(self._connect(tls)).result()

    def describe(self) -> Served:
        """Ask the coordinator what it serves.

        Raises:
            LinkError: it cannot be reached.
        """

        async def ask() -> pb.DescribeResponse:
            stub = rpc.CollaborationStub(self._channel)
            return await stub.Describe(pb.DescribeRequest(), timeout=self.deadlines.open_s)

        try:
            answer = self._submit(ask()).result()
        except grpc.aio.AioRpcError as error:
            raise self.explain(error) from error
        return Served(answer.fingerprint, answer.bundle_name, answer.sessions, answer.max_sessions)

    def open(self, codec: CodecName, sampling: Sampling) -> CloudSession:
        """Open a session and wait for it.

        Raises:
            LinkError: the coordinator cannot be used now.
            ProtocolError: it serves another model or speaks another protocol.
        """
        return self.open_soon(codec, sampling).result()

    def open_soon(self, codec: CodecName, sampling: Sampling) -> Future[CloudSession]:
        """Open a session in the background."""
        request = pb.Open(
            protocol=pb.PROTOCOL_V1,
            fingerprint=self._fingerprint,
            codec=pb.Codec.Value(f"CODEC_{codec.upper()}"),
            temperature=sampling.temperature,
            seed=sampling.seed,
        )
        return self._submit(self._open(request))

    def close(self) -> None:
        """Close the channel; sessions on it end."""
        if self._loop.is_running():
            self._submit(self._shut_down()).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def explain(self, error: grpc.aio.AioRpcError) -> UpdraftError:
        """Turn a gRPC status into an error that says who is at fault."""
        code, details = error.code(), error.details() or "no reason given"
        text = f"coordinator {self.endpoint}: {details}"
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return LinkBusy(text)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return LinkTimeout(text)
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            return RequestError(text)
        if code in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNIMPLEMENTED):
            return ProtocolError(text)
        return LinkBroken(text)

    async def _connect(self, tls: TlsMaterial | None) -> grpc.aio.Channel:
        options = [
            ("grpc.keepalive_time_ms", 5_000),
            ("grpc.keepalive_timeout_ms", 2_000),
            ("grpc.max_reconnect_backoff_ms", 2_000),
            ("grpc.initial_reconnect_backoff_ms", 200),
        ]
        target = str(self.endpoint)
        if tls is None:
            return grpc.aio.insecure_channel(target, options)
        credentials = grpc.ssl_channel_credentials(tls.authority, tls.key, tls.certificate)
        return grpc.aio.secure_channel(target, credentials, options)

    async def _shut_down(self) -> None:
        await self._channel.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _open(self, request: pb.Open) -> CloudSession:
        stub = rpc.CollaborationStub(self._channel)
        call = stub.Collaborate(timeout=self.deadlines.session_s)

        async def greet() -> Any:
            await call.write(pb.CollaborateRequest(open=request))
            return await call.read()

        try:
            response = await asyncio.wait_for(greet(), self.deadlines.open_s)
        except asyncio.TimeoutError as error:
            call.cancel()
            raise LinkTimeout(
                f"coordinator {self.endpoint}: no session within {self.deadlines.open_s:g} s"
            ) from error
        except grpc.aio.AioRpcError as error:
            raise self.explain(error) from error
        except asyncio.InvalidStateError as error:
            raise LinkBroken(f"coordinator {self.endpoint}: the stream ended at once") from error
        if response is grpc.aio.EOF or response.WhichOneof("frame") != "opened":
            call.cancel()
            raise ProtocolError(f"coordinator {self.endpoint}: no Opened frame came back")
        return CloudSession(self, call, response.opened)

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as error:
            work.close()
            raise LinkClosed("the link is closed") from error

    def call_soon(self, function: Any, *arguments: Any) -> None:
        """Run a function on the link's thread.

        Raises:
            LinkClosed: the link was closed.
        """
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError as error:
            raise LinkClosed("the link is closed") from error

    def cancel_later(self, call: Any) -> None:
        """Cancel a call that has not ended by its deadline; call on the link's thread."""
        self._loop.call_later(self.deadlines.answer_s, call.cancel)

    def start_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task; call on the link's thread."""
        return self._loop.create_task(work)


class CloudSession:
    """One session: frames leave in order and without waiting; answers are waited for.

    Frames that wait to be written are bounded by the context: each position is sent once.

    Attributes:
        max_positions_per_frame: the coordinator's limit for one `States` frame.
    """

    def __init__(self, link: CloudLink, call: Any, opened: pb.Opened) -> None:
        self.max_positions_per_frame = opened.max_positions_per_frame
        self._link = link
        self._call = call
        self._outbox: asyncio.Queue[pb.CollaborateRequest | None] = asyncio.Queue()
        self._lock = threading.Lock()
        self._waiting: deque[Future[CloudToken]] = deque()
        self._arrived: deque[CloudToken] = deque()
        self._fault: UpdraftError | None = None
        self._writer = link.start_task(self._write())
        self._reader = link.start_task(self._read())

    def send_states(self, epoch: int, position: int, count: int, payload: bytes) -> None:
        """Send states after the split layer; returns at once."""
        frame = pb.States(epoch=epoch, position=position, count=count, payload=payload)
        self._send(pb.CollaborateRequest(states=frame))

    def ask(self, epoch: int, length: int, position: int) -> CloudToken:
        """Ask for the token that follows `length` states and wait for it.

        Raises:
            LinkError: no answer came; the session is of no use any more.
            ProtocolError: the coordinator refused a frame.
        """
        frame = pb.Ask(epoch=epoch, length=length, position=position)
        self._send(pb.CollaborateRequest(ask=frame))
        return self.receive()

    def generate(self, tokens: list[int], max_tokens: int) -> None:
        """Let the cloud decode; fetch its tokens with `receive`."""
        frame = pb.Generate(tokens=tokens, max_tokens=max_tokens)
        self._send(pb.CollaborateRequest(generate=frame))

    def receive(self) -> CloudToken:
        """Wait for the next token.

        Raises:
            LinkError: none came before the deadline, or the stream broke.
            ProtocolError: the coordinator refused a frame.
        """
        answer: Future[CloudToken] = Future()
        with self._lock:
            if self._arrived:
                return self._arrived.popleft()
            if self._fault is not None:
                raise self._fault
            self._waiting.append(answer)
        try:
            return answer.result(self._link.deadlines.answer_s)
        except FutureTimeout as error:
            self.cancel()
            raise LinkTimeout(
                f"coordinator {self._link.endpoint}: no token within "
                f"{self._link.deadlines.answer_s:g} s"
            ) from error

    def finish(self) -> None:
        """Let what was sent go out in the background, then end the session."""
        try:
            self._link.call_soon(self._outbox.put_nowait, None)
            self._link.call_soon(self._link.cancel_later, self._call)
        except LinkClosed:
            _log.debug("the link was closed before its session")

    def cancel(self) -> None:
        """End the session at once; what was not sent is dropped."""
        try:
            self._link.call_soon(self._call.cancel)
        except LinkClosed:
            _log.debug("the link was closed before its session")

    def _send(self, frame: pb.CollaborateRequest) -> None:
        if self._fault is not None:
            raise self._fault
        self._link.call_soon(self._outbox.put_nowait, frame)

    async def _write(self) -> None:
        try:
            while (frame := await self._outbox.get()) is not None:
                await self._call.write(frame)
            await self._call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.CancelledError, asyncio.InvalidStateError):
            self._call.cancel()  # the reader learns the reason and reports it

    async def _read(self) -> None:
        fault: UpdraftError = LinkBroken(f"coordinator {self._link.endpoint}: it ended the session")
        try:
            while (response := await self._call.read()) is not grpc.aio.EOF:
                if response.WhichOneof("frame") == "token":
                    self._deliver(response.token)
        except grpc.aio.AioRpcError as error:
            fault = self._link.explain(error)
        except asyncio.CancelledError:
            fault = LinkClosed(f"coordinator {self._link.endpoint}: the session was cancelled")
        finally:
            self._writer.cancel()
            self._fail(fault)

    def _deliver(self, token: pb.Token) -> None:
        arrived = CloudToken(
            token.position,
            token.token,
            token.confidence,
            token.computed_positions,
            token.compute_s,
            token.last,
        )
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set_result(arrived)
            else:
                self._arrived.append(arrived)

    def _fail(self, fault: UpdraftError) -> None:
        with self._lock:
            self._fault = fault
            waiting, self._waiting = self._waiting, deque()
        for answer in waiting:
            answer.set_exception(fault)


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
