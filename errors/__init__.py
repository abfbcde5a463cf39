"""Everything that Updraft raises on purpose.

    UpdraftError
    ├── ConfigError        a configuration file or variable is wrong; lists every fault
    ├── ProblemError       a selection problem, or a certificate for it, makes no sense
    ├── RequestError       a request that can never be served as asked (prompt, mode, θ, length)
    │   ├── ModelUnknown   it names a model that is not served here
    │   └── TooLarge       it is larger than is taken
    ├── Busy               as many requests run and wait as may; says when to come again
    ├── ShuttingDown       it is about to end and takes nothing new
    ├── BundleError        a bundle is missing, damaged, too new or contradicts itself
    ├── RuntimeMissing     this machine lacks what was asked for (provider, extra, port)
    ├── ProbeError         a sensor, board or file of the system cannot be read, or lies
    ├── BudgetExceeded     a budget would be broken; says what is spent, the limit, the unit
    ├── LedgerError        what was spent cannot be kept or read: disk full, read-only, damaged
    ├── LinkError          the other side cannot be used now; the edge goes on alone
    │   ├── LinkTimeout    no answer before the deadline
    │   ├── LinkClosed     closed by us
    │   ├── LinkBroken     broken by the peer or the network
    │   └── LinkBusy       the coordinator is at one of its limits
    └── ProtocolError      the peer sent nonsense, or serves another model; never retried

A message says what was wrong, with both values where there are two, and what to do about it.
`catalogue` maps each code to its gRPC and HTTP status; `docs/guides/errors.md` explains each.
"""

from __future__ import annotations

from typing import ClassVar


class UpdraftError(Exception):
    """Root of all errors raised on purpose; `code` is stable, the message is for people."""

    code: ClassVar[str] = "error"


class ConfigError(UpdraftError):
    """Raised with every fault of a configuration at once.

    Attributes:
        faults: one line per fault: file, line, key, what is wrong, what to write instead.
    """

    code = "config"

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class ProblemError(UpdraftError):
    """Raised for a selection problem or a certificate that makes no sense; the CLI exits with 2.

    Attributes:
        faults: one line per fault, with row and column where there are some.
    """

    code = "problem"

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class RequestError(UpdraftError):
    """Raised for a request that cannot be served as asked, whoever serves it."""

    code = "request"


class ModelUnknown(RequestError):
    """Raised for a request that names a model which is not served here."""

    code = "model-not-found"


class TooLarge(RequestError):
    """Raised for a request that is larger than is taken."""

    code = "too-large"


class Busy(UpdraftError):
    """Raised when as many requests run and wait as may.

    Attributes:
        retry_after_s: when there is likely to be room.
    """

    code = "busy"

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ShuttingDown(UpdraftError):
    """Raised for what waits, or comes, when a daemon has been asked to end."""

    code = "shutting-down"


class BundleError(UpdraftError):
    """Raised when a bundle must not be used; names the file and the reason."""

    code = "bundle"


class RuntimeMissing(UpdraftError):
    """Raised when this machine lacks something that was asked for; says how to get it."""

    code = "missing"


class ProbeError(UpdraftError):
    """Raised when a sensor, a board or a file of the system cannot be read, or makes no sense."""

    code = "probe"


class BudgetExceeded(UpdraftError):
    """Raised when serving would break a budget that says to refuse.

    Attributes:
        line: the budget's line.
        spent, limit: in `unit`; `spent` counts what the request would take.
        retry_after_s: when there is room again; None: not foreseeable.
    """

    code = "budget"

    def __init__(
        self,
        line: str,
        spent: float,
        limit: float,
        unit: str,
        retry_after_s: float | None = None,
    ) -> None:
        again = "" if retry_after_s is None else f"; room again in about {_span(retry_after_s)}"
        super().__init__(
            f"{line}: this would take it to {spent:g} {unit}, the budget is {limit:g} {unit}{again}"
        )
        self.line, self.spent, self.limit, self.unit = line, spent, limit, unit
        self.retry_after_s = retry_after_s


def _span(seconds: float) -> str:
    """Write a time as people say it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class LedgerError(UpdraftError):
    """Raised when the ledger of what was spent cannot be opened, read or written."""

    code = "ledger"


class LinkError(UpdraftError):
    """Raised when the other side cannot be used now; decoding goes on without it."""

    code = "link"


class LinkTimeout(LinkError):
    """Raised when no answer came before the deadline."""

    code = "link-timeout"


class LinkClosed(LinkError):
    """Raised when a link is used after we closed it."""

    code = "link-closed"


class LinkBroken(LinkError):
    """Raised when the peer or the network ended the link."""

    code = "link-broken"


class LinkBusy(LinkError):
    """Raised when the coordinator refuses because one of its limits is reached."""

    code = "link-busy"


class ProtocolError(UpdraftError):
    """Raised when the peer breaks the protocol or serves another model."""

    code = "protocol"
