"""How long a generation takes in each mode, predicted from a few constants.

Pure: `auto` chooses by it, `updraft bench collab` replays it beside what was measured.

Words of the model: R round trip, u seconds that one position's state takes to go up, t_f a token
through the whole model in the cloud, t_e a token through the edge's layers and its exit, t_v(k) k
positions through the layers above the split in one pass, P prompt tokens, N new ones. A session
costs no round trip of its own: its first frames do not wait until it is open.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Path:
    """The way to the coordinator.

    Attributes:
        round_trip_s: R.
        uplink_bytes_s: bytes that go up in one second.
    """

    round_trip_s: float
    uplink_bytes_s: float


@dataclass(frozen=True)
class Work:
    """One generation: P and N."""

    prompt_tokens: int
    new_tokens: int


@dataclass(frozen=True)
class Costs:
    """Seconds of the two machines for one model, and its bytes on the wire.

    For mode `ids`, `edge_s` is the draft model's, `upper_s` that of all layers, and
    `position_bytes` the size of a token id.

    Attributes:
        edge_s: t_e.
        whole_s: t_f.
        upper_s: t_v(1), catch-up included.
        upper_growth: t_v(k) = upper_s × (1 + upper_growth × (k - 1)).
        position_bytes: one position's state on the wire, framing included.
        exchange_s: what a request and its answer cost besides the way and the computing:
            threads, event loops, framing on both sides.
        edge_prefill_s, upper_prefill_s, whole_prefill_s: one prompt position, in large chunks.
    """

    edge_s: float
    whole_s: float
    upper_s: float
    position_bytes: float
    upper_growth: float = 0.02
    exchange_s: float = 0.0
    edge_prefill_s: float = 0.0
    upper_prefill_s: float = 0.0
    whole_prefill_s: float = 0.0

    def verify_s(self, positions: float) -> float:
        """Return t_v(k): `positions` through the layers above the split, in one pass."""
        return self.upper_s * (1 + self.upper_growth * (positions - 1))


def upload_s(costs: Costs, path: Path) -> float:
    """Return u: how long one position's state keeps the uplink busy."""
    return costs.position_bytes / path.uplink_bytes_s


def request_s(costs: Costs, path: Path) -> float:
    """Return what a token costs that waits for the cloud: R + t_c + u (`threshold`)."""
    return path.round_trip_s + costs.exchange_s + costs.upper_s + upload_s(costs, path)


def rejection_s(costs: Costs, path: Path, draft: float) -> float:
    """Return L: what a rejected draft costs, from when it was made until its verdict is here.

    Args:
        draft: c, positions that are judged in one pass; a rejected one waits for half of the
            others on average.
    """
    waits_for_others = (draft - 1) * costs.edge_s / 2
    on_its_way = upload_s(costs, path) + path.round_trip_s + costs.exchange_s
    return on_its_way + costs.verify_s(draft) + waits_for_others


def standalone_s(work: Work, costs: Costs) -> float:
    """Predict `standalone`: the edge alone."""
    return work.prompt_tokens * costs.edge_prefill_s + work.new_tokens * costs.edge_s


def cloud_s(work: Work, costs: Costs, path: Path) -> float:
    """Predict `cloud`: tokens stream down, so the way is paid once."""
    prefill = work.prompt_tokens * costs.whole_prefill_s
    return path.round_trip_s + costs.exchange_s + prefill + work.new_tokens * costs.whole_s


def naive_s(work: Work, costs: Costs, path: Path) -> float:
    """Predict a split without any cache above it: each step sends every state again.

    The coordinator computes the whole context at each step.
    """
    positions = sum(range(work.prompt_tokens, work.prompt_tokens + work.new_tokens))
    step = costs.edge_s + costs.upper_s + path.round_trip_s + costs.exchange_s
    each = upload_s(costs, path) + costs.upper_prefill_s
    return work.prompt_tokens * costs.edge_prefill_s + work.new_tokens * step + positions * each


def threshold_s(work: Work, costs: Costs, path: Path, request_rate: float) -> float:
    """Predict `threshold` (CE-CoLLM).

    Args:
        request_rate: r, share of tokens that wait for the cloud.
    """
    upload = upload_s(costs, path)
    return (
        _prompt_s(work, costs, path)
        + work.new_tokens * max(costs.edge_s, upload)
        + request_rate * work.new_tokens * request_s(costs, path)
    )


def speculation_s(
    work: Work, costs: Costs, path: Path, rejection_rate: float, draft: float
) -> float:
    """Predict `lossless`, `bounded` and `ids`: the edge drafts on while the cloud verifies.

    Args:
        rejection_rate: share of tokens at which a draft was rejected: 1 - α in `lossless` and
            `ids`; in `bounded` committed drafts are never rejected.
        draft: c, positions that are judged in one pass.
    """
    step = max(costs.edge_s, upload_s(costs, path), costs.verify_s(draft) / draft)
    last_verdict = path.round_trip_s + costs.exchange_s + costs.verify_s(draft)
    return (
        _prompt_s(work, costs, path)
        + work.new_tokens * step
        + rejection_rate * work.new_tokens * rejection_s(costs, path, draft)
        + last_verdict
    )


def _prompt_s(work: Work, costs: Costs, path: Path) -> float:
    """Return the time until the prompt is where it is needed, on both sides."""
    each = costs.edge_prefill_s + upload_s(costs, path) + costs.upper_prefill_s
    return work.prompt_tokens * each
