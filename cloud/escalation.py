"""The coordinator's end of escalation: whole requests in, the backend's text out, within limits."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, cast

import grpc

from updraft.cloud.backends.backend import Backend, Finish, Piece, Question
from updraft.cloud.backends.config import BackendSettings
from updraft.cloud.status import abort
from updraft.errors import LinkBusy, LinkTimeout, RequestError, UpdraftError
from updraft.models.constraint import Constraint, ConstraintKind
from updraft.models.sampling import LARGEST_TOP_K
from updraft.proto.v1 import escalation_pb2 as pb
from updraft.proto.v1 import escalation_pb2_grpc as rpc

_LARGEST_TEMPERATURE = 100.0
_MOST_STOPS = 16
_MOST_MESSAGES = 10_000
_ACCEPTED = pb.EscalationAnswerResponse(accepted=pb.Accepted())


class EscalationService(rpc.EscalationServicer):
    """Serves one backend; lives on the event loop."""

    def __init__(self, backend: Backend, settings: BackendSettings) -> None:
        self._backend = backend
        self._settings = settings
        self._turns = asyncio.Semaphore(settings.max_concurrent)
        self._running = self._waiting = 0
        self._closing = False
        self._idle = asyncio.Event()

    @property
    def most_calls(self) -> int:
        """Calls that may be open at one time."""
        return self._settings.max_concurrent + self._settings.max_waiting

    def start(self) -> None:
        """Begin to look after the backend; call on the event loop."""
        self._backend.start()

    async def close(self, drain_s: float) -> None:
        """Take no more requests, give running ones time to end, and let the backend go."""
        self._closing = True
        if self._running:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._idle.wait(), drain_s)
        await self._backend.close()

    async def GetBackend(  # noqa: N802  # the name on the wire
        self, request: pb.GetBackendRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetBackendResponse:
        backend = self._backend
        takes = backend.capabilities
        return pb.GetBackendResponse(
            kind=backend.kind,
            model=backend.model,
            ready=backend.ready,
            running=self._running,
            waiting=self._waiting,
            capabilities=pb.Capabilities(
                text=takes.text,
                chat=takes.chat,
                streams=takes.streams,
                seeds=takes.seeds,
                json_schema=takes.json_schema,
                grammar=takes.grammar,
                logprobs=takes.logprobs,
            ),
        )

    async def Answer(  # noqa: N802
        self, request: pb.EscalationAnswerRequest, context: grpc.aio.ServicerContext
    ) -> None:
        left = context.time_remaining()
        timeout_s = min(self._settings.answer_timeout_s, math.inf if left is None else left)
        try:
            question = read_question(request.question, self._settings)
            await asyncio.wait_for(self._answer(question, context), timeout_s)
        except UpdraftError as error:
            await abort(context, error, private=True)
        except asyncio.TimeoutError:
            await abort(context, LinkTimeout(f"the answer was not complete in {timeout_s:.1f} s"))

    async def _answer(self, question: Question, context: grpc.aio.ServicerContext) -> None:
        async with self._turn(context), aclosing(self._backend.answer(question)) as events:
            async for event in events:
                await _write(context, _frame(event))

    @asynccontextmanager
    async def _turn(self, context: grpc.aio.ServicerContext) -> AsyncIterator[None]:
        """Wait for a turn, and let the client know at once that it will get one."""
        settings = self._settings
        self._check_open()
        if self._turns.locked() and self._waiting >= settings.max_waiting:
            raise LinkBusy(
                f"{settings.max_concurrent} requests are being answered and {self._waiting} "
                "wait, the limit; try later"
            )
        self._waiting += 1
        try:
            await _write(context, _ACCEPTED)
            await asyncio.wait_for(self._turns.acquire(), settings.wait_timeout_s)
        except asyncio.TimeoutError as error:
            raise LinkBusy(
                f"the backend was busy with others for {settings.wait_timeout_s:g} s; try later"
            ) from error
        finally:
            self._waiting -= 1
        self._running += 1
        try:
            self._check_open()  # it may have waited for long
            yield
        finally:
            self._running -= 1
            self._turns.release()
            if self._closing and not self._running:
                self._idle.set()

    def _check_open(self) -> None:
        if self._closing:
            raise LinkBusy("the coordinator is stopping; ask again soon")


async def _write(context: grpc.aio.ServicerContext, frame: pb.EscalationAnswerResponse) -> None:
    try:
        await context.write(frame)
    except (grpc.aio.InternalError, grpc.aio.UsageError) as error:
        raise asyncio.CancelledError("the client is gone") from error


def read_question(asked: pb.Question, settings: BackendSettings) -> Question:
    """Check what is asked.

    Raises:
        RequestError: it can never be answered.
    """
    kind = asked.WhichOneof("input")
    if kind is None:
        raise RequestError("a question needs a text or a chat")
    content = asked.text if kind == "text" else asked.chat.messages
    size = len(content.encode())
    if not 0 < size <= settings.max_prompt_bytes:
        raise RequestError(
            f"the {kind} has {size} bytes, this backend takes 1 to {settings.max_prompt_bytes}"
        )
    if not 0 < asked.max_tokens <= settings.max_tokens:
        raise RequestError(
            f"max_tokens {asked.max_tokens}: this backend answers with 1 to {settings.max_tokens}"
        )
    if not 0 <= asked.temperature <= _LARGEST_TEMPERATURE:
        raise RequestError(
            f"temperature {asked.temperature} lies outside 0 to {_LARGEST_TEMPERATURE:g}"
        )
    top_p = asked.top_p if asked.HasField("top_p") else 1.0
    if not 0 < top_p <= 1:
        raise RequestError(f"top_p {top_p} must be above 0 and at most 1")
    top_k = asked.top_k if asked.HasField("top_k") else None
    if top_k is not None and not 1 <= top_k <= LARGEST_TOP_K:
        raise RequestError(f"top_k {top_k} lies outside 1 to {LARGEST_TOP_K}")
    if asked.seed >= 1 << 63:
        raise RequestError(f"seed {asked.seed} lies outside 0 to 2^63 - 1")
    if len(asked.stop) > _MOST_STOPS or not all(asked.stop):
        raise RequestError(f"stop takes up to {_MOST_STOPS} strings, none of them empty")
    return Question(
        text=content if kind == "text" else None,
        messages=() if kind == "text" else _messages(content),
        max_tokens=asked.max_tokens,
        temperature=asked.temperature,
        seed=asked.seed,
        top_p=top_p,
        top_k=top_k,
        stop=tuple(asked.stop),
        constraint=_constraint(asked.form) if asked.HasField("form") else None,
    )


def _constraint(form: pb.Form) -> Constraint:
    return Constraint(cast("ConstraintKind", form.kind), form.text)  # it checks both


def _messages(content: str) -> tuple[dict[str, Any], ...]:
    try:
        messages = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RequestError("the chat is no JSON array of messages") from error
    if not (isinstance(messages, list) and all(isinstance(one, dict) for one in messages)):
        raise RequestError("the chat is no JSON array of messages")
    if not 0 < len(messages) <= _MOST_MESSAGES:
        raise RequestError(f"a chat has 1 to {_MOST_MESSAGES} messages, {len(messages)} came")
    return tuple(messages)


def _frame(event: Piece | Finish) -> pb.EscalationAnswerResponse:
    if isinstance(event, Piece):
        piece = pb.Piece(**event._asdict())
        return pb.EscalationAnswerResponse(piece=piece)
    finish = pb.Finish(**event._asdict())
    return pb.EscalationAnswerResponse(finish=finish)
