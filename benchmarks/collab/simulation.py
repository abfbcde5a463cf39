"""Speculation event by event: what the time model's closed form leaves out.

The closed form has the edge drafting on for as long as a verdict takes. In truth it stops where
drafts are unlikely to hold, waits, and goes on; the cloud judges what has arrived by then in one
pass. This plays both along a text of which the drafts' confidences, and whether they are right,
are known. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from updraft.edge.pilot import Tuning
from updraft.edge.timemodel import Costs, Path, upload_s


@dataclass(frozen=True)
class Draft:
    """What the split's exit says at one position of the whole model's own text.

    Attributes:
        right: the whole model says the same.
        committed: kept whatever the verdict.
    """

    confidence: float
    right: bool
    committed: bool = False


class _Group(NamedTuple):
    """Drafts up to `end` of the text that arrive at the cloud to be judged."""

    epoch: int
    end: int
    arrives_s: float


class _Verdict(NamedTuple):
    """Comes back: the first `judged` tokens of the text are certain."""

    judged: int
    rejected: bool
    arrives_s: float


@dataclass
class _Cloud:
    """Judges all groups that have arrived, one pass after the other."""

    drafts: Sequence[Draft]
    costs: Costs
    way_s: float
    free_s: float
    epoch: int = 0
    computed: int = 0
    groups: deque[_Group] = field(default_factory=deque)

    def judge(self, until_s: float) -> _Verdict | None:
        """Run the next pass, if one starts by then."""
        while self.groups and self.groups[0].epoch < self.epoch:
            self.groups.popleft()  # drafted behind a wrong one: dropped uncomputed
        if not self.groups or (start := max(self.free_s, self.groups[0].arrives_s)) > until_s:
            return None
        end = self.computed
        while self.groups and self.groups[0].arrives_s <= start:
            end = self.groups.popleft().end
        self.free_s = start + self.costs.verify_s(end - self.computed)
        wrong = next((i for i in range(self.computed, end) if self._rejects(i)), None)
        self.computed = end if wrong is None else wrong + 1
        self.epoch += wrong is not None
        return _Verdict(self.computed, wrong is not None, self.free_s + self.way_s)

    def _rejects(self, position: int) -> bool:
        draft = self.drafts[position]
        return not (draft.right or draft.committed)


def simulate(
    drafts: Sequence[Draft], prompt_tokens: int, costs: Costs, path: Path, tuning: Tuning
) -> float:
    """Return the seconds that one completion takes, from the first frame to the last token.

    Args:
        drafts: at each position of the completion. Behind a wrong one the edge drafts along
            another text; its confidences are taken to be those of this text.
    """
    way = (path.round_trip_s + costs.exchange_s) / 2
    upload = upload_s(costs, path)
    now = prompt_tokens * costs.edge_prefill_s
    uplink_free = now + prompt_tokens * upload
    prompt_done = uplink_free + way + prompt_tokens * costs.upper_prefill_s
    cloud = _Cloud(drafts, costs, way, prompt_done)
    judged = drafted = sent = flushed = epoch = 0
    coming: deque[_Verdict] = deque()
    while judged < len(drafts):
        if _may_draft(drafts, judged, drafted, tuning):
            now += costs.edge_s
            drafted += 1
            flush = (
                drafted - flushed >= tuning.group
                or drafts[drafted - 1].confidence < tuning.flush_below
                or not _may_draft(drafts, judged, drafted, tuning)
            )
            if flush or drafted - sent >= tuning.frame:
                uplink_free = max(uplink_free, now) + (drafted - sent) * upload
                sent = drafted
            if flush:
                flushed = drafted
                cloud.groups.append(_Group(epoch, drafted, uplink_free + way))
            while (verdict := cloud.judge(now)) is not None:
                coming.append(verdict)
        else:
            if not coming and (verdict := cloud.judge(inf)) is not None:
                coming.append(verdict)
            now = max(now, coming[0].arrives_s)
        while coming and coming[0].arrives_s <= now:
            judged, rejected, _ = coming.popleft()
            if rejected:
                drafted = sent = flushed = judged
                epoch += 1
    return now


def _may_draft(drafts: Sequence[Draft], judged: int, drafted: int, tuning: Tuning) -> bool:
    if drafted == judged:
        return drafted < len(drafts)
    if drafted == len(drafts):
        return False
    survival = 1.0
    for draft in drafts[judged:drafted]:
        survival *= 1.0 if draft.committed else draft.confidence
    return survival >= tuning.survival
