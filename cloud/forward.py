"""Forward passes: the work of many sessions in one, through all layers and the last head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter, thread_time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from updraft.cloud.context import Layers
from updraft.cloud.events import Logits, Pick, Query
from updraft.cloud.session import Work
from updraft.models.calibration import confidence_of
from updraft.models.codecs import as_received
from updraft.models.combine import plausible
from updraft.models.fused import Fused
from updraft.models.head import Predictions


class Outcome(NamedTuple):
    """What a pass says, work by work, how long it took and what it cost this thread."""

    picks: list[dict[Query, Pick]]
    seconds: float
    cpu_s: float


class Forward:
    """Runs passes, one at a time; the thread that calls `run` may be another than the sessions'."""

    def __init__(self, layers: Layers) -> None:
        self._layers = layers
        self._lower = Fused(layers.lower)
        self._upper = Fused(layers.upper)
        self._top = layers.upper.top
        self._entry = layers.upper.heads.entries[self._top]

    def run(self, works: Sequence[Work]) -> Outcome:
        """Compute the work of different sessions."""
        started, cpu_started = perf_counter(), thread_time()
        self._run_lower(works)
        rows = [(w.context.upper, w.stop - w.start) for w in works if w.stop > w.start]
        if rows:
            self._upper.advance(rows)
        picks = self._pick(works)
        return Outcome(picks, perf_counter() - started, thread_time() - cpu_started)

    def _run_lower(self, works: Sequence[Work]) -> None:
        """Bring token ids to the split, and round their states as the wire would."""
        split = self._layers.lower.top
        below = [
            (work, work.context.lower)
            for work in works
            if work.context.lower is not None and work.stop > work.start
        ]
        if not below:
            return
        self._lower.advance([(lower, work.stop - work.start) for work, lower in below])
        for work, lower in below:
            states = lower.states(split, work.start, work.stop)
            work.context.upper.append(as_received(work.session.terms.codec, states))

    def _pick(self, works: Sequence[Work]) -> list[dict[Query, Pick]]:
        rows = [
            work.context.upper.states(self._top, query.row, query.row + 1)
            for work in works
            for query in work.queries
        ]
        if not rows:
            return [{} for _ in works]
        predictions = self._layers.upper.heads.predict(self._top, np.concatenate(rows))
        confidences = confidence_of(self._entry, predictions.probability)
        picks = self._picks(works, predictions, confidences)
        return [{query: next(picks) for query in work.queries} for work in works]

    def _picks(
        self, works: Sequence[Work], predictions: Predictions, confidences: NDArray[np.float64]
    ) -> Iterator[Pick]:
        index = 0
        for work in works:
            terms = work.session.terms
            for query in work.queries:
                logits = predictions.logits[index]
                token = (
                    int(predictions.token[index])
                    if terms.sampling.greedy
                    else terms.sampling.pick(logits, query.position)
                )
                chosen = None if terms.logits_above is None else _above(logits, terms.logits_above)
                yield Pick(token, float(confidences[index]), chosen)
                index += 1


def _above(logits: NDArray[np.float32], share: float) -> Logits:
    """Return the logits of tokens at least `share` times as probable as the best one."""
    if share == 0:
        return Logits(None, logits)
    tokens = plausible(logits, share)
    return Logits(tokens, logits[tokens])
