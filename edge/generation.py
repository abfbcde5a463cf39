"""One prompt on its way: the decoding loop that all modes share."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from time import perf_counter
from typing import TYPE_CHECKING

from updraft.edge.link import CloudSession
from updraft.edge.policy import ExitPolicy, NeverExit, StandaloneExit, ThresholdExit
from updraft.edge.reconnect import Reconnect
from updraft.edge.request import GeneratedToken, GenerationRequest, GenerationResult
from updraft.edge.source import (
    CloudCost,
    CloudSource,
    CloudUpper,
    Drawn,
    EdgeSource,
    LocalUpper,
    TokenSource,
)
from updraft.errors import LinkError
from updraft.models.codecs import CODECS
from updraft.models.sampling import Sampling
from updraft.models.tokenizer import TextStream

if TYPE_CHECKING:
    from updraft.edge.engine import Engine

_log = logging.getLogger(__name__)


class Generation:
    """Iterate once to get tokens as they are produced, then read `result`.

    When the cloud is needed and gone, decoding goes on with the edge's own exits: those tokens
    are marked unverified, and the cloud is tried in the background until it is back.
    """

    def __init__(self, engine: Engine, request: GenerationRequest, prompt: list[int]) -> None:
        self.request = request
        self.prompt_tokens = len(prompt)
        self.result = GenerationResult(mode=request.mode)
        self._engine = engine
        self._tokens = list(prompt)
        self._sampling = Sampling(request.temperature, request.seed)
        self._cost = CloudCost()
        self._edge: EdgeSource | None = None
        self._local_upper: LocalUpper | None = None
        self._reconnect: Reconnect | None = None
        self._cancelled = threading.Event()

    @property
    def edge_s(self) -> float:
        """Seconds spent inside the runtime of this process so far."""
        edge = self._edge.compute_s if self._edge is not None else 0.0
        upper = self._local_upper.compute_s if self._local_upper is not None else 0.0
        return edge + upper

    def cancel(self) -> None:
        """Stop before the next token; may be called from any thread."""
        self._cancelled.set()

    def __iter__(self) -> Iterator[GeneratedToken]:
        started = perf_counter()
        source: TokenSource | None = None
        text = TextStream(self._engine.tokenizer, self.request.stop)
        try:
            source = self._first_source()
            while len(self.result.tokens) < self.request.max_tokens:
                if self._cancelled.is_set():
                    self.result.finish_reason = "cancelled"
                    break
                source, drawn = self._draw(source)
                piece = text.push(drawn.token)
                stops = drawn.token == self._engine.tokenizer.end_of_text or text.stopped
                if stops or len(self.result.tokens) + 1 == self.request.max_tokens:
                    piece += text.finish()
                yield self._record(drawn, piece)
                if stops:
                    self.result.finish_reason = "stop"
                    break
            self.result.total_s = perf_counter() - started
            self._end(source)
        except BaseException:
            if source is not None:
                source.cancel()
            raise
        finally:
            if self._reconnect is not None:
                self._reconnect.abandon()
            self.result.text = text.text
            self._account()

    def _draw(self, source: TokenSource) -> tuple[TokenSource, Drawn]:
        """Return the next token, and the source that gives the ones after it."""
        try:
            if self._reconnect is not None and (session := self._reconnect.poll()) is not None:
                source = self._collaborate(session)
                self._reconnect = None
            return source, source.next(self._tokens)
        except LinkError as error:
            source.cancel()
            source = self._alone(error)
            return source, source.next(self._tokens)

    def _first_source(self) -> TokenSource:
        mode, model = self.request.mode, self._engine.model
        if mode == "full":
            split = self._engine.bundle.manifest.split
            self._local_upper = LocalUpper(model, split, self._sampling)
            return self._on_edge(NeverExit(), self._local_upper)
        if mode == "standalone":
            return self._on_edge(StandaloneExit(self.request.theta), None)
        assert self._engine.link is not None, "the engine checks that cloud modes have a link"
        if self._engine.backoff.ready:
            try:
                source = self._collaborate(
                    self._engine.link.open(self.request.wire, self._sampling)
                )
            except LinkError as error:
                return self._alone(error)
            self._engine.backoff.succeeded()
            return source
        return self._alone(None)

    def _collaborate(self, session: CloudSession) -> TokenSource:
        """Go on with the cloud, from the start or after an outage."""
        if self.request.mode == "cloud":
            remaining = self.request.max_tokens - len(self.result.tokens)
            return CloudSource(session, self._tokens, remaining, self._cost)
        upper = CloudUpper(session, CODECS[self.request.wire], self._cost)
        return self._on_edge(ThresholdExit(self.request.theta), upper)

    def _alone(self, error: LinkError | None) -> TokenSource:
        """Go on without the cloud and try it again in the background.

        Args:
            error: what has just failed; None while the cloud is known to be gone.
        """
        assert self._engine.link is not None, "only cloud modes lose the cloud"
        if error is not None:
            self._engine.backoff.failed()
            _log.warning("going on without the coordinator: %s", error)
        self.result.degraded = True
        if self.result.unverified_from is None:
            self.result.unverified_from = len(self._tokens)
        self._reconnect = Reconnect(
            self._engine.link, self._engine.backoff, self.request.wire, self._sampling
        )
        return self._on_edge(StandaloneExit(self.request.theta), None)

    def _on_edge(self, policy: ExitPolicy, upper: LocalUpper | CloudUpper | None) -> EdgeSource:
        """Use the edge's layers, and what they have computed of this text already."""
        if self._edge is None:
            split = self._engine.bundle.manifest.split
            below = self._engine.model.below(split)
            self._edge = EdgeSource(below, policy, upper, self._sampling)
        else:
            self._edge.policy = policy
            self._edge.replace_upper(upper)
        return self._edge

    def _record(self, drawn: Drawn, piece: str) -> GeneratedToken:
        position = len(self._tokens)
        self._tokens.append(drawn.token)
        self.result.tokens.append(drawn.token)
        self.result.decisions[drawn.source] += 1
        verified = self._reconnect is None
        return GeneratedToken(
            position, drawn.token, piece, drawn.source, drawn.confidence, verified
        )

    def _end(self, source: TokenSource) -> None:
        if self.result.finish_reason == "cancelled":
            source.cancel()
            return
        try:
            source.finish()
        except LinkError:
            source.cancel()  # every token is out already; the cloud has nothing to add

    def _account(self) -> None:
        result, cost = self.result, self._cost
        result.edge_s = self.edge_s
        result.cloud_s = cost.compute_s
        result.comm_s = max(0.0, cost.waited_s - cost.compute_s)
        result.cloud_calls, result.cloud_positions = cost.calls, cost.positions
        result.uplink_bytes, result.downlink_bytes = cost.uplink_bytes, cost.downlink_bytes
        result.energy = self._engine.meter.energy(result.edge_s)
