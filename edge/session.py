"""One session with the coordinator, as the decoding loop sees it: frames out, events in.

Frames leave in order and without waiting, within the credit that the coordinator gives; what it
answers is waited for with a deadline.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any, NamedTuple, Protocol, cast

import grpc
import numpy as np
from numpy.typing import NDArray

from updraft.config.endpoint import Endpoint
from updraft.errors import LinkBroken, LinkClosed, LinkTimeout, ProtocolError, UpdraftError
from updraft.models.constraint import Constraint
from updraft.models.logprobs import LogProbabilities
from updraft.models.manifest import CodecName
from updraft.models.sampling import Sampling
from updraft.proto.v1 import collaboration_pb2 as pb
from updraft.proto.v1 import collaboration_pb2_grpc as rpc

_log = logging.getLogger(__name__)

# What every coordinator takes before its `Opened` says more: nothing waits a round trip for it.
_FIRST_CREDIT = 256
# Positions per frame: every coordinator takes as many, and a verdict waits behind few.
FRAME_POSITIONS = 64
# Time for the coordinator to learn that a session is over and not merely cut.
_LAST_WORD_S = 0.2


@dataclass(frozen=True)
class Terms:
    """What a session is opened with.

    Attributes:
        tokens: inputs are token ids and the cloud runs all layers; else they are states.
        logits_above: verdicts bring the logits of tokens at least this probable, as a share of
            the best token's probability, and judge nothing; 0: all logits; None: they judge.
        constraint: what the completion must be, which begins at `start` of the text.
        log_probabilities: so many come with each token, its own apart; None: none do.
    """

    codec: CodecName
    sampling: Sampling
    tokens: bool = False
    logits_above: float | None = None
    constraint: Constraint | None = None
    start: int = 0
    log_probabilities: int | None = None

    def to_frame(self, fingerprint: str) -> pb.Open:
        """Return the frame that opens such a session."""
        sampling, constraint = self.sampling, self.constraint
        return pb.Open(
            protocol=pb.PROTOCOL_V1,
            fingerprint=fingerprint,
            codec=pb.Codec.Value(f"CODEC_{self.codec.upper()}"),
            temperature=sampling.temperature,
            seed=sampling.seed,
            inputs=pb.INPUTS_TOKENS if self.tokens else pb.INPUTS_STATES,
            logits_above=self.logits_above or 0.0,
            all_logits=self.logits_above == 0,
            top_p=sampling.top_p if sampling.top_p < 1 else None,
            top_k=sampling.top_k,
            constraint=None
            if constraint is None
            else pb.Constraint(kind=constraint.kind, text=constraint.text, start=self.start),
            log_probabilities=self.log_probabilities,
        )


class Revival(NamedTuple):
    """How a session is taken up again; see `Resume` in the wire."""

    session_id: str
    epoch: int
    length: int
    prefix_hash: bytes


@dataclass(frozen=True)
class Inputs:
    """Inputs of consecutive positions of the window; see `States` in the wire."""

    epoch: int
    position: int
    count: int
    payload: bytes
    drafts: Sequence[int] = ()
    committed: Sequence[bool] = ()
    flush: bool = False
    window_start: int = 0
    if_replaced: tuple[int, int] | None = None
    tokens: Sequence[int] = ()

    def to_frame(self) -> pb.States:
        """Return the frame that carries them."""
        return pb.States(
            epoch=self.epoch,
            position=self.position,
            count=self.count,
            payload=self.payload,
            drafts=self.drafts,
            committed=self.committed,
            flush=self.flush,
            window_start=self.window_start,
            if_replaced=None
            if self.if_replaced is None
            else pb.Replacement(position=self.if_replaced[0], token=self.if_replaced[1]),
            tokens=self.tokens,
        )


class CloudToken(NamedTuple):
    """The cloud's token and what it cost there."""

    position: int
    token: int
    confidence: float
    computed_positions: int
    compute_s: float
    last: bool
    logprobs: LogProbabilities | None


