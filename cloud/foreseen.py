"""Frames of the next epoch, kept for the case that this one ends as the client foresees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Replacement(NamedTuple):
    """A draft, the one after `row`, and the token that the whole model put in its place."""

    row: int
    token: int


@dataclass(frozen=True, slots=True)
class Frame:
    """What `Session.put` takes, for an epoch that may never begin."""

    position: int
    count: int
    payload: bytes
    drafts: Sequence[int]
    committed: Sequence[bool]
    flush: bool
    tokens: Sequence[int] = ()


class Foreseen:
    """Frames by the replacement that would make them hold."""

    def __init__(self, limit: int) -> None:
        """Args: limit: positions that are kept; beyond, the client is asked for them again."""
        self._limit = limit
        self._frames: dict[Replacement, list[Frame]] = {}

    @property
    def frames(self) -> list[Frame]:
        """All that is kept."""
        return [frame for frames in self._frames.values() for frame in frames]

    def keep(self, condition: Replacement, frame: Frame) -> None:
        """Keep a frame for the case that the epoch ends so."""
        known = self._frames.get(condition, [])
        kept = sum(other.count for other in self.frames)
        if frame not in known and kept + frame.count <= self._limit:
            self._frames[condition] = [*known, frame]

    def take(self, happened: Replacement) -> list[Frame]:
        """Return the frames that hold now that the epoch has ended so, and forget the others."""
        frames = self._frames.get(happened, [])
        self.clear()
        return frames

    def clear(self) -> None:
        """Forget all: the epoch has ended otherwise."""
        self._frames = {}
