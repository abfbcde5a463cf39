"""Errors in the shape of OpenAI's API."""

from __future__ import annotations

import logging
import math
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from updraft.errors import BudgetExceeded, Busy, ShuttingDown, UpdraftError
from updraft.errors.catalogue import status_of

# The client is gone; nobody reads this.
CLIENT_CLOSED = 499
_RESTART_S = 5

_log = logging.getLogger(__name__)


def body_of(error: UpdraftError) -> dict[str, Any]:
    """Return what says why a request is refused."""
    return _body(str(error), error.code, status_of(error).http)


async def refuse(request: Request, error: Exception) -> Response:
    """Answer an error that was raised on purpose."""
    assert isinstance(error, UpdraftError), "it is registered for these"
    _log.info("refused: %s", error.code)
    response = JSONResponse(body_of(error), status_of(error).http)
    if (wait_s := _retry_after(error)) is not None:
        response.headers["Retry-After"] = str(math.ceil(wait_s))
    return response


async def refuse_http(request: Request, error: Exception) -> Response:
    """Answer a path or method that is not there."""
    assert isinstance(error, HTTPException), "it is registered for these"
    body = _body(error.detail, "http", error.status_code)
    return JSONResponse(body, error.status_code, error.headers)


async def refuse_unforeseen(request: Request, error: Exception) -> Response:
    """Answer an error of ours, which the log tells more about."""
    message = f"the agent failed: {type(error).__name__}"
    return JSONResponse(_body(message, UpdraftError.code, 500), 500)


def _retry_after(error: UpdraftError) -> float | None:
    if isinstance(error, BudgetExceeded | Busy):
        return error.retry_after_s
    return _RESTART_S if isinstance(error, ShuttingDown) else None


def _body(message: str, code: str, status: int) -> dict[str, Any]:
    kind = "invalid_request_error"
    if status == 429:
        kind = "rate_limit_error"
    elif status >= 500:
        kind = "server_error"
    # Messages begin with the parameter that is at fault, where one is.
    name, colon, _ = message.partition(":")
    param = name if colon and code == "request" and name.replace(".", "_").isidentifier() else None
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
