"""A fleet's coordinator under a given planner, as a process: the service that users run, alone.

`python -m updraft.benchmarks.budgets.coordinator POLICY RATE LISTEN BUDGETS`
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import grpc

from updraft.benchmarks.budgets.lifeline import when_orphaned
from updraft.benchmarks.budgets.policies import planning
from updraft.benchmarks.budgets.scenario import NEW_TOKENS, PROMPT_TOKENS
from updraft.cli.daemon import announce
from updraft.cloud.fleet.config import FleetLimits
from updraft.cloud.fleet.opening import open_fleet
from updraft.cloud.fleet.planner import PlannerSettings
from updraft.config.endpoint import parse_endpoint
from updraft.models.bundle import open_bundle
from updraft.models.experts import GATE
from updraft.models.shipped import family, family_gate, shipped_family
from updraft.proto.v1 import fleet_pb2_grpc as rpc


async def main(policy: str, rate_per_s: float, listen: str, budgets: Path) -> None:
    """Serve until SIGTERM.

    Args:
        rate_per_s: of prompts, to plan for before any has come.
    """
    limits = FleetLimits(
        enabled=True,
        gate=shipped_family().folder / GATE,
        budgets=budgets,
        drift_check_s=0.25,
        traffic_half_life_s=2.5,
    )
    bundle = open_bundle(family()["generalist"])
    settings = PlannerSettings(
        rate_per_s=rate_per_s, prompt_tokens=PROMPT_TOKENS, new_tokens=NEW_TOKENS
    )
    planner = planning(policy, settings, family_gate(), seed=0)
    fleet = open_fleet(limits, bundle, planner)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    rpc.add_FleetServicer_to_server(fleet, server)
    server.add_insecure_port(listen)
    await server.start()
    fleet.start()
    announce(parse_endpoint(listen))
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    when_orphaned(lambda: loop.call_soon_threadsafe(stopped.set))
    await stopped.wait()
    await fleet.close(0)
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), sys.argv[3], Path(sys.argv[4])))
