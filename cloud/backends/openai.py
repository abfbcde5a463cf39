"""Any server of OpenAI's HTTP API as a backend: vLLM, SGLang, llama.cpp's, another agent."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from time import monotonic
from typing import cast

import httpx2

from updraft.cloud.backends.backend import Capabilities, Finish, Piece, Question
from updraft.cloud.backends.breaker import Breaker
from updraft.cloud.backends.config import BackendSettings
from updraft.cloud.backends.openai_wire import (
    Call,
    Said,
    call_of,
    fault_of,
    may_be_tried_again,
    read_answer,
    read_event,
)
from updraft.cloud.backends.probe import list_models, probe, read_body
from updraft.errors import LinkBroken, LinkBusy, LinkError, LinkTimeout, UpdraftError

_DONE = "[DONE]"
_MOST_EVENT_BYTES = 1 << 20
_FIRST_DELAY_S = 0.1
# One answer more than may run at a time, so that the server can always be probed.
_BESIDE = 1

_log = logging.getLogger(__name__)


class _TryAgain(Exception):  # it is no error yet
    """The same request may be answered in a moment."""

    def __init__(self, fault: UpdraftError) -> None:
        super().__init__(str(fault))
        self.fault = fault


class OpenAiServer:
    """Asks one server; knows what it takes, and leaves it alone while it fails."""

    kind = "openai"

    def __init__(self, settings: BackendSettings, url: str, key: str | None) -> None:
        self._settings = settings
        self._breaker = Breaker()
        self._model = settings.model or ""
        self._takes: Capabilities | None = None
        self._looking = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None
        headers = {"Accept-Encoding": "identity"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        # Its own log would repeat ours for every request.
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        self._client = httpx2.AsyncClient(
            base_url=url,
            headers=headers,
            timeout=httpx2.Timeout(
                settings.connect_timeout_s, read=settings.first_text_timeout_s, pool=None
            ),
            limits=httpx2.Limits(max_connections=settings.max_concurrent + _BESIDE),
        )

    @property
    def model(self) -> str:
        return self._model

    @property
    def ready(self) -> bool:
        return self._takes is not None and self._breaker.closed

    @property
    def capabilities(self) -> Capabilities:
        return self._takes or Capabilities()

    def start(self) -> None:
        self._keeper = asyncio.get_running_loop().create_task(self._keep_looking())

    async def close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
        await self._client.aclose()

    async def answer(self, question: Question) -> AsyncGenerator[Piece | Finish, None]:
        for attempt in range(self._settings.retries + 1):
            if attempt:
                delay_s = _FIRST_DELAY_S * 2 ** (attempt - 1)
                await asyncio.sleep(delay_s * random.uniform(0.5, 1.5))
            self._breaker.check()
            begun = False
            try:
                takes = self._takes or await self._look()
                call = call_of(question, self._model, takes)
                async with aclosing(self._ask(call, takes)) as pieces:
                    async for piece in pieces:
                        begun = True
                        yield piece
                self._breaker.succeeded()
                return
            except _TryAgain as again:
                if not isinstance(again.fault, LinkBusy):
                    self._breaker.failed(str(again))
                if begun or attempt == self._settings.retries:
                    raise again.fault from again
            except LinkError as error:
                self._breaker.failed(str(error))
                raise

    async def _ask(self, call: Call, takes: Capabilities) -> AsyncGenerator[Piece | Finish, None]:
        """Ask once.

        Raises:
            _TryAgain: it failed in a way that may pass.
            UpdraftError: it failed otherwise.
        """
        started = before = monotonic()
        events = self._stream(call) if takes.streams else self._whole(call)
        pieces = prompt_tokens = 0
        new_tokens: int | None = None
        reason = None
        async with aclosing(events):
            timeout_s = self._settings.first_text_timeout_s
            while (said := await _soon(events, timeout_s)) is not None:
                if said.text:
                    pieces += 1
                    timeout_s = self._settings.next_text_timeout_s
                    now = monotonic()
                    tokens = 1 if takes.streams else said.new_tokens or 0
                    yield Piece(said.text, tokens, now - before)
                    before = now
                reason = said.finish or reason
                prompt_tokens = said.prompt_tokens or prompt_tokens
                new_tokens = said.new_tokens or new_tokens
        if reason is None:
            raise LinkBroken("the backend's server ended the answer in the middle")
        taken = pieces if new_tokens is None else new_tokens
        yield Finish(reason, prompt_tokens, taken, monotonic() - started)

    async def _stream(self, call: Call) -> AsyncGenerator[Said, None]:
        try:
            async with self._client.stream("POST", call.path, json=call.body) as response:
                await _check(response)
                source = aiter(httpx2.EventSource(response, _MOST_EVENT_BYTES))
                async with aclosing(cast("AsyncGenerator[httpx2.ServerSentEvent]", source)) as all_:
                    async for event in all_:
                        if event.data == _DONE:
                            return
                        if event.data:
                            yield read_event(event.data)
        except httpx2.HTTPError as error:
            raise _explained(error) from error

    async def _whole(self, call: Call) -> AsyncGenerator[Said, None]:
        try:
            async with self._client.stream("POST", call.path, json=call.body) as response:
                await _check(response)
                body = await read_body(response)
        except httpx2.HTTPError as error:
            raise _explained(error) from error
        try:
            yield read_answer(json.loads(body))
        except (ValueError, RecursionError) as error:
            raise LinkBroken("the backend's server said something that is no JSON") from error

    async def _keep_looking(self) -> None:
        while True:
            try:
                await self._look()
                self._breaker.succeeded()
            except _TryAgain as again:
                self._breaker.failed(str(again))
            except UpdraftError as error:
                self._breaker.failed(str(error))
            except Exception:
                _log.exception("the backend's server could not be probed")
            await asyncio.sleep(self._settings.probe_interval_s)

    async def _look(self) -> Capabilities:
        """Ask whether the server is there, and what it takes where that is not known."""
        async with self._looking:
            try:
                names = await asyncio.wait_for(
                    list_models(self._client), self._settings.first_text_timeout_s
                )
                model = self._settings.model or (names[0] if names else "")
                if self._takes is None or model != self._model:
                    self._takes = await probe(self._client, model)
                    self._model = model
                    _log.info("the backend's server runs %s: %s", model, self._takes)
            except httpx2.HTTPError as error:
                raise _explained(error) from error
            except asyncio.TimeoutError as error:
                raise LinkTimeout("the backend's server does not list its models") from error
            return self._takes


async def _soon(events: AsyncIterator[Said], timeout_s: float) -> Said | None:
    """Return what is said next, or None at the end."""

    async def take() -> Said | None:
        async for said in events:
            return said
        return None

    try:
        return await asyncio.wait_for(take(), timeout_s)
    except asyncio.TimeoutError as error:
        raise LinkTimeout(f"the backend's server said nothing for {timeout_s:g} s") from error


async def _check(response: httpx2.Response) -> None:
    """Refuse an answer that is none.

    Raises:
        _TryAgain, UpdraftError: by its status.
    """
    if response.status_code == 200:
        return
    fault = fault_of(response.status_code, await read_body(response))
    raise _TryAgain(fault) if may_be_tried_again(response.status_code) else fault


def _explained(error: httpx2.HTTPError) -> Exception:
    """Return what a failure of HTTP means; before a request was taken it may be tried again."""
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        reason = str(error) or "no connection in time"
        return _TryAgain(LinkBroken(f"the backend's server cannot be reached: {reason}"))
    if isinstance(error, httpx2.TimeoutException):
        return LinkTimeout("the backend's server did not answer in time")
    if isinstance(error, httpx2.RemoteProtocolError | httpx2.NetworkError):
        return _TryAgain(LinkBroken(f"the backend's server broke the connection: {error}"))
    return LinkBroken(f"the backend's server does not speak as it should: {error}")
