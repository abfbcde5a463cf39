"""What happens because time passes: nothing and nobody is waited for without an end."""

from __future__ import annotations

from collections.abc import Collection

from updraft.cloud.config import CloudConfig
from updraft.cloud.events import NeedFrom
from updraft.cloud.scheduler import Scheduler
from updraft.cloud.session import Session
from updraft.cloud.store import Store
from updraft.cloud.stream import Stream
from updraft.errors import LinkBusy, LinkTimeout


class Housekeeper:
    """Ends what has taken too long."""

    def __init__(
        self,
        config: CloudConfig,
        streams: Collection[Stream],
        store: Store,
        scheduler: Scheduler,
    ) -> None:
        self._limits = config.sessions
        self._wait_timeout_s = config.passes.wait_timeout_s
        self._streams = streams
        self._store = store
        self._scheduler = scheduler
        self._gaps: dict[str, tuple[NeedFrom, float]] = {}

    @property
    def interval_s(self) -> float:
        """How often to sweep, so that no limit is overstepped by much."""
        limits = self._limits
        shortest = min(
            limits.open_timeout_s,
            limits.write_timeout_s,
            limits.gap_timeout_s,
            limits.idle_expiry_s,
            self._wait_timeout_s,
        )
        return min(1.0, max(0.02, shortest / 4))

    def sweep(self, now: float) -> None:
        """Look at every stream and session once; `now` is the monotonic clock."""
        for stream in list(self._streams):
            self._check_stream(stream, now)
        gaps = {}
        for session in self._store:
            if session.outlet is None:
                left = session.detached_since
                if left is not None and now - left > self._limits.idle_expiry_s:
                    self._store.remove(session)
                continue
            self._check_memory(session, now)
            if (need := session.missing()) is not None and not session.uploads:
                gaps[session.id] = (need, self._gap_since(session, need, now))
        self._gaps = gaps
        self._scheduler.wake()

    def _check_stream(self, stream: Stream, now: float) -> None:
        limits, session = self._limits, stream.session
        silent_s = now - stream.heard
        if session is None:
            if silent_s > limits.open_timeout_s:
                stream.fail(LinkTimeout(f"no frame came for {limits.open_timeout_s:g} s"))
        elif stream.writing_since is not None and (
            now - stream.writing_since > limits.write_timeout_s
        ):
            stream.fail(LinkTimeout(f"the client read nothing for {limits.write_timeout_s:g} s"))
        elif silent_s > limits.idle_expiry_s:
            if session.outlet is stream:
                self._store.remove(session)
            stream.fail(
                LinkTimeout(
                    f"no frame came for {limits.idle_expiry_s:g} s: the session has expired"
                )
            )

    def _check_memory(self, session: Session, now: float) -> None:
        since = session.waiting_since
        if since is not None and now - since > self._wait_timeout_s and session.outlet is not None:
            session.outlet.fail(
                LinkBusy(
                    f"no context memory came free for {self._wait_timeout_s:g} s: "
                    f"{self._store.used_bytes >> 10} KiB are in use by sessions at work; try later"
                )
            )

    def _gap_since(self, session: Session, need: NeedFrom, now: float) -> float:
        """Return since when inputs are missing; asks the client for them when it is too long."""
        known, since = self._gaps.get(session.id, (need, now))
        if known != need:
            return now
        if now - since > self._limits.gap_timeout_s and session.outlet is not None:
            session.outlet.send(need)
            return now
        return since
