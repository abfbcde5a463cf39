"""What is published in the benchmark: a drawn fleet, and the traffic that it is planned for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from updraft.benchmarks.planning.fleets import draw_fleet
from updraft.cloud.fleet.records import Capability
from updraft.cloud.fleet.traffic import Traffic

_GROUPS = 128
# Of all nodes' time.
_LOAD = 0.1
_SEED = 0


@dataclass(frozen=True)
class Rehearsal:
    """A fleet, and traffic that is planned for though no prompt comes."""

    nodes: Sequence[Capability]
    traffic: Traffic


def rehearsal(nodes: int) -> Rehearsal:
    """Return the fleet of a size; it is the same in every process."""
    return Rehearsal(*draw_fleet(nodes, _GROUPS, _LOAD, _SEED))
