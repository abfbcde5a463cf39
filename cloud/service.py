"""The coordinator's end of the wire: frames in, answers out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError

from updraft.cloud.config import SessionLimits
from updraft.cloud.session import Answer, CloudGeneration, EdgeSession, SessionStore
from updraft.errors import LinkTimeout, ProtocolError, RequestError, UpdraftError
from updraft.errors.catalogue import status_of
from updraft.models.codecs import CODECS, WireCodec
from updraft.models.manifest import CodecName
from updraft.models.partition import States
from updraft.models.sampling import Sampling
from updraft.models.sequence import Model
from updraft.proto.v1 import collaboration_pb2 as pb
from updraft.proto.v1 import collaboration_pb2_grpc as rpc

MAX_POSITIONS_PER_FRAME = 128

_log = logging.getLogger(__name__)
T = TypeVar("T")


class CollaborationService(rpc.CollaborationServicer):
    """Serves sessions of one model.

    Forward passes run one after the other in a thread of their own, in the order asked: no
    session can hold the coordinator for longer than one pass, and the event loop stays free.
    """

    def __init__(self, model: Model, limits: SessionLimits) -> None:
        self._whole = model
        self._upper = model.above(model.bundle.manifest.split)
        self._limits = limits
        self.store = SessionStore(limits.max_sessions, limits.memory_mib << 20)
        self._forward = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forward")

    async def Describe(  # noqa: N802  # the name on the wire
        self,
        request: pb.DescribeRequest,
        context: grpc.aio.ServicerContext,
    ) -> pb.DescribeResponse:
        bundle = self._whole.bundle
        return pb.DescribeResponse(
            protocol=pb.PROTOCOL_V1,
            fingerprint=bundle.fingerprint,
            bundle_name=bundle.manifest.name,
            sessions=self.store.active,
            max_sessions=self.store.max_sessions,
        )

    async def Collaborate(  # noqa: N802
        self,
        request_iterator: AsyncIterator[pb.CollaborateRequest],
        context: grpc.aio.ServicerContext,
    ) -> None:
        try:
            async with aclosing(self._session(aiter(request_iterator))) as responses:
                async for response in responses:
                    await _write(context, response, self._limits.idle_expiry_s)
        except UpdraftError as error:
            _log.info("session refused or ended: %s: %s", error.code, error)
            status = grpc.StatusCode[status_of(error).grpc]
            await context.abort(status, f"{error.code}: {error}")

    async def _session(
        self, frames: AsyncIterator[pb.CollaborateRequest]
    ) -> AsyncGenerator[pb.CollaborateResponse, None]:
        first = await _next(frames, self._limits.open_timeout_s)
        if first is None or first.WhichOneof("frame") != "open":
            raise ProtocolError("the first frame of a session must be Open")
        codec, sampling = self._check_open(first.open)
        # What the session will be is known with its second frame; until then it costs as the
        # larger of the two.
        with self.store.admit(self._whole.sequence_bytes) as session_id:
            yield pb.CollaborateResponse(
                opened=pb.Opened(
                    session_id=session_id, max_positions_per_frame=MAX_POSITIONS_PER_FRAME
                )
            )
            second = await _next(frames, self._limits.idle_expiry_s)
            if second is None:
                return
            if second.WhichOneof("frame") == "generate":
                async for response in self._generate(second.generate, sampling):
                    yield response
                return
            session = EdgeSession(self._upper, sampling)
            frame: pb.CollaborateRequest | None = second
            while frame is not None:
                kind = frame.WhichOneof("frame")
                if kind == "states":
                    session.put(*self._decode(frame.states, codec))
                elif kind == "ask":
                    ask = frame.ask
                    answer = partial(session.answer, ask.epoch, ask.length, ask.position)
                    yield _response(await self._run(answer))
                else:
                    raise ProtocolError(f"frame {kind!r} does not belong in an open session")
                frame = await _next(frames, self._limits.idle_expiry_s)

    async def _generate(
        self, request: pb.Generate, sampling: Sampling
    ) -> AsyncIterator[pb.CollaborateResponse]:
        generation = CloudGeneration(
            self._whole, sampling, list(request.tokens), request.max_tokens
        )
        done = False
        while not done:
            answer = await self._run(generation.next)
            done = generation.done
            yield _response(answer, last=done)

    def _check_open(self, frame: pb.Open) -> tuple[WireCodec, Sampling]:
        if frame.protocol != pb.PROTOCOL_V1:
            raise ProtocolError(
                f"the agent speaks protocol {frame.protocol}, this coordinator "
                f"{pb.PROTOCOL_V1}; upgrade the older side"
            )
        own = self._whole.bundle.fingerprint
        if frame.fingerprint != own:
            raise ProtocolError(
                f"the agent runs model {frame.fingerprint[:12]!r}, this coordinator serves "
                f"{own[:12]!r}; give both the same bundle"
            )
        codecs = self._whole.bundle.manifest.codecs
        codec = next((c for c in codecs if frame.codec == _on_wire(c)), None)
        if codec is None:
            raise ProtocolError(
                f"codec {frame.codec} is not one of this bundle's: {', '.join(codecs)}"
            )
        if not 0 <= frame.temperature <= 100:
            raise RequestError(f"temperature {frame.temperature} lies outside 0 to 100")
        return CODECS[codec], Sampling(frame.temperature, frame.seed)

    def _decode(self, frame: pb.States, codec: WireCodec) -> tuple[int, int, States]:
        if not 0 < frame.count <= MAX_POSITIONS_PER_FRAME:
            raise ProtocolError(
                f"a frame of {frame.count} positions, 1 to {MAX_POSITIONS_PER_FRAME} are taken"
            )
        width = self._whole.bundle.manifest.architecture.width
        return frame.epoch, frame.position, codec.decode(frame.payload, frame.count, width)

    async def _run(self, forward: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._forward, forward)

    def close(self) -> None:
        """Stop the forward thread after the pass that is running."""
        self._forward.shutdown(cancel_futures=True)


def _on_wire(codec: CodecName) -> int:
    return pb.Codec.Value(f"CODEC_{codec.upper()}")


def _response(answer: Answer, last: bool = False) -> pb.CollaborateResponse:
    return pb.CollaborateResponse(token=pb.Token(**answer._asdict(), last=last))


async def _write(
    context: grpc.aio.ServicerContext, response: pb.CollaborateResponse, timeout_s: float
) -> None:
    """Send a response; a client that does not read must not keep its context for ever."""
    try:
        await asyncio.wait_for(context.write(response), timeout_s)
    except asyncio.TimeoutError as error:
        raise LinkTimeout(f"the client read nothing for {timeout_s:g} s") from error


async def _next(
    frames: AsyncIterator[pb.CollaborateRequest], timeout_s: float
) -> pb.CollaborateRequest | None:
    """Return the next frame, or `None` when the client has finished."""
    try:
        return await asyncio.wait_for(anext(frames), timeout_s)
    except StopAsyncIteration:
        return None
    except DecodeError as error:
        raise ProtocolError("a message came that is no CollaborateRequest") from error
    except asyncio.TimeoutError as error:
        raise LinkTimeout(f"no frame came for {timeout_s:g} s: the session has expired") from error
