"""The sessions of a coordinator, from their first frame to the end, within a memory limit.

ACTIVE   has work to do; its context is kept
IDLE     has none for now; its context is kept while there is room
SPILLED  only its inputs are kept, as they came; the context is computed again when needed
GONE     nothing is kept; the client is asked for its inputs again
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from updraft.cloud.events import Evicted
from updraft.cloud.session import Session
from updraft.errors import LinkBusy


class Store:
    """Keeps sessions by id, and the ledger of what they hold.

    Attributes:
        used_bytes: memory of all sessions; never more than the limit.
        peak_bytes: the most that it ever was.
        spilled: contexts that were given up so far.
        evicted: sessions whose inputs were given up so far.
    """

    def __init__(self, max_sessions: int, memory_bytes: int) -> None:
        self.max_sessions = max_sessions
        self.used_bytes = 0
        self.peak_bytes = 0
        self.spilled = 0
        self.evicted = 0
        self._memory_bytes = memory_bytes
        # What contexts leave free, so that inputs find room while passes run.
        self._inputs_bytes = memory_bytes // 8
        # Least recently used first.
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._charged: dict[str, int] = {}

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    @property
    def attached(self) -> int:
        """Sessions that have a stream."""
        return sum(session.outlet is not None for session in self._sessions.values())

    @property
    def detached(self) -> int:
        """Sessions that lost their stream."""
        return len(self._sessions) - self.attached

    def add(self, session: Session) -> None:
        """Keep a new session.

        Raises:
            LinkBusy: there are as many as may be, and all have streams.
        """
        if len(self._sessions) >= self.max_sessions:
            left = (s for s in self._sessions.values() if s.outlet is None and not s.in_pass)
            if (oldest := next(left, None)) is None:
                raise LinkBusy(
                    f"the coordinator serves {len(self._sessions)} sessions, its limit; try later"
                )
            self._evict(oldest)
        self._sessions[session.id] = session
        self._charged[session.id] = 0

    def find(self, session_id: str) -> Session | None:
        """Return a session, or None when it is gone."""
        return self._sessions.get(session_id)

    def touch(self, session: Session) -> None:
        """Take note that a session is being used."""
        self._sessions.move_to_end(session.id)

    def remove(self, session: Session) -> None:
        """Forget a session; what a pass still reads is given back after the pass."""
        session.outlet = None
        if self._sessions.pop(session.id, None) is not None and not session.in_pass:
            session.close()
            self.charge(session)

    def charge(self, session: Session) -> None:
        """Enter into the ledger what a session holds now."""
        held = session.held_bytes
        self.used_bytes += held - self._charged.get(session.id, 0)
        self.peak_bytes = max(self.peak_bytes, self.used_bytes)
        if session.id in self._sessions:
            self._charged[session.id] = held
        else:
            self._charged.pop(session.id, None)

    def reserve(self, session: Session, more_bytes: int) -> bool:
        """Make room for inputs that a session is about to take; returns whether there is.

        Contexts give way, those of sessions that have nothing to compute first, then the inputs
        of those sessions; each time the least recently used goes first.
        """
        while self.used_bytes + more_bytes > self._memory_bytes:
            others = [s for s in self._sessions.values() if s is not session and not s.in_pass]
            resident = [s for s in others if s.context is not None]
            quiet = (s for s in others if s.can_be_lost)
            if resident:
                self.spill(next((s for s in resident if not s.is_ready), resident[0]))
            elif (oldest := next(quiet, None)) is not None:
                self._evict(oldest)
            else:
                return False
        return True

    def reserve_context(self, session: Session, more_bytes: int) -> bool:
        """Make room for a context that a session is about to take; returns whether there is.

        Only sessions that have nothing to compute give way, so that those at work get done.
        """
        while self.used_bytes + more_bytes > self._memory_bytes - self._inputs_bytes:
            others = [s for s in self._sessions.values() if s is not session and not s.is_busy]
            resident = (s for s in others if s.context is not None)
            if (oldest := next(resident, None)) is None:
                alone = all(s.context is None for s in self._sessions.values())
                return alone and self.reserve(session, more_bytes)
            self.spill(oldest)
        return True

    def spill(self, session: Session) -> None:
        """Keep a session's inputs only."""
        session.spill()
        self.spilled += 1
        self.charge(session)

    def _evict(self, session: Session) -> None:
        self.evicted += 1
        if session.outlet is None:
            self.remove(session)
            return
        session.lose()
        self.charge(session)
        session.outlet.send(Evicted())
