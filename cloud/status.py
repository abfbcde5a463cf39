"""Ends a call with the status of one of our errors."""

from __future__ import annotations

import asyncio
import logging

import grpc

from updraft.errors import UpdraftError
from updraft.errors.catalogue import status_of

# Time for the status of a stream to leave, where the client may not be reading.
_ABORT_S = 1.0

_log = logging.getLogger(__name__)


async def abort(
    context: grpc.aio.ServicerContext, error: UpdraftError, *, private: bool = False
) -> None:
    """End a call with a status; a client that does not read it is not waited for.

    Args:
        private: the message may quote what the client asked, so it is not logged.
    """
    said = error.code if private else f"{error.code}: {error}"
    _log.info("a stream was refused or ended: %s", said)
    status = grpc.StatusCode[status_of(error).grpc]
    abort = asyncio.ensure_future(context.abort(status, f"{error.code}: {error}"))
    # It fails where the client is gone, and nobody may be waiting for it any more by then.
    abort.add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.wait((abort,), timeout=_ABORT_S)
    if abort.done():
        if isinstance(abort.exception(), grpc.aio.InternalError):
            raise asyncio.CancelledError("the client is gone") from abort.exception()
        abort.result()
