"""Where the next token comes from: the edge's own layers, with or without the cloud above them."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import NamedTuple, Protocol, TypeVar

from updraft.edge.policy import Decision, ExitPolicy
from updraft.edge.session import CloudSession, CloudToken, NeedFrom, Verdict
from updraft.edge.stopping import Lookout
from updraft.edge.upstream import Upstream
from updraft.edge.window import Window
from updraft.errors import ProtocolError
from updraft.models.chooser import Chooser
from updraft.models.codecs import WireCodec, as_received
from updraft.models.logprobs import LogProbabilities
from updraft.models.sequence import Model, Sequence

CLOUD = "cloud"
# Who decides a token where the constraint leaves one alone: no model is asked.
GRAMMAR = "grammar"
_TOKEN_BYTES = 4

T = TypeVar("T")


class Drawn(NamedTuple):
    """The next token, who produced it and how sure it was.

    Attributes:
        text: what it stands for, where it came as text.
        logprobs: where they were asked for.
    """

    token: int
    source: str
    confidence: float
    text: str | None = None
    logprobs: LogProbabilities | None = None


class TokenSource(Protocol):
    """Produces tokens of one text."""

    def next(self, tokens: list[int]) -> Drawn | None:
        """Return the token that follows `tokens`, which only ever grow between calls.

        Returns:
            None to STOP: the continuation would be wrong.

        Raises:
            LinkError: the cloud is needed and cannot be used.
        """

    def finish(self) -> None:
        """End in order; what the other side still needs goes out."""

    def cancel(self) -> None:
        """End at once."""


class CloudCost:
    """What the cloud and the way to it have cost one generation so far.

    Attributes:
        calls: answers that came: tokens and verdicts.
        stalls: times that nothing could be done but wait.
        judged: drafts that the cloud judged, and `agreed`, those it would have drawn too.
        foreseen: replaced drafts whose replacement was foreseen.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.positions = 0
        self.compute_s = 0.0
        self.waited_s = 0.0
        self.stalls = 0
        self.judged = 0
        self.agreed = 0
        self.foreseen = 0
        self.prompt_bytes = 0
        self.downlink_bytes = 0

    def wait(self, answer: Callable[[], T]) -> T:
        """Wait for an answer and count the time; a wait in vain counts too."""
        self.stalls += 1
        started = perf_counter()
        try:
            return answer()
        finally:
            self.waited_s += perf_counter() - started

    def count(self, answer: CloudToken | Verdict) -> None:
        """Count what an answer cost the cloud."""
        self.calls += 1
        self.positions += answer.computed_positions
        self.compute_s += answer.compute_s
        if isinstance(answer, CloudToken):
            self.downlink_bytes += _TOKEN_BYTES
        else:
            self.downlink_bytes += _TOKEN_BYTES * len(answer.tokens)
            self.downlink_bytes += sum(
                values.nbytes + (0 if tokens is None else _TOKEN_BYTES * len(tokens))
                for tokens, values in answer.logits
            )


class Upper(Protocol):
    """The layers above the split, wherever they are."""

    def take(self) -> None:
        """Take the states after the split that are new in the window."""

    def next(self, length: int, tokens: list[int]) -> Drawn:
        """Return the token that follows a text, the last `length` tokens of which were taken."""

    def finish(self) -> None:
        """End in order."""

    def cancel(self) -> None:
        """End at once."""


