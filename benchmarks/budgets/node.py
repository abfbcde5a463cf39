"""One emulated device as a process.

`python -m updraft.benchmarks.budgets.node NAME ADDRESS LOG [DAILY_J DAY_S]`
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from pathlib import Path

from updraft.benchmarks.budgets.allowance import DayClock, governor
from updraft.benchmarks.budgets.emulated import EmulatedExpert
from updraft.benchmarks.budgets.lifeline import when_orphaned
from updraft.benchmarks.budgets.scenario import (
    NEW_TOKENS,
    PROMPT_TOKENS,
    EmulatedNode,
    fleet,
)
from updraft.config.endpoint import parse_endpoint
from updraft.edge.node import Node
from updraft.models.bundle import open_bundle
from updraft.models.shipped import family, shipped_family
from updraft.proto.v1 import fleet_pb2 as pb

# How often the meter is read; windows of a compressed day are a second or so.
_READ_EVERY_S = 0.05


def main(
    name: str, address: str, log: Path, daily_j: float | None = None, day_s: float = 0.0
) -> None:
    """Be a node until SIGTERM; writes a line `[monotonic seconds, joules]` again and again.

    Args:
        daily_j: the node's own budget for a day of `day_s` real seconds; None: it has none.
    """
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    when_orphaned(stopped.set)
    declared = next(node for node in fleet() if node.name == name)
    bundle = open_bundle(family()[declared.expert])
    if daily_j is None:
        expert = EmulatedExpert(declared, bundle)
    else:
        clock = DayClock(day_s)
        keeper = governor(declared, bundle.manifest, daily_j, clock, log.with_suffix(".sqlite"))
        expert = EmulatedExpert(declared, bundle, keeper, clock)
    context = bundle.manifest.architecture.context_length
    node = Node(
        parse_endpoint(address),
        None,
        _record(declared, bundle.fingerprint, context),
        expert,
    )
    node.start()
    with log.open("w") as file:
        while not stopped.wait(_READ_EVERY_S):
            file.write(json.dumps([time.monotonic(), expert.meter.spent_j]) + "\n")
            file.flush()
    node.close(0)


def _record(node: EmulatedNode, version: str, context: int) -> pb.CapabilityRecord:
    return pb.CapabilityRecord(
        node=node.name,
        expert=node.expert,
        version=version,
        revision=time.time_ns(),
        device=node.device,
        quality=shipped_family().quality()[node.expert],
        prompt_tokens=PROMPT_TOKENS,
        first_token_ms=node.first_token_ms,
        per_token_ms=node.per_token_ms,
        prompt_j=node.prompt_j,
        per_token_j=node.per_token_j,
        standby_w=node.standby_w,
        context_length=context,
        max_tokens=NEW_TOKENS,
        concurrency=1,
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), *map(float, sys.argv[4:]))
