"""What to send while a verdict is awaited: the text in case that a draft is replaced.

Where a draft is rejected, the whole model often says what the edge's exit had second. So while
there is nothing to do but wait, the edge drafts on from that token too, and sends the outcome to
be kept aside. If the draft is then replaced by that very token, both sides go on from there and
the correction costs no round trip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from updraft.edge.online import OnlineLambda
from updraft.edge.pilot import Tuning
from updraft.edge.upstream import Sent, Upstream
from updraft.edge.window import Window
from updraft.errors import RequestError
from updraft.models.chooser import Chooser
from updraft.models.logprobs import LogProbabilities
from updraft.models.sequence import Tail

# How often a replacement is the second choice of the exit, about; docs/results says how often.
_SECOND = 0.45
# Below this chance of being needed, an alternative is not worth its bytes.
_LEAST_CHANCE = 0.06
# An alternative ends where all its drafts hold with less than this probability.
_SURVIVAL = 0.35


class Draft(NamedTuple):
    """A token that waits for its verdict.

    Attributes:
        logits: what a combination keeps of the small model until the large one's logits come.
        logprobs: by the edge's exit, where they were asked for and the draft is committed.
        forced: the constraint leaves no other token, so no model was asked.
    """

    token: int
    confidence: float
    committed: bool
    logits: NDArray[np.float32] | None = None
    logprobs: LogProbabilities | None = None
    forced: bool = False


class Alternative(NamedTuple):
    """Drafts that follow a foreseen replacement, and the states behind it."""

    drafts: list[Draft]
    tail: Tail


class Foresight:
    """Keeps the alternatives of one text; positions are those of the window.

    Args:
        text_end: length of the text when it is complete.
    """

    def __init__(
        self,
        window: Window,
        upstream: Upstream,
        chooser: Chooser,
        tuning: Tuning,
        commitment: OnlineLambda | None,
        text_end: int,
    ) -> None:
        self._window = window
        self._upstream = upstream
        self._chooser = chooser
        self._tuning = tuning
        self._commitment = commitment
        self._text_end = text_end
        self._tried: set[int] = set()
        self._alternatives: dict[tuple[int, int], Alternative] = {}

    def look_ahead(
        self, text: list[int], drafts: Sequence[Draft], interrupted: Callable[[], bool]
    ) -> bool:
        """Draft and send the alternative that is likeliest to be needed.

        Args:
            text: the text so far, which ends with the open drafts.
            interrupted: whether something came that must be seen to first.

        Returns:
            Whether there was anything to do.
        """
        first = len(text) - len(drafts) - 1 - self._window.start
        row = self._likeliest(first, drafts)
        if row is None or interrupted():
            return False
        self._tried.add(row)
        sequence, start = self._window.sequence, self._window.start
        main = sequence.cut(row + 1)
        sequence.look(self._window.top)
        before, found = text[: row + 1 + start], list[Draft]()
        second = self._second(before)
        if second is not None:
            found = self._draft([*before, second], interrupted)
        if found and second is not None:
            sent = [Sent(row + 1 + i, d.token, d.committed) for i, d in enumerate(found)]
            self._upstream.push_aside(Sent(row, second, False), row + 1 + len(found), sent)
            self._alternatives[row, second] = Alternative(found, sequence.cut(row + 1))
        sequence.truncate(row + 1)
        sequence.paste(main)
        return True

    def take(self, row: int, token: int) -> list[Draft]:
        """Go on with what was foreseen for a replacement; returns its drafts, none if it was not.

        The window must end with the position that the replaced draft followed.
        """
        alternative = self._alternatives.get((row, token))
        self.clear()
        if alternative is None:
            return []
        self._window.sequence.paste(alternative.tail)
        return alternative.drafts

    def clear(self) -> None:
        """Forget everything: the text is another, or the coordinator has forgotten it too."""
        self._alternatives.clear()
        self._tried.clear()

    def _likeliest(self, first: int, drafts: Sequence[Draft]) -> int | None:
        """Return the place of the draft that is likeliest to be the first that is replaced."""
        holds, best, place = 1.0, _LEAST_CHANCE / _SECOND, None
        if len(self._alternatives) >= self._tuning.alternatives:
            return None
        for row, draft in enumerate(drafts, first):
            if draft.committed:
                continue
            chance = holds * (1 - draft.confidence)
            if chance > best and row not in self._tried:
                best, place = chance, row
            holds *= draft.confidence
        return place

    def _commits(self, trusted: float) -> bool:
        return self._commitment is not None and trusted >= self._commitment.commit_from

    def _second(self, text: list[int]) -> int | None:
        """Return what the exit that was looked at last would put after a text in second place."""
        try:
            return self._chooser.second(self._window.sequence, text)
        except RequestError:
            return None  # this text may never be: whoever gets there will tell

    def _draft(self, text: list[int], interrupted: Callable[[], bool]) -> list[Draft]:
        """Draft on from the end of another text; returns nothing when it was interrupted."""
        window, chooser, holds = self._window, self._chooser, 1.0
        drafts: list[Draft] = []
        while (
            holds >= _SURVIVAL
            and len(text) < self._text_end
            and not chooser.ends(text)
            and not window.moves(len(text))
            and len(drafts) < self._tuning.group
        ):
            if interrupted():
                return []
            confidence = window.look(text)
            try:
                token = chooser.pick(window.sequence, text)
            except RequestError:
                break  # likewise
            committed = self._commits(chooser.trusted(window.sequence, text, confidence))
            told = chooser.tell(window.sequence, token) if committed else None
            drafts.append(Draft(token, confidence, committed, None, told))
            holds *= 1.0 if committed else confidence
            text.append(token)
        return drafts
