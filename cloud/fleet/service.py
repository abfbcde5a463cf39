"""The coordinator's end of the fleet's wire: nodes join, clients ask, both are kept in bounds."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator
from time import monotonic

import grpc

from updraft.cloud.fleet.answering import Answering
from updraft.cloud.fleet.client import Client
from updraft.cloud.fleet.config import FleetLimits
from updraft.cloud.fleet.node_stream import NodeStream
from updraft.cloud.fleet.outlook import Foresight
from updraft.cloud.fleet.places import Places
from updraft.cloud.fleet.registry import Registry
from updraft.cloud.fleet.roster import Roster
from updraft.cloud.fleet.router import Ask
from updraft.cloud.fleet.upkeep import Upkeep
from updraft.cloud.fleet.wire import read_beat, read_capability, state_frame
from updraft.cloud.status import abort
from updraft.errors import (
    LinkBusy,
    LinkTimeout,
    ProtocolError,
    RequestError,
    UpdraftError,
)
from updraft.proto.v1 import fleet_pb2 as pb
from updraft.proto.v1 import fleet_pb2_grpc as rpc

# A new stream's first frame, the node's record, must come within this.
_RECORD_TIMEOUT_S = 5.0
_LARGEST_TEMPERATURE = 100.0


class FleetService(rpc.FleetServicer):
    """Serves one fleet; all of it but planning and looking at prompts runs on the event loop."""

    def __init__(self, limits: FleetLimits, foresight: Foresight, upkeep: Upkeep) -> None:
        self._limits = limits
        self._foresight = foresight
        self._registry = Registry(limits.max_nodes)
        self._places = Places(self._registry, limits.max_waiting, limits.wait_timeout_s)
        self._roster = Roster(limits, self._registry, self._places)
        self._answering = Answering(self._places, self._roster.streams, limits.max_attempts)
        self._upkeep = upkeep
        self._numbers = itertools.count(1)
        self._unnamed = self._answers = 0
        self._closing = False
        self._idle = asyncio.Event()

    def start(self) -> None:
        """Begin to plan and to look after time; call on the event loop."""
        self._upkeep.start(self._roster, self._registry)

    def replan(self) -> None:
        """Ask for a plan, as if nodes had come or gone; it is made and published soon."""
        self._roster.replan()

    async def close(self, drain_s: float) -> None:
        """Take no more requests, give running ones time to end, and let the nodes go."""
        self._closing = True
        if self._answers:
            await asyncio.wait((asyncio.ensure_future(self._idle.wait()),), timeout=drain_s)
        self._upkeep.close()
        self._roster.close()

    async def Join(  # noqa: N802  # the name on the wire
        self,
        request_iterator: AsyncIterator[pb.JoinRequest],
        context: grpc.aio.ServicerContext,
    ) -> None:
        stream = NodeStream(context, next(self._numbers))
        fault: UpdraftError | None = None
        try:
            await self._join(stream, context)
        except UpdraftError as error:
            fault = error
        except asyncio.CancelledError:
            if stream.fault is None:  # the node is gone
                raise
            fault = stream.fault
        finally:
            stream.stop_writing()
        if fault is not None:
            await abort(context, fault)

    async def Answer(  # noqa: N802
        self, request: pb.AnswerRequest, context: grpc.aio.ServicerContext
    ) -> None:
        limits = self._limits
        left = context.time_remaining()
        timeout_s = min(limits.answer_timeout_s, math.inf if left is None else left)
        self._answers += 1
        try:
            if self._closing:
                raise LinkBusy("the coordinator is stopping; ask again soon")
            if self._answers > limits.max_answers:
                raise LinkBusy(f"{limits.max_answers} requests are being answered, the limit")
            _check(request, limits.max_prompt_bytes)
            deadline = monotonic() + timeout_s
            await asyncio.wait_for(self._answer(request, deadline, context), timeout_s)
        except UpdraftError as error:
            await abort(context, error)
        except asyncio.TimeoutError:
            await abort(context, LinkTimeout(f"the answer was not complete in {timeout_s:.1f} s"))
        finally:
            self._answers -= 1
            if self._answers == 0 and self._closing:
                self._idle.set()

    async def GetPlan(  # noqa: N802
        self, request: pb.GetPlanRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetPlanResponse:
        plan = self._places.plan
        members = sorted(self._registry, key=lambda member: member.name)
        return pb.GetPlanResponse(
            version=plan.version,
            nodes=[state_frame(member, plan) for member in members],
            quality=plan.quality,
            power_w=plan.power_w,
            gap=plan.gap,
            reason=plan.reason,
            planning_s=plan.seconds,
            quality_per_j=plan.quality_per_j,
            answering=self._answers,
            waiting=self._places.waiting,
        )

    async def _join(self, stream: NodeStream, context: grpc.aio.ServicerContext) -> None:
        first = await self._first(stream)
        if first is None or first.WhichOneof("frame") != "record":
            raise ProtocolError("the first frame of a node must be its record")
        # Else a status could not be sent while the first answer is on its way.
        try:
            await context.send_initial_metadata(())
        except grpc.aio.InternalError as error:
            raise asyncio.CancelledError("the node is gone") from error
        member = self._roster.join(stream, read_capability(first.record))
        try:
            while (frame := await stream.read()) is not None:
                member.heard = monotonic()
                kind = frame.WhichOneof("frame")
                if stream.answer(frame):
                    continue
                if kind == "beat":
                    self._roster.beat(member, read_beat(frame.beat))
                elif kind == "record":
                    self._roster.revise(member, read_capability(frame.record))
                else:
                    raise ProtocolError("a frame came that says nothing")
        finally:
            self._roster.leave(member, stream)

    async def _first(self, stream: NodeStream) -> pb.JoinRequest | None:
        if self._closing or self._unnamed >= self._limits.max_nodes:
            raise LinkBusy("the coordinator is stopping, or too many nodes join at once")
        self._unnamed += 1
        try:
            return await asyncio.wait_for(stream.read(), _RECORD_TIMEOUT_S)
        except asyncio.TimeoutError as error:
            raise LinkTimeout(f"no record came for {_RECORD_TIMEOUT_S:g} s") from error
        finally:
            self._unnamed -= 1

    async def _answer(
        self, request: pb.AnswerRequest, deadline: float, context: grpc.aio.ServicerContext
    ) -> None:
        client = Client()
        outlook = await asyncio.to_thread(self._foresight.look, request.prompt)
        ask = Ask(outlook.prompt_tokens, request.max_tokens, outlook.quality)
        writer = asyncio.ensure_future(client.write(context.write))
        new_tokens = request.max_tokens
        try:
            ended = await self._answering.answer(request, ask, deadline, client)
            new_tokens = ended.usage.new_tokens
            await writer
        finally:
            writer.cancel()
            self._upkeep.observe(outlook, new_tokens)


def _check(request: pb.AnswerRequest, max_prompt_bytes: int) -> None:
    size = len(request.prompt.encode())
    if size > max_prompt_bytes:
        raise RequestError(f"the prompt has {size} bytes, this fleet takes {max_prompt_bytes}")
    if request.max_tokens < 1:
        raise RequestError(f"max_tokens {request.max_tokens}: at least 1 is needed")
    if not 0 <= request.temperature <= _LARGEST_TEMPERATURE:
        raise RequestError(
            f"temperature {request.temperature} lies outside 0 to {_LARGEST_TEMPERATURE:g}"
        )
    if request.seed >= 1 << 63:
        raise RequestError(f"seed {request.seed} lies outside 0 to 2^63 - 1")
