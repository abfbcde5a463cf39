"""A seeded fuzzer of the coordinator's wire: many clients at once that say what they should not.

A seed fixes what each client sets out to do; how far it gets, and what meets what, is up to the
machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import deque
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any, ClassVar

import grpc
from client import COLLABORATE, PATIENCE_S, UPLOAD, Talk, Wire
from frames import Frames
from report import Report

from updraft.models.bundle import open_bundle
from updraft.proto.v1 import collaboration_pb2 as pb

_CHANNELS = 4
_METHODS = (
    "/updraft.v1.Collaboration/Describe",
    "/updraft.v1.Collaboration/Nothing",
    "/grpc.health.v1.Health/Check",
)


class Fuzzer:
    """Runs clients against one coordinator until enough was said."""

    def __init__(self, frames: Frames, address: str, seed: int, budget: int) -> None:
        self.report = Report()
        self._frames, self._address, self._seed, self._budget = frames, address, seed, budget
        self._known_ids: deque[str] = deque([""], maxlen=64)
        self._number = 0

    async def run(self, clients: int) -> None:
        """Run so many clients at a time."""
        # Channels that share nothing, so that one broken connection is not everybody's.
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [grpc.aio.insecure_channel(self._address, options) for _ in range(_CHANNELS)]
        await asyncio.gather(*(self._client(channels[n % _CHANNELS]) for n in range(clients)))
        for channel in channels:
            await channel.close()

    async def _client(self, channel: grpc.aio.Channel) -> None:
        while self.report.frames < self._budget and not self.report.hopeless:
            self._number += 1
            rng = Random(f"{self._seed}:{self._number}")
            choice = rng.random()
            act = next(act for share, act in self._ACTS if choice < share)
            await asyncio.wait_for(act(self, channel, rng), 4 * PATIENCE_S)

    async def _live(self, channel: grpc.aio.Channel, rng: Random) -> None:
        """Live through a session, over one stream or several."""
        opened, codec = self._frames.open(rng)
        if rng.random() < 0.05:
            self._frames.spoil_open(rng, opened)
        talk = self._talk(channel, rng, opened, codec)
        standing = await talk.begin(pb.CollaborateRequest(open=opened))
        uploads: list[asyncio.Future[None]] = []
        while True:
            if standing and rng.random() < 0.5 and await talk.opened():
                self._known_ids.append(talk.session_id)
            if standing and rng.random() < 0.1:
                standing = await talk.generate()
            for _ in range(rng.choice((0, 5, 20, 60, 300))):
                standing = standing and await talk.step()
                if standing and talk.session_id and rng.random() < 0.01:
                    upload = self._upload(channel, Random(rng.random()), talk)
                    uploads.append(asyncio.ensure_future(upload))
            if not talk.session_id or rng.random() < 0.4:
                break
            talk, standing = await self._resume(channel, rng, talk)
        await talk.end(cut=rng.random() < 0.4)
        await asyncio.gather(*uploads)

    async def _resume(
        self, channel: grpc.aio.Channel, rng: Random, before: Talk
    ) -> tuple[Talk, bool]:
        """Take a session up on another stream, while the first still stands or after its end."""
        steal = rng.random() < 0.3
        if not steal:
            await before.end(cut=True)
        after = self._talk(channel, rng, before.opening, before.codec)
        after.epoch, after.length = before.next_epoch, rng.randint(0, before.length)
        known = before.session_id if rng.random() < 0.95 else rng.choice(self._known_ids)
        resume = self._frames.resume(
            rng, before.opening, before.codec, known, after.epoch, after.length
        )
        standing = await after.begin(pb.CollaborateRequest(resume=resume))
        if steal:
            await before.end(cut=False)
        return after, standing

    async def _upload(self, channel: grpc.aio.Channel, rng: Random, talk: Talk | None) -> None:
        """Feed a session on a stream of its own: that of a talk, or whosever."""
        call = channel.stream_unary(UPLOAD, None, None)(timeout=PATIENCE_S)
        wire = Wire(call, f"upload {self._number}", self.report)
        session_id = talk.session_id if talk else rng.choice((*self._known_ids, "", "漢", "0" * 32))
        if talk is None:
            opened, codec = self._frames.open(rng)
        else:
            opened, codec = talk.opening, talk.codec
        message = pb.UploadRequest(session_id=session_id)
        standing = rng.random() < 0.05 or await wire.write(message.SerializeToString())
        position = rng.choice((0, talk.length if talk else 0))
        for _ in range(rng.choice((0, 1, 4, 16))):
            room = self._frames.context_length - position
            if not standing or room <= 0:
                break
            states = self._frames.states(opened, codec, rng, position, room)
            states.epoch = talk.epoch if talk else rng.choice((0, 1, 5))
            position += states.count
            if rng.random() < 0.03:
                self._frames.spoil_states(rng, states)
            data = pb.UploadRequest(states=states).SerializeToString()
            garbled = rng.random() < 0.02
            standing = await wire.write(self._frames.garble(rng, data) if garbled else data)
        if rng.random() < 0.2:
            wire.cancel()
        else:
            await wire.close()
        await wire.judge()

    async def _orphan(self, channel: grpc.aio.Channel, rng: Random) -> None:
        await self._upload(channel, rng, None)

    async def _babble(self, channel: grpc.aio.Channel, rng: Random) -> None:
        """Say bytes that are no frames, before a session is open or after."""
        opened, codec = self._frames.open(rng)
        talk = self._talk(channel, rng, opened, codec)
        frame = pb.CollaborateRequest(open=opened)
        standing = rng.random() < 0.5 or await talk.begin(frame)
        for _ in range(rng.choice((1, 10))):
            data = self._frames.garble(rng, frame.SerializeToString())
            standing = standing and await talk.say_bytes(data)
        await talk.end(cut=rng.random() < 0.2)

    async def _call(self, channel: grpc.aio.Channel, rng: Random) -> None:
        """Call a method that takes one message, with another."""
        method, data = rng.choice(_METHODS), self._frames.noise(rng, rng.choice((0, 1, 9, 1000)))
        wire = Wire(
            channel.unary_unary(method, None, None)(data, timeout=PATIENCE_S), method, self.report
        )
        self.report.frames += 1
        await wire.judge()

    def _talk(self, channel: grpc.aio.Channel, rng: Random, opened: pb.Open, codec: int) -> Talk:
        call = channel.stream_stream(COLLABORATE, None, None)(timeout=PATIENCE_S)
        wire = Wire(call, f"stream {self._number}", self.report)
        return Talk(wire, self._frames, rng, opened, codec)

    # What a client does next, by the share of streams up to and with it.
    _ACTS: ClassVar = ((0.78, _live), (0.90, _babble), (0.95, _orphan), (1.0, _call))


def main() -> None:
    """Print a report as JSON; the exit status is 1 if anything happened that must not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="HOST:PORT of the coordinator")
    parser.add_argument("--bundle", type=Path, required=True, help="the bundle that it serves")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=32)
    chosen = parser.parse_args()
    frames = Frames(open_bundle(chosen.bundle))
    fuzzer = Fuzzer(frames, chosen.address, chosen.seed, chosen.frames)
    started = perf_counter()
    asyncio.run(fuzzer.run(chosen.clients))
    report = fuzzer.report
    told: dict[str, Any] = {
        "frames": report.frames,
        "streams": report.streams,
        "seconds": round(perf_counter() - started, 1),
        "answers": dict(report.answers.most_common()),
        "endings": dict(report.endings.most_common()),
        "faults": report.faults,
    }
    print(json.dumps(told, indent=2, ensure_ascii=False))
    sys.exit(bool(report.faults))


if __name__ == "__main__":
    main()
