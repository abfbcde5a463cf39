"""Many nodes in one process: streams that join, beat and note their roles; they run no model.

`python -m updraft.benchmarks.publishing.nodes ADDRESS NODES FIRST STEP`

Commands come as lines on standard input: `beats`, `leave NAME …` and `join NAME …`. What happens
goes as lines to standard output: `role SECONDS VERSION`, `lost NAME WHY`, `beats COUNT` and
`welcome MS NAME`. Seconds are of the clock that all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import sys
from time import monotonic
from typing import Any

import grpc
import uvloop

from updraft.benchmarks.publishing.rehearsal import rehearsal
from updraft.cloud.fleet.records import Plan
from updraft.cloud.fleet.registry import Member
from updraft.cloud.fleet.wire import state_frame
from updraft.proto.v1 import fleet_pb2 as pb

_JOIN = "/updraft.v1.Fleet/Join"
# Beats never differ, so they are made once.
_BEATS = {
    on: pb.JoinRequest(beat=pb.Beat(ready=on, spent_j=1.0)).SerializeToString()
    for on in (False, True)
}
# Joins that are under way at one time.
_JOINING = 32


class BareNode:
    """One stream over a connection of its own, as a device has it.

    Attributes:
        beats: that all nodes of this process have sent.
    """

    beats = 0

    def __init__(self, address: str, record: pb.CapabilityRecord) -> None:
        self._record = record
        self._beat_s = 1.0
        self._channel = grpc.aio.insecure_channel(
            address,
            [
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.keepalive_time_ms", 5_000),
                ("grpc.keepalive_timeout_ms", 2_000),
            ],
        )
        self._call: Any = None
        self._on = False
        self._leaving = False

    async def join(self) -> None:
        """Join; returns when the coordinator has let the node in."""
        self._leaving = False
        self._call = self._channel.stream_stream(_JOIN)()
        await self._call.write(pb.JoinRequest(record=self._record).SerializeToString())
        welcome = pb.JoinResponse.FromString(await self._call.read()).welcome
        self._take(welcome)

    async def live(self) -> None:
        """Take roles and beat until the stream ends."""
        beating = asyncio.ensure_future(self._beat())
        try:
            while (said := await self._call.read()) is not grpc.aio.EOF:
                now = monotonic()
                frame = pb.JoinResponse.FromString(said)
                if frame.WhichOneof("frame") == "role":
                    self._on = frame.role.on
                    _say(f"role {now} {frame.role.plan_version}")
                elif frame.WhichOneof("frame") == "welcome":
                    self._take(frame.welcome)
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            why = type(error).__name__
        else:
            why = "ended by the coordinator"
        finally:
            beating.cancel()
        if not self._leaving:
            _say(f"lost {self._record.node} {why}")

    async def leave(self) -> None:
        """End the stream, as a device that is switched off."""
        self._leaving = True
        await self._call.done_writing()

    def _take(self, welcome: pb.Welcome) -> None:
        _say(f"welcome {welcome.beat_interval_ms} {self._record.node}")
        self._beat_s = welcome.beat_interval_ms / 1000

    async def _beat(self) -> None:
        due = monotonic()
        while not self._leaving:
            await self._call.write(_BEATS[self._on])
            BareNode.beats += 1
            # A process that is late sends what is due now, and does not make up for the rest.
            due = max(due + self._beat_s, monotonic() - self._beat_s)
            await asyncio.sleep(max(0.0, due - monotonic()))


async def main(address: str, count: int, first: int, step: int) -> None:
    """Run every `step`-th node from `first` until standard input ends."""
    mine = rehearsal(count).nodes[first::step]
    nodes = {
        each.node: BareNode(address, state_frame(Member(each, 0, 0.0), Plan(0, frozenset())).record)
        for each in mine
    }
    few = asyncio.Semaphore(_JOINING)

    async def run(node: BareNode) -> None:
        async with few:
            await node.join()
        await node.live()

    running = {asyncio.ensure_future(run(node)) for node in nodes.values()}
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := (await reader.readline()).decode().split():
        if line[0] == "beats":
            _say(f"beats {BareNode.beats}")
        elif line[0] == "leave":
            await asyncio.gather(*(nodes[name].leave() for name in line[1:] if name in nodes))
        else:
            running |= {asyncio.ensure_future(run(nodes[n])) for n in line[1:] if n in nodes}
    for task in running:
        task.cancel()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
