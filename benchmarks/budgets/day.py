"""A day of mixed prompts, compressed in time: when each comes, and what its answer should be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from updraft.models.bundle import open_bundle
from updraft.models.continuation import continue_prompts
from updraft.models.experts import Family
from updraft.models.runtime import RuntimeOptions
from updraft.models.sequence import Model
from updraft.models.tokenizer import Tokenizer

HOURS = 24
# How busy the fleet is by the hour, and what it is asked then: code by day, documents in the
# evening, logs at night. A share that a domain does not name is its least.
_QUIETEST = 0.5
_BUSY_FROM, _BUSY_TO = 8, 20
_BUSIEST_HOUR: Mapping[str, float] = {"python": 11, "c": 15, "docs": 20, "logs": 3}
_SPREAD_H = 4.0
_LEAST = 0.15


class Asked(NamedTuple):
    """A held-out prompt of a domain.

    Attributes:
        reference: the text that really follows it.
        quality: of each expert: share of the reference's tokens that it predicts, given all
            before them.
    """

    domain: str
    prompt: str
    reference: str
    quality: Mapping[str, float]


def asked_of(family: Family) -> list[Asked]:
    """Return a family's held-out prompts, with what each expert makes of them."""
    prompts = family.prompts()
    quality: dict[str, list[float]] = {}
    for name, folder in family.bundles().items():
        bundle = open_bundle(folder)
        layers = bundle.manifest.architecture.layers
        model = Model.load(bundle, range(layers), RuntimeOptions())
        found = continue_prompts(model, Tokenizer(bundle), prompts)[layers]
        quality[name] = found.forced.tolist()
    return [
        Asked(p.domain, p.prompt, p.completion, {name: each[n] for name, each in quality.items()})
        for n, p in enumerate(prompts)
    ]


class Arrival(NamedTuple):
    """A prompt, and when in the day it comes."""

    at_s: float
    asked: Asked


def arrivals(prompts: Sequence[Asked], day_s: float, count: int, seed: int) -> list[Arrival]:
    """Return a day's prompts in the order in which they come.

    They come by chance, twice as often in the busy hours as in the others, and what they are
    about drifts through the day.

    Args:
        day_s: real seconds that the day takes.
        count: prompts of the day.
    """
    rng = np.random.default_rng(seed)
    by_domain = {
        domain: [asked for asked in prompts if asked.domain == domain]
        for domain in dict.fromkeys(asked.domain for asked in prompts)
    }
    hours = np.arange(HOURS)
    busy = (hours >= _BUSY_FROM) & (hours < _BUSY_TO)
    rate = np.where(busy, 1.0, _QUIETEST)
    hour = rng.choice(HOURS, size=count, p=rate / rate.sum()) + rng.random(count)
    found = []
    for at in np.sort(hour):
        domains = list(by_domain)
        shares = np.array([_share(domain, at) for domain in domains])
        domain = domains[rng.choice(len(domains), p=shares / shares.sum())]
        mine = by_domain[domain]
        found.append(Arrival(float(at) / HOURS * day_s, mine[rng.integers(len(mine))]))
    return found


def _share(domain: str, hour: float) -> float:
    """Return how much a domain is asked for at an hour, around the clock."""
    peak = _BUSIEST_HOUR.get(domain, 12)
    away = min(abs(hour - peak), HOURS - abs(hour - peak))
    return _LEAST + math.exp(-((away / _SPREAD_H) ** 2))


def agreement(answer: str, reference: str) -> float:
    """Return the share of a reference that an answer gives before it first differs."""
    same = 0
    for got, wanted in zip(answer, reference, strict=False):
        if got != wanted:
            break
        same += 1
    return same / len(reference)
