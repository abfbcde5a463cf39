"""What can be configured of the fleet that a coordinator plans and routes for."""

from __future__ import annotations

from math import ceil
from pathlib import Path

from pydantic import Field

from updraft.config import Section


class FleetLimits(Section):
    """The fleet: nodes that join, requests that they answer.

    Attributes:
        enabled: let nodes join and answer prompts by them.
        gate: file of the gate over the experts; the shipped family's by default.
        budgets: file of budgets. Its `[total]`, and `first_token` and `per_token` of its
            `[fleet]`, limit the plan. Read again when it changes.
        catalog: file or folder of devices that are not in the catalog.
        max_nodes: in the fleet at one time; further ones are refused with RESOURCE_EXHAUSTED.
        beat_interval_ms: nodes say that they live this often; three missed beats are a death.
        max_beats_per_s: of all nodes together; a fleet too large for it beats less often.
        max_answers: requests that are answered or wait at one time; further ones are refused.
        max_waiting: of them, those that wait for a node to be free.
        wait_timeout_s: a request that no node was free for in this time is refused likewise.
        answer_timeout_s: for a whole answer, where the client sets no shorter deadline.
        max_prompt_bytes: longer prompts are refused.
        max_attempts: nodes that one request may fail at, so that a prompt that brings nodes down
            does not go through all of them.
        settle_ms: a plan waits this long for further causes, so that many joins make one plan.
        traffic_half_life_s: after it a prompt counts half in the traffic to plan for.
        drift_check_s: how often the traffic is compared with what the plan was made for.
    """

    enabled: bool = False
    gate: Path | None = None
    budgets: Path | None = None
    catalog: Path | None = None
    max_nodes: int = Field(default=1024, gt=0, le=10_000)
    beat_interval_ms: int = Field(default=300, ge=50, le=60_000)
    max_beats_per_s: int = Field(default=2500, gt=0, le=1_000_000)
    max_answers: int = Field(default=512, gt=0, le=100_000)
    max_waiting: int = Field(default=256, ge=0, le=100_000)
    wait_timeout_s: float = Field(default=15, gt=0, le=3600)
    answer_timeout_s: float = Field(default=300, gt=0, le=86_400)
    max_prompt_bytes: int = Field(default=65_536, gt=0, le=1 << 21)
    max_attempts: int = Field(default=4, gt=0, le=100)
    settle_ms: int = Field(default=50, ge=0, le=60_000)
    traffic_half_life_s: float = Field(default=600, gt=0, le=86_400)
    drift_check_s: float = Field(default=5, gt=0, le=86_400)

    def interval_ms(self, nodes: int) -> int:
        """Return how often a node of a fleet of so many says that it lives."""
        return max(self.beat_interval_ms, ceil(1000 * nodes / self.max_beats_per_s))
