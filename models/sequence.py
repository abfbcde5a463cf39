"""One sequence on its way through consecutive partitions of a model."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Series
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from updraft.models.bundle import Bundle
from updraft.models.head import Candidate, Heads, HeadStep
from updraft.models.memory import zeros
from updraft.models.partition import Inputs, Partition, PartitionCache, States
from updraft.models.runtime import RuntimeOptions, threads_of
from updraft.models.sampling import Sampling

# Positions per forward pass of a prefill: enough to use the cores well, few enough that the
# activations stay small and a waiting session is not kept waiting long.
CHUNK = 128


@dataclass(frozen=True)
class Model:
    """Consecutive partitions of a bundle, loaded in this process, with the exits at their ends."""

    bundle: Bundle
    partitions: tuple[Partition, ...]
    heads: Heads

    @classmethod
    def load(cls, bundle: Bundle, layers: range, options: RuntimeOptions) -> Model:
        """Load the partitions that lie within `layers`, say `range(0, split)`.

        Raises:
            RuntimeMissing: ONNX Runtime or the asked provider is not there.
            BundleError: the runtime refuses a graph.
        """
        manifest = bundle.manifest
        inside = [
            p for p in manifest.partitions if layers.start <= p.first and p.last <= layers.stop
        ]
        exits = [exit_.layer for exit_ in manifest.exits if exit_.layer <= layers.stop]
        # Heads first: their matrix, the largest, lies in memory twice while it is loaded.
        heads = Heads(bundle, exits, options)
        return cls(bundle, tuple(Partition(bundle, entry, options) for entry in inside), heads)

    def above(self, layer: int) -> Model:
        """Return the part that continues from states after `layer`; shares what is loaded."""
        upper = tuple(p for p in self.partitions if p.entry.first >= layer)
        return Model(self.bundle, upper, self.heads)

    def below(self, layer: int) -> Model:
        """Return the part that ends with the states after `layer`; shares what is loaded."""
        lower = tuple(p for p in self.partitions if p.entry.last <= layer)
        return Model(self.bundle, lower, self.heads)

    @property
    def layers(self) -> list[int]:
        """Layers done after each partition."""
        return [partition.entry.last for partition in self.partitions]

    @property
    def top(self) -> int:
        """Layers done after the last partition."""
        return self.layers[-1]

    @property
    def threads(self) -> int:
        """The most threads that compute one of the graphs."""
        sessions = [partition.session for partition in self.partitions]
        return max(map(threads_of, [*sessions, *self.heads.sessions.values()]))

    @property
    def sequence_bytes(self) -> int:
        """Memory that one sequence takes: KV caches and the states between partitions."""
        shape = self.bundle.manifest.architecture
        states = (len(self.partitions) + 1) * shape.context_length * shape.width * 4
        return states + sum(partition.cache_bytes for partition in self.partitions)

    def new_sequence(self) -> Sequence:
        """Start an empty sequence."""
        return Sequence(self)


class Stretch(NamedTuple):
    """Neighbouring positions of a sequence that one partition has yet to process.

    Attributes:
        cache: the sequence in that partition.
        inputs: (n,) token ids or (n, width) states, which the partition reads.
        out: (n, width), receives the states after the partition's last layer.
    """

    cache: PartitionCache
    inputs: Inputs
    out: States


class Tail(NamedTuple):
    """The end of a sequence, cut off: to be pasted where it was cut."""

    rows: list[NDArray[Any]]
    caches: list[NDArray[Any]]


class Interrupted(Exception):
    """Raised out of a computation that nobody wants any more."""


class Sequence:
    """Tokens or states go in at the bottom; each partition follows when it is asked to.

    A partition that was not needed for a token (the token left at an earlier exit) is behind
    by some positions. They wait as states and run as one chunk when the partition is next
    needed: its KV cache is then exactly what it would have been. This holds for the upper
    layers in the cloud as for deferred layers on the edge.

    Attributes:
        length: positions that have been put in.
        model: what it runs through.
        interrupted: nothing more is to be computed; any thread may say so.
    """

    def __init__(self, model: Model) -> None:
        self.length = 0
        self.interrupted = False
        self.model = model
        shape = model.bundle.manifest.architecture
        self._limit = shape.context_length
        self._caches = [partition.new_cache() for partition in model.partitions]
        self._whole = [0] * len(self._caches)
        self._head = HeadStep(model.heads)
        bottom: NDArray[Any] = (
            zeros((self._limit,), np.int64)
            if model.partitions[0].takes_tokens
            else zeros((self._limit, shape.width), np.float32)
        )
        self._states: list[NDArray[Any]] = [
            bottom,
            *(zeros((self._limit, shape.width), np.float32) for _ in model.partitions),
        ]
        self._at = {layer: i for i, layer in enumerate(model.layers)}

    @property
    def busy_s(self) -> float:
        """Seconds spent inside the runtime so far."""
        return self._head.busy_s + sum(cache.busy_s for cache in self._caches)

    def done(self, layer: int) -> int:
        """Return how many positions have passed `layer`."""
        return self._caches[self._at[layer]].length

    def append(self, inputs: Series[int] | NDArray[Any]) -> None:
        """Put in token ids, or states (n, width) where the first partition takes states."""
        count = len(inputs)
        if self.length + count > self._limit:
            raise ValueError(f"{self.length} + {count} positions exceed {self._limit}")
        self._states[0][self.length : self.length + count] = inputs
        self.length += count

    def advance(self, layer: int) -> States:
        """Bring every position put in so far past `layer`.

        Returns:
            (n, width) states after `layer` of the positions that were new to it.

        Raises:
            Interrupted: before the next chunk.
        """
        top = self._at[layer]
        before = self._caches[top].length
        for index in range(top + 1):
            while self._caches[index].length < self.length:
                if self.interrupted:
                    raise Interrupted
                done = self._caches[index].length
                stretch = self.stretch(index, min(done + CHUNK, self.length))
                stretch.cache.run(stretch.inputs, stretch.out)
                if self._whole[index] == done == stretch.cache.length - CHUNK:
                    self._whole[index] += CHUNK
        return self.states(layer, before, self.length)

    def stretch(self, index: int, stop: int) -> Stretch:
        """Return the positions before `stop` that wait before partition `index`."""
        cache = self._caches[index]
        part = slice(cache.length, stop)
        return Stretch(cache, self._states[index][part], self._states[index + 1][part])

    def truncate(self, length: int) -> None:
        """Forget every position from `length` on."""
        self.length = min(self.length, length)
        for cache in self._caches:
            cache.length = min(cache.length, length)
        self._forget_chunks(length)

    def cut(self, length: int) -> Tail:
        """Forget every position from `length` on, and return them."""
        rows = [states[length : self.length].copy() for states in self._states]
        tail = Tail(rows, [cache.cut(length) for cache in self._caches])
        self.length = min(self.length, length)
        self._forget_chunks(length)
        return tail

    def paste(self, tail: Tail) -> None:
        """Go on with the end that was cut off at this length; nothing is computed again."""
        count = len(tail.rows[0])
        for states, rows in zip(self._states, tail.rows, strict=True):
            states[self.length : self.length + count] = rows
        for cache, part in zip(self._caches, tail.caches, strict=True):
            cache.paste(part)
        self.length += count

    @property
    def whole(self) -> int:
        """Positions that have run through the first partition in whole chunks from the start on.

        Bits depend on how positions are grouped, in most precisions. So these are the positions
        of which every text that begins alike would compute the same bits.
        """
        return self._whole[0]

    def rewind(self, length: int) -> None:
        """Forget every position from `length` on, and compute anew what did not run in chunks.

        From here on, all is bit for bit as if nothing had run before.
        """
        self.truncate(length)
        for cache, whole in zip(self._caches, self._whole, strict=True):
            cache.length = min(cache.length, whole)

    def fork(self, length: int) -> Sequence:
        """Return another sequence with a copy of the first positions, rewound likewise.

        This one may run meanwhile, in another thread, as long as it keeps those positions: what
        of them it has not computed yet, the other computes itself.
        """
        twin = Sequence(self.model)
        twin.length = min(length, self.length)
        twin._whole = list(self._whole)
        twin._forget_chunks(twin.length)
        for cache, other, whole in zip(self._caches, twin._caches, twin._whole, strict=True):
            cache.copy_to(other, whole)
        for states, others in zip(self._states, twin._states, strict=True):
            others[: twin.length] = states[: twin.length]
        return twin

    def _forget_chunks(self, length: int) -> None:
        self._whole = [min(whole, length // CHUNK * CHUNK) for whole in self._whole]

    def keys_and_values(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield what attention keeps of this sequence, by name: (kv_heads, length, head_width)."""
        for cache in self._caches:
            yield from cache.keys_and_values()

    def inputs(self, start: int, stop: int) -> NDArray[Any]:
        """Return what was put in at positions `start` to `stop`, without a copy."""
        return self._states[0][start:stop]

    def states(self, layer: int, start: int, stop: int) -> States:
        """Return the states after `layer` of positions `start` to `stop`, without a copy."""
        states: States = self._states[self._at[layer] + 1][start:stop]
        return states

    def look(self, layer: int) -> float:
        """Return how sure the exit after `layer` is of the token after the last position."""
        return self._head.look(layer, self._states[self._at[layer] + 1][self.length - 1])

    @property
    def probability(self) -> float:
        """The probability of the best token at the exit that was looked at last."""
        return self._head.probability

    @property
    def logits(self) -> NDArray[np.float32]:
        """The logits of the exit that was looked at last; the next look overwrites them."""
        return self._head.logits

    def pick(self, sampling: Sampling, position: int) -> int:
        """Choose the next token by the exit that was looked at last.

        Apart from `look`, because sampling costs: only an exit that is taken draws.

        Args:
            position: what sampling is keyed by.
        """
        return self._head.pick(sampling, position)

    def propose(self, layer: int, sampling: Sampling, position: int) -> Candidate:
        """Look at an exit and choose its token."""
        confidence = self.look(layer)
        return Candidate(self.pick(sampling, position), confidence)
