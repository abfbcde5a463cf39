"""Log probabilities of tokens, as a model gives them before anything is done to its logits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_LOG_PROBABILITIES = 20
# Stands for "impossible", which JSON and people have no number for.
_LEAST = -9999.0


class LogProbabilities(NamedTuple):
    """Of a token that was chosen, and of the most probable ones, best first.

    They are natural logarithms, of the model's distribution at temperature 1 over its whole
    vocabulary: no constraint, `top_p`, `top_k` or temperature has a part in them.
    """

    chosen: float
    top: list[tuple[int, float]]


def log_probabilities(logits: NDArray[np.float32], token: int, top: int) -> LogProbabilities:
    """Return the log probabilities of a token and of the `top` most probable ones.

    Args:
        logits: (vocabulary,).
    """
    best = logits.max()
    total = float(best) + float(np.log(np.exp(logits - best).sum(dtype=np.float64)))
    count = min(top, len(logits))
    order: list[int] = []
    if count:
        likely = np.argpartition(logits, len(logits) - count)[len(logits) - count :]
        order = sorted(likely.tolist(), key=lambda other: (-logits[other], other))
    most = [(other, float(logits[other]) - total) for other in order if logits[other] > -np.inf]
    return LogProbabilities(max(_LEAST, float(logits[token]) - total), most)
