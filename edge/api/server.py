"""The agent's local HTTP API: its paths, and the way of a request through it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from updraft.edge.api.answers import Answers
from updraft.edge.api.body import Inbox, parse_body
from updraft.edge.api.chat import ChatBody, converse
from updraft.edge.api.completions import CompletionBody, complete
from updraft.edge.api.model import Served
from updraft.edge.api.places import Places
from updraft.edge.api.refusal import (
    CLIENT_CLOSED,
    body_of,
    refuse,
    refuse_http,
    refuse_unforeseen,
)
from updraft.edge.api.serving import Serving
from updraft.edge.api.stream import EventStream
from updraft.edge.config import EdgeConfig
from updraft.edge.engine import Engine
from updraft.edge.governor import Governor
from updraft.errors import UpdraftError

T = TypeVar("T")
Prepare = Callable[[bytes], Answers]


class Api:
    """Serves completions and chats of one engine; `close` when it has ended."""

    def __init__(
        self, engine: Engine, config: EdgeConfig, governor: Governor | None = None
    ) -> None:
        limits = config.api
        self._engine = engine
        self._governor = governor
        self._served = Served(engine, config)
        self._inbox = Inbox()
        self._places = Places(limits.max_generations, limits.queue_length, limits.queue_wait_s)
        self._threads = ThreadPoolExecutor(limits.max_generations, "generation")
        self._write_timeout_s = limits.write_timeout_s
        self.app = Starlette(
            routes=[
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/completions", self._completions, methods=["POST"]),
                Route("/v1/models", self._models),
                Route("/v1/models/{name:path}", self._model),
                Route("/v1/budget", self._budget),
                Route("/healthz", self._health),
            ],
            exception_handlers={
                UpdraftError: refuse,
                HTTPException: refuse_http,
                Exception: refuse_unforeseen,
            },
        )

    def drain(self) -> None:
        """Begin nothing new: what waits is refused, what runs may end. On the event loop."""
        self._places.close()

    def close(self) -> None:
        """Give back what does not belong to a request; idempotent."""
        self._served.chat.close()
        self._threads.shutdown(wait=False)

    async def _completions(self, request: Request) -> Response:
        return await self._answer(
            request, lambda raw: complete(self._parsed(CompletionBody, raw), self._served)
        )

    async def _chat(self, request: Request) -> Response:
        return await self._answer(
            request, lambda raw: converse(self._parsed(ChatBody, raw), self._served)
        )

    def _parsed(self, kind: Any, raw: bytes) -> Any:
        body = parse_body(kind, raw)
        self._served.check_name(body.model)
        return body

    async def _answer(self, request: Request, prepare: Prepare) -> Response:
        raw = await self._inbox.read(request)
        # In a thread: a megabyte takes half a second to tokenize.
        answers = await asyncio.to_thread(prepare, raw)
        del raw
        if (place := await _unless_gone(request, self._places.take())) is None:
            return Response(status_code=CLIENT_CLOSED)
        serving = Serving(answers.orders, place, self._engine, self._governor, self._threads)
        handed_on = False
        try:
            if await _unless_gone(request, _begun(serving)) is None:
                return Response(status_code=CLIENT_CLOSED)
            if answers.stream:
                handed_on = True
                chunks = _chunks(serving, answers)
                return EventStream(chunks, self._write_timeout_s, serving.cancel)
            whole = await _unless_gone(request, _whole(serving, answers))
        finally:
            if not handed_on:
                serving.cancel()
        return Response(status_code=CLIENT_CLOSED) if whole is None else JSONResponse(whole)

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._served.card()]})

    async def _model(self, request: Request) -> Response:
        self._served.check_name(request.path_params["name"])
        return JSONResponse(self._served.card())

    async def _budget(self, request: Request) -> Response:
        if self._governor is None:
            raise HTTPException(404, "no budget is configured: [budget] file names one")
        return JSONResponse(self._governor.state())

    async def _health(self, request: Request) -> Response:
        link = self._engine.link
        return JSONResponse(
            {
                "status": "serving",
                "bundle": self._served.name,
                "fingerprint": self._engine.bundle.fingerprint,
                "coordinator": str(link.endpoint) if link else None,
                "generations": self._places.taken,
                "waiting": self._places.waiting,
                "ledger_fault": self._governor.ledger.fault if self._governor else None,
            }
        )


async def _begun(serving: Serving) -> bool:
    await serving.begin()
    return True


async def _whole(serving: Serving, answers: Answers) -> dict[str, Any]:
    async for event in serving.events():
        answers.take(event)
    return answers.whole()


async def _chunks(serving: Serving, answers: Answers) -> AsyncIterator[dict[str, Any]]:
    for chunk in answers.first():
        yield chunk
    try:
        async for event in serving.events():
            for chunk in answers.take(event):
                yield chunk
    except UpdraftError as error:
        # The status line is out already, so the error travels as an event.
        yield body_of(error)
        return
    for chunk in answers.last():
        yield chunk


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """Return what some work gives; end it and return None where the client leaves first."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        leaving.cancel()
        working.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
