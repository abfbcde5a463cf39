"""Channels to a coordinator: how they are opened, live, and fail."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from updraft.config.endpoint import Endpoint, TlsMaterial
from updraft.errors import (
    LinkBroken,
    LinkBusy,
    LinkTimeout,
    ProtocolError,
    RequestError,
    UpdraftError,
)


def open_channel(endpoint: Endpoint, tls: TlsMaterial | None) -> grpc.aio.Channel:
    """Return a channel that connects when it is used; call on the event loop that will use it."""
    options = [
        ("grpc.keepalive_time_ms", 5_000),
        ("grpc.keepalive_timeout_ms", 2_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.initial_reconnect_backoff_ms", 200),
    ]
    target = str(endpoint)
    if tls is None:
        return grpc.aio.insecure_channel(target, options)
    return grpc.aio.secure_channel(target, credentials_of(tls), options)


def credentials_of(tls: TlsMaterial) -> grpc.ChannelCredentials:
    """Return what this side shows a coordinator, and whom it trusts."""
    return grpc.ssl_channel_credentials(tls.authority, tls.key, tls.certificate)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of uvloop's where that is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def explain(endpoint: Endpoint, error: Any) -> UpdraftError:
    """Turn the status that a call ended with into an error that says who is at fault."""
    code, details = error.code(), error.details() or "no reason given"
    text = f"coordinator {endpoint}: {details}"
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return LinkBusy(text)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return LinkTimeout(text)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return RequestError(text)
    if code in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNIMPLEMENTED):
        return ProtocolError(text)
    return LinkBroken(text)
