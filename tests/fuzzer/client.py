"""One stream of the fuzzer, and what its client believes of the session."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random
from typing import Any

import grpc
from frames import Frames
from google.protobuf.message import DecodeError
from grpc._cython.cygrpc import InternalError
from report import Report

from updraft.proto.v1 import collaboration_pb2 as pb

COLLABORATE = "/updraft.v1.Collaboration/Collaborate"
UPLOAD = "/updraft.v1.Collaboration/Upload"
# Nothing may take longer: a stream that does hangs.
PATIENCE_S = 90.0
_FIRST_CREDIT, _MOST_PER_FRAME = 256, 128
_LARGEST = 2**32 - 1
# Tokens: nobody waits for the end of a longer text.
_LONG = 1000
# How long a client in a hurry waits for an answer that may not come.
_GLANCE_S = 0.05


class Wire:
    """A call that carries bytes, sound or not, and whose end is judged."""

    def __init__(self, call: Any, name: str, report: Report) -> None:
        self.call, self.name, self.report = call, name, report
        self.cut = False
        report.streams += 1

    async def write(self, message: bytes) -> bool:
        """Send a message; returns whether the stream still stands."""
        call = self.call
        try:
            await call.wait_for_connection()
            if call.done():
                return False
            # Not `call.write`: a message that comes too late replaces the coordinator's status
            # by one of gRPC's own there.
            await call._cython_call.send_serialized_message(message)
        except (grpc.RpcError, InternalError):
            return False
        self.report.frames += 1
        return True

    def cancel(self) -> None:
        """Cut the stream: how it ends is then our own doing."""
        self.cut = True
        self.call.cancel()

    async def close(self) -> None:
        """Say that all is said."""
        with suppress(grpc.RpcError, asyncio.InvalidStateError, InternalError):
            await self.call.done_writing()

    async def judge(self) -> None:
        """Wait for the end and judge it."""
        try:
            code, details = await self.call.code(), await self.call.details()
        except asyncio.CancelledError:
            code, details = grpc.StatusCode.CANCELLED, None
        if not self.cut:
            self.report.ended(self.name, code, details)


class Talk:
    """A `Collaborate` stream; `step` says something, more or less sound.

    Attributes:
        opening: how the session is opened; `codec` is the index of its codec.
        session_id: empty until the coordinator has opened the session.
        epoch: of the client; may lag behind.
        length: inputs that the client believes the coordinator has of the window.
    """

    def __init__(
        self, wire: Wire, frames: Frames, rng: Random, opened: pb.Open, codec: int
    ) -> None:
        self.session_id = ""
        self.epoch = self.length = 0
        self._window = 0
        self._wire, self._frames, self._rng = wire, frames, rng
        self.opening, self.codec = opened, codec
        self._credit, self._sent, self._acknowledged = _FIRST_CREDIT, 0, 0
        self._reckless = rng.random() < 0.03
        self._endless = False
        self._heard = asyncio.Event()
        self._last, self._late = b"", list[bytes]()
        self._reader = asyncio.ensure_future(self._read())

    @property
    def next_epoch(self) -> int:
        """The epoch after this one, if there is another."""
        return min(self.epoch + 1, _LARGEST)

    async def begin(self, frame: pb.CollaborateRequest) -> bool:
        """Send the first frame as it is; returns whether the stream still stands."""
        return await self.say_bytes(frame.SerializeToString())

    async def say(self, frame: pb.CollaborateRequest) -> bool:
        """Send a frame, possibly garbled, twice, late or not at all."""
        rng, message = self._rng, frame.SerializeToString()
        fate = rng.random()
        if fate < 0.01:
            return True
        if fate < 0.03:
            self._late.append(message)
            return True
        if fate < 0.034:
            message = self._frames.garble(rng, message)
        messages = [message]
        if fate > 0.95 and self._last:
            messages.append(self._last)
        if self._late and rng.random() < 0.3:
            messages.append(self._late.pop())
        self._last = message
        for message in messages:
            self._sent += _positions(message)
            if not await self.say_bytes(message):
                return False
        return True

    async def say_bytes(self, message: bytes) -> bool:
        """Send bytes as they are; returns whether the stream still stands."""
        return await self._wire.write(message)

    async def step(self) -> bool:
        """Say something; returns whether the stream still stands."""
        rng, choice = self._rng, self._rng.random()
        if choice < 0.72:
            return await self._say_states()
        if choice < 0.78:
            return await self._foresee()
        if choice < 0.84:
            ask = self._frames.ask(rng, self.epoch, self.length)
            return await self.say(pb.CollaborateRequest(ask=ask))
        if choice < 0.95:
            self._take_back(rng.randint(0, self.length))
            if rng.random() < 0.03:
                self.epoch = min(rng.choice((self.epoch + 1000, _LARGEST - 2)), _LARGEST)
        elif choice < 0.96:
            self._window = rng.choice((min(self._window + 32, _LARGEST), 0, _LARGEST))
            self._take_back(0)
        elif choice < 0.998:
            await asyncio.sleep(rng.choice((0, 0.001, 0.02)))
        else:
            return await self._misplace()
        return True

    async def generate(self) -> bool:
        """Let the cloud decode."""
        frame = self._frames.generate(self._rng)
        self._endless |= frame.max_tokens > _LONG
        return await self.say(pb.CollaborateRequest(generate=frame))

    async def opened(self) -> bool:
        """Wait until the session is open; returns whether it came to that."""
        while not self.session_id and not self._reader.done():
            await self._hear()
        return bool(self.session_id)

    async def end(self, cut: bool) -> None:
        """End the stream, in order as often as not, and see how it ended."""
        cut = cut or self._endless
        if not cut and self._rng.random() < 0.7:
            await self.say(pb.CollaborateRequest(close=pb.Close()))
        if cut:
            if self._rng.random() < 0.7:
                await self._hear_soon()
            self._wire.cancel()
        else:
            await self._wire.close()
        await self._reader
        await self._wire.judge()

    async def _say_states(self) -> bool:
        rng, room = self._rng, self._frames.context_length - self.length
        if room == 0:
            self._take_back(rng.randrange(self._frames.context_length // 2))
            room = self._frames.context_length - self.length
        # A gap now and then: what is left out may come later, or be asked for.
        position = self.length + (rng.random() < 0.02 and room > 1)
        room -= position - self.length
        frame = self._frames.states(self.opening, self.codec, rng, position, room)
        frame.epoch, frame.window_start = self.epoch, self._window
        self.length = position + frame.count
        if rng.random() < 0.02:
            frame.epoch = max(0, self.epoch - 1)
        if rng.random() < 0.006:
            self._frames.spoil_states(rng, frame)
        while self._sent + min(frame.count, _MOST_PER_FRAME) - self._acknowledged > self._credit:
            if self._reckless or self._reader.done():
                break
            await self._hear()
        standing = await self.say(pb.CollaborateRequest(states=frame))
        if frame.flush and rng.random() < 0.5:
            await self._hear_soon()
        return standing

    async def _foresee(self) -> bool:
        """Send a wrong draft, and ahead of its judgement what should hold after it."""
        rng, row = self._rng, min(self.length, self._frames.context_length - 1)
        right = self._frames.token_after(rng, self.opening, self.codec, row)
        wrong = pb.States(
            epoch=self.epoch,
            position=row,
            count=1,
            payload=self._frames.payload(self.opening, self.codec, row, 1),
            drafts=[(right + 1) % self._frames.vocabulary_size],
            window_start=self._window,
        )
        after = min(row + 1, self._frames.context_length - 1)
        room = self._frames.context_length - after
        ahead = self._frames.states(self.opening, self.codec, rng, after, room)
        ahead.epoch, ahead.window_start = self.next_epoch, self._window
        ahead.if_replaced.position, ahead.if_replaced.token = row, right
        if rng.random() < 0.1:
            ahead.position = self._frames.context_length - 1
        if rng.random() < 0.02:
            self._frames.spoil_states(rng, ahead)
        flushed = pb.States()
        flushed.CopyFrom(wrong)
        flushed.flush = True
        self.length = row + 1
        for frame in (wrong, ahead, flushed):
            if not await self.say(pb.CollaborateRequest(states=frame)):
                return False
        return True

    async def _misplace(self) -> bool:
        kind = self._rng.randrange(3)
        if kind == 0:
            return await self.say(pb.CollaborateRequest())
        if kind == 1:
            return await self.say(pb.CollaborateRequest(open=self.opening))
        return await self.generate()

    def _take_back(self, length: int) -> None:
        self.epoch = self.next_epoch
        self.length = length

    async def _hear(self) -> None:
        """Wait for the next answer, or the end."""
        self._heard.clear()
        if not self._reader.done():
            await self._heard.wait()

    async def _hear_soon(self) -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._hear(), _GLANCE_S)

    async def _read(self) -> None:
        try:
            while (message := await self._wire.call.read()) is not grpc.aio.EOF:
                size = self._frames.vocabulary_size
                self._take(self._wire.report.answered(self._wire.name, message, size))
                self._heard.set()
        except (grpc.RpcError, asyncio.CancelledError, asyncio.InvalidStateError):
            pass  # `judge` sees how it ended
        finally:
            self._heard.set()

    def _take(self, answer: pb.CollaborateResponse) -> None:
        kind = answer.WhichOneof("frame")
        if kind == "opened":
            self.session_id, self._credit = answer.opened.session_id, answer.opened.credit
        elif kind == "ack":
            self._acknowledged = answer.ack.received
        elif kind == "need_from":
            self.length = min(self.length, answer.need_from.position)
        elif kind == "verdict":
            verdict = answer.verdict
            self._frames.learn(self.opening, self.codec, verdict)
            if verdict.rejected and verdict.epoch == self.epoch:
                self._take_back(verdict.position + len(verdict.tokens))


def _positions(message: bytes) -> int:
    """Return how much credit a message takes, if it is a frame at all."""
    frame = pb.CollaborateRequest()
    try:
        frame.ParseFromString(message)
    except DecodeError:
        return 0
    return frame.states.count
