"""What a node says that it can do, corrected by what its answers took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf

from updraft.devices.correction import KINDS, Correction, Factor, Kind
from updraft.edge.expert import CANCELLED, Answer
from updraft.proto.v1 import fleet_pb2 as pb

# A figure has moved when it is certain that it has, and by more than this share of it.
_LEAST_MOVE = 0.15
# Fewer answers are not certain of anything: each may have been held up by chance.
_FEWEST_ANSWERS = 3
# A node sends its record at most so often: each makes the coordinator plan.
_INTERVAL_S = 10.0
# After so long without an answer, what was learned is dropped. A node that was slow once gets no
# work, so nothing would ever show that it is fast again.
_MEMORY_S = 600.0

_FIELDS: Mapping[Kind, tuple[str, ...]] = {
    "prefill": ("first_token_ms",),
    "decode": ("per_token_ms",),
    "energy": ("prompt_j", "per_token_j"),
}


class Recalibration:
    """Keeps a node's record true while it answers; one thread calls it.

    The first record, measured or declared, predicts every answer; what answers took is learned as
    the ratio to that.

    Attributes:
        record: the newest, with the greatest revision.
    """

    def __init__(self, record: pb.CapabilityRecord) -> None:
        self.record = record
        self._first = record
        self._correction = Correction()
        self._said = dict.fromkeys(KINDS, 1.0)
        self._said_at = self._answered_at = -inf

    def observe(self, answer: Answer, now: float) -> None:
        """Learn from an answer; there is a new record where something in it has moved.

        Answers beside others take longer, and those that were cancelled are not whole: they teach
        nothing.

        Args:
            now: seconds by a clock that nobody sets.
        """
        self._answered_at = now
        if not answer.alone or answer.finish_reason == CANCELLED:
            return
        for kind, predicted, measured in _samples(self._first, answer):
            if predicted > 0:  # a declared 0 has no ratio to anything
                self._correction.update(kind, predicted, measured)
        factors = {kind: self._correction.factor(kind) for kind in KINDS}
        if any(_has_moved(factor, self._said[kind]) for kind, factor in factors.items()):
            self._say({kind: factor.value for kind, factor in factors.items()}, now)

    def rest(self, now: float) -> None:
        """Drop what was learned where nothing was answered for too long; call it at any time."""
        first = dict.fromkeys(KINDS, 1.0)
        if self._said != first and now - self._answered_at >= _MEMORY_S:
            self._correction = Correction()
            self._say(first, now)

    def _say(self, factors: dict[Kind, float], now: float) -> None:
        if now - self._said_at < _INTERVAL_S:
            return
        self._said, self._said_at = factors, now
        record = pb.CapabilityRecord()
        record.CopyFrom(self._first)
        record.revision = self.record.revision + 1
        for kind, factor in factors.items():
            for field in _FIELDS[kind]:
                setattr(record, field, factor * getattr(self._first, field))
        self.record = record


def _samples(record: pb.CapabilityRecord, answer: Answer) -> Iterator[tuple[Kind, float, float]]:
    """Yield what a record predicts of an answer, and what was measured."""
    if answer.new_tokens < 1:
        return
    prompts = answer.prompt_tokens / max(1, record.prompt_tokens)
    further = answer.new_tokens - 1
    yield "prefill", record.first_token_ms * prompts, answer.first_token_ms
    predicted_j = record.prompt_j * prompts + record.per_token_j * further
    yield "energy", predicted_j, answer.usage.energy_j
    if further:
        token_ms = (answer.usage.latency_ms - answer.first_token_ms) / further
        yield "decode", record.per_token_ms, token_ms


def _has_moved(factor: Factor, said: float) -> bool:
    if factor.samples < _FEWEST_ANSWERS or factor.low <= said <= factor.high:
        return False
    return max(factor.value / said, said / factor.value) > 1 + _LEAST_MOVE
