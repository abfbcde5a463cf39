"""Everything that Updraft raises on purpose.

    UpdraftError
    ├── ConfigError        a configuration file or variable is wrong; lists every fault
    ├── ProblemError       a selection problem, or a certificate for it, makes no sense
    ├── RequestError       a request that can never be served as asked (prompt, mode, θ, length)
    ├── BundleError        a bundle is missing, damaged, too new or contradicts itself
    ├── RuntimeMissing     this machine lacks what was asked for (provider, extra, port)
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


class BundleError(UpdraftError):
    """Raised when a bundle must not be used; names the file and the reason."""

    code = "bundle"


class RuntimeMissing(UpdraftError):
    """Raised when this machine lacks something that was asked for; says how to get it."""

    code = "missing"


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
