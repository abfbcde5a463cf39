"""The agent's local HTTP API."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from updraft.edge.completions import Responses, parse_body, to_request
from updraft.edge.config import EdgeConfig
from updraft.edge.engine import Engine
from updraft.edge.generation import Generation
from updraft.edge.governor import Governor
from updraft.edge.request import GeneratedToken, GenerationRequest
from updraft.edge.ticket import Ticket
from updraft.errors import BudgetExceeded, RequestError, UpdraftError
from updraft.errors.catalogue import status_of

_MAX_BODY_BYTES = 4 << 20
_log = logging.getLogger(__name__)


class Api:
    """Serves completions of one engine."""

    def __init__(
        self, engine: Engine, config: EdgeConfig, governor: Governor | None = None
    ) -> None:
        self._engine = engine
        self._governor = governor
        self._config = config
        self._running = 0
        self._threads = ThreadPoolExecutor(config.api.max_generations, "generation")
        self.app = Starlette(
            routes=[
                Route("/v1/completions", self._completions, methods=["POST"]),
                Route("/v1/models", self._models),
                Route("/v1/budget", self._budget),
                Route("/healthz", self._health),
            ],
            exception_handlers={UpdraftError: _refuse, HTTPException: _refuse_http},
        )

    async def _completions(self, request: Request) -> Response:
        body = parse_body(await _read_body(request))
        asked = to_request(body, self._config.decoding, self._engine.link is not None)
        own_mode = (body.updraft.mode or self._config.decoding.mode) is not None
        # In a thread: a prompt of a megabyte takes half a second to tokenize.
        prompt = await asyncio.to_thread(self._engine.tokenizer.encode, asked.prompt)
        if self._is_full:
            return self._busy()
        ticket: Ticket | None = None
        if self._governor is not None:
            ticket = await self._governor.admit(asked, len(prompt), own_mode=own_mode)
            if self._is_full:  # meanwhile, if it had to wait
                self._governor.release(ticket)
                return self._busy()
        self._running += 1
        try:
            generation = await asyncio.to_thread(self._start, asked, prompt, ticket)
        except BaseException:
            self._running -= 1
            raise
        tokens = self._decode(generation, ticket)
        responses = Responses(self._engine.bundle.manifest.name, partial(self._statement, ticket))
        if body.stream:
            with_usage = body.stream_options is not None and body.stream_options.include_usage
            return EventSourceResponse(self._stream(generation, tokens, responses, with_usage))
        async for _ in tokens:
            if await request.is_disconnected():
                generation.cancel()
        return JSONResponse(responses.whole(generation))

    async def _stream(
        self,
        generation: Generation,
        tokens: AsyncIterator[GeneratedToken],
        responses: Responses,
        with_usage: bool,
    ) -> AsyncIterator[dict[str, str]]:
        try:
            async for token in tokens:
                yield {"data": json.dumps(responses.chunk(token))}
            yield {"data": json.dumps(responses.last_chunk(generation))}
            if with_usage:
                yield {"data": json.dumps(responses.usage_chunk(generation))}
        except UpdraftError as error:
            # The status line is out already, so the error travels as an event.
            yield {"data": json.dumps(_error_body(str(error), error.code))}
        yield {"data": "[DONE]"}

    def _decode(
        self, generation: Generation, ticket: Ticket | None
    ) -> AsyncIterator[GeneratedToken]:
        """Run the decoding loop in a thread; its place is taken until it has ended."""
        loop = asyncio.get_running_loop()
        # Bounded by max_tokens, which the context bounds.
        queue: asyncio.Queue[GeneratedToken | None] = asyncio.Queue()

        def decode() -> None:
            try:
                for token in self._follow(generation, ticket):
                    loop.call_soon_threadsafe(queue.put_nowait, token)
            finally:
                loop.call_soon_threadsafe(queue.put_nowait, None)

        def end(work: asyncio.Future[None]) -> None:
            self._running -= 1
            if not work.cancelled() and work.exception() is not None:
                _log.info("a generation failed: %s", work.exception())

        work = loop.run_in_executor(self._threads, decode)
        work.add_done_callback(end)
        return _tokens(generation, queue, work)

    @property
    def _is_full(self) -> bool:
        return self._running >= self._config.api.max_generations

    def _busy(self) -> Response:
        return _error(
            f"{self._running} generations are running, the limit of this agent; try later",
            "busy",
            429,
        )

    def _start(
        self, asked: GenerationRequest, prompt: list[int], ticket: Ticket | None
    ) -> Generation:
        if self._governor is None or ticket is None:
            return self._engine.start(asked, prompt)
        return self._governor.start(self._engine, ticket, prompt)

    def _follow(self, generation: Generation, ticket: Ticket | None) -> Iterator[GeneratedToken]:
        if self._governor is None or ticket is None:
            return generation.settled()
        return self._governor.follow(ticket, generation)

    def _statement(self, ticket: Ticket | None) -> dict[str, Any]:
        if self._governor is None or ticket is None:
            return {}
        return self._governor.statement(ticket)

    async def _budget(self, request: Request) -> Response:
        if self._governor is None:
            raise HTTPException(404, "no budget is configured: [budget] file names one")
        return JSONResponse(self._governor.state())

    async def _models(self, request: Request) -> Response:
        model = {"id": self._engine.bundle.manifest.name, "object": "model", "owned_by": "updraft"}
        return JSONResponse({"object": "list", "data": [model]})

    async def _health(self, request: Request) -> Response:
        link = self._engine.link
        return JSONResponse(
            {
                "status": "serving",
                "bundle": self._engine.bundle.manifest.name,
                "fingerprint": self._engine.bundle.fingerprint,
                "coordinator": str(link.endpoint) if link else None,
                "generations": self._running,
                "ledger_fault": self._governor.ledger.fault if self._governor else None,
            }
        )


async def _tokens(
    generation: Generation,
    queue: asyncio.Queue[GeneratedToken | None],
    work: asyncio.Future[None],
) -> AsyncIterator[GeneratedToken]:
    """Give the tokens that a thread decodes; leaving this iterator cancels it."""
    try:
        while (token := await queue.get()) is not None:
            yield token
        await work
    finally:
        generation.cancel()


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MAX_BODY_BYTES:
            raise RequestError(f"the request is larger than {_MAX_BODY_BYTES} bytes")
    return bytes(body)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, UpdraftError)
    _log.info("refused: %s", error.code)
    response = _error(str(error), error.code, status_of(error).http)
    if isinstance(error, BudgetExceeded) and error.retry_after_s is not None:
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    return response


async def _refuse_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.detail, "http", error.status_code)


def _error(message: str, code: str, status: int) -> Response:
    return JSONResponse(_error_body(message, code), status_code=status)


def _error_body(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": code}}
