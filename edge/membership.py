"""Whether this agent is a node of a fleet, and being one for as long as it serves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from updraft.config.endpoint import Endpoint, parse_endpoint, require_tls
from updraft.edge.capability import make_record
from updraft.edge.config import EdgeConfig
from updraft.edge.engine import Engine
from updraft.edge.expert import EngineExpert
from updraft.edge.governor import Governor
from updraft.edge.node import Node
from updraft.errors import ConfigError


def fleet_endpoint(config: EdgeConfig) -> Endpoint | None:
    """Return the coordinator whose fleet to join; None where this agent is no node.

    Raises:
        ConfigError: there is no address, or it needs certificates and has none.
    """
    if not config.node.enabled:
        return None
    address = config.node.coordinator or config.cloud.address
    if address is None:
        raise ConfigError(
            ["node.enabled: a node needs a coordinator: give [node] coordinator or [cloud] address"]
        )
    endpoint = parse_endpoint(address)
    require_tls(endpoint, config.cloud.tls)
    return endpoint


@contextmanager
def in_fleet(
    engine: Engine, config: EdgeConfig, endpoint: Endpoint | None, governor: Governor | None = None
) -> Iterator[None]:
    """Be a node of the fleet at an endpoint; of none where there is none.

    What the node can do is measured first, which takes as long as about fifty tokens. That the
    coordinator is not there, then or later, stops nothing.
    """
    if endpoint is None:
        yield
        return
    tls = config.cloud.tls.read() if config.cloud.tls else None
    # Grows from start to start. Where a clock was set back, the node is let in as soon as the
    # coordinator has noticed that the one before is gone.
    record = make_record(engine, config, revision=int(1000 * time.time()))
    node = Node(endpoint, tls, record, EngineExpert(engine, config.node.mode, governor))
    node.start()
    try:
        yield
    finally:
        node.close(config.node.drain_s)
