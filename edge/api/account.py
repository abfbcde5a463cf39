"""What a request cost, as `usage` and `updraft` say it."""

from __future__ import annotations

from collections import Counter
from functools import reduce
from operator import add
from typing import Any

from updraft.devices.usage import Usage
from updraft.edge.api.serving import Ended


class Account:
    """Adds up the answers of one request.

    Args:
        per_prompt: answers to each prompt, which counts once.
    """

    def __init__(self, per_prompt: int) -> None:
        self._per_prompt = per_prompt
        self._ended: list[Ended] = []

    def add(self, ended: Ended) -> None:
        """Count an answer that has ended."""
        self._ended.append(ended)

    def usage(self) -> dict[str, Any]:
        """Return `usage`."""
        firsts = [ended for ended in self._ended if ended.choice % self._per_prompt == 0]
        prompt = sum(ended.prompt_tokens for ended in firsts)
        completion = sum(len(ended.result.tokens) for ended in self._ended)
        cached = sum(ended.result.cached_tokens for ended in firsts)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
            "updraft": self._updraft(),
        }

    def costs(self) -> dict[str, Any]:
        """Return `updraft` of a whole answer; of several, that of each choice."""
        costs = [cost_of(ended) for ended in self._ended]
        return costs[0] if len(costs) == 1 else {"choices": costs}

    def _updraft(self) -> dict[str, Any]:
        results = [ended.result for ended in self._ended]
        spent = reduce(add, (result.usage for result in results), Usage())
        decisions: Counter[str] = Counter()
        for result in results:
            decisions.update(result.decisions)
        return {
            "mode": "+".join(sorted({result.mode for result in results})),
            "latency_ms": round(spent.latency_ms, 3),
            "energy_j": round(spent.energy_j, 6),
            "energy_method": "+".join(sorted({result.energy.method for result in results})),
            "uplink_bytes": spent.uplink_bytes,
            "downlink_bytes": spent.downlink_bytes,
            "cloud_tokens": spent.cloud_tokens,
            "decisions": dict(decisions),
            "degraded": any(result.degraded for result in results),
            **(self._ended[-1].budget if self._ended else {}),
        }


def cost_of(ended: Ended) -> dict[str, Any]:
    """Return `updraft` of one answer: what `updraft generate --json` prints, and the budget."""
    budget = {"budget": ended.budget} if ended.budget else {}
    return ended.result.to_json() | budget
