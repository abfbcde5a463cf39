"""What can be configured of a coordinator."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from updraft.config import Section
from updraft.config.endpoint import TlsFiles
from updraft.models.runtime import RuntimeOptions


class SessionLimits(Section):
    """Limits that keep one coordinator bounded.

    Attributes:
        max_sessions: sessions at one time; further ones are refused with RESOURCE_EXHAUSTED.
        memory_mib: memory for the context of all sessions, likewise.
        idle_expiry_s: a session that is silent for longer is closed and its context dropped.
        open_timeout_s: time for the first frame of a new stream.
    """

    max_sessions: int = Field(default=64, gt=0, le=100_000)
    memory_mib: int = Field(default=1024, gt=0)
    idle_expiry_s: float = Field(default=120, gt=0)
    open_timeout_s: float = Field(default=5, gt=0)


class CloudConfig(Section):
    """Configuration of `updraft cloud serve`.

    Attributes:
        listen: HOST:PORT; a host other than loopback needs `[tls]`.
        bundle: folder of the bundle to serve; the shipped one by default.
        drain_s: time that running sessions get to finish when the daemon is asked to stop.
    """

    listen: str = "127.0.0.1:7600"
    bundle: Path | None = None
    drain_s: float = Field(default=5, ge=0)
    sessions: SessionLimits = SessionLimits()
    compute: RuntimeOptions = RuntimeOptions()
    tls: TlsFiles | None = None
