"""Forward passes: the work of many sessions in one, through all layers and the last head."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter, thread_time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from updraft.cloud.context import Layers
from updraft.cloud.events import Logits, Pick, Query
from updraft.cloud.session import Work
from updraft.errors import RequestError
from updraft.models.calibration import confidence_of
from updraft.models.codecs import as_received
from updraft.models.combine import plausible
from updraft.models.fused import Fused
from updraft.models.head import Predictions
from updraft.models.logprobs import log_probabilities
from updraft.models.sampling import Mask, masked


class Outcome(NamedTuple):
    """What a pass says, work by work, how long it took and what it cost this thread.

    Attributes:
        picks: of each work, or why there are none: its constraint cannot be followed.
    """

    picks: list[dict[Query, Pick] | RequestError]
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

    def _pick(self, works: Sequence[Work]) -> list[dict[Query, Pick] | RequestError]:
        rows = [
            work.context.upper.states(self._top, query.row, query.row + 1)
            for work in works
            for query in work.queries
        ]
        if not rows:
            return [{} for _ in works]
        predictions = self._layers.upper.heads.predict(self._top, np.concatenate(rows))
        confidences = confidence_of(self._entry, predictions.probability)
        picks: list[dict[Query, Pick] | RequestError] = []
        first = 0
        for work in works:
            picks.append(_picks(work, predictions, confidences, first))
            first += len(work.queries)
        return picks


def _picks(
    work: Work, predictions: Predictions, confidences: NDArray[np.float64], first: int
) -> dict[Query, Pick] | RequestError:
    """Return what is said of one session's queries; `first` is the row of the first of them."""
    terms, picks = work.session.terms, dict[Query, Pick]()
    for index, query in enumerate(work.queries, first):
        logits = predictions.logits[index]
        try:
            mask = work.mask_after(query.row)
            if terms.sampling.greedy and mask is None:
                token = int(predictions.token[index])
            else:
                token = terms.sampling.pick(logits, query.position, mask)
            is_last = work.ends_with(token)
        except RequestError as error:
            # Where drafts come first that may yet be rejected, this may never become the text.
            return picks or error
        chosen = None if terms.logits_above is None else _above(logits, terms.logits_above, mask)
        told = None
        if terms.log_probabilities is not None and chosen is None:
            told = log_probabilities(logits, token, terms.log_probabilities)
        picks[query] = Pick(token, float(confidences[index]), chosen, told, is_last)
    return picks


def _above(logits: NDArray[np.float32], share: float, mask: Mask | None) -> Logits:
    """Return the logits of tokens at least `share` times as probable as the best that may be."""
    if share == 0:
        return Logits(None, logits)
    tokens = plausible(logits if mask is None else masked(logits, mask), share)
    return Logits(tokens, logits[tokens])
