"""Draft ahead on the edge and let the cloud judge: all modes that speculate.

The exit at the end of the edge's layers proposes token after token while what it has computed
streams up; the cloud judges the same positions in groups. A verdict either confirms drafts or
replaces one, and what was drafted after that one is void. Edge and cloud draw with the same
noise, keyed by seed and position, so a draft is right exactly when the whole model would have
drawn it: the text does not depend on the drafts, the network, or how positions were grouped.
"""

from __future__ import annotations

from collections import deque
from math import prod
from time import perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from updraft.edge.estimate import LinkEstimate
from updraft.edge.foresight import Draft, Foresight
from updraft.edge.online import OnlineLambda
from updraft.edge.pilot import Tuning
from updraft.edge.session import CloudSession, Event, NeedFrom, Verdict
from updraft.edge.source import CLOUD, GRAMMAR, CloudCost, Drawn
from updraft.edge.stopping import Lookout
from updraft.edge.upstream import Sent, Upstream
from updraft.edge.window import Window
from updraft.errors import ProtocolError, RequestError
from updraft.models.chooser import Chooser
from updraft.models.logprobs import LogProbabilities
from updraft.models.sampling import Mask


class Combination(Protocol):
    """Combines the large model's logits with those of small models on the edge (FS-GEN)."""

    def propose(
        self,
        text: list[int],
        logits: NDArray[np.float32],
        position: int,
        mask: Mask | None = None,
    ) -> tuple[int, NDArray[np.float32]]:
        """Return the token to draft after `text`, and what `choose` will need of it.

        Args:
            logits: of the edge's last exit; overwritten later.
            mask: the tokens that may be; None: all.
        """

    def chance(self, confidence: float) -> float:
        """Return how likely a draft is the final token.

        Args:
            confidence: how likely the whole model would draw what the edge's last exit does.
        """

    def choose(
        self,
        kept: NDArray[np.float32],
        tokens: NDArray[np.int64] | None,
        logits: NDArray[np.float32],
        position: int,
        mask: Mask | None = None,
    ) -> int:
        """Return the final token at `position` of the text.

        Args:
            kept: what `propose` gave.
            tokens: the tokens that the large model's `logits` belong to; None: all.
            mask: the tokens that may be; None: all.
        """

    def scores(
        self,
        kept: NDArray[np.float32],
        tokens: NDArray[np.int64] | None,
        logits: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Return what `choose` chooses by, of every token."""

    def take_back(self, length: int) -> None:
        """Forget the text from `length` on."""


class SpeculativeSource:
    """Gives out tokens once they are certain: judged, or kept for good when they were drafted.

    Args:
        text_end: length of the text when it is complete; nothing is drafted beyond.
        commitment: from which confidence a draft is kept; None: every draft waits for its
            verdict.
        combination: chooses the tokens from both sides' logits; None: the cloud judges.
    """

    def __init__(
        self,
        window: Window,
        upstream: Upstream,
        session: CloudSession,
        chooser: Chooser,
        tuning: Tuning,
        cost: CloudCost,
        estimate: LinkEstimate,
        text_end: int,
        commitment: OnlineLambda | None = None,
        combination: Combination | None = None,
        lookout: Lookout | None = None,
    ) -> None:
        self._window = window
        self._upstream = upstream
        self._session = session
        self._chooser = chooser
        self._tuning = tuning
        self._cost = cost
        self._estimate = estimate
        self._text_end = text_end
        self._commitment = commitment
        self._combination = combination
        self._lookout = lookout
        self._stopped = False
        self._stuck = False  # no token may follow the open drafts, which may be wrong
        self._tight = False  # the uplink limit leaves nothing to send in vain
        self._foresight: Foresight | None = None
        if combination is None and lookout is None:
            self._foresight = Foresight(window, upstream, chooser, tuning, commitment, text_end)
        self._text: list[int] = []
        self._judged = 0
        self._drafts: deque[Draft] = deque()
        self._kept = 0  # open drafts, the first ones, that were given out already
        self._ungrouped = 0  # drafts since the last flush
        self._flushes: deque[tuple[int, float]] = deque()
        self._certain: deque[Drawn] = deque()
        self._greeted = False
        self._first_bytes = 0

    def next(self, tokens: list[int]) -> Drawn | None:
        if not self._text:
            self._text, self._judged = list(tokens), len(tokens)
        while not self._certain:
            if self._stopped and not self._drafts:
                return None
            if self._may_draft():
                self._draft()
                event = self._session.poll()
            elif self._looks_ahead():
                event = self._session.poll()
            else:
                event = self._cost.wait(self._receive)
            if event is not None:
                self._handle(event)
        return self._certain.popleft()

    def _looks_ahead(self) -> bool:
        """Use the time until the verdict; returns whether there was anything to do."""
        if self._foresight is None or self._tight or self._session.has_news:
            return False
        return self._foresight.look_ahead(self._text, self._drafts, lambda: self._session.has_news)

    def finish(self) -> None:
        self._session.finish()

    def cancel(self) -> None:
        self._session.cancel()

    def _receive(self) -> Event:
        # The first verdict waits for the prompt's way up as well.
        return self._session.receive(self._estimate.patience_s if self._greeted else None)

    def _may_draft(self) -> bool:
        if self._stopped or not self._drafts:
            return not self._stopped
        length = len(self._text)
        if self._stuck or length == self._text_end or self._chooser.ends(self._text):
            return False
        limit = self._tuning.open_drafts
        if self._tight or (limit is not None and len(self._drafts) >= limit):
            return False
        # The window moves once nothing of the old one is open.
        return not self._window.moves(length) and self._survival() >= self._tuning.survival

    def _survival(self) -> float:
        """Return the estimated probability that no open draft will be replaced."""
        return prod(draft.confidence for draft in self._drafts if not draft.committed)

    def _draft(self) -> None:
        window = self._window
        try:
            draft = self._propose()
        except RequestError:
            if not self._drafts:
                raise
            self._stuck = True
            draft = None
        if draft is None:
            self._stopped = not self._stuck
            self._push(flush=bool(self._drafts))
            return
        confidence = draft.confidence
        self._drafts.append(draft)
        self._text.append(draft.token)
        self._give_kept()
        self._ungrouped += 1
        # Decided here alone: who waits for a verdict must have asked for it.
        needed = self._text_end - self._judged + len(self._drafts)
        self._tight = self._tight or not self._upstream.may_waste(needed)
        flush = (
            self._ungrouped >= self._tuning.group
            or confidence < self._tuning.flush_below
            or not self._may_draft()
        )
        if flush or window.done - self._upstream.sent >= self._tuning.frame:
            self._push(flush)

    def _propose(self) -> Draft | None:
        """Return the next draft; None where the text should stop."""
        window, chooser, text = self._window, self._chooser, self._text
        forced = None if self._combination is not None else chooser.forced(text)
        if forced is not None:
            # The whole model has no choice either: it is given out without its verdict.
            window.run(text, lambda: self._upstream.push(window.done))
            return Draft(forced, 1.0, committed=True, forced=True)
        confidence = window.look(text, lambda: self._upstream.push(window.done))
        if self._stops():
            return None
        sequence = window.sequence
        if self._combination is not None:
            logits = sequence.logits
            proposed, kept = self._combination.propose(text, logits, len(text), chooser.mask(text))
            return Draft(proposed, self._combination.chance(confidence), False, kept)
        token, committed = chooser.pick(sequence, text), False
        if self._commitment is not None:
            trusted = chooser.trusted(sequence, text, confidence)
            committed = trusted >= self._commitment.commit_from
        told = chooser.tell(sequence, token) if committed else None
        return Draft(token, confidence, committed, None, told)

    def _stops(self) -> bool:
        if self._lookout is None:
            return False
        probability = self._window.sequence.probability
        return self._lookout.stops(self._text, self._window.top, probability)

    def _push(self, flush: bool) -> None:
        """Send what was not sent, with the open drafts that stand after it."""
        first = self._judged - 1 - self._window.start
        sent = [Sent(first + i, d.token, d.committed) for i, d in enumerate(self._drafts)]
        # Where the text stops, the last state has no draft and stays here.
        stop = first + len(sent) if sent else self._window.done
        self._upstream.push(stop, sent, flush)
        if flush:
            self._ungrouped = 0
            self._flushes.append((len(self._text), perf_counter()))
            if not self._first_bytes:
                self._first_bytes = self._upstream.payload_bytes

    def _handle(self, event: Event) -> None:
        if isinstance(event, NeedFrom):
            if event.epoch == self._upstream.epoch:
                self._upstream.send_again(event.position)
                if self._foresight is not None:
                    self._foresight.clear()
                self._push(flush=True)
        elif isinstance(event, Verdict):
            if event.epoch == self._upstream.epoch:
                self._take(event)
        else:
            raise ProtocolError("the coordinator sent a token that nobody asked for")

    def _take(self, verdict: Verdict) -> None:
        known = self._judged - 1 - self._window.start - verdict.position
        if not 0 <= known <= len(verdict.tokens) <= known + len(self._drafts):
            raise ProtocolError(
                f"the coordinator judged {len(verdict.tokens)} drafts after position "
                f"{verdict.position} of the window; {len(self._drafts)} are open after "
                f"{self._judged - 1 - self._window.start}"
            )
        brought = len(verdict.tokens if self._combination is None else verdict.logits)
        beside = len(verdict.logprobs or verdict.tokens)
        if not len(verdict.tokens) == len(verdict.confidences) == brought == beside:
            raise ProtocolError(
                f"the coordinator judged {len(verdict.tokens)} drafts with "
                f"{len(verdict.confidences)} confidences and {len(verdict.logits)} sets of logits"
            )
        self._cost.count(verdict)
        self._time(verdict)
        self._upstream.confirm(verdict.position + len(verdict.tokens))
        for i in range(known, len(verdict.tokens)):
            token, told = verdict.tokens[i], verdict.logprobs[i] if verdict.logprobs else None
            kept = self._drafts[0].logits
            if self._combination is not None and kept is not None:
                token, told = self._combine(self._combination, kept, verdict.logits[i])
            if not self._confirm(token, verdict.confidences[i], told):
                return
        self._give_kept()

    def _combine(
        self,
        combination: Combination,
        kept: NDArray[np.float32],
        large: tuple[NDArray[np.int64] | None, NDArray[np.float32]],
    ) -> tuple[int, LogProbabilities | None]:
        """Return the final token in place of the first open draft, and what is told beside it."""
        chooser = self._chooser
        mask = chooser.mask(self._text[: self._judged]) if chooser.constrained else None
        token = combination.choose(kept, *large, self._judged, mask)
        if not chooser.tells:
            return token, None
        return token, chooser.log_probabilities(combination.scores(kept, *large), token)

    def _confirm(self, token: int, confidence: float, told: LogProbabilities | None) -> bool:
        """Close the first open draft with its verdict; returns whether those after it hold."""
        draft = self._drafts.popleft()
        self._judged += 1
        given = self._kept > 0
        self._kept = max(0, self._kept - 1)
        agrees = token == draft.token
        self._cost.judged += 1
        self._cost.agreed += agrees
        if self._commitment is not None and not draft.forced:
            self._commitment.learn(draft.confidence, committed=draft.committed, wrong=not agrees)
        if agrees or draft.committed:
            if not given:
                self._certain.append(
                    self._drawn(draft if draft.committed else draft._replace(logprobs=told))
                )
            return True
        self._certain.append(Drawn(token, CLOUD, confidence, None, told))
        self._text[self._judged - 1 :] = [token]
        self._drafts.clear()
        self._stopped = self._stuck = False
        if self._lookout is not None:
            self._lookout.take_back(self._judged - 1)
        self._flushes.clear()
        self._ungrouped = 0
        self._window.truncate(self._judged - 1)
        if self._combination is not None:
            self._combination.take_back(self._judged - 1)
        self._upstream.take_back(self._judged - 1 - self._window.start)
        self._take_foreseen(token)
        return False

    def _take_foreseen(self, token: int) -> None:
        """Go on with what the coordinator has kept aside for this replacement, if anything."""
        if self._foresight is None:
            return
        drafts = self._foresight.take(self._judged - 2 - self._window.start, token)
        self._drafts.extend(drafts)
        self._text.extend(draft.token for draft in drafts)
        self._upstream.sent = self._window.done
        self._cost.foreseen += bool(drafts)
        self._give_kept()

    def _give_kept(self) -> None:
        """Give out committed drafts that no open draft stands before."""
        while self._kept < len(self._drafts) and self._drafts[self._kept].committed:
            self._certain.append(self._drawn(self._drafts[self._kept]))
            self._kept += 1

    def _drawn(self, draft: Draft) -> Drawn:
        source = GRAMMAR if draft.forced else f"exit_{self._window.top}"
        return Drawn(draft.token, source, draft.confidence, None, draft.logprobs)

    def _time(self, verdict: Verdict) -> None:
        if not self._greeted:
            # Opening took a round trip; the first verdict took that and the prompt's upload.
            self._greeted = True
            self._estimate.round_trip(self._session.opened.result().seconds, 0.0)
            waited_s = perf_counter() - self._flushes.popleft()[1] if self._flushes else 0.0
            uploading_s = waited_s - verdict.compute_s - self._estimate.round_trip_s
            self._estimate.upload(self._first_bytes, uploading_s)
            return
        end = verdict.position + len(verdict.tokens) + 1 + self._window.start
        while self._flushes and self._flushes[0][0] <= end:
            _, sent_at = self._flushes.popleft()
            self._estimate.round_trip(perf_counter() - sent_at, verdict.compute_s)
