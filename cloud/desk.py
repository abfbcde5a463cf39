"""Sessions begin, take frames and lose their streams, within the limits of the coordinator."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from collections.abc import Sequence as Series
from time import monotonic
from uuid import uuid4

from updraft.cloud.completion import TOKEN_BYTES
from updraft.cloud.config import CloudConfig
from updraft.cloud.context import Layers, Terms
from updraft.cloud.events import Outlet
from updraft.cloud.foreseen import Replacement
from updraft.cloud.inputs import DamagedInputs, frame_bytes, most_bytes
from updraft.cloud.opening import FEATURES
from updraft.cloud.scheduler import Scheduler
from updraft.cloud.session import Session
from updraft.cloud.store import Store
from updraft.cloud.stream import Stream
from updraft.errors import LinkBroken, LinkBusy, ProtocolError, RequestError, UpdraftError
from updraft.models.constraint import Constraint, ConstraintMatcher, Grammars
from updraft.proto.v1 import collaboration_pb2 as pb

MAX_POSITIONS_PER_FRAME = 128
_TOKEN_ROW_BYTES = 8

_log = logging.getLogger(__name__)


class Desk:
    """Where frames meet sessions.

    Attributes:
        frames: that came so far.
    """

    def __init__(
        self,
        layers: Layers,
        config: CloudConfig,
        streams: Collection[Stream],
        store: Store,
        scheduler: Scheduler,
    ) -> None:
        self.frames = 0
        self._layers = layers
        self._limits = config.sessions
        self._wait_timeout_s = config.passes.wait_timeout_s
        self._grammars = Grammars(layers.upper.bundle)
        self._eager = config.passes.positions_per_session
        self._streams = streams
        self._store = store
        self._scheduler = scheduler
        self._row_bytes = 4 * layers.shape.width
        self._generation_bytes = most_bytes(layers.shape.context_length, _TOKEN_ROW_BYTES)

    async def open(self, stream: Stream, terms: Terms) -> Session:
        """Begin a session.

        Raises:
            LinkBusy: there are as many as may be.
            RequestError: the constraint cannot be used.
        """
        session = await self._new_session(terms, epoch=0)
        self._connect(stream, session, resumed=False)
        return session

    async def resume(self, stream: Stream, terms: Terms, frame: pb.Resume) -> Session:
        """Take a session up again, or begin another where that cannot be.

        Raises:
            LinkBusy: there are as many as may be.
            ProtocolError: the epoch has been used.
        """
        session = self._store.find(frame.session_id)
        resumed = False
        if session is not None:
            if session.outlet is not None:
                session.outlet.fail(LinkBroken("another stream has taken this session up"))
                session.outlet, session.detached_since = None, monotonic()
            try:
                resumed = session.terms == terms and session.resume(
                    frame.epoch, frame.length, frame.prefix_hash
                )
            except DamagedInputs as error:
                _log.error("session %s is given up: %s", session.id, error)
            if not resumed:
                self._store.remove(session)
        if session is None or not resumed:
            session = await self._new_session(terms, frame.epoch)
        self._connect(stream, session, resumed)
        return session

    async def begin(self, terms: Terms, outlet: Outlet) -> Session:
        """Begin a session for somebody in this process; give it back with `end`.

        Raises:
            LinkBusy: there are as many as may be.
            RequestError: the constraint cannot be used.
        """
        session = await self._new_session(terms, epoch=0)
        session.outlet = outlet
        return session

    async def generate(self, session: Session, tokens: Series[int], max_tokens: int) -> None:
        """Let a session decode a whole text here.

        Raises:
            RequestError: it cannot be served as asked.
            LinkBusy: a limit is reached; says which.
        """
        await self._make_room(session, self._generation_bytes)
        session.generate(tokens, max_tokens)
        self._store.charge(session)
        self._scheduler.consider(session)

    def end(self, session: Session) -> None:
        """Forget a session."""
        self._store.remove(session)

    async def take(self, stream: Stream, session: Session, frame: pb.CollaborateRequest) -> None:
        """Give a session a frame of its stream.

        Raises:
            ProtocolError: the frame makes no sense.
            RequestError: a generation cannot be served as asked.
            LinkBusy: a limit is reached; says which.
        """
        kind = frame.WhichOneof("frame")
        if kind == "states":
            await self.put(session, frame.states)
            stream.receive(frame.states.count)
            return
        self.frames += 1
        self._store.touch(session)
        if kind == "ask":
            ask = frame.ask
            need = session.ask(ask.epoch, ask.length, ask.position)
            if need is not None:
                stream.send(need)
        elif kind == "generate":
            await self.generate(session, frame.generate.tokens, frame.generate.max_tokens)
        else:
            raise ProtocolError(f"frame {kind!r} does not belong in an open session")
        self._scheduler.consider(session)

    async def put(self, session: Session, frame: pb.States) -> None:
        """Give a session inputs, whichever stream they came on.

        Raises:
            ProtocolError: the frame makes no sense.
            LinkBroken: the session has gone meanwhile.
            LinkBusy: a limit is reached; says which.
        """
        self.frames += 1
        count, payload = frame.count, frame.payload
        if not 0 < count <= MAX_POSITIONS_PER_FRAME:
            raise ProtocolError(
                f"a frame of {count} positions, 1 to {MAX_POSITIONS_PER_FRAME} are taken"
            )
        more_bytes = frame_bytes(count, len(payload), self._row_bytes)
        await self._make_room(session, more_bytes + TOKEN_BYTES * len(frame.tokens))
        if self._store.find(session.id) is not session:
            raise LinkBroken("this session is gone: open another")
        self._store.touch(session)
        need = session.put(
            frame.epoch,
            frame.position,
            count,
            payload,
            frame.drafts,
            frame.committed,
            frame.flush,
            frame.window_start,
            Replacement(frame.if_replaced.position, frame.if_replaced.token)
            if frame.HasField("if_replaced")
            else None,
            frame.tokens,
        )
        self._store.charge(session)
        if need is not None and session.outlet is not None:
            session.outlet.send(need)
        self._scheduler.consider(session)

    def leave(self, stream: Stream, fault: UpdraftError | None) -> None:
        """Keep the session of a stream that broke, for a while."""
        session = stream.session
        if session is None or session.outlet is not stream:
            return
        session.outlet = None
        session.abandon()
        session.detached_since = monotonic()
        nonsense = isinstance(fault, ProtocolError | RequestError)
        if nonsense or session.generates or not session.inputs.held_bytes:
            self._store.remove(session)

    async def _new_session(self, terms: Terms, epoch: int) -> Session:
        matcher = await self._compile(terms.constraint)
        session = Session(uuid4().hex, self._layers, terms, self._eager, epoch, matcher)
        try:
            self._store.add(session)
        except LinkBusy:
            if not self._dismiss_idler():
                raise
            self._store.add(session)
        if not self._store.reserve(session, session.held_bytes):
            self._store.remove(session)
            raise LinkBusy(
                f"the {self._limits.memory_mib} MiB of the coordinator's context memory have no "
                "room for the session's grammar; try later"
            )
        self._store.charge(session)
        return session

    async def _compile(self, constraint: Constraint | None) -> ConstraintMatcher | None:
        """Return a matcher; a grammar that was not used lately is compiled in a thread."""
        if constraint is None:
            return None
        compiling = asyncio.to_thread(self._grammars.matcher, constraint)
        try:
            return await asyncio.wait_for(compiling, self._wait_timeout_s)
        except asyncio.TimeoutError as error:
            raise LinkBusy(
                f"the constraint was not compiled within {self._wait_timeout_s:g} s; try later"
            ) from error

    def _dismiss_idler(self) -> bool:
        """End the stream that has opened a session and not used it for longest, if there is one."""
        last = monotonic() - self._limits.open_timeout_s
        idlers = [s for s in self._streams if s.heard < last and s.session and s.session.is_unused]
        idler = min(idlers, key=lambda stream: stream.heard, default=None)
        if idler is None or idler.session is None:
            return False
        self._store.remove(idler.session)
        idler.fail(LinkBusy("the session was not used, and others needed its place"))
        return True

    def _connect(self, stream: Stream, session: Session, resumed: bool) -> None:
        session.detached_since = None
        stream.open(
            session,
            pb.Opened(
                session_id=session.id,
                max_positions_per_frame=MAX_POSITIONS_PER_FRAME,
                credit=self._limits.credit,
                resumed=resumed,
                position=session.inputs.length,
                features=FEATURES,
            ),
        )

    async def _make_room(self, session: Session, more_bytes: int) -> None:
        """Wait until there is room, if need be for the end of a pass; frames behind wait too."""
        deadline = monotonic() + self._wait_timeout_s
        while not self._store.reserve(session, more_bytes):
            if not await self._scheduler.pass_ended(deadline - monotonic()):
                raise LinkBusy(
                    f"the {self._limits.memory_mib} MiB of the coordinator's context memory are "
                    "in use by sessions at work; try later"
                )
