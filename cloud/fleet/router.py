"""Who answers a prompt: the best node that can, for what its answer costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from updraft.cloud.fleet.records import Capability, Plan
from updraft.cloud.fleet.registry import Member

# Differences in worth below this are none: equals share the load.
_SAME = 6


@dataclass
class Ask:
    """A request as routing sees it.

    Attributes:
        quality: what the gate expects of each expert's answer, 0 to 1.
        failed: streams of nodes that failed at this request, or refused it.
        refused: versions of experts that can never serve it.
    """

    prompt_tokens: int
    max_tokens: int
    quality: Mapping[str, float] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)

    def expects_of(self, capability: Capability) -> float:
        """Return the quality of an expert's answer; by its record where the gate knows it not."""
        known = self.quality.get(capability.expert)
        if known is not None:
            return known
        measured = capability.quality.values()
        return sum(measured) / len(measured) if measured else 0.0


def worth(ask: Ask, capability: Capability, plan: Plan) -> float:
    """Return expected quality less the price of the expected energy and of the node's time."""
    energy_j = capability.answer_j(ask.prompt_tokens, ask.max_tokens)
    seconds = capability.latency_ms(ask.prompt_tokens, ask.max_tokens) / 1e3
    price = plan.quality_per_j * energy_j
    price += plan.quality_per_s.get(capability.node, 0.0) * seconds
    return ask.expects_of(capability) - price


def suits(ask: Ask, member: Member) -> bool:
    """Say whether a node could serve a request, were it on and free."""
    can = member.capability
    return (
        member.takes_work
        and member.stream not in ask.failed
        and can.version not in ask.refused
        and ask.prompt_tokens < can.context_length
        and ask.max_tokens <= can.max_tokens
    )


def can_start(ask: Ask, member: Member, plan: Plan) -> bool:
    """Say whether a node can start on a request now."""
    return member.has_place and member.name in plan.selected and suits(ask, member)


def best(ask: Ask, members: Iterable[Member], plan: Plan) -> Member | None:
    """Return the node that should start on a request now; None where none can.

    Of those that are worth the same, the least loaded.
    """
    able = [member for member in members if can_start(ask, member, plan)]
    return min(able, key=lambda member: _rank(ask, member, plan), default=None)


def _rank(ask: Ask, member: Member, plan: Plan) -> tuple[float, float, int, str]:
    can = member.capability
    load = member.working / can.concurrency
    value = round(worth(ask, can, plan), _SAME)
    return -value, load, member.answers, member.name
