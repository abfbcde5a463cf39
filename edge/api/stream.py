"""Server-sent events to a client that may leave, or read more slowly than is decoded."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

_log = logging.getLogger(__name__)


class EventStream(StreamingResponse):
    """Sends one event per JSON object, and `[DONE]` at the end.

    Args:
        write_timeout_s: a client that takes nothing for longer is cut off.
        on_end: called when nobody reads any more, however that came about.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        objects: AsyncIterator[dict[str, Any]],
        write_timeout_s: float,
        on_end: Callable[[], None],
    ) -> None:
        super().__init__(_events(objects), headers={"Cache-Control": "no-store"})
        self._write_timeout_s = write_timeout_s
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end()

    async def stream_response(self, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            await asyncio.wait_for(send(message), self._write_timeout_s)

        try:
            await super().stream_response(send_in_time)
        except asyncio.TimeoutError:
            _log.info("a client reads nothing for %g s: cut off", self._write_timeout_s)


async def _events(objects: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
    async for each in objects:
        yield f"data: {json.dumps(each)}\n\n"
    yield "data: [DONE]\n\n"
