"""Tokens that the edge put after inputs, until the whole model has judged them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from updraft.cloud.events import Pick
from updraft.errors import ProtocolError


class Judgement(NamedTuple):
    """What the whole model says of neighbouring drafts, the first of them after input `row`."""

    row: int
    picks: list[Pick]
    rejected: bool


class _Draft(NamedTuple):
    token: int
    committed: bool


class Drafts:
    """Open drafts of one session by the input that they follow, and how far they may be judged."""

    def __init__(self) -> None:
        self._open: dict[int, _Draft] = {}
        self._flushed = 0
        self._judged = 0

    def put(self, first: int, tokens: Sequence[int], committed: Sequence[bool]) -> None:
        """Take drafts after inputs from `first` on; those known or judged already are ignored.

        Args:
            committed: beside each draft, that the edge keeps it; empty: it keeps none.
        """
        for i, token in enumerate(tokens):
            row = first + i
            if row >= self._judged and row not in self._open:
                self._open[row] = _Draft(token, bool(committed) and committed[i])

    def flush(self, stop: int) -> None:
        """Have the drafts after inputs before `stop` judged."""
        self._flushed = max(self._flushed, stop)

    def due(self) -> list[int]:
        """Return the inputs whose drafts are to be judged."""
        if self._flushed <= self._judged:
            return []
        return [row for row in self._open if row < self._flushed]

    def first(self, otherwise: int) -> int:
        """Return the first input with an open draft, or `otherwise` when there is none."""
        return min(self._open, default=otherwise)

    def judge(
        self, pick_after: Callable[[int], Pick | None], rejecting: bool, most: int
    ) -> Iterator[Judgement]:
        """Judge flushed drafts in order, as far as picks go; neighbours share a judgement.

        Args:
            most: drafts that may share one.
            pick_after: what the model says after an input, None where that is not known yet.
            rejecting: a draft that differs ends the judgement, unless it is committed.
        """
        first, picks = 0, list[Pick]()
        for row in sorted(self.due()):
            pick = pick_after(row)
            if pick is None:
                break
            if picks and (row != first + len(picks) or len(picks) == most):
                yield Judgement(first, picks, False)
                picks = []
            first = first if picks else row
            picks.append(pick)
            draft = self._open.pop(row)
            self._judged = row + 1
            if rejecting and draft.token != pick.token and not draft.committed:
                yield Judgement(first, picks, True)
                return
        if picks:
            yield Judgement(first, picks, False)

    def truncate(self, length: int) -> None:
        """Forget what belongs to inputs from `length` on."""
        self._flushed = min(self._flushed, length)
        self._judged = min(self._judged, length)
        # The draft before the first input that goes is that input's token: it goes too.
        self._open = {row: draft for row, draft in self._open.items() if row < length - 1}

    def clear(self) -> None:
        """Forget all open drafts."""
        self._open.clear()
        self._flushed = 0

    def reopen(self, row: int) -> None:
        """Let the drafts from `row` on be judged again: the verdict may not have arrived."""
        self._judged = min(self._judged, row)


def check_drafts(
    count: int, tokens: Sequence[int], committed: Sequence[bool], vocabulary_size: int
) -> None:
    """Refuse drafts that cannot follow the last of `count` inputs.

    Raises:
        ProtocolError: they are too many, no tokens, or not those that are marked.
    """
    if not tokens and not committed:
        return
    if len(tokens) > count:
        raise ProtocolError(f"{len(tokens)} drafts came after {count} inputs")
    if committed and len(committed) != len(tokens):
        raise ProtocolError(f"{len(committed)} marks came beside {len(tokens)} drafts")
    if max(tokens) >= vocabulary_size:
        raise ProtocolError(f"draft {max(tokens)} is no token: there are {vocabulary_size}")
