"""One prompt on its way: the decoding loop that all modes share."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from time import perf_counter
from typing import TYPE_CHECKING

from updraft.edge.collaboration import Collaboration
from updraft.edge.outage import Reconnect
from updraft.edge.policy import NeverExit, StandaloneExit
from updraft.edge.request import GeneratedToken, GenerationRequest, GenerationResult
from updraft.edge.session import CloudSession
from updraft.edge.source import Drawn, EdgeSource, LocalUpper, TokenSource
from updraft.edge.stopping import Lookout, Stopping
from updraft.edge.window import Window
from updraft.errors import LinkError
from updraft.models.codecs import wire_codec
from updraft.models.sampling import Sampling
from updraft.models.stop import at_line_start
from updraft.models.tokenizer import TextStream

if TYPE_CHECKING:
    from updraft.edge.engine import Engine

_log = logging.getLogger(__name__)


class Generation:
    """Iterate once to get tokens as they are produced, then read `result`.

    When the cloud is needed and gone, decoding goes on with the edge's own exits: those tokens
    are marked unverified, and the cloud is tried in the background until it is back. Where the
    request says `repair`, the text then goes back to the last token that the cloud stands for:
    a token whose position was given before replaces that one and all after it.
    """

    def __init__(self, engine: Engine, request: GenerationRequest, prompt: list[int]) -> None:
        self.request = request
        self.prompt_tokens = len(prompt)
        self.result = GenerationResult(request.mode, request.wire)
        self._engine = engine
        self._prompt = prompt
        self._tokens = list(prompt)
        self._drawn: list[Drawn] = []
        self._sampling = Sampling(request.temperature, request.seed)
        self._text = TextStream(engine.tokenizer, request.stop)
        self._window = Window(engine.draft_model(request.mode), engine.draft_top(request.mode))
        self._lookout = self._make_lookout()
        self._collaboration: Collaboration | None = None
        self._local_upper: LocalUpper | None = None
        self._reconnect: Reconnect | None = None
        self._cancelled = threading.Event()

    @property
    def edge_s(self) -> float:
        """Seconds spent inside the runtime of this process so far."""
        upper = self._local_upper.compute_s if self._local_upper is not None else 0.0
        tuned = self._collaboration.edge_s if self._collaboration is not None else 0.0
        return self._window.compute_s + upper + tuned

    def cancel(self) -> None:
        """Stop before the next token; may be called from any thread."""
        self._cancelled.set()

    def __iter__(self) -> Iterator[GeneratedToken]:
        started = perf_counter()
        source: TokenSource | None = None
        try:
            source = self._first_source()
            while not self._complete():
                if self._cancelled.is_set():
                    self.result.finish_reason = "cancelled"
                    break
                source, drawn = self._draw(source)
                if drawn is None:
                    self.result.decisions["stop"] += 1
                    if self.request.on_stop == "abstain":
                        self.result.finish_reason = "abstained"
                        break
                    source = self._escalate(source)
                    continue
                yield self._record(drawn)
                if self._complete() and (repaired := self._repair_at_the_end()) is not None:
                    source = repaired
            self.result.total_s = perf_counter() - started
            self._end(source)
        except BaseException:
            if source is not None:
                source.cancel()
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
            if token.verified or self.request.on_outage == "keep":
                waiting = []  # replaced: this token starts where they did
                yield token
            else:
                waiting.append(token)
        yield from waiting

    def _complete(self) -> bool:
        return self._stops() or len(self._drawn) >= self.request.max_tokens

    def _draw(self, source: TokenSource) -> tuple[TokenSource, Drawn | None]:
        """Return the next token, and the source that gives the ones after it."""
        try:
            if self._reconnect is not None and (session := self._reconnect.poll()) is not None:
                source = self._back(session)
            drawn = source.next(self._tokens)
        except LinkError as error:
            source.cancel()
            source = self._alone(error)
            drawn = source.next(self._tokens)
        return source, drawn

    def _first_source(self) -> TokenSource:
        mode, engine = self.request.mode, self._engine
        if mode == "full":
            codec = wire_codec(engine.bundle, self.request.wire)
            self._local_upper = LocalUpper(engine.model, self._window, codec, self._sampling)
            return EdgeSource(self._window, NeverExit(), self._local_upper, self._sampling)
        if mode == "standalone":
            return self._standalone()
        self._collaboration = Collaboration(
            engine, self.request, self._window, len(self._prompt), self._lookout
        )
        if not engine.breaker.ready:
            return self._alone(None)
        return self._collaboration.start(self._tokens)

    def _make_lookout(self) -> Lookout | None:
        request = self.request
        if request.stop_at is None:
            return None
        manifest, fresh = self._engine.bundle.manifest, at_line_start(request.prompt)
        stopping = Stopping(manifest, request.stop_at, fresh)
        return Lookout(stopping, self._engine.tokenizer, self.prompt_tokens)

    def _escalate(self, source: TokenSource) -> TokenSource:
        """Let the cloud decode the rest of the text."""
        assert self._collaboration is not None, "the request checks that the mode has a cloud"
        source.finish()
        self._lookout = None
        return self._collaboration.escalate(self._tokens)

    def _standalone(self) -> EdgeSource:
        return EdgeSource(
            self._window, StandaloneExit(self.request.theta), None, self._sampling, self._lookout
        )

    def _alone(self, error: LinkError | None) -> TokenSource:
        """Go on without the cloud and try it again in the background.

        Args:
            error: what has just failed; None while the cloud is known to be gone.
        """
        collaboration = self._collaboration
        assert collaboration is not None, "only cloud modes lose the cloud"
        if error is not None:
            self._engine.breaker.failed()
            _log.warning("going on without the coordinator: %s", error)
        self.result.degraded = True
        if self.result.unverified_from is None:
            self.result.unverified_from = len(self._tokens)
        self._window.truncate(len(self._tokens))
        sure = list(self._tokens)
        self._reconnect = Reconnect(self._engine.breaker, lambda: collaboration.reopen(sure))
        return self._standalone()

    def _back(self, session: CloudSession) -> TokenSource:
        """Go on with the cloud, which is there again."""
        assert self._collaboration is not None, "only cloud modes lose the cloud"
        self._reconnect = None
        if self.request.on_outage == "repair":
            assert self.result.unverified_from is not None, "it was set when the cloud was lost"
            self._take_back(self.result.unverified_from)
            self.result.unverified_from = None
        return self._collaboration.go_on(session, self._tokens)

    def _repair_at_the_end(self) -> TokenSource | None:
        """Wait for the cloud when a complete text still lacks its word."""
        if self._reconnect is None or self.request.on_outage != "repair":
            return None
        session = self._reconnect.wait(self.request.repair_wait_s)
        return None if session is None else self._back(session)

    def _take_back(self, length: int) -> None:
        """Shorten the text to `length` tokens."""
        for drawn in self._drawn[length - self.prompt_tokens :]:
            self.result.decisions[drawn.source] -= 1
        del self._tokens[length:]
        del self._drawn[length - self.prompt_tokens :]
        del self.result.tokens[length - self.prompt_tokens :]
        self._window.truncate(length)
        if self._lookout is not None:
            self._lookout.take_back(length)
        self._text = TextStream(self._engine.tokenizer, self.request.stop)
        for drawn in self._drawn:
            self._text.push(drawn.token)

    def _record(self, drawn: Drawn) -> GeneratedToken:
        position = len(self._tokens)
        self._tokens.append(drawn.token)
        self._drawn.append(drawn)
        self.result.tokens.append(drawn.token)
        self.result.decisions[drawn.source] += 1
        piece = self._text.push(drawn.token)
        if self._complete():
            piece += self._text.finish()
        verified = self._reconnect is None
        return GeneratedToken(
            position, drawn.token, piece, drawn.source, drawn.confidence, verified
        )

    def _end(self, source: TokenSource) -> None:
        if self.result.finish_reason == "cancelled":
            source.cancel()
            return
        if self.result.finish_reason != "abstained" and self._stops():
            self.result.finish_reason = "stop"
        try:
            source.finish()
        except LinkError:
            source.cancel()  # every token is out already; the cloud has nothing to add

    def _stops(self) -> bool:
        ended = bool(self._drawn) and self._drawn[-1].token == self._engine.tokenizer.end_of_text
        return ended or self._text.stopped

    def _account(self) -> None:
        result = self.result
        result.text = self._text.text
        result.edge_s = self.edge_s
        if self._collaboration is not None:
            self._collaboration.account(result)
        result.energy = self._engine.meter.energy(result.edge_s)