class EdgeSource:
    """Runs the edge's layers, lets the policy take tokens at the exits, and asks above else.

    A token that leaves at an early exit leaves its deeper layers undone; they run as one chunk
    when a later token needs them, or at the end, so that the cloud has every state.

    Args:
        deepest: the last exit to look at; None: that at the split.
    """

    def __init__(
        self,
        window: Window,
        policy: ExitPolicy,
        upper: Upper | None,
        chooser: Chooser,
        lookout: Lookout | None = None,
        deepest: int | None = None,
    ) -> None:
        self._window = window
        self._policy = policy
        self._upper = upper
        self._chooser = chooser
        self._lookout = lookout
        exits = [exit_.layer for exit_ in window.model.bundle.manifest.edge_exits]
        self._exits = [layer for layer in exits if deepest is None or layer <= deepest]

    def next(self, tokens: list[int]) -> Drawn | None:
        if (forced := self._chooser.forced(tokens)) is not None:
            return Drawn(forced, GRAMMAR, 1.0)  # the layers catch up when they are needed
        window = self._window
        window.follow(tokens, self._upper.take if self._upper is not None else None)
        if self._policy.looks:
            for layer in self._exits:
                decision, confidence = self._decide(tokens, layer)
                if decision is Decision.STOP:
                    return None
                if decision is Decision.EXIT:
                    return _chosen(self._chooser, window.sequence, tokens, layer, confidence)
        self._advance(self._exits[-1])
        assert self._upper is not None, "a policy that continues past the split needs an upper part"
        return self._upper.next(window.sequence.length, tokens)

    def finish(self) -> None:
        if self._upper is not None:
            self._advance(self._exits[-1])
            self._upper.finish()

    def cancel(self) -> None:
        if self._upper is not None:
            self._upper.cancel()

    def _decide(self, tokens: list[int], layer: int) -> tuple[Decision, float]:
        self._advance(layer)
        sequence = self._window.sequence
        confidence = sequence.look(layer)
        if self._lookout is not None and self._lookout.stops(tokens, layer, sequence.probability):
            return Decision.STOP, confidence
        trusted = self._chooser.trusted(sequence, tokens, confidence)
        return self._policy.decide(trusted, layer == self._exits[-1]), confidence

    def _advance(self, layer: int) -> None:
        self._window.sequence.advance(layer)
        if layer == self._exits[-1] and self._upper is not None:
            self._upper.take()


class LocalUpper:
    """The layers above the split in this process (`full`).

    They get what the wire would make of the states, so that `full` says what `cloud` says.
    """

    def __init__(self, model: Model, window: Window, codec: WireCodec, chooser: Chooser) -> None:
        self._window = window
        self._codec = codec
        self._model = model.above(window.top)
        self._chooser = chooser

    def take(self) -> None:
        window, sequence = self._window, self._sequence
        states = window.states(sequence.length, window.done)
        if len(states):
            sequence.append(as_received(self._codec, states))

    def next(self, length: int, tokens: list[int]) -> Drawn:
        top = self._model.top
        sequence = self._sequence
        sequence.advance(top)
        return _chosen(self._chooser, sequence, tokens, top, sequence.look(top))

    @property
    def _sequence(self) -> Sequence:
        return self._window.above(self._model, self._codec.name)

    def finish(self) -> None:
        """Nothing is open."""

    def cancel(self) -> None:
        """Nothing is open."""


class CloudUpper:
    """The layers above the split in the cloud: states go up as they come, tokens when asked."""

    def __init__(
        self, window: Window, upstream: Upstream, session: CloudSession, cost: CloudCost
    ) -> None:
        self._window = window
        self._upstream = upstream
        self._session = session
        self._cost = cost

    def take(self) -> None:
        self._upstream.push(self._window.done)

    def next(self, length: int, tokens: list[int]) -> Drawn:
        self._session.ask(self._upstream.epoch, length, len(tokens))
        while not isinstance(answer := self._cost.wait(self._session.receive), CloudToken):
            if not isinstance(answer, NeedFrom):
                raise ProtocolError("the coordinator judged drafts where a token was asked for")
            self._upstream.send_again(answer.position)
            self._upstream.push(length)
        self._cost.count(answer)
        self._upstream.confirm(length)
        return Drawn(answer.token, CLOUD, answer.confidence, None, answer.logprobs)

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
        self._cost.prompt_bytes += _TOKEN_BYTES * len(tokens)
        session.generate(tokens, max_tokens)

    def next(self, tokens: list[int]) -> Drawn:
        answer = self._cost.wait(self._session.receive)
        if not isinstance(answer, CloudToken):
            raise ProtocolError("the coordinator answered a generation with something else")
        self._cost.count(answer)
        self._ended = answer.last
        return Drawn(answer.token, CLOUD, answer.confidence, None, answer.logprobs)

    def finish(self) -> None:
        if self._ended:
            self._session.finish()
        else:  # a stop string is known on this side alone: the cloud would decode to the end
            self._session.cancel()

    def cancel(self) -> None:
        self._session.cancel()


def _chosen(
    chooser: Chooser, sequence: Sequence, tokens: list[int], layer: int, confidence: float
) -> Drawn:
    """Return the token after a text, chosen by the exit that was looked at last."""
    token = chooser.pick(sequence, tokens)
    told = chooser.tell(sequence, token)
    return Drawn(token, f"exit_{layer}", confidence, None, told)