class Verdict(NamedTuple):
    """What the whole model says of drafts; see `Verdict` in the wire.

    Attributes:
        logits: per draft the tokens (None: all) and their logits, where the session asked.
        logprobs: per draft, likewise.
    """

    epoch: int
    position: int
    tokens: Sequence[int]
    rejected: bool
    confidences: Sequence[float]
    computed_positions: int
    compute_s: float
    logits: Sequence[tuple[NDArray[np.int64] | None, NDArray[np.float32]]]
    logprobs: Sequence[LogProbabilities]


class NeedFrom(NamedTuple):
    """The cloud lacks the inputs from this position on."""

    epoch: int
    position: int


class Opened(NamedTuple):
    """The session is open, `seconds` after it was asked for over a connection."""

    session_id: str
    resumed: bool
    position: int
    seconds: float


Event = CloudToken | Verdict | NeedFrom


class Line(Protocol):
    """The link that a session runs over."""

    endpoint: Endpoint
    answer_s: float
    open_s: float
    session_s: float

    def stub(self) -> rpc.CollaborationStub:
        """Return a client on the link's channel."""

    def call_soon(self, function: Any, *arguments: Any) -> None:
        """Run a function on the link's thread."""

    def start_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task; call on the link's thread."""

    def explain(self, error: grpc.aio.AioRpcError) -> UpdraftError:
        """Turn a gRPC status into an error that says who is at fault."""


