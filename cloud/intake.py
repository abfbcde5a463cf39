"""Messages that are none: whoever sends one gets a status, whichever service it was meant for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from inspect import isasyncgenfunction
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from updraft.errors import ProtocolError
from updraft.errors.catalogue import status_of

NO_FRAME = "a message came that is no frame of this call"
_STATUS = grpc.StatusCode[status_of(ProtocolError()).grpc]
_DETAILS = f"{ProtocolError.code}: {NO_FRAME}"


class Intake(grpc.aio.ServerInterceptor):
    """Parses the messages of calls that gRPC would otherwise end as failures of ours.

    Handlers that read their stream themselves are left as they are.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        if handler.unary_unary is not None:
            answer = _of_one(handler.unary_unary, handler.request_deserializer)
            return grpc.unary_unary_rpc_method_handler(answer, None, handler.response_serializer)
        if handler.unary_stream is not None:
            answer = _of_one(handler.unary_stream, handler.request_deserializer)
            return grpc.unary_stream_rpc_method_handler(answer, None, handler.response_serializer)
        if isasyncgenfunction(handler.stream_stream):
            return grpc.stream_stream_rpc_method_handler(
                _of_many(handler.stream_stream),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return handler


def _of_one(answer: Any, parse: Callable[[bytes], Any]) -> Any:
    async def checked(message: bytes, context: grpc.aio.ServicerContext) -> Any:
        try:
            request = parse(message)
        except DecodeError:
            await context.abort(_STATUS, _DETAILS)
        return await answer(request, context)

    return checked


def _of_many(answer: Any) -> Any:
    async def checked(
        requests: AsyncIterator[Any], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[Any]:
        try:
            async for response in answer(requests, context):
                yield response
        except DecodeError:
            await context.abort(_STATUS, _DETAILS)

    return checked
