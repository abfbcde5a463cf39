"""What the traffic asks of a fleet's nodes, as the optimizer takes it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from updraft.cloud.fleet.limits import FleetBudget
from updraft.cloud.fleet.records import Capability
from updraft.cloud.fleet.traffic import Traffic
from updraft.optimizer.placement.demand import Array, Demand

_LEAST_SECONDS = 1e-6
_LEAST_RATE = 1e-9
# 99 of 100 windows draw no more than so many deviations above the mean.
_DEVIATIONS = 2.33


def demand_of(
    nodes: Sequence[Capability],
    traffic: Traffic,
    budget: FleetBudget,
    *,
    utilisation: float,
    answer_worth: float,
) -> Demand:
    """Lay out what each node would give and take for each group.

    Args:
        utilisation: share of its time that a node may be planned to work.
        answer_worth: what any answer is worth, in quality, however good it is.
    """
    column = np.array([_numbers(node) for node in nodes]).T[:, :, None]
    (prefill_s, token_s, prefill_j, token_j), standby = column[:4], column[4, :, 0]
    prompt, new = traffic.prompt_tokens, traffic.new_tokens
    seconds = np.maximum(prefill_s * prompt + token_s * new, _LEAST_SECONDS)
    joules = prefill_j * prompt + token_j * new
    quality = traffic.quality_of(nodes)
    serves = budget.in_time(traffic.domain, 1e3 * seconds, 1e3 * prefill_s * prompt, 1e3 * token_s)
    context = np.array([node.context_length for node in nodes])[:, None]
    serves &= prompt < context
    quality = np.where(serves, quality, 0.0)
    worth = np.where(serves, quality + answer_worth, 0.0)
    concurrency = np.array([node.concurrency for node in nodes], dtype=np.float64)
    room = utilisation * concurrency
    # A node's own limit of power is one on its time, at the power of its hungriest answers.
    own = np.array([budget.node_power_w.get(node.node, np.inf) for node in nodes]) - standby
    hungriest = (joules / seconds).max(axis=1, initial=0.0)
    room = np.clip(own / np.maximum(hungriest, _LEAST_RATE), 0, room)
    rate = np.maximum(traffic.rate, _LEAST_RATE)
    most = float(standby.sum() + (rate * joules.max(axis=0, initial=0.0)).sum())
    power = most
    if budget.power_w is not None:
        power = min(most, max(0.0, budget.power_w - _reserve_w(rate, joules, budget.window_s)))
    return Demand(rate, quality, worth, joules, seconds, room, standby, power, np.ones(len(nodes)))


def _reserve_w(rate: Array, joules: Array, window_s: float | None) -> float:
    """Return what to leave unplanned, so that windows with many prompts by chance keep the budget.

    Prompts come by chance: the energy of a window of W seconds has the variance Σ rate·j²·W.
    """
    if window_s is None or not len(joules):
        return 0.0
    mean = joules.mean(axis=0)
    return _DEVIATIONS * float(np.sqrt((rate * mean**2).sum() / window_s))


def _numbers(node: Capability) -> tuple[float, ...]:
    """Seconds and joules per prompt token and per new token; standby."""
    return (
        node.first_token_ms / 1e3 / node.prompt_tokens,
        node.per_token_ms / 1e3,
        node.prompt_j / node.prompt_tokens,
        node.per_token_j,
        node.standby_w,
    )