class CloudSession:
    """Opens in the background: frames may be handed over at once and go out as soon as they may.

    Attributes:
        opened: set when the coordinator has accepted the session, or with the reason why not.
    """

    def __init__(self, line: Line, first: pb.CollaborateRequest) -> None:
        self.opened: Future[Opened] = Future()
        self._line = line
        self._first = first
        self._outbox: asyncio.Queue[pb.CollaborateRequest | None] = asyncio.Queue()
        self._events: SimpleQueue[Event | UpdraftError] = SimpleQueue()
        self._fault: UpdraftError | None = None
        self._sent = self._acknowledged = 0
        self._credit = _FIRST_CREDIT
        self._credit_came = asyncio.Event()
        self._call: Any = None
        self._grace_s = line.answer_s
        self._tasks: list[asyncio.Task[None]] = []
        line.call_soon(self._start)

    def send(self, inputs: Inputs) -> None:
        """Send inputs of up to `FRAME_POSITIONS` positions; returns at once."""
        self._put(pb.CollaborateRequest(states=inputs.to_frame()))

    def upload(self, frames: list[Inputs]) -> None:
        """Send many inputs on a stream of their own; returns at once."""
        if self._fault is not None:
            raise self._fault
        requests = [pb.UploadRequest(states=frame.to_frame()) for frame in frames]
        self._line.call_soon(self._start_upload, requests)

    def ask(self, epoch: int, length: int, position: int) -> None:
        """Ask for the token that follows `length` inputs; `receive` brings it."""
        self._put(pb.CollaborateRequest(ask=pb.Ask(epoch=epoch, length=length, position=position)))

    def generate(self, tokens: list[int], max_tokens: int) -> None:
        """Let the cloud decode; `receive` brings its tokens."""
        frame = pb.Generate(tokens=tokens, max_tokens=max_tokens)
        self._put(pb.CollaborateRequest(generate=frame))

    def receive(self, timeout_s: float | None = None) -> Event:
        """Wait for what the coordinator says next.

        Args:
            timeout_s: the link's answer deadline by default.

        Raises:
            LinkError: nothing came before the deadline, or the stream broke.
            ProtocolError: the coordinator refused a frame.
        """
        timeout_s = self._line.answer_s if timeout_s is None else timeout_s
        wait((self.opened,), self._line.open_s)  # if it fails, the reason is the next event
        try:
            return self._checked(self._events.get(timeout=timeout_s))
        except Empty as error:
            self._line.call_soon(self._drop)
            raise LinkTimeout(
                f"coordinator {self._line.endpoint}: no answer within {timeout_s:g} s"
            ) from error

    def poll(self) -> Event | None:
        """Return what the coordinator said, if it did; never waits."""
        try:
            return self._checked(self._events.get_nowait())
        except Empty:
            return None

    @property
    def has_news(self) -> bool:
        """Whether `poll` would return something."""
        return not self._events.empty()

    def finish(self) -> None:
        """Let what was sent go out in the background, then end the session."""
        try:
            self._line.call_soon(self._outbox.put_nowait, None)
        except LinkClosed:
            _log.debug("the link was closed before its session")

    def cancel(self) -> None:
        """End the session at once; what was not sent is dropped."""
        try:
            self._line.call_soon(self._abandon)
        except LinkClosed:
            _log.debug("the link was closed before its session")

    def _checked(self, event: Event | UpdraftError) -> Event:
        if isinstance(event, UpdraftError):
            self._events.put(event)  # for whoever asks next
            raise event
        return event

    def _put(self, frame: pb.CollaborateRequest) -> None:
        if self._fault is not None:
            raise self._fault
        self._line.call_soon(self._outbox.put_nowait, frame)

    # What follows runs on the link's thread.

    def _start(self) -> None:
        self._started = perf_counter()
        try:
            self._call = self._line.stub().Collaborate(timeout=self._line.session_s)
        except grpc.aio.UsageError:
            self._fail(LinkClosed("the link is closed"))
            return
        self._tasks = [self._line.start_task(self._write()), self._line.start_task(self._read())]

    def _drop(self) -> None:
        """Cut the stream; the coordinator keeps the session for a while."""
        if self._call is not None:
            self._call.cancel()

    def _abandon(self) -> None:
        while not self._outbox.empty():
            self._outbox.get_nowait()
        self._outbox.put_nowait(None)
        self._grace_s = _LAST_WORD_S

    async def _write(self) -> None:
        try:
            await self._call.write(self._first)
            self._started = perf_counter()  # connected: the answer is a round trip away
            while (frame := await self._outbox.get()) is not None:
                if frame.WhichOneof("frame") == "states":
                    await self._take_credit(frame.states.count)
                await self._call.write(frame)
            await self._call.write(pb.CollaborateRequest(close=pb.Close()))
            await self._call.done_writing()
            # Time for the last frames to be taken and the stream to end in order.
            await asyncio.sleep(self._grace_s)
            self._call.cancel()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            self._call.cancel()  # the reader learns the reason and reports it
        except UpdraftError as error:
            self._fail(error)
            self._call.cancel()

    async def _take_credit(self, positions: int) -> None:
        self._sent += positions
        while self._sent - self._acknowledged > self._credit:
            self._credit_came.clear()
            try:
                await asyncio.wait_for(self._credit_came.wait(), self._line.answer_s)
            except asyncio.TimeoutError as error:
                raise LinkTimeout(
                    f"coordinator {self._line.endpoint}: took none of {self._credit} positions "
                    f"for {self._line.answer_s:g} s"
                ) from error

    async def _read(self) -> None:
        fault: UpdraftError = LinkBroken(f"coordinator {self._line.endpoint}: it ended the session")
        try:
            await self._greet()
            while (response := await self._call.read()) is not grpc.aio.EOF:
                self._take(response)
        except grpc.aio.AioRpcError as error:
            fault = self._line.explain(error)
            if error.code() is grpc.StatusCode.INTERNAL and not self.opened.done():
                fault = await self._ask_why(fault)
        except asyncio.CancelledError:
            fault = LinkClosed(f"coordinator {self._line.endpoint}: the session was cancelled")
        except UpdraftError as error:
            fault = error
        finally:
            self._call.cancel()
            for task in self._tasks:
                task.cancel()
            self._fail(fault)

    async def _ask_why(self, fault: UpdraftError) -> UpdraftError:
        """Open once more: gRPC forgets why it was refused where a frame was on its way."""
        call = self._line.stub().Collaborate(timeout=self._line.open_s)
        try:
            await call.write(self._first)
            await call.read()
        except grpc.aio.AioRpcError as error:
            return self._line.explain(error)
        finally:
            call.cancel()
        return fault

    async def _greet(self) -> None:
        line = self._line
        try:
            response = await asyncio.wait_for(self._call.read(), line.open_s)
        except asyncio.TimeoutError as error:
            raise LinkTimeout(
                f"coordinator {line.endpoint}: no session within {line.open_s:g} s"
            ) from error
        if response is grpc.aio.EOF or response.WhichOneof("frame") != "opened":
            raise ProtocolError(f"coordinator {line.endpoint}: no Opened frame came back")
        if self._fault is not None:
            raise self._fault
        frame = response.opened
        self._check_features(frame)
        self._credit = max(self._credit, frame.credit)
        self._credit_came.set()
        seconds = perf_counter() - self._started
        self.opened.set_result(Opened(frame.session_id, frame.resumed, frame.position, seconds))

    def _check_features(self, opened: pb.Opened) -> None:
        """Refuse a coordinator that would pass over what was asked for."""
        resumes = self._first.WhichOneof("frame") == "resume"
        opening = self._first.resume.open if resumes else self._first.open
        if missing := _needed(opening) - set(opened.features):
            names = [pb.Feature.Name(feature).removeprefix("FEATURE_") for feature in missing]
            raise ProtocolError(
                f"coordinator {self._line.endpoint} is too old for this request: it does not know "
                f"{', '.join(sorted(names)).lower()}; upgrade it, or choose mode 'standalone'"
            )

    def _take(self, response: pb.CollaborateResponse) -> None:
        kind = response.WhichOneof("frame")
        if kind == "verdict":
            self._events.put(_verdict(response.verdict))
        elif kind == "token":
            frame = response.token
            token = CloudToken(
                frame.position,
                frame.token,
                frame.confidence,
                frame.computed_positions,
                frame.compute_s,
                frame.last,
                _log_probabilities(frame.log_probabilities)
                if frame.HasField("log_probabilities")
                else None,
            )
            self._events.put(token)
        elif kind == "ack":
            self._acknowledged = max(self._acknowledged, response.ack.received)
            self._credit_came.set()
        elif kind == "need_from":
            self._events.put(NeedFrom(response.need_from.epoch, response.need_from.position))
        # Evicted asks for nothing: NeedFrom follows the next frame.

    def _start_upload(self, requests: list[pb.UploadRequest]) -> None:
        self._tasks.append(self._line.start_task(self._upload(requests)))

    async def _upload(self, requests: list[pb.UploadRequest]) -> None:
        try:
            opened = await asyncio.wrap_future(self.opened)
            call = cast("Any", self._line.stub()).Upload(timeout=self._line.session_s)
            await call.write(pb.UploadRequest(session_id=opened.session_id))
            for request in requests:
                await asyncio.wait_for(call.write(request), self._line.answer_s)
            await call.done_writing()
            await asyncio.wait_for(call, self._line.answer_s)
        except grpc.aio.AioRpcError as error:
            self._fail(self._line.explain(error))
            self._drop()
        except asyncio.TimeoutError:
            self._fail(LinkTimeout(f"coordinator {self._line.endpoint}: an upload stood still"))
            self._drop()
        except (UpdraftError, asyncio.InvalidStateError):
            self._drop()  # the session did not open or ended meanwhile, and says why itself

    def _fail(self, fault: UpdraftError) -> None:
        if self._fault is None:
            self._fault = fault
            self._events.put(fault)
            if not self.opened.done():
                self.opened.set_exception(fault)


