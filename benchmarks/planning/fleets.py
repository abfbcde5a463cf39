"""Fleets as ours look: five experts on boards, hosts and GPUs that differ by a factor of 20."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from updraft.cloud.fleet.records import Capability
from updraft.cloud.fleet.traffic import Traffic

DOMAINS = ("python", "c", "docs", "logs")
EXPERTS = ("generalist", *DOMAINS)
# A record's prompt has this many tokens; a prompt token takes this share of a new one.
_PROMPT_TOKENS = 128
_PREFILL = 0.1


class _Board(NamedTuple):
    """Of one expert of some hundred million parameters; rounded, invented, of a likely size.

    Attributes:
        share: of the nodes of a fleet.
    """

    device: str
    share: float
    token_ms: float
    token_j: float
    standby_w: float
    concurrency: int


_BOARDS = (
    _Board("raspberry-pi-5", 0.30, 60, 0.25, 0.6, 1),
    _Board("jetson-orin-nano-8", 0.20, 22, 0.18, 1.5, 2),
    _Board("jetson-orin-nx-16", 0.15, 18, 0.22, 2, 2),
    _Board("jetson-agx-orin-64", 0.10, 10, 0.30, 4, 4),
    _Board("x86", 0.10, 35, 0.90, 5, 4),
    _Board("l4", 0.10, 7, 0.35, 8, 8),
    _Board("rtx-4090", 0.05, 3, 0.60, 20, 16),
)


def draw_fleet(nodes: int, groups: int, load: float, seed: int) -> tuple[list[Capability], Traffic]:
    """Draw nodes, and prompts for them.

    Specialists are good in their domain and poor elsewhere, the generalist is middling; single
    prompts differ around that, as a gate sees them.

    Args:
        load: what the prompts take of all nodes' time together.
    """
    rng = np.random.default_rng(seed)
    skill = {expert: {name: _skill(expert, name, rng) for name in DOMAINS} for expert in EXPERTS}
    boards = rng.choice(len(_BOARDS), nodes, p=[board.share for board in _BOARDS])
    experts = [*EXPERTS, *rng.choice(EXPERTS, nodes)][:nodes]
    fleet = [
        _node(number, str(expert), _BOARDS[board], skill[expert], rng)
        for number, (expert, board) in enumerate(zip(experts, boards, strict=True))
    ]
    domain = rng.choice(len(DOMAINS), groups, p=rng.dirichlet(np.full(len(DOMAINS), 2.0)))
    mean = np.array([[skill[name][DOMAINS[number]] for name in EXPERTS] for number in domain])
    odds = np.log(mean / (1 - mean)) + rng.normal(0, 0.5, (groups, 1))
    quality = 1 / (1 + np.exp(-odds - rng.normal(0, 0.5, mean.shape)))
    prompt = rng.lognormal(4.6, 0.6, groups).clip(8, 900)
    new = rng.lognormal(4.0, 0.5, groups).clip(8, 500)
    share = rng.dirichlet(np.ones(groups))
    rate = load * _most_per_s(fleet, float(share @ prompt), float(share @ new)) * share
    domains = tuple(DOMAINS[number] for number in domain)
    return fleet, Traffic(EXPERTS, quality, rate, domains, prompt, new, 1000.0)


def _skill(expert: str, domain: str, rng: np.random.Generator) -> float:
    mean = 0.62 if expert == "generalist" else 0.8 if expert == domain else 0.38
    return float(np.clip(mean + rng.normal(0, 0.04), 0.05, 0.95))


def _node(
    number: int, expert: str, board: _Board, quality: dict[str, float], rng: np.random.Generator
) -> Capability:
    slower, hungrier, idler = rng.lognormal(0, 0.15, 3).tolist()
    return Capability(
        node=f"node-{number}",
        expert=expert,
        version="1",
        revision=1,
        device=board.device,
        quality=quality,
        prompt_tokens=_PROMPT_TOKENS,
        first_token_ms=_PROMPT_TOKENS * _PREFILL * board.token_ms * slower,
        per_token_ms=board.token_ms * slower,
        prompt_j=_PROMPT_TOKENS * _PREFILL * board.token_j * hungrier,
        per_token_j=board.token_j * hungrier,
        standby_w=board.standby_w * idler,
        context_length=2048,
        max_tokens=1024,
        concurrency=board.concurrency,
    )


def _most_per_s(nodes: Sequence[Capability], prompt_tokens: float, new_tokens: float) -> float:
    return sum(1e3 * n.concurrency / n.latency_ms(prompt_tokens, new_tokens) for n in nodes)
