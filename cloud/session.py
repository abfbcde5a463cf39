"""Sessions: the context that the cloud keeps for each generation, within limits."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from collections.abc import Sequence as Series
from contextlib import contextmanager
from typing import NamedTuple

from updraft.errors import LinkBusy, ProtocolError, RequestError
from updraft.models.context import window_start
from updraft.models.partition import States
from updraft.models.sampling import Sampling
from updraft.models.sequence import Model


class Answer(NamedTuple):
    """A token of the full depth and what it cost.

    Attributes:
        computed_positions: positions that ran through layers of the cloud, catch-up included.
    """

    position: int
    token: int
    confidence: float
    computed_positions: int
    compute_s: float


class EdgeSession:
    """Context of a generation that the edge decodes: states come in, single tokens go out."""

    def __init__(self, upper: Model, sampling: Sampling) -> None:
        self._upper = upper
        self._sampling = sampling
        self._epoch = 0
        self._sequence = upper.new_sequence()

    def put(self, epoch: int, position: int, states: States) -> None:
        """Take states; what is known already or belongs to an older epoch is ignored.

        Raises:
            ProtocolError: states are missing in between, or the context is full.
        """
        if epoch < self._epoch:
            return
        if epoch > self._epoch:
            self._epoch, self._sequence = epoch, self._upper.new_sequence()
        length = self._sequence.length
        if position > length:
            raise ProtocolError(f"states from position {position} came, {length} was expected next")
        fresh = states[length - position :]
        limit = self._upper.bundle.manifest.architecture.context_length
        if length + len(fresh) > limit:
            raise ProtocolError(
                f"states up to position {length + len(fresh)} exceed the context of {limit}"
            )
        if len(fresh):
            self._sequence.append(fresh)

    def answer(self, epoch: int, length: int, position: int) -> Answer:
        """Catch up and give the token that follows `length` states.

        Raises:
            ProtocolError: other states than those asked about are here.
        """
        sequence = self._sequence
        if epoch != self._epoch or length != sequence.length or length == 0:
            raise ProtocolError(
                f"asked about {length} states of epoch {epoch}, here are {sequence.length} of "
                f"epoch {self._epoch}"
            )
        busy_before, top = sequence.busy_s, self._upper.top
        computed = len(sequence.advance(top))
        candidate = sequence.propose(top, self._sampling, position)
        return Answer(position, *candidate, computed, sequence.busy_s - busy_before)


class CloudGeneration:
    """A generation that the cloud decodes on its own, one token per call."""

    def __init__(
        self, whole: Model, sampling: Sampling, tokens: Series[int], max_tokens: int
    ) -> None:
        shape = whole.bundle.manifest.architecture
        if not tokens or not all(0 <= token < shape.vocabulary_size for token in tokens):
            raise RequestError("a generation needs at least one token, all within the vocabulary")
        if max_tokens < 1:
            raise RequestError("max_tokens must be at least 1")
        if (
            whole.bundle.manifest.overflow == "refuse"
            and len(tokens) + max_tokens > shape.context_length
        ):
            raise RequestError(
                f"{len(tokens)} tokens and max_tokens {max_tokens} exceed the context of "
                f"{shape.context_length}"
            )
        self._whole = whole
        self._sampling = sampling
        self._tokens = list(tokens)
        self._end = len(tokens) + max_tokens
        self._limit = shape.context_length
        self._start = window_start(len(tokens), self._limit)
        self._sequence = whole.new_sequence()
        self._sequence.append(self._tokens[self._start :])

    def next(self) -> Answer:
        """Compute the next token."""
        sequence, position = self._sequence, len(self._tokens)
        busy_before = sequence.busy_s
        computed = len(sequence.advance(self._whole.top))
        candidate = sequence.propose(self._whole.top, self._sampling, position)
        answer = Answer(position, *candidate, computed, sequence.busy_s - busy_before)
        self._tokens.append(candidate.token)
        start = window_start(len(self._tokens), self._limit)
        if start == self._start:
            sequence.append([candidate.token])
        else:
            self._start, self._sequence = start, self._whole.new_sequence()
            self._sequence.append(self._tokens[start:])
        return answer

    @property
    def done(self) -> bool:
        """The text ended or is as long as was asked."""
        end = self._whole.bundle.manifest.tokenizer.end_of_text
        return self._tokens[-1] == end or len(self._tokens) == self._end


class SessionStore:
    """Admits sessions while there is room.

    Attributes:
        active: sessions now.
        used_bytes: memory that their context may take.
    """

    def __init__(self, max_sessions: int, memory_bytes: int) -> None:
        self.active = 0
        self.used_bytes = 0
        self.max_sessions = max_sessions
        self._memory_bytes = memory_bytes

    @contextmanager
    def admit(self, context_bytes: int) -> Iterator[str]:
        """Reserve room for one session; yields its id.

        Raises:
            LinkBusy: a limit is reached; says which.
        """
        if self.active >= self.max_sessions:
            raise LinkBusy(f"the coordinator serves {self.active} sessions, its limit; try later")
        if self.used_bytes + context_bytes > self._memory_bytes:
            raise LinkBusy(
                f"a session takes {context_bytes >> 10} KiB and "
                f"{(self._memory_bytes - self.used_bytes) >> 10} KiB of the coordinator's context "
                "memory are free; try later"
            )
        self.active += 1
        self.used_bytes += context_bytes
        try:
            yield uuid.uuid4().hex
        finally:
            self.active -= 1
            self.used_bytes -= context_bytes
