"""One stream of a node to its coordinator: presence and answers go up, roles and work come down."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from concurrent.futures import Executor
from time import monotonic
from typing import Any

import grpc

from updraft.edge.expert import CANCELLED, Answer, Expert, Work
from updraft.edge.readiness import Readiness
from updraft.edge.recalibration import Recalibration
from updraft.errors import LinkBroken, LinkBusy, LinkTimeout, ProtocolError, UpdraftError
from updraft.proto.v1 import fleet_pb2 as pb
from updraft.proto.v1 import fleet_pb2_grpc as rpc

# Frames that may wait for the network; a stream that far behind is given up.
_MOST_UNSENT = 4096
# Work beyond what runs that is kept: what was cancelled takes a moment to end.
_SPARE = 2
_LONGEST_MESSAGE = 1000
# A coordinator that has read everything ends the stream of a node that leaves.
_FAREWELL_S = 1.0

_log = logging.getLogger(__name__)


class NodeSession:
    """Lives on the node's event loop, from a connection to its end.

    Args:
        threads: where answers run.
        recalibration: holds the record to join with, and learns from answers.
    """

    def __init__(
        self,
        expert: Expert,
        readiness: Readiness,
        threads: Executor,
        recalibration: Recalibration,
    ) -> None:
        self.welcomed = False
        self.leaving = False
        self._expert = expert
        self._readiness = readiness
        self._threads = threads
        self._recalibration = recalibration
        self._told = recalibration.record
        self._spent_j = 0.0
        self._interval_s = 0.0  # until it is told
        self._unsent: asyncio.Queue[pb.JoinRequest | None] = asyncio.Queue(_MOST_UNSENT)
        self._changed, self._overrun = asyncio.Event(), asyncio.Event()
        self._quiet, self._ended = asyncio.Event(), asyncio.Event()
        self._works: dict[int, threading.Event] = {}
        self._loop = asyncio.get_running_loop()

    def say(self) -> None:
        """Send a beat now: something in it has changed."""
        self._changed.set()

    async def attend(self, stub: rpc.FleetStub, open_timeout_s: float) -> None:
        """Be in the fleet until the stream ends.

        Raises:
            grpc.aio.AioRpcError: it was ended by the network or the coordinator.
            UpdraftError: the coordinator does not answer, or sends nonsense.
        """
        call = stub.Join(timeout=None)
        tasks: list[asyncio.Task[None]] = []
        try:
            await call.write(pb.JoinRequest(record=self._told))
            await self._welcome(call, open_timeout_s)
            tasks += [
                self._loop.create_task(work)
                for work in (
                    self._read(call),
                    self._write(call),
                    self._beat(),
                    self._watch(),
                )
            ]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            for cancelled in self._works.values():
                cancelled.set()
            call.cancel()
            self._ended.set()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def leave(self, drain_s: float) -> None:
        """Take nothing new, and give what runs time to end."""
        self.leaving = True
        self.say()
        try:
            await asyncio.wait_for(self._all_said(), drain_s)
        except asyncio.TimeoutError:
            _log.warning("%d answers did not end within %g s", len(self._works), drain_s)
            return
        if self.welcomed:
            self._unsent.put_nowait(None)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._ended.wait(), min(drain_s, _FAREWELL_S))

    async def _all_said(self) -> None:
        if self._works:
            self._quiet.clear()
            await self._quiet.wait()
        await self._unsent.join()

    async def _welcome(self, call: Any, timeout_s: float) -> None:
        try:
            first = await asyncio.wait_for(_next(call), timeout_s)
        except asyncio.TimeoutError as error:
            raise LinkTimeout(f"no answer within {timeout_s:g} s") from error
        if first.WhichOneof("frame") != "welcome" or not first.welcome.beat_interval_ms:
            raise ProtocolError("the coordinator's first frame is no Welcome")
        self.welcomed = True
        self._interval_s = first.welcome.beat_interval_ms / 1000

    async def _read(self, call: Any) -> None:
        while True:
            frame = await _next(call)
            kind = frame.WhichOneof("frame")
            if kind == "role":
                self._readiness.take_role(frame.role.on)
            elif kind == "work":
                self._begin(frame.work)
            elif kind == "cancel" and frame.cancel.id in self._works:
                self._works[frame.cancel.id].set()
            elif kind == "welcome" and frame.welcome.beat_interval_ms:
                self._interval_s = frame.welcome.beat_interval_ms / 1000
                self.say()

    async def _write(self, call: Any) -> None:
        while (frame := await self._unsent.get()) is not None:
            await call.write(frame)
            self._unsent.task_done()
        # What was written may still be on its way, and a stream that is cancelled loses it.
        await call.done_writing()
        await self._ended.wait()

    async def _beat(self) -> None:
        while True:
            self._changed.clear()
            self._recalibration.rest(monotonic())
            self._tell_record()
            beat = pb.Beat(
                running=len(self._works),
                spent_j=self._spent_j,
                exhausted=self._expert.exhausted or self._readiness.failed,
                ready=self._readiness.ready,
                leaving=self.leaving,
            )
            self._send(pb.JoinRequest(beat=beat))
            try:
                await asyncio.wait_for(self._changed.wait(), self._interval_s)
            except asyncio.TimeoutError:
                continue

    async def _watch(self) -> None:
        await self._overrun.wait()
        raise LinkTimeout(f"the coordinator does not read: {_MOST_UNSENT} frames wait for it")

    def _begin(self, work: pb.Work) -> None:
        if len(self._works) >= self._told.concurrency + _SPARE:
            self._fault(work.id, LinkBusy(f"{len(self._works)} answers are under way here"))
            return
        cancelled = self._works[work.id] = threading.Event()
        self._readiness.running += 1
        asked = Work(
            work.prompt,
            work.max_tokens,
            work.temperature,
            work.seed,
            monotonic() + work.deadline_ms / 1000,
        )
        running = self._loop.run_in_executor(self._threads, self._answer, work.id, asked, cancelled)
        running.add_done_callback(lambda done: self._finish(work.id, done))

    def _answer(self, number: int, work: Work, cancelled: threading.Event) -> Answer:
        """Answer in a thread of its own."""
        if cancelled.is_set():
            raise LinkTimeout("nobody waits for this answer any more")
        position = 0

        def give(text: str) -> None:
            nonlocal position
            part = pb.AnswerPart(id=number, position=position, text=text, tokens=1)
            position += 1
            self._loop.call_soon_threadsafe(self._send, pb.JoinRequest(part=part))

        return self._expert.answer(work, give, cancelled)

    def _finish(self, number: int, done: asyncio.Future[Answer]) -> None:
        del self._works[number]
        self._readiness.end_one()
        error = done.exception()
        if isinstance(error, UpdraftError):
            self._fault(number, error)
        elif error is not None:
            _log.error("an answer failed", exc_info=error)
            self._fault(number, UpdraftError(f"the node failed: {type(error).__name__}"))
        else:
            self._end(number, done.result())
        if not self._works:
            self._quiet.set()

    def _end(self, number: int, answer: Answer) -> None:
        used = answer.usage
        self._spent_j += used.energy_j
        if answer.finish_reason == CANCELLED:
            self._fault(number, LinkTimeout("nobody waits for this answer any more"))
            return
        usage = pb.UsageRecord(
            latency_ms=used.latency_ms,
            first_token_ms=answer.first_token_ms,
            energy_j=used.energy_j,
            energy_method=answer.energy_method,
            prompt_tokens=answer.prompt_tokens,
            new_tokens=answer.new_tokens,
            uplink_bytes=used.uplink_bytes,
            downlink_bytes=used.downlink_bytes,
            cloud_tokens=used.cloud_tokens,
        )
        end = pb.AnswerEnd(id=number, finish_reason=answer.finish_reason, usage=usage)
        self._send(pb.JoinRequest(end=end))
        self._recalibration.observe(answer, monotonic())
        self._tell_record()

    def _tell_record(self) -> None:
        """Send the record where it changed, on this stream or on the one before."""
        if self._told is not self._recalibration.record:
            self._told = self._recalibration.record
            self._send(pb.JoinRequest(record=self._told))

    def _fault(self, number: int, error: UpdraftError) -> None:
        message = str(error)[:_LONGEST_MESSAGE]
        fault = pb.AnswerFault(id=number, code=error.code, message=message)
        self._send(pb.JoinRequest(fault=fault))

    def _send(self, frame: pb.JoinRequest) -> None:
        try:
            self._unsent.put_nowait(frame)
        except asyncio.QueueFull:
            self._overrun.set()


async def _next(call: Any) -> pb.JoinResponse:
    frame = await call.read()
    if frame is grpc.aio.EOF:
        raise LinkBroken("it ended the stream")
    return frame
