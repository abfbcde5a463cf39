"""The coordinator of the publishing benchmark: the fleet's service as it is, in a process.

`python -m updraft.benchmarks.publishing.coordinator LISTEN NODES BUDGETS BEAT_MS`

It plans for a given traffic. Each planning is a line of JSON on standard output, and so is, once a
second, how late the event loop was at worst.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, thread_time

import grpc
import uvloop

from updraft.benchmarks.publishing.rehearsal import rehearsal
from updraft.cloud.fleet.config import FleetLimits
from updraft.cloud.fleet.limits import FleetBudget
from updraft.cloud.fleet.opening import open_fleet
from updraft.cloud.fleet.planner import Planner
from updraft.cloud.fleet.records import Capability, Plan
from updraft.cloud.fleet.traffic import Traffic
from updraft.cloud.intake import Intake
from updraft.models.bundle import open_bundle
from updraft.models.shipped import family, family_gate
from updraft.proto.v1 import fleet_pb2_grpc as rpc

_LOOK_EVERY_S = 0.02


@dataclass(frozen=True)
class TimedPlanner:
    """Plans for a given traffic, and says when it began and ended."""

    planner: Planner
    traffic: Traffic

    def plan(
        self,
        nodes: Sequence[Capability],
        traffic: Traffic,
        budget: FleetBudget,
        previous: Plan | None,
        cause: str,
    ) -> Plan:
        """Plan as the coordinator does, but for the given traffic."""
        began, cpu = monotonic(), thread_time()
        plan = self.planner.plan(nodes, self.traffic, budget, previous, cause)
        ended, cpu = monotonic(), thread_time() - cpu
        before = frozenset[str]() if previous is None else previous.selected
        there = frozenset(node.node for node in nodes)
        _say(
            began=began,
            ended=ended,
            cpu=cpu,
            version=plan.version,
            nodes=len(nodes),
            power_w=budget.power_w,
            changed=len((plan.selected ^ before) & there),
        )
        return plan


async def main(listen: str, nodes: int, budgets: Path, beat_ms: int) -> None:
    """Serve until SIGTERM."""
    limits = FleetLimits(enabled=True, budgets=budgets, max_nodes=nodes, beat_interval_ms=beat_ms)
    planner = TimedPlanner(Planner(family_gate()), rehearsal(nodes).traffic)
    fleet = open_fleet(limits, open_bundle(family()["generalist"]), planner)
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.keepalive_time_ms", 5_000),
            ("grpc.keepalive_timeout_ms", 3_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 4_000),
        ],
        interceptors=[Intake()],
    )
    rpc.add_FleetServicer_to_server(fleet, server)
    server.add_insecure_port(listen)
    await server.start()
    fleet.start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    looking = asyncio.ensure_future(_look())
    parent = await _standard_input()
    ended = asyncio.ensure_future(parent.read())
    ended.add_done_callback(lambda _: stopped.set())  # whoever started this is gone
    await stopped.wait()
    looking.cancel()
    await fleet.close(0)
    await server.stop(0)


async def _standard_input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def _look() -> None:
    """Say once a second how late this loop was."""
    said, worst_s = monotonic(), 0.0
    while True:
        before = monotonic()
        await asyncio.sleep(_LOOK_EVERY_S)
        now = monotonic()
        worst_s = max(worst_s, now - before - _LOOK_EVERY_S)
        if now - said > 1:
            _say(late_s=worst_s)
            said, worst_s = now, 0.0


def _say(**words: object) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])))
