"""The traffic of late: groups of like prompts, how often they come, and how long they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from updraft.cloud.fleet.records import Capability

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Traffic:
    """Groups of prompts, P of them.

    Attributes:
        experts: names, the columns of `quality`.
        quality: (P, experts), what the gate expects of their answers, 0 to 1.
        rate: (P,), prompts per second.
        domain: of each group; "" where it is not known.
        prompt_tokens, new_tokens: (P,), mean lengths.
        prompts: how many it rests on, older ones counting less.
    """

    experts: tuple[str, ...]
    quality: Array
    rate: Array
    domain: tuple[str, ...]
    prompt_tokens: Array
    new_tokens: Array
    prompts: float = 0.0

    @property
    def rate_per_s(self) -> float:
        """Prompts per second, of all groups together."""
        return float(self.rate.sum())

    @classmethod
    def expected(
        cls,
        nodes: Sequence[Capability],
        *,
        rate_per_s: float,
        prompt_tokens: float,
        new_tokens: float,
        experts: Sequence[str] = (),
    ) -> Traffic:
        """Return what to plan for before any prompt has come: each domain alike.

        Experts are as good as their records say.

        Args:
            experts: the columns; those of the nodes where there are none.
        """
        domains = tuple(sorted({domain for node in nodes for domain in node.quality})) or ("",)
        records = {node.expert: node.quality for node in nodes}
        experts = tuple(experts) or tuple(sorted(records))
        quality = [
            [records.get(name, {}).get(domain, 0.0) for name in experts] for domain in domains
        ]
        alike = np.ones(len(domains))
        return cls(
            experts,
            np.array(quality, dtype=np.float64).reshape(len(domains), len(experts)),
            rate_per_s / len(domains) * alike,
            domains,
            prompt_tokens * alike,
            new_tokens * alike,
        )

    def mixed(self, other: Traffic, share: float) -> Traffic:
        """Return this traffic with a share of another one of the same experts in its place."""
        return Traffic(
            self.experts,
            np.vstack([self.quality, other.quality]),
            np.concatenate([(1 - share) * self.rate, share * other.rate]),
            self.domain + other.domain,
            np.concatenate([self.prompt_tokens, other.prompt_tokens]),
            np.concatenate([self.new_tokens, other.new_tokens]),
            self.prompts,
        )

    def quality_of(self, nodes: Sequence[Capability]) -> Array:
        """Return (nodes, P): by the gate, or by the record of an expert that it does not know."""
        columns = {name: number for number, name in enumerate(self.experts)}
        found = np.empty((len(nodes), len(self.rate)))
        for row, node in zip(found, nodes, strict=True):
            column = columns.get(node.expert)
            if column is None:
                row[:] = self._measured(node.quality)
            else:
                row[:] = self.quality[:, column]
        return np.clip(found, 0, 1)

    def _measured(self, quality: Mapping[str, float]) -> list[float]:
        mean = sum(quality.values()) / len(quality) if quality else 0.0
        return [quality.get(domain, mean) for domain in self.domain]
