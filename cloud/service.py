"""The coordinator's end of the wire: frames in, answers out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic, process_time
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from updraft.cloud.config import CloudConfig
from updraft.cloud.context import Layers
from updraft.cloud.desk import Desk
from updraft.cloud.housekeeping import Housekeeper
from updraft.cloud.inputs import most_bytes
from updraft.cloud.intake import NO_FRAME
from updraft.cloud.opening import FEATURES, Opening
from updraft.cloud.scheduler import Scheduler
from updraft.cloud.session import Session
from updraft.cloud.status import abort
from updraft.cloud.store import Store
from updraft.cloud.stream import Stream
from updraft.errors import (
    ConfigError,
    LinkBroken,
    LinkBusy,
    LinkTimeout,
    ProtocolError,
    UpdraftError,
)
from updraft.models.sequence import Model
from updraft.proto.v1 import collaboration_pb2 as pb
from updraft.proto.v1 import collaboration_pb2_grpc as rpc

# Streams that may wait for their first frame at one time.
MAX_UNOPENED = 64
# Uploads that may feed one session at one time.
_MOST_UPLOADS = 4


class CollaborationService(rpc.CollaborationServicer):
    """Serves sessions of one model; all of it but the forward passes runs on the event loop."""

    def __init__(self, model: Model, config: CloudConfig) -> None:
        """Load what passes need.

        Raises:
            ConfigError: the memory limit is less than one session takes.
        """
        self._limits = config.sessions
        self._bundle = model.bundle
        self._layers = Layers.of(model)
        self._check_memory()
        self.store = Store(self._limits.max_sessions, self._limits.memory_mib << 20)
        self._scheduler = Scheduler(self._layers, self.store, config.passes)
        self._streams: set[Stream] = set()
        self._unopened: dict[Stream, None] = {}
        self._uploads = 0
        self._housekeeper = Housekeeper(config, self._streams, self.store, self._scheduler)
        self._housekeeping: asyncio.Task[None] | None = None
        self._opening = Opening(model.bundle)
        self._desk = Desk(self._layers, config, self._streams, self.store, self._scheduler)
        self._started_cpu_s = 0.0

    @property
    def desk(self) -> Desk:
        """Where sessions begin, those of this process too."""
        return self._desk

    def start(self) -> None:
        """Begin to look after time; call on the event loop."""
        self._started_cpu_s = process_time()
        self._scheduler.start()
        self._housekeeping = asyncio.get_running_loop().create_task(self._keep_house())

    def close(self) -> None:
        """Stop after the pass that is running."""
        if self._housekeeping is not None:
            self._housekeeping.cancel()
        self._scheduler.close()

    async def Describe(  # noqa: N802  # the name on the wire
        self,
        request: pb.DescribeRequest,
        context: grpc.aio.ServicerContext,
    ) -> pb.DescribeResponse:
        return pb.DescribeResponse(
            protocol=pb.PROTOCOL_V1,
            fingerprint=self._bundle.fingerprint,
            bundle_name=self._bundle.manifest.name,
            sessions=self.store.attached,
            max_sessions=self.store.max_sessions,
            statistics=self._statistics(),
            features=FEATURES,
        )

    async def Collaborate(  # noqa: N802
        self,
        request_iterator: AsyncIterator[pb.CollaborateRequest],
        context: grpc.aio.ServicerContext,
    ) -> None:
        stream = Stream(context, self._limits.credit, self._scheduler.consider)
        self._welcome(stream)
        fault: UpdraftError | None = None
        try:
            await self._serve(stream, context)
        except UpdraftError as error:
            fault = error
        except asyncio.CancelledError:
            if stream.fault is None:  # the client is gone
                raise
            fault = stream.fault
        finally:
            self._streams.discard(stream)
            self._unopened.pop(stream, None)
            stream.stop_writing()
            self._desk.leave(stream, fault)
        if fault is not None:
            await abort(context, fault)

    async def Upload(  # noqa: N802
        self,
        request_iterator: AsyncIterator[pb.UploadRequest],
        context: grpc.aio.ServicerContext,
    ) -> pb.UploadResponse:
        self._uploads += 1
        try:
            return await self._upload(context)
        except UpdraftError as error:
            await abort(context, error)
            raise
        finally:
            self._uploads -= 1

    def _welcome(self, stream: Stream) -> None:
        """Let a stream wait for its first frame, if need be in the place of the oldest."""
        self._streams.add(stream)
        self._unopened[stream] = None
        if len(self._unopened) > MAX_UNOPENED:
            oldest = next(iter(self._unopened))
            del self._unopened[oldest]
            oldest.fail(LinkBusy(f"{MAX_UNOPENED} newer streams wait for their first frame too"))

    async def _serve(self, stream: Stream, context: grpc.aio.ServicerContext) -> None:
        first = await _read(context)
        self._unopened.pop(stream, None)
        # Else a status could not be sent while the first answer is on its way.
        try:
            await context.send_initial_metadata(())
        except grpc.aio.InternalError as error:
            raise asyncio.CancelledError("the client is gone") from error
        kind = None if first is None else first.WhichOneof("frame")
        if kind == "open":
            session = await self._desk.open(stream, self._opening.terms(first.open))
        elif kind == "resume":
            terms = self._opening.terms(first.resume.open)
            session = await self._desk.resume(stream, terms, first.resume)
        else:
            raise ProtocolError("the first frame of a session must be Open or Resume")
        while (frame := await _read(context)) is not None:
            stream.heard = monotonic()
            if frame.WhichOneof("frame") == "close":
                break
            await self._desk.take(stream, session, frame)
        await self._answer(stream, session)
        # gRPC gives the end of a stream that was cut as the end of one that is complete.
        if frame is not None and session.outlet is stream:
            self.store.remove(session)

    async def _answer(self, stream: Stream, session: Session) -> None:
        """Give the answers that are due: the client has said all."""
        while session.waits:
            stream.spoke.clear()
            need = session.missing()
            if need is not None and not (session.uploads or session.is_answerable):
                stream.send(need)
                break
            await stream.spoke.wait()
        await stream.drain()

    async def _upload(self, context: grpc.aio.ServicerContext) -> pb.UploadResponse:
        most = self._limits.max_sessions + MAX_UNOPENED
        if self._uploads > most:
            raise LinkBusy(f"{most} uploads are under way, the coordinator's limit; try later")
        first = await _read_soon(context, self._limits.open_timeout_s)
        if first is None or first.WhichOneof("frame") != "session_id":
            raise ProtocolError("the first frame of an upload must name the session")
        session = self.store.find(first.session_id)
        if session is None:
            raise LinkBroken("this session is gone: open another")
        if session.uploads >= _MOST_UPLOADS:
            raise LinkBusy(f"{_MOST_UPLOADS} uploads feed this session already")
        received = 0
        session.uploads += 1
        try:
            while True:
                frame = await _read_soon(context, self._limits.idle_expiry_s)
                if frame is None:
                    return pb.UploadResponse(received=received)
                if frame.WhichOneof("frame") != "states":
                    raise ProtocolError("an upload carries states and nothing else")
                await self._desk.put(session, frame.states)
                received += frame.states.count
        finally:
            session.uploads -= 1

    def _statistics(self) -> pb.Statistics:
        store, scheduler = self.store, self._scheduler
        return pb.Statistics(
            passes=scheduler.passes,
            pass_positions=scheduler.positions,
            pass_sessions=scheduler.shares,
            busy_s=scheduler.busy_s,
            frames=self._desk.frames,
            overhead_cpu_s=process_time() - self._started_cpu_s - scheduler.forward_cpu_s,
            spilled=store.spilled,
            restored=scheduler.restored,
            evicted=store.evicted,
            memory_bytes=store.used_bytes,
            peak_memory_bytes=store.peak_bytes,
            detached_sessions=store.detached,
        )

    def _check_memory(self) -> None:
        context_length = self._layers.shape.context_length
        inputs_bytes = most_bytes(context_length, 4 * self._layers.shape.width)
        one_mib = (self._layers.context_bytes(tokens=True) + inputs_bytes >> 20) + 1
        if self._limits.memory_mib < one_mib:
            raise ConfigError(
                [
                    f"sessions.memory_mib is {self._limits.memory_mib}, and one session of bundle "
                    f"{self._bundle.manifest.name!r} takes up to {one_mib}; write at least that"
                ]
            )

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(self._housekeeper.interval_s)
            self._housekeeper.sweep(monotonic())


async def _read(context: grpc.aio.ServicerContext) -> Any:
    """Return the next frame, or None when the client has said all."""
    try:
        frame = await context.read()
    except DecodeError as error:
        raise ProtocolError(NO_FRAME) from error
    return None if frame is grpc.aio.EOF else frame


async def _read_soon(context: grpc.aio.ServicerContext, timeout_s: float) -> Any:
    try:
        return await asyncio.wait_for(_read(context), timeout_s)
    except asyncio.TimeoutError as error:
        raise LinkTimeout(f"no frame came for {timeout_s:g} s") from error
