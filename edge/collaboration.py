"""How each mode works with the cloud, and how it goes on after an outage."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from updraft.edge.combination import Contrastive, Proxy
from updraft.edge.policy import ThresholdExit
from updraft.edge.request import COMBINED_MODES, GenerationRequest, GenerationResult
from updraft.edge.session import CloudSession, Terms
from updraft.edge.source import CloudCost, CloudSource, CloudUpper, EdgeSource, TokenSource
from updraft.edge.speculation import Combination, SpeculativeSource
from updraft.edge.stopping import Lookout
from updraft.edge.upstream import Upstream
from updraft.edge.window import Window
from updraft.models.chooser import Chooser
from updraft.models.codecs import wire_codec

if TYPE_CHECKING:
    from updraft.edge.engine import Engine


class Collaboration:
    """One generation's work with the cloud, over as many streams as it takes."""

    def __init__(
        self,
        engine: Engine,
        request: GenerationRequest,
        window: Window,
        chooser: Chooser,
        prompt_tokens: int,
        lookout: Lookout | None,
    ) -> None:
        self._engine = engine
        self._request = request
        self._window = window
        self._lookout = lookout
        self._text_end = prompt_tokens + request.max_tokens
        self._chooser = chooser
        self._cost = CloudCost()
        ids = request.mode == "ids"
        codec = wire_codec(engine.bundle, request.wire)
        combined = request.mode in COMBINED_MODES
        constrained = request.constraint is not None
        self._terms = Terms(
            request.wire,
            request.sampling,
            ids,
            request.plausible_from if combined else None,
            request.constraint,
            prompt_tokens if constrained else 0,
            # Where the logits come, this side knows better.
            None if combined else request.logprobs,
        )
        self._tuned = engine.tuned_window() if request.mode == "proxy" else None
        self._upstream = Upstream(
            window,
            None if ids else codec,
            request.max_uplink_bytes,
            prompt_tokens if constrained else None,
        )
        self._session: CloudSession | None = None

    def start(self, tokens: list[int]) -> TokenSource:
        """Return the source of the first tokens; the session opens in the background."""
        assert self._engine.link is not None, "the engine checks that cloud modes have a link"
        return self._source(self._engine.link.open(self._terms), 0, tokens)

    def reopen(self) -> CloudSession:
        """Take the session up again, or open another when it never was open."""
        link, last = self._engine.link, self._session
        assert link is not None, "the engine checks that cloud modes have a link"
        if last is None or not last.opened.done() or last.opened.exception() is not None:
            return link.open(self._terms)
        return link.resume(self._terms, self._upstream.revival(last.opened.result().session_id))

    def go_on(self, session: CloudSession, tokens: list[int]) -> TokenSource:
        """Return the source of further tokens over a session that is open."""
        return self._source(session, session.opened.result().position, tokens)

    @property
    def edge_s(self) -> float:
        """Seconds that the tuned small model of `proxy` took on this device so far."""
        return 0.0 if self._tuned is None else self._tuned.compute_s

    def escalate(self) -> None:
        """From now on, let the cloud decode the rest of the text."""
        self._request = replace(self._request, mode="cloud", stop_at=None)
        self._session = None  # it holds states, and a generation needs one without
        self._lookout = None

    def account(self, result: GenerationResult) -> None:
        """Write down what the cloud and the way to it cost."""
        cost = self._cost
        if self._terms.logits_above is None:  # else the edge judged, by another formula
            self._engine.pilot.learn(cost.judged, cost.agreed)
        result.cloud_s = cost.compute_s
        result.comm_s = max(0.0, cost.waited_s - cost.compute_s)
        result.cloud_calls, result.cloud_positions = cost.calls, cost.positions
        result.foreseen = cost.foreseen
        result.stalls, result.judged, result.agreed = cost.stalls, cost.judged, cost.agreed
        result.uplink_bytes = self._upstream.payload_bytes + cost.prompt_bytes
        result.downlink_bytes = cost.downlink_bytes

    def _source(self, session: CloudSession, sent: int, tokens: list[int]) -> TokenSource:
        self._session = session
        self._upstream.attach(session, sent)
        request, window, upstream = self._request, self._window, self._upstream
        if request.mode == "cloud":
            return CloudSource(session, tokens, self._text_end - len(tokens), self._cost)
        if request.mode == "threshold":
            upper = CloudUpper(window, upstream, session, self._cost)
            policy = ThresholdExit(request.theta)
            return EdgeSource(window, policy, upper, self._chooser, self._lookout)
        ids = request.mode == "ids"
        tuning = self._engine.pilot.tuning(request.wire, ids, request.temperature)
        return SpeculativeSource(
            window,
            upstream,
            session,
            self._chooser,
            tuning.limited(request.draft_length),
            self._cost,
            self._engine.estimate,
            self._text_end,
            self._engine.commitment(request) if request.mode == "bounded" else None,
            self._combination(),
            self._lookout,
        )

    def _combination(self) -> Combination | None:
        request = self._request
        if request.mode == "contrastive":
            return Contrastive(request.sampling, request.weight, request.plausible_from)
        if self._tuned is None:
            return None
        self._tuned.truncate(0)  # an outage may have left it with drafts that the text lacks
        return Proxy(request.sampling, request.weight, request.plausible_from, self._tuned)
