"""Whole requests answered by the coordinator's backend (`request`): text up, text down."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as Late
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc

from updraft.edge.request import GenerationRequest, GenerationResult
from updraft.edge.source import CLOUD, CloudCost, Drawn
from updraft.errors import LinkBroken, LinkClosed, LinkError, LinkTimeout, ProtocolError
from updraft.models.tokenizer import Tokenizer
from updraft.proto.v1 import escalation_pb2 as pb

if TYPE_CHECKING:
    from updraft.edge.engine import Engine
    from updraft.edge.link import CloudLink


# Time for the end of an answer whose text is complete; it says what all of it has taken.
_LAST_WORD_S = 0.5


class AnswerStream:
    """One answer on its way down; frames are read when they are asked for."""

    def __init__(self, link: CloudLink, question: pb.Question) -> None:
        self._link = link
        self._request = pb.EscalationAnswerRequest(question=question)
        self._call: Any = None
        self._ended = False
        link.call_soon(self._start)

    def receive(self, timeout_s: float) -> pb.EscalationAnswerResponse:
        """Wait for the next frame.

        Raises:
            LinkError: it did not come in time, or the answer broke off.
            RequestError: the coordinator or its backend refuses the request.
        """
        reading = self._link.submit(self._read())
        try:
            return reading.result(timeout_s)
        except Late as error:
            reading.cancel()
            self.cancel()
            raise LinkTimeout(
                f"coordinator {self._link.endpoint}: the backend said nothing for {timeout_s:g} s"
            ) from error
        except CancelledError as error:
            raise LinkClosed("the answer was cancelled") from error
        except grpc.aio.AioRpcError as error:
            raise self._link.explain(error) from error

    def cancel(self) -> None:
        """End the answer at once, and with it the backend's work; from any thread."""
        try:
            self._link.call_soon(self._stop)
        except LinkClosed:
            return  # it ended with the link

    # What follows runs on the link's thread.

    def _start(self) -> None:
        if not self._ended:
            self._call = self._link.escalation().Answer(self._request, timeout=self._link.session_s)

    def _stop(self) -> None:
        self._ended = True
        if self._call is not None:
            self._call.cancel()

    async def _read(self) -> pb.EscalationAnswerResponse:
        if self._call is None:
            raise asyncio.CancelledError
        try:
            frame = await self._call.read()
        except grpc.aio.UsageError as error:
            raise LinkClosed("the link is closed") from error
        if frame is grpc.aio.EOF:
            raise LinkBroken(
                f"coordinator {self._link.endpoint}: the answer broke off without an end"
            )
        return frame


class BackendSource:
    """The backend's text, as tokens of this device and the text that they stand for.

    The backend may have any tokenizer: its pieces are given out as they came, and tokenized
    anew so that the device can count them and go on from them alone.
    """

    def __init__(self, link: CloudLink, question: pb.Question, tokenizer: Tokenizer) -> None:
        self.cost = CloudCost()
        self.cost.prompt_bytes += question.ByteSize()
        self.finish_reason = ""
        self._tokenizer = tokenizer
        self._text_s = link.text_s
        self._max_tokens = question.max_tokens
        self._drawn: deque[Drawn] = deque()
        self._held = ""  # text without a token so far
        self._stream = AnswerStream(link, question)
        self._wait_s = link.open_s  # until the coordinator has accepted it

    def next(self, tokens: list[int]) -> Drawn:
        while not self._drawn:
            self._take(self.cost.wait(lambda: self._stream.receive(self._wait_s)))
        return self._drawn.popleft()

    def finish(self) -> None:
        # A stop string is known on this side alone, and tokens are counted otherwise there.
        if not self.finish_reason and self.cost.positions >= self._max_tokens:
            with suppress(LinkError):
                while not self.finish_reason:
                    self._take(self._stream.receive(_LAST_WORD_S))
        self._stream.cancel()

    def cancel(self) -> None:
        self._stream.cancel()

    def _take(self, frame: pb.EscalationAnswerResponse) -> None:
        kind = frame.WhichOneof("frame")
        if kind == "accepted":
            self.cost.calls += 1
            self._wait_s = self._text_s
        elif kind == "piece":
            self._give(frame.piece)
        elif kind == "finish":
            self._end(frame.finish)
        else:
            raise ProtocolError("the coordinator's answer has a frame that says nothing")

    def _give(self, piece: pb.Piece) -> None:
        self.cost.positions += piece.tokens
        self.cost.compute_s += piece.compute_s
        self.cost.downlink_bytes += len(piece.text.encode())
        if not piece.text:
            return
        begins = self._tokenizer.begin_token is not None
        tokens = self._tokenizer.encode(self._held + piece.text)[begins:]
        if not tokens:  # it spells what no text may hold as a token
            self._held += piece.text
            return
        first, *others = tokens
        self._drawn.append(Drawn(first, CLOUD, 0.0, self._held + piece.text))
        self._held = ""
        self._drawn.extend(Drawn(token, CLOUD, 0.0, "") for token in others)

    def _end(self, frame: pb.Finish) -> None:
        self.finish_reason = frame.reason
        self.cost.positions = frame.prompt_tokens + frame.new_tokens
        self.cost.compute_s = frame.compute_s
        self._drawn.append(Drawn(self._tokenizer.end_of_text, CLOUD, 0.0, self._held))


class Escalation:
    """One request's way to the backend, and what it cost."""

    def __init__(self, engine: Engine, request: GenerationRequest) -> None:
        self._engine = engine
        self._request = request
        self._source: BackendSource | None = None

    def start(self) -> BackendSource:
        """Ask; the answer begins in the background.

        Raises:
            LinkError: the link is closed.
        """
        link = self._engine.link
        assert link is not None, "the engine checks that cloud modes have a link"
        question = question_of(self._request)
        self._source = BackendSource(link, question, self._engine.tokenizer)
        return self._source

    def cancel(self) -> None:
        """End the answer at once; from any thread."""
        if self._source is not None:
            self._source.cancel()

    def check_alone(self, length: int, left: int, error: LinkError | None) -> None:
        """Refuse to go on without the backend where the text is too long for this device.

        Args:
            length: of the text so far, in tokens, and `left`, what may follow.

        Raises:
            LinkError: what has failed.
        """
        manifest = self._engine.bundle.manifest
        limit = manifest.architecture.context_length
        if manifest.overflow != "refuse" or length + left <= limit:
            return
        raise LinkBroken(
            f"{error or 'the backend has just failed'}; and alone this device cannot go on: the "
            f"text may have {length + left} tokens, its context holds {limit}"
        ) from error

    def account(self, result: GenerationResult) -> None:
        """Write down what the backend and the way to it cost."""
        if self._source is None:
            return
        cost = self._source.cost
        result.cloud_s = cost.compute_s
        result.comm_s = max(0.0, cost.waited_s - cost.compute_s)
        result.cloud_calls, result.cloud_positions = cost.calls, cost.positions
        result.stalls = cost.stalls
        result.uplink_bytes = cost.prompt_bytes
        result.downlink_bytes = cost.downlink_bytes
        if self._source.finish_reason == "length" and result.finish_reason == "stop":
            result.finish_reason = "length"


def question_of(request: GenerationRequest) -> pb.Question:
    """Return what goes up of a request."""
    question = pb.Question(
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        seed=request.seed,
        stop=request.stop,
        top_p=request.top_p,
        top_k=request.top_k,
    )
    if request.messages is None:
        question.text = request.prompt
    else:
        question.chat.messages = request.messages
    if request.constraint is not None:
        question.form.kind = request.constraint.kind
        question.form.text = request.constraint.text
    return question
