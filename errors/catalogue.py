"""One table from an error's code to the status that carries it over gRPC and HTTP."""

from __future__ import annotations

from typing import NamedTuple

from updraft.errors import (
    BudgetExceeded,
    BundleError,
    Busy,
    ConfigError,
    LedgerError,
    LinkBroken,
    LinkBusy,
    LinkClosed,
    LinkError,
    LinkTimeout,
    ModelUnknown,
    ProbeError,
    ProblemError,
    ProtocolError,
    RequestError,
    RuntimeMissing,
    ShuttingDown,
    TooLarge,
    UpdraftError,
)


class Status(NamedTuple):
    """How an error travels: the name of a gRPC status and an HTTP status code."""

    grpc: str
    http: int


CATALOGUE: dict[type[UpdraftError], Status] = {
    UpdraftError: Status("INTERNAL", 500),
    ConfigError: Status("FAILED_PRECONDITION", 500),
    ProblemError: Status("INVALID_ARGUMENT", 400),
    RequestError: Status("INVALID_ARGUMENT", 400),
    ModelUnknown: Status("NOT_FOUND", 404),
    TooLarge: Status("INVALID_ARGUMENT", 413),
    Busy: Status("RESOURCE_EXHAUSTED", 429),
    ShuttingDown: Status("UNAVAILABLE", 503),
    BundleError: Status("FAILED_PRECONDITION", 500),
    RuntimeMissing: Status("FAILED_PRECONDITION", 500),
    ProbeError: Status("FAILED_PRECONDITION", 500),
    BudgetExceeded: Status("RESOURCE_EXHAUSTED", 429),
    LedgerError: Status("INTERNAL", 500),
    LinkError: Status("UNAVAILABLE", 503),
    LinkTimeout: Status("DEADLINE_EXCEEDED", 504),
    LinkClosed: Status("CANCELLED", 503),
    LinkBroken: Status("UNAVAILABLE", 503),
    LinkBusy: Status("RESOURCE_EXHAUSTED", 429),
    ProtocolError: Status("FAILED_PRECONDITION", 502),
}


def status_of(error: UpdraftError) -> Status:
    """Return the status of an error, by its nearest class in the catalogue."""
    return next(CATALOGUE[kind] for kind in type(error).__mro__ if kind in CATALOGUE)
