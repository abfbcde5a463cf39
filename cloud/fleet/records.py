"""What a node says of itself, and what the coordinator decided: plain values, no wire, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Capability:
    """A node's record: which expert it runs, how well, how fast and at what price.

    Attributes:
        node: name of the node; one expert runs on a node.
        expert: name of its bundle; nodes with the same one answer alike.
        version: fingerprint of the bundle.
        revision: raised by the node whenever anything in its record changes.
        device: id of the catalog's entry.
        quality: measured on held-out prompts, by domain.
        first_token_ms: for a prompt of `prompt_tokens`; grows in proportion.
        per_token_ms, per_token_j: of each new token.
        prompt_j: for a prompt of `prompt_tokens`.
        standby_w: what keeping the expert ready takes, beyond the parked node.
        concurrency: answers that it works on at one time.
    """

    node: str
    expert: str
    version: str
    revision: int
    device: str
    quality: Mapping[str, float]
    prompt_tokens: int
    first_token_ms: float
    per_token_ms: float
    prompt_j: float
    per_token_j: float
    standby_w: float
    context_length: int
    max_tokens: int
    concurrency: int = 1

    def latency_ms(self, prompt_tokens: float, new_tokens: float) -> float:
        """Return the expected time of an answer."""
        prefill = self.first_token_ms * prompt_tokens / self.prompt_tokens
        return prefill + self.per_token_ms * new_tokens

    def answer_j(self, prompt_tokens: float, new_tokens: float) -> float:
        """Return the expected energy of an answer, standby left out."""
        return self.prompt_j * prompt_tokens / self.prompt_tokens + self.per_token_j * new_tokens


@dataclass(frozen=True)
class Plan:
    """Which nodes are on, and how prompts find them.

    Attributes:
        version: grows by one with each published plan.
        selected: names of the nodes that are on; all others park their expert.
        quality_per_j: what a joule must bring in predicted quality to be spent: the price of
            energy in routing. 0 where energy is no limit.
        power_w: expected draw of the selected nodes, answers included.
        quality: expected mean over the traffic that it was made for.
        reason: why it was published: join, leave, drift, budget, and what limits it.
        gap: how far from the best possible it is proved to be at most, relative.
        seconds: that planning took.
        spent: `standby_w`, `answers_w`, and `answered`, the share of prompts that get an answer.
        quality_per_s: by node, the price of a second of its time in routing; a node that is not
            named has time to spare.
    """

    version: int
    selected: frozenset[str]
    quality_per_j: float = 0.0
    power_w: float = 0.0
    quality: float = 0.0
    reason: str = ""
    gap: float = 0.0
    seconds: float = 0.0
    spent: Mapping[str, float] = field(default_factory=dict)
    quality_per_s: Mapping[str, float] = field(default_factory=dict)
