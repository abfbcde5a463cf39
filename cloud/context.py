"""The layers that the coordinator runs, and one session's KV caches in them."""

from __future__ import annotations

from dataclasses import dataclass

from updraft.models.codecs import WireCodec
from updraft.models.constraint import Constraint
from updraft.models.manifest import Architecture, Manifest
from updraft.models.sampling import Sampling
from updraft.models.sequence import Model, Sequence


@dataclass(frozen=True)
class Terms:
    """What a session was opened with.

    Attributes:
        codec: how states cross the split, on the wire or in this process.
        tokens: inputs are token ids and all layers run here; else they are states.
        logits_above: verdicts bring the logits of tokens at least this probable, as a share of
            the best token's probability, and judge nothing; 0: all logits; None: they judge.
        constraint: what the completion must be, which begins at `start` of the text.
        log_probabilities: so many come with each token, its own apart; None: none do.
    """

    sampling: Sampling
    codec: WireCodec
    tokens: bool = False
    logits_above: float | None = None
    constraint: Constraint | None = None
    start: int = 0
    log_probabilities: int | None = None


@dataclass(frozen=True)
class Layers:
    """A whole model, cut at the split."""

    lower: Model
    upper: Model

    @classmethod
    def of(cls, whole: Model) -> Layers:
        """Cut a model that is loaded; shares what is loaded."""
        split = whole.bundle.manifest.split
        return cls(whole.below(split), whole.above(split))

    @property
    def manifest(self) -> Manifest:
        return self.upper.bundle.manifest

    @property
    def shape(self) -> Architecture:
        return self.manifest.architecture

    def context_bytes(self, tokens: bool) -> int:
        """Memory that one session's context takes."""
        return self.upper.sequence_bytes + (self.lower.sequence_bytes if tokens else 0)


class Context:
    """KV caches of one session.

    Attributes:
        lower: None where states come from the edge.
    """

    def __init__(self, layers: Layers, tokens: bool) -> None:
        self.lower: Sequence | None = layers.lower.new_sequence() if tokens else None
        self.upper: Sequence = layers.upper.new_sequence()
        self.held_bytes = layers.context_bytes(tokens)

    @property
    def bottom(self) -> Sequence:
        """Where inputs go in."""
        return self.upper if self.lower is None else self.lower

    def truncate(self, length: int) -> None:
        """Forget every position from `length` on."""
        self.upper.truncate(length)
        if self.lower is not None:
            self.lower.truncate(length)
