"""What can be configured of a coordinator."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from updraft.cloud.backends.config import BackendSettings
from updraft.cloud.fleet.config import FleetLimits
from updraft.config import Section
from updraft.config.endpoint import TlsFiles
from updraft.models.runtime import RuntimeOptions


class SessionLimits(Section):
    """Limits that keep one coordinator bounded.

    Attributes:
        max_sessions: sessions kept at one time. A new one takes the place of the one that lost
            its stream longest ago; where all have streams, it is refused with RESOURCE_EXHAUSTED.
        memory_mib: memory for the context of all sessions, never exceeded. Sessions that have
            nothing to do give theirs up to those that do, least recently used first.
        idle_expiry_s: a session that is silent, or without a stream, for longer is forgotten.
        open_timeout_s: time for the first frame of a new stream.
        write_timeout_s: a client that reads nothing for longer while answers wait is cut off.
        gap_timeout_s: an answer that waits for longer on missing inputs asks the client for them.
        credit: positions that a client may have on their way, sent and not yet acknowledged.
    """

    max_sessions: int = Field(default=64, gt=0, le=100_000)
    memory_mib: int = Field(default=1024, gt=0)
    idle_expiry_s: float = Field(default=120, gt=0)
    open_timeout_s: float = Field(default=5, gt=0)
    write_timeout_s: float = Field(default=10, gt=0)
    gap_timeout_s: float = Field(default=2, gt=0)
    # Clients send as many before they know better.
    credit: int = Field(default=512, ge=256, le=1 << 20)


class PassLimits(Section):
    """What one forward pass takes, and who may wait for one.

    Attributes:
        positions: of all sessions together.
        positions_per_session: a long prompt is computed in pieces of this size, so that others
            need not wait for its end.
        max_waiting: sessions that wait for a pass or for memory at one time; further ones are
            refused with RESOURCE_EXHAUSTED.
        wait_timeout_s: a session that gets no memory for longer is refused likewise.
    """

    positions: int = Field(default=256, gt=0, le=65_536)
    positions_per_session: int = Field(default=64, gt=0, le=65_536)
    max_waiting: int = Field(default=256, gt=0, le=100_000)
    wait_timeout_s: float = Field(default=10, gt=0)


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
    passes: PassLimits = PassLimits()
    backend: BackendSettings = BackendSettings()
    fleet: FleetLimits = FleetLimits()
    compute: RuntimeOptions = RuntimeOptions()
    tls: TlsFiles | None = None
