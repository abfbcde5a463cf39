"""Finds out what a server of OpenAI's API takes, by asking it for single tokens."""

from __future__ import annotations

import json
from typing import Any

import httpx2

from updraft.cloud.backends.backend import Capabilities
from updraft.cloud.backends.openai_wire import fault_of
from updraft.errors import LinkBroken, RequestError

_MOST_BYTES = 4 << 20
_SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False}
# Each alone, should the server not take them all at once.
_STREAM = {"stream": True}
_COUNT = {"stream": True, "stream_options": {"include_usage": True}}
_SEED = {"seed": 1}
_LOGPROBS = {"logprobs": True}
_FORM = {
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": _SCHEMA, "strict": True},
    }
}


async def list_models(client: httpx2.AsyncClient) -> list[str]:
    """Return the names of a server's models.

    Raises:
        LinkBroken: it says something else.
        httpx2.HTTPError: it cannot be reached.
    """
    status, body = await read_whole(client, "GET", "models", None)
    if status != 200:
        raise LinkBroken(str(fault_of(status, body)))
    try:
        names = [entry["id"] for entry in json.loads(body)["data"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LinkBroken("the backend's server gives no list of models") from error
    return [name for name in names if isinstance(name, str)]


async def probe(client: httpx2.AsyncClient, model: str) -> Capabilities:
    """Return what a server takes for a model; asks for up to seven answers of one token.

    A parameter that is taken and then ignored cannot be told from one that works.

    Raises:
        LinkBroken: it takes neither texts nor chats, or fails.
        httpx2.HTTPError: it cannot be reached.
    """
    one = {"model": model, "max_tokens": 1, "temperature": 0.0}
    chat = {"messages": [{"role": "user", "content": "Hi"}], **one}
    text = {"prompt": "Hi", **one}
    takes_chat = await _takes(client, "chat/completions", chat)
    takes_text = await _takes(client, "completions", text)
    if not (takes_chat or takes_text):
        raise LinkBroken(
            f"the backend's server takes neither texts nor chats for model {model!r}: look at "
            "backend.url and backend.model"
        )
    path, body = ("chat/completions", chat) if takes_chat else ("completions", text)
    logprobs = _LOGPROBS if takes_chat else {"logprobs": 1}

    async def takes(parameters: dict[str, Any]) -> bool:
        # Some servers fail where they should refuse: llama-cpp-python's, for one.
        return await _takes(client, path, body | parameters, refusals=(500,))

    if await takes(_COUNT | _SEED | logprobs | _FORM):
        return Capabilities(
            takes_text,
            takes_chat,
            streams=True,
            counts=True,
            seeds=True,
            json_schema=True,
            logprobs=True,
        )
    counts = await takes(_COUNT)
    return Capabilities(
        takes_text,
        takes_chat,
        streams=counts or await takes(_STREAM),
        counts=counts,
        seeds=await takes(_SEED),
        json_schema=await takes(_FORM),
        logprobs=await takes(logprobs),
    )


async def _takes(
    client: httpx2.AsyncClient,
    path: str,
    body: dict[str, Any],
    refusals: tuple[int, ...] = (),
) -> bool:
    status, said = await read_whole(client, "POST", path, body)
    if status == 200:
        return True
    fault = fault_of(status, said)
    if isinstance(fault, RequestError) or status in (404, 405, 501, *refusals):
        return False
    raise LinkBroken(str(fault))


async def read_whole(
    client: httpx2.AsyncClient, method: str, path: str, body: dict[str, Any] | None
) -> tuple[int, bytes]:
    """Return the status and the body of an answer.

    Raises:
        LinkBroken: it is too large.
        httpx2.HTTPError: it did not come.
    """
    async with client.stream(method, path, json=body) as response:
        return response.status_code, await read_body(response)


async def read_body(response: httpx2.Response) -> bytes:
    """Return a body that is not a stream of events.

    Raises:
        LinkBroken: it is too large.
        httpx2.HTTPError: it did not come.
    """
    said = bytearray()
    async for part in response.aiter_bytes():
        said += part
        if len(said) > _MOST_BYTES:
            raise LinkBroken(f"the backend's server says more than {_MOST_BYTES >> 20} MiB at once")
    return bytes(said)
