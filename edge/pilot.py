"""Chooses how to work with the cloud from what the model costs and what the link has been like.

Mode `auto` asks for a mode and a codec; every mode that speculates asks how far to draft ahead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from updraft.edge import timemodel
from updraft.edge.estimate import LinkEstimate
from updraft.edge.request import GenerationRequest, Mode
from updraft.errors import RequestError
from updraft.models.bundle import Bundle
from updraft.models.manifest import CodecName

# Before anything was measured: a fair Wi-Fi, an exit that is right four times in five.
_ROUND_TRIP_S = 0.005
_BYTES_PER_S = 20e6 / 8
_AGREEMENT = 0.8
# A bundle without a measured profile: a small model on a small machine.
_LAYER_S = 1e-4
_AGREEMENT_SHARE = 1 / 64
_TOKEN_BYTES = 4
# Bits per element, most faithful first; `auto` takes a coarser codec only where it pays.
_BITS: dict[CodecName, float] = {"fp16": 16, "int8": 8, "int6": 6}
# What another choice must gain before it is made: ties go to the more faithful and the earlier.
_WORTH = 0.9
_SHORTEST_FRAME_S = 3e-4
_GROUP = 8
# At temperature 0.8 drafts were found to hold with about confidence^1.35.
_SAMPLED_DOUBT = 0.44
# An alternative takes the time of so many tokens, with what it costs both sides' processors;
# beyond two, the bytes grew faster than the time shrank.
_ALTERNATIVE, _MOST_ALTERNATIVES = 16, 2


@dataclass(frozen=True)
class Tuning:
    """How far the edge drafts ahead.

    Attributes:
        survival: drafting goes on while all open drafts hold with at least this probability.
        group: drafts that are judged together at most.
        flush_below: a draft less sure than this is sent for judgement at once.
        frame: positions that leave together at most.
        alternatives: foreseen replacements that are drafted on from while a verdict is awaited.
        open_drafts: drafts that may await their verdicts at one time; None: any number.
    """

    survival: float = 0.1
    group: int = _GROUP
    flush_below: float = 0.5
    frame: int = _GROUP
    alternatives: int = 0
    open_drafts: int | None = None

    def limited(self, draft_length: int | None) -> Tuning:
        """Return these choices with at most so many open drafts, and none beside them."""
        if draft_length is None:
            return self
        group = min(self.group, draft_length)
        return replace(self, group=group, alternatives=0, open_drafts=draft_length)


class Choice(NamedTuple):
    """How `auto` works on one request, and how long that should take."""

    mode: Mode
    wire: CodecName
    predicted_s: float
    uplink_bytes: float


class Pilot:
    """Knows what the model costs and how often drafts hold; shared by an engine's generations."""

    def __init__(self, bundle: Bundle, estimate: LinkEstimate) -> None:
        manifest = bundle.manifest
        profile, entries = manifest.profile, manifest.partitions
        partition_s = (
            [ms / 1e3 for ms in profile.partition_ms]
            if profile
            else [_LAYER_S * (entry.last - entry.first) for entry in entries]
        )
        head_s = profile.head_ms / 1e3 if profile else _LAYER_S
        split = manifest.split
        self._bundle = bundle
        self._estimate = estimate
        below = [s for s, e in zip(partition_s, entries, strict=True) if e.last <= split]
        self._edge_s = sum(below) + head_s
        self._whole_s = sum(partition_s) + head_s
        self._upper_s = self._whole_s - sum(below)
        self._agreement = _AGREEMENT
        self._last: Choice | None = None

    @property
    def upper_s(self) -> float:
        """One position through the layers above the split, as the bundle's profile says."""
        return self._upper_s

    def way(self) -> timemodel.Path:
        """Return what the way to the coordinator has been like."""
        estimate = self._estimate
        return timemodel.Path(
            estimate.round_trip_s if estimate.samples else _ROUND_TRIP_S,
            estimate.bytes_per_s or _BYTES_PER_S,
        )

    def learn(self, judged: int, agreed: int) -> None:
        """Take note of how many drafts of a generation held."""
        share = 1 - (1 - _AGREEMENT_SHARE) ** judged
        if judged:
            self._agreement += share * (agreed / judged - self._agreement)

    def tuning(self, wire: CodecName, ids: bool = False, temperature: float = 0.0) -> Tuning:
        """Return how far to draft ahead: as long as a draft is likely to save more than it takes.

        A draft that holds saves its share of a round trip, and costs the edge's time for it and
        as much again in the cloud. Sampled drafts hold less often than the exit's confidence says,
        which is about best tokens.
        """
        costs = self._costs(wire, ids)
        rejection_s = timemodel.rejection_s(costs, self.way(), _GROUP)
        survival = min(0.35, max(0.05, 2 * costs.edge_s / rejection_s))
        survival **= 1 / (1 + _SAMPLED_DOUBT * min(1.0, temperature))
        frame = _SHORTEST_FRAME_S / timemodel.upload_s(costs, self.way())
        return Tuning(
            survival=survival,
            frame=max(1, min(_GROUP, round(frame))),
            alternatives=min(_MOST_ALTERNATIVES, int(rejection_s / (_ALTERNATIVE * costs.edge_s))),
        )

    def choose(self, request: GenerationRequest, prompt_tokens: int) -> Choice:
        """Choose mode and codec for `auto`: the fastest of those within the request's budget.

        Only modes whose text is the whole model's are considered. The cloud decodes on its own
        only where the latency asked for needs it, since that takes most of its time.

        Raises:
            RequestError: the uplink budget is too small for any mode.
        """
        work = timemodel.Work(prompt_tokens, request.max_tokens)
        codecs = [c for c in _BITS if c in self._bundle.manifest.codecs] or [request.wire]
        choices = [self._speculation(work, wire, ids=False) for wire in codecs]
        choices.append(self._speculation(work, codecs[0], ids=True))
        whole = Choice(
            "cloud",
            codecs[0],
            timemodel.cloud_s(work, self._costs(codecs[0], ids=False), self.way()),
            _TOKEN_BYTES * prompt_tokens,
        )
        budget = request.max_uplink_bytes
        affordable = [c for c in choices if budget is None or c.uplink_bytes <= budget]
        if not affordable:
            affordable = [whole]
        best = affordable[0]
        for choice in affordable[1:]:
            if choice.predicted_s < _WORTH * best.predicted_s:
                best = choice
        if self._last is not None:
            again = next((c for c in affordable if c[:2] == self._last[:2]), best)
            if _WORTH * again.predicted_s < best.predicted_s:
                best = again
        wanted = request.max_latency_ms
        if wanted is not None and best.predicted_s > wanted / 1e3 * request.max_tokens:
            best = min(best, whole, key=lambda choice: choice.predicted_s)
        if budget is not None and best.uplink_bytes > budget:
            raise RequestError(
                f"max_uplink_bytes {budget}: the prompt's {prompt_tokens} token ids alone take "
                f"{_TOKEN_BYTES * prompt_tokens}; 'standalone' sends nothing"
            )
        self._last = best
        return best

    def _speculation(self, work: timemodel.Work, wire: CodecName, ids: bool) -> Choice:
        costs, tuning = self._costs(wire, ids), self.tuning(wire, ids)
        seconds = timemodel.speculation_s(
            work, costs, self.way(), 1 - self._agreement, tuning.group
        )
        # Behind a rejected draft, half a group was sent in vain.
        wasted = (1 - self._agreement) * work.new_tokens * tuning.group / 2
        positions = work.prompt_tokens + work.new_tokens + wasted
        return Choice("ids" if ids else "lossless", wire, seconds, positions * costs.position_bytes)

    def _costs(self, wire: CodecName, ids: bool) -> timemodel.Costs:
        width = self._bundle.manifest.architecture.width
        return timemodel.Costs(
            edge_s=self._edge_s,
            whole_s=self._whole_s,
            upper_s=self._whole_s if ids else self._upper_s,
            position_bytes=_TOKEN_BYTES if ids else width * _BITS.get(wire, 32) / 8,
        )
