"""Who computes when: continuous batching of all sessions into one forward pass after the other."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from queue import SimpleQueue
from time import monotonic

from updraft.cloud.config import PassLimits
from updraft.cloud.context import Layers
from updraft.cloud.events import NeedFrom, Pick, Query
from updraft.cloud.forward import Forward, Outcome
from updraft.cloud.inputs import DamagedInputs
from updraft.cloud.session import Session, Work
from updraft.cloud.store import Store
from updraft.errors import LinkBusy, RequestError, UpdraftError

_log = logging.getLogger(__name__)


class Scheduler:
    """Lets sessions take turns: whoever has work takes part in the next pass.

    Sessions live on the event loop. A pass's work is collected there, computed in a thread, and
    its outcome is applied there; in between the sessions go on taking frames.

    Attributes:
        passes: run so far.
        positions: that ran in them, over all sessions.
        shares: of sessions in passes, counted once per session and pass.
        restored: contexts that were computed again after they had been given up.
        busy_s: seconds spent in passes.
        forward_cpu_s: processor seconds of the thread that runs them.
    """

    def __init__(self, layers: Layers, store: Store, limits: PassLimits) -> None:
        self.passes = 0
        self.positions = 0
        self.shares = 0
        self.restored = 0
        self.busy_s = 0.0
        self.forward_cpu_s = 0.0
        self._layers = layers
        self._store = store
        self._limits = limits
        self._forward = Forward(layers)
        self._works: SimpleQueue[list[Work] | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: deque[Session] = deque()
        self._queued: set[Session] = set()
        self._running = False
        self._awake = False
        self._ended = asyncio.Event()

    def start(self) -> None:
        """Begin to run passes; call on the event loop that the sessions live on."""
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._compute, name="forward", daemon=True).start()

    def consider(self, session: Session) -> None:
        """Let a session take its turn if it has work.

        Raises:
            LinkBusy: too many wait.
        """
        if session in self._queued or not session.is_ready:
            return
        if len(self._queue) >= self._limits.max_waiting:
            raise LinkBusy(
                f"{len(self._queue)} sessions wait for the coordinator's next forward pass, its "
                "limit; try later"
            )
        self._enqueue(session)
        self.wake()

    def wake(self) -> None:
        """Start a pass as soon as everything that has arrived is in."""
        if self._queue and self._loop is not None and not (self._running or self._awake):
            self._awake = True
            self._loop.call_soon(self._start_pass)

    async def pass_ended(self, timeout_s: float) -> bool:
        """Wait for the end of a pass; returns whether one ended in time."""
        self._ended.clear()
        try:
            await asyncio.wait_for(self._ended.wait(), timeout_s)
        except asyncio.TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Stop after the pass that is running."""
        self._works.put(None)

    def _enqueue(self, session: Session) -> None:
        self._queue.append(session)
        self._queued.add(session)

    def _start_pass(self) -> None:
        self._awake = False
        if works := self._collect():
            self._running = True
            self._works.put(works)

    def _compute(self) -> None:
        """Run passes, in a thread of its own."""
        assert self._loop is not None, "it was started"
        while (works := self._works.get()) is not None:
            outcome: Outcome | Exception
            try:
                outcome = self._forward.run(works)
            except Exception as error:  # the runtime's own exceptions share no base class but this
                outcome = error
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._finish_pass, works, outcome)

    def _collect(self) -> list[Work]:
        """Take work from sessions in turn; who gets none this time is first the next time."""
        works: list[Work] = []
        room, passed = self._limits.positions, deque[Session]()
        while self._queue and room > 0:
            session = self._queue.popleft()
            if not session.is_ready:
                self._queued.discard(session)
                session.waiting_since = None
            elif not self._has_context(session):
                passed.append(session)
            elif (work := self._take(session, room)) is not None:
                works.append(work)
                room -= work.stop - work.start
        self._queue.extendleft(reversed(passed))
        return works

    def _take(self, session: Session, room: int) -> Work | None:
        self._queued.discard(session)
        try:
            work = session.take(min(room, self._limits.positions_per_session))
        except DamagedInputs as error:
            _log.error("session %s starts over: %s", session.id, error)
            session.lose()
            if session.outlet is not None:
                session.outlet.send(NeedFrom(session.epoch, 0))
            work = None
        self._store.charge(session)
        return work

    def _has_context(self, session: Session) -> bool:
        """Make a session's context if it has none; returns whether there was room."""
        if session.context is not None:
            return True
        context_bytes = self._layers.context_bytes(session.takes_tokens)
        if not self._store.reserve_context(session, context_bytes):
            if session.waiting_since is None:
                session.waiting_since = monotonic()
            return False
        session.waiting_since = None
        self.restored += session.was_spilled
        session.make_context()
        self._store.charge(session)
        return True

    def _finish_pass(self, works: list[Work], outcome: Outcome | Exception) -> None:
        self._running = False
        self._ended.set()
        if isinstance(outcome, Exception):
            _log.error("a forward pass failed", exc_info=outcome)
            for work in works:
                work.session.fail_pass(UpdraftError(f"a forward pass failed: {outcome}"))
                self._after(work.session)
            return
        self._count(works, outcome)
        weights = [max(1, work.stop - work.start) for work in works]
        share_s = outcome.seconds / sum(weights)
        for work, weight, picks in zip(works, weights, outcome.picks, strict=True):
            self._settle(work, picks, weight * share_s)
        self.wake()

    def _settle(
        self, work: Work, picks: dict[Query, Pick] | RequestError, compute_s: float
    ) -> None:
        session = work.session
        if isinstance(picks, RequestError):
            session.fail_pass(picks)
            self._after(session)
            return
        try:
            for event in session.settle(work, picks, compute_s):
                if session.outlet is not None:
                    session.outlet.send(event)
        except Exception as error:  # a fault of ours in one session is not the others' end
            _log.exception("session %s failed", session.id)
            session.fail_pass(UpdraftError(f"the outcome of a pass was not understood: {error}"))
        self._after(session)

    def _after(self, session: Session) -> None:
        if self._store.find(session.id) is not session:
            session.close()
        elif session.is_ready and session not in self._queued:
            self._enqueue(session)
        self._store.charge(session)

    def _count(self, works: list[Work], outcome: Outcome) -> None:
        self.passes += 1
        self.positions += sum(work.stop - work.start for work in works)
        self.shares += len(works)
        self.busy_s += outcome.seconds
        self.forward_cpu_s += outcome.cpu_s
