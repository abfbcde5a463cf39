"""Makes a fleet's service of its configuration."""

from __future__ import annotations

from pathlib import Path

from updraft.cloud.fleet.budgets import FleetBudgets
from updraft.cloud.fleet.config import FleetLimits
from updraft.cloud.fleet.live import Planning
from updraft.cloud.fleet.outlook import Foresight
from updraft.cloud.fleet.planner import Planner
from updraft.cloud.fleet.service import FleetService
from updraft.cloud.fleet.traffic_log import TrafficLog, TrafficSettings
from updraft.cloud.fleet.upkeep import Upkeep
from updraft.errors import ConfigError, ProblemError
from updraft.models.bundle import Bundle
from updraft.models.shipped import family_gate
from updraft.models.tokenizer import Tokenizer
from updraft.optimizer.gate.gate import Gate


def open_fleet(
    limits: FleetLimits, bundle: Bundle, planner: Planning | None = None
) -> FleetService:
    """Return the service of a fleet that has no nodes yet.

    Args:
        bundle: its tokenizer tells how long prompts are.
        planner: decides who is on; ours by default.

    Raises:
        ConfigError: the gate or the budgets cannot be read; with every fault.
    """
    gate = family_gate() if limits.gate is None else _read_gate(limits.gate)
    tokenizer = Tokenizer(bundle)
    foresight = Foresight(gate, lambda text: len(tokenizer.encode(text)))
    budgets = FleetBudgets(limits.budgets, limits.catalog)
    traffic = TrafficLog(gate.experts, TrafficSettings(half_life_s=limits.traffic_half_life_s))
    upkeep = Upkeep(limits, planner or Planner(gate), traffic, budgets)
    return FleetService(limits, foresight, upkeep)


def _read_gate(path: Path) -> Gate:
    try:
        return Gate.from_bytes(path.read_bytes())
    except OSError as error:
        raise ConfigError([f"{path}: the gate cannot be read: {error.strerror}"]) from error
    except ProblemError as error:
        raise ConfigError([f"{path}: {fault}" for fault in error.faults]) from error
