"""What of earlier texts is still known: keys and values of prefixes that later requests share."""

from __future__ import annotations

import threading
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from updraft.models.manifest import CodecName
from updraft.models.partition import Partition
from updraft.models.sequence import CHUNK, Model, Sequence


class Stack(NamedTuple):
    """One text in the layers of this process.

    Attributes:
        lower: the text's tokens in the layers up to the split, or in all that the window has.
        upper: in the layers above, where mode `full` has run them; `codec` rounds what goes there.
        touched: positions that memory was taken for, whatever the text's length is now.
    """

    lower: Sequence
    upper: Sequence | None = None
    codec: CodecName | None = None
    touched: int = 0

    @property
    def tokens(self) -> NDArray[np.int64]:
        return self.lower.inputs(0, self.lower.length)

    @property
    def held_bytes(self) -> int:
        """Memory that it takes; pages that were never written to take none."""
        context_length = self.lower.model.bundle.manifest.architecture.context_length
        parts = [self.lower] if self.upper is None else [self.lower, self.upper]
        return sum(part.model.sequence_bytes for part in parts) * self.touched // context_length


class PrefixCache:
    """Texts that ended, least recently used first, within a memory limit; and texts that run.

    A text that ended is taken over by the next one that begins like it; of one that runs, or that
    has much more than is wanted, the beginning is copied. Only whole chunks of a prefill are
    passed on: the next text would compute the same bits. Any thread may call.

    Args:
        limit_bytes: memory of the texts that ended; 0 keeps none, and copies none.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._serves: tuple[Partition, ...] = ()
        self._lock = threading.Lock()
        self._kept: list[Stack] = []
        # Of texts that run, and how much of each stays as it is; who drops one need not say so.
        self._running: WeakKeyDictionary[Sequence, int] = WeakKeyDictionary()

    @property
    def held_bytes(self) -> int:
        """Memory of the texts that ended."""
        with self._lock:
            return sum(stack.held_bytes for stack in self._kept)

    def serve(self, partitions: tuple[Partition, ...]) -> None:
        """Keep texts that these partitions have computed from now on, and forget all others."""
        with self._lock:
            self._serves = partitions
            self._kept.clear()
            self._running.clear()

    def take(self, model: Model, tokens: list[int]) -> Stack:
        """Return a text that begins with as many of these tokens as are known, and no other."""
        # The last token is computed anew: what follows it is what is wanted.
        wanted = np.array(tokens[:-1], np.int64)
        with self._lock:
            stack, shared = self._best(wanted) if model.partitions == self._serves else (None, 0)
            if stack is None:
                return Stack(model.new_sequence())
            kept = any(stack is other for other in self._kept)
            # What lies behind the prefix is lost to others when it is taken over.
            if kept and 2 * shared >= stack.lower.length:
                self._kept = [other for other in self._kept if other is not stack]
                stack.lower.rewind(shared)
                if stack.upper is not None:
                    stack.upper.rewind(shared)
                return stack
            if kept:
                self._kept.sort(key=lambda other: other is stack)  # it was used
            upper = None if stack.upper is None else stack.upper.fork(shared)
            return Stack(stack.lower.fork(shared), upper, stack.codec, shared)

    def lend(self, lower: Sequence, length: int) -> None:
        """Let others copy the first positions of a text that runs, which it will not change."""
        with self._lock:
            if self._limit_bytes and lower.model.partitions == self._serves:
                self._running[lower] = length

    def give(self, stack: Stack) -> None:
        """Take a text that has ended, if there is room for it; older ones make room."""
        stack = stack._replace(touched=max(stack.touched, stack.lower.length))
        with self._lock:
            self._running.pop(stack.lower, None)
            if stack.lower.model.partitions != self._serves or not stack.lower.whole:
                return
            self._kept.append(stack)
            held = sum(other.held_bytes for other in self._kept)
            while held > self._limit_bytes:
                held -= self._kept.pop(0).held_bytes

    def _best(self, wanted: NDArray[np.int64]) -> tuple[Stack | None, int]:
        """Return the text that has most of what is wanted, and how much; ended ones first."""
        best: Stack | None = None
        most = 0
        for stack, length in (
            *((stack, stack.lower.length) for stack in reversed(self._kept)),
            *((Stack(lower), length) for lower, length in self._running.items()),
        ):
            shared = _shared(stack.lower.inputs(0, min(length, stack.lower.whole)), wanted)
            if shared > most:
                best, most = stack, shared
        return best, most


def _shared(one: NDArray[np.int64], other: NDArray[np.int64]) -> int:
    """Return how many first tokens two texts have in common, in whole chunks."""
    length = min(len(one), len(other))
    differs = np.flatnonzero(one[:length] != other[:length])
    return (int(differs[0]) if len(differs) else length) // CHUNK * CHUNK