def _verdict(frame: pb.Verdict) -> Verdict:
    logits = [
        (
            np.array(entry.tokens, np.int64) if entry.tokens else None,
            np.array(entry.values, np.float32),
        )
        for entry in frame.logits
    ]
    return Verdict(
        frame.epoch,
        frame.position,
        frame.tokens,
        frame.rejected,
        frame.confidences,
        frame.computed_positions,
        frame.compute_s,
        logits,
        [_log_probabilities(entry) for entry in frame.log_probabilities],
    )


def _log_probabilities(frame: pb.LogProbabilities) -> LogProbabilities:
    if not np.isfinite([frame.chosen, *frame.values]).all():
        raise ProtocolError("the coordinator sent a log probability that is no finite number")
    return LogProbabilities(frame.chosen, list(zip(frame.tokens, frame.values, strict=False)))


def _needed(opening: pb.Open) -> set[pb.Feature]:
    """Return what the coordinator must understand to serve a session as it is asked for."""
    asked = {
        pb.FEATURE_CONSTRAINT: opening.HasField("constraint"),
        pb.FEATURE_TRUNCATION: opening.HasField("top_p") or opening.HasField("top_k"),
        pb.FEATURE_LOG_PROBABILITIES: opening.HasField("log_probabilities"),
    }
    return {feature for feature, is_asked in asked.items() if is_asked}
