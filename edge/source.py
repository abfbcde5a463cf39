"""Where the next token comes from: the edge's own layers, with or without the cloud above them."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import NamedTuple, Protocol

from updraft.edge.link import CloudSession, CloudToken
from updraft.edge.policy import Decision, ExitPolicy
from updraft.models.codecs import WireCodec
from updraft.models.context import window_start
from updraft.models.partition import States
from updraft.models.sampling import Sampling
from updraft.models.sequence import Model

CLOUD = "cloud"
_TOKEN_BYTES = 4


class Drawn(NamedTuple):
    """The next token, who produced it and how sure it was."""

    token: int
    source: str
    confidence: float


class TokenSource(Protocol):
    """Produces tokens of one text."""

    def next(self, tokens: list[int]) -> Drawn:
        """Return the token that follows `tokens`, which only ever grow between calls.

        Raises:
            LinkError: the cloud is needed and cannot be used.
        """

    def finish(self) -> None:
        """End in order; what the other side still needs goes out."""

    def cancel(self) -> None:
        """End at once."""


class CloudCost:
    """What the cloud and the way to it have cost one generation so far."""

    def __init__(self) -> None:
        self.calls = 0
        self.positions = 0
        self.compute_s = 0.0
        self.waited_s = 0.0
        self.uplink_bytes = 0
        self.downlink_bytes = 0

    def wait_for(self, answer: Callable[[], CloudToken]) -> CloudToken:
        """Wait for an answer and count it; a wait in vain is counted too."""
        started = perf_counter()
        try:
            token = answer()
        finally:
            self.waited_s += perf_counter() - started
        self.calls += 1
        self.positions += token.computed_positions
        self.compute_s += token.compute_s
        self.downlink_bytes += _TOKEN_BYTES
        return token


class Upper(Protocol):
    """The layers above the split, wherever they are."""

    def restart(self) -> None:
        """Forget everything: the window has moved."""

    def take(self, position: int, states: States) -> None:
        """Take the states after the split of the next positions of the window."""

    def next(self, length: int, position: int) -> Drawn:
        """Return the token that follows `length` states; `position` keys the sampling."""

    def finish(self) -> None:
        """End in order."""

    def cancel(self) -> None:
        """End at once."""


class EdgeSource:
    """Runs the edge's layers, lets the policy take tokens at the exits, and asks above else.

    A token that leaves at an early exit leaves its deeper layers undone; they run as one chunk
    when a later token needs them, or at the end, so that the cloud has every state.
    """

    def __init__(
        self, model: Model, policy: ExitPolicy, upper: Upper | None, sampling: Sampling
    ) -> None:
        manifest = model.bundle.manifest
        self.policy = policy
        self.upper = upper
        self._past_s = 0.0
        self._model = model
        self._sampling = sampling
        self._exits = [exit_.layer for exit_ in manifest.edge_exits]
        self._limit = manifest.architecture.context_length
        self._start = 0
        self._taken = 0
        self._sequence = model.new_sequence()

    def next(self, tokens: list[int]) -> Drawn:
        self._follow(tokens)
        position = len(tokens)
        if self.policy.looks:
            for layer in self._exits:
                self._advance(layer)
                confidence = self._sequence.look(layer)
                is_last = layer == self._exits[-1]
                if self.policy.decide(confidence, is_last) is Decision.EXIT:
                    token = self._sequence.pick(self._sampling, position)
                    return Drawn(token, f"exit_{layer}", confidence)
        self._advance(self._exits[-1])
        assert self.upper is not None, "a policy that continues past the split needs an upper part"
        return self.upper.next(self._sequence.length, position)

    def replace_upper(self, upper: Upper | None) -> None:
        """Go on with another upper part; it gets every state of the window again."""
        self.upper, self._taken = upper, 0

    def finish(self) -> None:
        if self.upper is not None:
            self._advance(self._exits[-1])
            self.upper.finish()

    def cancel(self) -> None:
        if self.upper is not None:
            self.upper.cancel()

    @property
    def compute_s(self) -> float:
        """Seconds spent inside the runtime below the split so far."""
        return self._past_s + self._sequence.busy_s

    def _follow(self, tokens: list[int]) -> None:
        """Put in the tokens that are new; start over where the window has moved."""
        start = window_start(len(tokens), self._limit)
        if start != self._start:
            self._past_s += self._sequence.busy_s
            self._start, self._taken = start, 0
            self._sequence = self._model.new_sequence()
            if self.upper is not None:
                self.upper.restart()
        self._sequence.append(tokens[self._start + self._sequence.length :])

    def _advance(self, layer: int) -> None:
        self._sequence.advance(layer)
        if layer == self._exits[-1] and self.upper is not None:
            done = self._sequence.done(layer)
            if done > self._taken:
                self.upper.take(self._taken, self._sequence.states(layer, self._taken, done))
                self._taken = done


class LocalUpper:
    """The layers above the split in this process (`full`)."""

    def __init__(self, model: Model, split: int, sampling: Sampling) -> None:
        self._past_s = 0.0
        self._model = model.above(split)
        self._sampling = sampling
        self._sequence = self._model.new_sequence()

    def restart(self) -> None:
        self._past_s += self._sequence.busy_s
        self._sequence = self._model.new_sequence()

    def take(self, position: int, states: States) -> None:
        self._sequence.append(states)

    def next(self, length: int, position: int) -> Drawn:
        top = self._model.top
        self._sequence.advance(top)
        candidate = self._sequence.propose(top, self._sampling, position)
        return Drawn(candidate.token, f"exit_{top}", candidate.confidence)

    @property
    def compute_s(self) -> float:
        """Seconds spent inside the runtime above the split so far."""
        return self._past_s + self._sequence.busy_s

    def finish(self) -> None:
        """Nothing is open."""

    def cancel(self) -> None:
        """Nothing is open."""


class CloudUpper:
    """The layers above the split in the cloud: states go up as they come, tokens when asked."""

    def __init__(self, session: CloudSession, codec: WireCodec, cost: CloudCost) -> None:
        self._session = session
        self._codec = codec
        self._cost = cost
        self._epoch = 0

    def restart(self) -> None:
        self._epoch += 1

    def take(self, position: int, states: States) -> None:
        step = self._session.max_positions_per_frame
        for first in range(0, len(states), step):
            part = states[first : first + step]
            payload = self._codec.encode(part)
            self._session.send_states(self._epoch, position + first, len(part), payload)
            self._cost.uplink_bytes += len(payload)

    def next(self, length: int, position: int) -> Drawn:
        answer = self._cost.wait_for(lambda: self._session.ask(self._epoch, length, position))
        return Drawn(answer.token, CLOUD, answer.confidence)

    def finish(self) -> None:
        self._session.finish()

    def cancel(self) -> None:
        self._session.cancel()


class CloudSource:
    """The whole model in the cloud, tokens streamed down (`cloud`)."""

    def __init__(
        self, session: CloudSession, tokens: list[int], max_tokens: int, cost: CloudCost
    ) -> None:
        self._session = session
        self._cost = cost
        self._ended = False
        self._cost.uplink_bytes += _TOKEN_BYTES * len(tokens)
        session.generate(tokens, max_tokens)

    def next(self, tokens: list[int]) -> Drawn:
        answer = self._cost.wait_for(self._session.receive)
        self._ended = answer.last
        return Drawn(answer.token, CLOUD, answer.confidence)

    def finish(self) -> None:
        if self._ended:
            self._session.finish()
        else:  # a stop string is known on this side alone: the cloud would decode to the end
            self._session.cancel()

    def cancel(self) -> None:
        self._session.cancel()
