"""Ten thousand streams at once that stay silent: before their first frame, or right after it."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from contextlib import suppress

import grpc
from client import Wire
from report import Report

from updraft.proto.v1 import collaboration_pb2 as pb
from updraft.proto.v1 import collaboration_pb2_grpc as rpc

_CONNECTIONS = 20
_PATIENCE_S = 120.0


async def crowd(address: str, streams: int, opens: bool) -> Counter[str]:
    """Run the streams until the coordinator has ended them all; count how."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options) for _ in range(_CONNECTIONS)]
    told = await rpc.CollaborationStub(channels[0]).Describe(pb.DescribeRequest())
    opened = pb.Open(protocol=pb.PROTOCOL_V1, fingerprint=told.fingerprint, codec=pb.CODEC_FP32)
    first = pb.CollaborateRequest(open=opened).SerializeToString()
    ends: Counter[str] = Counter()

    async def stay(number: int) -> None:
        stub = rpc.CollaborationStub(channels[number % _CONNECTIONS])
        wire = Wire(stub.Collaborate(timeout=_PATIENCE_S), "", Report())
        if opens:
            await wire.write(first)
        with suppress(grpc.RpcError, asyncio.CancelledError):
            while (answer := await wire.call.read()) is not grpc.aio.EOF:
                ends[answer.WhichOneof("frame")] += 1
        code, details = await wire.call.code(), await wire.call.details()
        ends[code.name] += 1
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and "link-timeout" not in details:
            ends["never ended"] += 1

    await asyncio.gather(*(stay(number) for number in range(streams)))
    for channel in channels:
        await channel.close()
    return ends


def main() -> None:
    """Print the counts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="HOST:PORT of the coordinator")
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--opens", action="store_true", help="send the first frame")
    chosen = parser.parse_args()
    print(json.dumps(asyncio.run(crowd(chosen.address, chosen.streams, chosen.opens))))


if __name__ == "__main__":
    main()
