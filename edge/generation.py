"""One prompt on its way: the decoding loop that all modes share."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from time import monotonic, perf_counter
from typing import TYPE_CHECKING

from updraft.devices.meters.meter import Span
from updraft.edge.collaboration import Collaboration
from updraft.edge.escalation import Escalation
from updraft.edge.occupancy import Stay
from updraft.edge.outage import Reconnect
from updraft.edge.policy import NeverExit, StandaloneExit
from updraft.edge.request import GeneratedToken, GenerationRequest, GenerationResult
from updraft.edge.session import CloudSession
from updraft.edge.source import Drawn, EdgeSource, LocalUpper, TokenSource
from updraft.edge.stopping import Lookout, Stopping
from updraft.errors import LinkClosed, LinkError
from updraft.models.codecs import wire_codec
from updraft.models.sequence import Interrupted
from updraft.models.stop import at_line_start
from updraft.models.tokenizer import TextStream

if TYPE_CHECKING:
    from updraft.edge.engine import Engine

# How often a complete text looks whether the cloud is back.
_LOOK_AGAIN_S = 0.01

_log = logging.getLogger(__name__)


class Generation:
    """Iterate once to get tokens as they are produced, then read `result`.

    When the cloud is needed and gone, decoding goes on with the edge's own exits: those tokens
    are marked unverified, and the cloud is tried in the background until it is back. Where the
    request says `repair`, the text then goes back to the last token that the cloud stands for, as
    soon as there is a token to follow it: a token whose position was given before replaces that
    one and all after it.
    """

    def __init__(self, engine: Engine, request: GenerationRequest, prompt: list[int]) -> None:
        self.request = request
        self.prompt_tokens = len(prompt)
        self.result = GenerationResult(request.mode, request.wire)
        self._engine = engine
        self._tokens = list(prompt)
        self._drawn: list[Drawn] = []
        self._chooser = engine.chooser(request, len(prompt))
        self._text = TextStream(engine.tokenizer, request.stop)
        self._window = engine.edge_window()
        self._lookout = self._make_lookout()
        self._collaboration: Collaboration | None = None
        self._escalation: Escalation | None = None
        self._breaker = engine.breaker
        self._source: TokenSource | None = None
        self._reconnect: Reconnect | None = None
        self._span: Span | None = None
        self._stay: Stay | None = None
        self._abstained = False
        self._cancelled = threading.Event()

    @property
    def edge_s(self) -> float:
        """Seconds spent inside the runtime of this process so far."""
        tuned = self._collaboration.edge_s if self._collaboration is not None else 0.0
        return self._window.compute_s + tuned

    def cancel(self) -> None:
        """Stop before the next token, or chunk of the prompt; may be called from any thread."""
        self._cancelled.set()
        self._window.interrupt()
        if self._escalation is not None:
            self._escalation.cancel()

    def __iter__(self) -> Iterator[GeneratedToken]:
        started = perf_counter()
        self._stay = self._engine.occupancy.enter()
        self._span = self._engine.meter.begin(lambda: self.edge_s)
        try:
            self._begin()
            while not self._cancelled.is_set():
                if self._complete():
                    if (drawn := self._mend()) is None:
                        break
                elif (drawn := self._draw()) is None:
                    continue  # the text stops here, or the cloud takes it over
                yield self._record(drawn)
            self.result.total_s = perf_counter() - started
            self._end()
        except Interrupted:
            self.result.total_s = perf_counter() - started
            self._break_off()
        except BaseException:
            if self._source is not None:
                self._source.cancel()
            raise
        finally:
            if self._reconnect is not None:
                self._reconnect.abandon()
            self._account()

    def settled(self) -> Iterator[GeneratedToken]:
        """Iterate likewise, but give nothing that may be replaced: such tokens wait for the cloud.

        What the cloud never came back for is given at the end.
        """
        waiting: list[GeneratedToken] = []
        for token in self:
            if waiting and token.position <= waiting[-1].position:
                waiting = []  # replaced: this token starts where they did
            if token.verified or self.request.on_outage == "keep":
                yield token
            else:
                waiting.append(token)
        # What was taken back and not replaced, because the text stopped there, is left out.
        yield from (token for token in waiting if token.position < len(self._tokens))

    def _complete(self) -> bool:
        return self._abstained or self._stops() or len(self._drawn) >= self.request.max_tokens

    def _begin(self) -> None:
        mode, engine = self.request.mode, self._engine
        if mode == "full":
            codec = wire_codec(engine.bundle, self.request.wire)
            upper = LocalUpper(engine.model, self._window, codec, self._chooser)
            self._source = EdgeSource(self._window, NeverExit(), upper, self._chooser)
            return
        if mode == "standalone":
            self._source = self._standalone()
            return
        if mode == "request":
            self._escalation = Escalation(engine, self.request)
            self._breaker = engine.backend_breaker
        else:
            self._collaboration = Collaboration(
                engine, self.request, self._window, self._chooser, self.prompt_tokens, self._lookout
            )
        if not self._breaker.ready:
            self._go_alone(None)
            return
        try:
            if self._escalation is not None:
                self._source = self._escalation.start()
            elif self._collaboration is not None:
                self._source = self._collaboration.start(self._tokens)
        except LinkError as error:
            self._go_alone(error)

    def _draw(self) -> Drawn | None:
        """Return the next token; None where the text stops or the cloud takes it over."""
        try:
            if self._reconnect is not None and (session := self._reconnect.poll()) is not None:
                return self._come_back(session)
            return self._next()
        except LinkError as error:
            if self._cancelled.is_set():
                return None
            self._go_alone(error)
            return self._next()

    def _next(self) -> Drawn | None:
        assert self._source is not None, "it was made in the beginning"
        return self._heed(self._source.next(self._tokens))

    def _heed(self, drawn: Drawn | None) -> Drawn | None:
        """Do what was asked where a source says STOP."""
        if drawn is None:
            self.result.decisions["stop"] += 1
            if self.request.on_stop == "abstain":
                self._abstained = True
            else:
                self._escalate()
        return drawn

    def _make_lookout(self) -> Lookout | None:
        request = self.request
        if request.stop_at is None:
            return None
        manifest, fresh = self._engine.bundle.manifest, at_line_start(request.prompt)
        stopping = Stopping(manifest, request.stop_at, fresh)
        return Lookout(stopping, self._engine.tokenizer, self.prompt_tokens)

    def _escalate(self) -> None:
        """Let the cloud decode the rest of the text, once it is there."""
        assert self._collaboration is not None, "the request checks that the mode has a cloud"
        assert self._source is not None, "it said STOP"
        self._lookout = None
        self._collaboration.escalate()
        if self._reconnect is None:
            self._source.finish()
            self._source = self._collaboration.start(self._tokens)
        else:
            self._reconnect.abandon()
            self._reconnect = Reconnect(self._breaker, self._collaboration.reopen)
            self._source = self._standalone()

    def _standalone(self) -> EdgeSource:
        request = self.request
        policy = StandaloneExit(request.theta)
        return EdgeSource(
            self._window, policy, None, self._chooser, self._lookout, request.exit_layer
        )

    def _go_alone(self, error: LinkError | None) -> None:
        """Go on without the cloud and try it again in the background.

        Args:
            error: what has just failed; None while the cloud is known to be gone.
        """
        collaboration, escalation = self._collaboration, self._escalation
        if error is not None:
            self._breaker.failed()
            _log.warning("going on without the coordinator: %s", error)
        if self._source is not None:
            self._source.cancel()
        self.result.degraded = True
        if self.result.unverified_from is None:
            self.result.unverified_from = len(self._tokens)
        if escalation is not None:
            left = self.request.max_tokens - len(self._drawn)
            escalation.check_alone(len(self._tokens), left, error)
        self._rewind(len(self._tokens))
        reopen = None if collaboration is None else collaboration.reopen
        self._reconnect = Reconnect(self._breaker, reopen)
        self._source = self._standalone()

    def _come_back(self, session: CloudSession) -> Drawn | None:
        """Go on with the cloud, which is there again, and return what it says next.

        What was decoded meanwhile is given up for nothing less than a token in its place: a
        coordinator that opens sessions and then fails must not hold the text up for ever.

        Raises:
            LinkError: it failed again; the text is what it was.
        """
        collaboration, sure = self._collaboration, self._tokens
        assert collaboration is not None, "only cloud modes lose the cloud"
        if self.request.on_outage == "repair":
            assert self.result.unverified_from is not None, "it was set when the cloud was lost"
            sure = self._tokens[: self.result.unverified_from]
        self._rewind(len(sure))
        self._source = collaboration.go_on(session, sure)
        drawn = self._source.next(sure)
        self._breaker.succeeded()
        self._reconnect = None
        if self.request.on_outage == "repair":
            self._take_back(len(sure))
            self.result.unverified_from = None
        return self._heed(drawn)

    def _mend(self) -> Drawn | None:
        """Wait until the cloud is back and replaces the end of a text that lacks its word."""
        if self.request.on_outage != "repair":
            return None
        deadline = monotonic() + self.request.repair_wait_s
        while self._reconnect is not None and not self._cancelled.is_set():
            try:
                if (session := self._reconnect.poll()) is not None:
                    return self._come_back(session)
            except LinkClosed:
                return None  # by us: it will not be back
            except LinkError as error:
                self._go_alone(error)
            if monotonic() >= deadline:
                break
            self._cancelled.wait(_LOOK_AGAIN_S)
        return None

    def _rewind(self, length: int) -> None:
        """Let what follows the text forget what it saw beyond `length` tokens."""
        self._window.truncate(length)
        if self._lookout is not None:
            self._lookout.take_back(length)

    def _take_back(self, length: int) -> None:
        """Shorten the text to `length` tokens."""
        for drawn in self._drawn[length - self.prompt_tokens :]:
            self.result.decisions[drawn.source] -= 1
        del self._tokens[length:]
        del self._drawn[length - self.prompt_tokens :]
        del self.result.tokens[length - self.prompt_tokens :]
        if self._abstained:
            self._abstained = False
            self.result.decisions["stop"] -= 1
        self._text = TextStream(self._engine.tokenizer, self.request.stop)
        for drawn in self._drawn:
            self._text.push(drawn.token)

    def _record(self, drawn: Drawn) -> GeneratedToken:
        position = len(self._tokens)
        self._tokens.append(drawn.token)
        self._drawn.append(drawn)
        self.result.tokens.append(drawn.token)
        decisions = self.result.decisions
        decisions[drawn.source] = decisions.get(drawn.source, 0) + 1
        if drawn.text is None:
            piece = self._text.push(drawn.token)
        else:
            piece = self._text.push_text(drawn.text)
        if self._complete():
            piece += self._text.finish()
        verified, told = self._reconnect is None, drawn.logprobs
        fields = (position, drawn.token, piece, drawn.source, drawn.confidence, verified)
        return GeneratedToken(*fields) if told is None else GeneratedToken(*fields, *told)

    def _end(self) -> None:
        assert self._source is not None, "it was made in the beginning"
        if self._cancelled.is_set() and not self._complete():
            self.result.finish_reason = "cancelled"
            self._source.cancel()
            return
        if self._abstained:
            self.result.finish_reason = "abstained"
        elif self._stops():
            self.result.finish_reason = "stop"
        try:
            self._source.finish()
        except LinkError:
            self._source.cancel()  # every token is out already; the cloud has nothing to add

    def _break_off(self) -> None:
        """End in the middle of a computation, as `cancel` asked."""
        if not self._complete():
            self.result.finish_reason = "cancelled"
        if self._source is not None:
            self._source.cancel()

    def _stops(self) -> bool:
        if self._text.stopped or not self._drawn:
            return self._text.stopped
        if self._escalation is not None and self._reconnect is None:
            # The backend was told the constraint, and has a tokenizer of its own to follow it.
            return self._engine.tokenizer.ends(self._tokens[-1])
        return self._chooser.ends(self._tokens)

    def _account(self) -> None:
        result = self.result
        result.text = self._text.text
        result.cached_tokens = min(self._window.found, self.prompt_tokens)
        self._window.release()
        result.edge_s = self.edge_s
        for way in (self._collaboration, self._escalation):
            if way is not None:
                way.account(result)
                if result.cloud_calls and not result.degraded:
                    self._breaker.succeeded()
        if self._span is not None:
            result.energy = self._span.end(result.edge_s)
        if self._stay is not None:
            self._stay.end()
            result.alone = self._stay.alone
