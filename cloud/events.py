"""What a session asks the model, and what it says to its client."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from updraft.errors import UpdraftError
from updraft.models.logprobs import LogProbabilities


class Query(NamedTuple):
    """A place where the whole model is asked: after `row`, drawing with the noise of `position`."""

    row: int
    position: int


class Logits(NamedTuple):
    """Logits of some tokens, or, with None in their place, of all."""

    tokens: NDArray[np.int64] | None
    values: NDArray[np.float32]


class Pick(NamedTuple):
    """What the whole model says after one input; `logits` where the session asked for them.

    Attributes:
        logprobs: likewise.
        is_last: the constraint lets nothing follow it but the end.
    """

    token: int
    confidence: float
    logits: Logits | None
    logprobs: LogProbabilities | None = None
    is_last: bool = False


class Cost(NamedTuple):
    """Positions that ran for an answer, catch-up included, and their share of the passes."""

    computed_positions: int
    compute_s: float


class Token(NamedTuple):
    """The answer to an ask, and each token of a generation."""

    position: int
    pick: Pick
    cost: Cost
    last: bool = False


class Verdict(NamedTuple):
    """What the whole model says of drafts; `position` is the input before the first of them."""

    epoch: int
    position: int
    picks: list[Pick]
    rejected: bool
    cost: Cost


class NeedFrom(NamedTuple):
    """Inputs are missing from this position on."""

    epoch: int
    position: int


class Evicted(NamedTuple):
    """The inputs had to make room for others."""


Event = Token | Verdict | NeedFrom | Evicted


class Outlet(Protocol):
    """The way to a session's client."""

    def send(self, event: Event) -> None:
        """Let the client know; never waits."""

    def fail(self, error: UpdraftError) -> None:
        """Tell the client what is wrong and end its stream."""
