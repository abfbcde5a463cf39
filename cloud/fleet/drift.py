"""Why to plan again: who came and went, and what moved beyond what the plan assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import sqrt

import numpy as np

from updraft.cloud.fleet.limits import FleetBudget
from updraft.cloud.fleet.records import Capability
from updraft.cloud.fleet.traffic import Traffic

# Fewer prompts than this say little of those to come.
FIRST_PROMPTS = 30
_NAMED = 3
_MEASURED = ("first_token_ms", "per_token_ms", "prompt_j", "per_token_j", "standby_w")


@dataclass(frozen=True, eq=False)
class Basis:
    """What a plan was made of."""

    nodes: tuple[Capability, ...]
    traffic: Traffic
    budget: FleetBudget


@dataclass(frozen=True)
class DriftSettings:
    """How far things may move before planning is done again.

    Attributes:
        mix: share of the prompts that are of another kind than assumed.
        rate: factor of prompts per second, up or down.
        length: factor of tokens per prompt or answer.
        records: factor of a node's measured latency or energy, or difference of its quality.
        quality: difference of a node's quality in a domain.
    """

    mix: float = 0.15
    rate: float = 1.5
    length: float = 1.5
    records: float = 1.25
    quality: float = 0.05


def cause(before: Basis, now: Basis, settings: DriftSettings | None = None) -> str:
    """Say in words why to plan again; empty where what the plan assumed still holds.

    Joining, leaving and another budget always count; a traffic that rests on few prompts must be
    further off than one that rests on many.
    """
    settings = settings or DriftSettings()
    words = [
        *_came_and_went(before.nodes, now.nodes),
        *_budget(before.budget, now.budget),
        *_records(before.nodes, now.nodes, settings),
        *_traffic(before.traffic, now.traffic, settings),
    ]
    return "; ".join(words)


def mix_distance(a: Traffic, b: Traffic) -> float:
    """Return the share of prompts by which two traffics differ in kind: total variation, 0 to 1.

    A kind is a domain with the expert that the gate prefers.
    """
    first, second = _kinds(a), _kinds(b)
    kinds = first.keys() | second.keys()
    return 0.5 * sum(abs(first.get(kind, 0) - second.get(kind, 0)) for kind in kinds)


def _kinds(traffic: Traffic) -> dict[tuple[str, int], float]:
    shares: dict[tuple[str, int], float] = {}
    total = traffic.rate_per_s
    if total <= 0:
        return shares
    best = traffic.quality.argmax(axis=1) if traffic.experts else np.zeros(len(traffic.rate), int)
    for domain, expert, rate in zip(traffic.domain, best.tolist(), traffic.rate, strict=True):
        shares[domain, expert] = shares.get((domain, expert), 0.0) + float(rate) / total
    return shares


def _came_and_went(before: Sequence[Capability], now: Sequence[Capability]) -> list[str]:
    old, new = {node.node for node in before}, {node.node for node in now}
    words = [f"{_names(sorted(new - old))} joined"] if new - old else []
    return [*words, f"{_names(sorted(old - new))} left"] if old - new else words


def _budget(before: FleetBudget, now: FleetBudget) -> list[str]:
    if before == now:
        return []
    if before.power_w != now.power_w:
        return [f"the fleet's budget is {_watts(now.power_w)}, was {_watts(before.power_w)}"]
    changed = [
        each.name for each in fields(now) if getattr(before, each.name) != getattr(now, each.name)
    ]
    return [f"the budget changed: {_names(changed)}"]


def _watts(power: float | None) -> str:
    return "without limit" if power is None else f"{power:.3g} W"


def _records(
    before: Sequence[Capability], now: Sequence[Capability], settings: DriftSettings
) -> list[str]:
    old = {node.node: node for node in before}
    pairs = [(old[node.node], node) for node in now if node.node in old]
    words = [
        f"{_names([b.node])} runs {b.expert} {b.version[:8]} now"
        for a, b in pairs
        if (a.expert, a.version) != (b.expert, b.version)
    ]
    for name in _MEASURED:
        for a, b in pairs:
            ratio = _ratio(getattr(b, name), getattr(a, name))
            if max(ratio, 1 / ratio) > settings.records:
                words.append(f"{b.node}: {name} is {ratio:.2g} times what was planned")
    for a, b in pairs:
        if moved := _moved(a.quality, b.quality, settings.quality):
            words.append(f"{b.node}: its quality in {moved} is not what was planned")
        limits = (a.context_length, a.max_tokens, a.concurrency)
        if limits != (b.context_length, b.max_tokens, b.concurrency):
            words.append(f"{b.node}: its limits changed")
    return words[:_NAMED] + (
        [f"and {len(words) - _NAMED} more changes"] if len(words) > _NAMED else []
    )


def _moved(before: Mapping[str, float], now: Mapping[str, float], most: float) -> str:
    domains = sorted(before.keys() | now.keys())
    moved = [name for name in domains if abs(now.get(name, 0) - before.get(name, 0)) > most]
    return _names(moved) if moved else ""


def _traffic(before: Traffic, now: Traffic, settings: DriftSettings) -> list[str]:
    if now.rate_per_s <= 0 or now.prompts <= 0:
        return []
    if before.rate_per_s <= 0:
        return ["the first prompts came"] if now.prompts >= FIRST_PROMPTS else []
    kinds = len(_kinds(before).keys() | _kinds(now).keys())
    samples = [each.prompts for each in (before, now) if each.prompts > 0]
    # What shares of so many kinds differ by chance: about ½·√(kinds / prompts) for each sample.
    noise = 0.5 * sum(sqrt(kinds / prompts) for prompts in samples)
    words = []
    distance = mix_distance(before, now)
    if distance > settings.mix + noise:
        words.append(
            f"{distance:.0%} of the prompts are of another kind than planned{_most(before, now)}"
        )
    chance = 1 + 2 * sum(1 / sqrt(prompts) for prompts in samples)
    ratio = _ratio(now.rate_per_s, before.rate_per_s)
    if max(ratio, 1 / ratio) > settings.rate * chance:
        words.append(f"{now.rate_per_s:.2g} prompts/s come, {before.rate_per_s:.2g} were planned")
    for name in ("prompt_tokens", "new_tokens"):
        old, new = _mean(before, name), _mean(now, name)
        ratio = _ratio(new, old)
        if max(ratio, 1 / ratio) > settings.length * chance:
            words.append(f"{name} are {new:.3g} on average, {old:.3g} were planned")
    return words


def _most(before: Traffic, now: Traffic) -> str:
    """Name the domain whose share moved most."""
    shares: dict[str, list[float]] = {}
    for place, traffic in enumerate((before, now)):
        for (domain, _), share in _kinds(traffic).items():
            shares.setdefault(domain, [0.0, 0.0])[place] += share
    domain, (old, new) = max(shares.items(), key=lambda item: abs(item[1][1] - item[1][0]))
    return f": {domain} {old:.0%} → {new:.0%}" if domain else ""


def _mean(traffic: Traffic, name: str) -> float:
    return float(traffic.rate @ getattr(traffic, name)) / traffic.rate_per_s


def _ratio(a: float, b: float) -> float:
    return (a + 1e-9) / (b + 1e-9)


def _names(names: Sequence[str]) -> str:
    if len(names) <= _NAMED:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
