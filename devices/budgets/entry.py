"""What the ledger keeps: one request, and sums of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from updraft.devices.usage import Usage

DAY_S = 86_400


def day_of(at: float) -> int:
    """Return the budget day of a time: days since 1970 in UTC."""
    return int(at // DAY_S)


@dataclass(frozen=True)
class Entry:
    """One request and what it cost.

    Attributes:
        request_id: whoever records the same one again changes nothing.
        started_at, ended_at: seconds since 1970, by the ledger's clock; it counts for the day in
            which it started.
        tokens: new ones.
        first_token_ms: from admission; None where there was no token.
        energy_method: how the joules are known.
    """

    request_id: str
    started_at: float
    ended_at: float
    usage: Usage
    tokens: int
    first_token_ms: float | None
    mode: str
    energy_method: str


@dataclass(frozen=True)
class Totals:
    """What several requests cost."""

    requests: int = 0
    tokens: int = 0
    usage: Usage = field(default_factory=Usage)

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.requests + other.requests, self.tokens + other.tokens, self.usage + other.usage
        )

    @classmethod
    def of(cls, entry: Entry) -> Totals:
        """Return the totals of one request."""
        return cls(1, entry.tokens, entry.usage)

    def beyond(self, other: Totals) -> Totals:
        """Return by how much these totals are more than others, nothing where they are less."""
        mine, theirs = self.usage, other.usage
        return Totals(
            max(0, self.requests - other.requests),
            max(0, self.tokens - other.tokens),
            Usage(
                max(0.0, mine.latency_ms - theirs.latency_ms),
                max(0.0, mine.energy_j - theirs.energy_j),
                max(0, mine.uplink_bytes - theirs.uplink_bytes),
                max(0, mine.downlink_bytes - theirs.downlink_bytes),
                max(0, mine.cloud_tokens - theirs.cloud_tokens),
            ),
        )
