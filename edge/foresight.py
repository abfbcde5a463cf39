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
from updraft.models.sampling import Sampling
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
    """

    token: int
    confidence: float
    committed: bool
    logits: NDArray[np.float32] | None


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
        sampling: Sampling,
        tuning: Tuning,
        commitment: OnlineLambda | None,
        text_end: int,
        end_of_text: int,
    ) -> None:
        self._window = window
        self._upstream = upstream
        self._sampling = sampling
        self._tuning = tuning
        self._commitment = commitment
        self._text_end = text_end
        self._end_of_text = end_of_text
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
        second = self._sampling.second(sequence.logits, row + 1 + start)
        found = self._draft([*text[: row + 1 + start], second], interrupted)
        if found:
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

    def _draft(self, text: list[int], interrupted: Callable[[], bool]) -> list[Draft]:
        """Draft on from the end of another text; returns nothing when it was interrupted."""
        window, sampling, holds = self._window, self._sampling, 1.0
        drafts: list[Draft] = []
        while (
            holds >= _SURVIVAL
            and text[-1] != self._end_of_text
            and len(text) < self._text_end
            and not window.moves(len(text))
            and len(drafts) < self._tuning.group
        ):
            if interrupted():
                return []
            confidence = window.look(text)
            token = window.sequence.pick(sampling, len(text))
            committed = self._commitment is not None and confidence >= self._commitment.commit_from
            drafts.append(Draft(token, confidence, committed, None))
            holds *= 1.0 if committed else confidence
            text.append(token)
        return drafts
