"""Which share of its reading each expert of the family takes from each domain."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from updraft.models.recipes.domains import DOMAINS

Tokens = NDArray[np.uint16]

GENERALIST = "generalist"
EXPERTS = (GENERALIST, *DOMAINS)

# By domain, in the order of `DOMAINS`. Headers are few: more of them in the generalist's mix would
# only be read more often. Headers and documentation are read again and again by their experts, who
# learn them by heart unless they read Python as well; it has most of what the two have in common.
# A little of everything lets an expert stand in for another that is off.
_SHARES = {
    GENERALIST: (0.3, 0.2, 0.25, 0.25),
    "python": (0.85, 0.05, 0.05, 0.05),
    "c": (0.3, 0.6, 0.05, 0.05),
    "docs": (0.3, 0.05, 0.6, 0.05),
    "logs": (0.05, 0.05, 0.05, 0.85),
}


def shares_of(expert: str) -> dict[str, float]:
    """Return domain → share of an expert's tokens in the decay phase; they add up to 1."""
    return dict(zip(DOMAINS, _SHARES[expert], strict=True))


def mix(
    documents: Mapping[str, list[Tokens]], shares: Mapping[str, float], seed: int
) -> list[Tokens]:
    """Repeat documents so often that each domain has its share of the tokens.

    The domain with the most text for its share comes once; of the others, some documents come
    once more than the rest where the number is not whole.

    Args:
        documents: by domain.
        shares: by domain, each above 0.
    """
    sizes = {name: sum(map(len, texts)) for name, texts in documents.items()}
    total = max(sizes[name] / shares[name] for name in documents)
    mixed: list[Tokens] = []
    for number, (name, texts) in enumerate(documents.items()):
        times, rest = divmod(total * shares[name] / sizes[name], 1)
        mixed += texts * int(times)
        once_more = np.random.default_rng((seed, number)).random(len(texts)) < rest
        mixed += [text for text, chosen in zip(texts, once_more, strict=True) if chosen]
    return mixed
