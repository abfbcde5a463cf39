"""The way up: what the cloud has of a window, and what it is sent."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace as substitute
from typing import NamedTuple

from updraft.edge.session import FRAME_POSITIONS, CloudSession, Inputs, Revival
from updraft.edge.window import Window
from updraft.models.codecs import WireCodec

# The first positions of a prompt leave without waiting for the session to open; those beyond
# travel on a stream of their own, where they are many.
_DIRECT = 128
_BULK = 32
# A token's number on the wire, about.
_TOKEN_BYTES = 3


class Sent(NamedTuple):
    """A token that the edge put after the input at `position` of the window, to be judged."""

    position: int
    token: int
    committed: bool


class Upstream:
    """Sends a window's inputs to one session, each position once unless the cloud asks again.

    Attributes:
        sent: positions of the window that are on their way or there.
        payload_bytes: bytes of inputs that went up so far, those of earlier sessions included.
    """

    def __init__(
        self,
        window: Window,
        codec: WireCodec | None,
        limit_bytes: int | None = None,
        constrained_from: int | None = None,
    ) -> None:
        """Start with nothing sent.

        Args:
            codec: how states are encoded; None: token ids go up in their place.
            limit_bytes: payload that this text may take.
            constrained_from: where in the text the tokens begin that the coordinator must know to
                follow a constraint; None: there is none.
        """
        self.sent = 0
        self.epoch = 0
        self.payload_bytes = 0
        self._window = window
        self._codec = codec
        self._limit_bytes = limit_bytes
        self._constrained_from = constrained_from
        self._positions_sent = 0
        self._start = window.start
        self._confirmed = 0
        self._session: CloudSession | None = None

    def attach(self, session: CloudSession, sent: int) -> None:
        """Go on over another stream, whose session has `sent` positions."""
        self._session = session
        self.sent = self._confirmed = sent

    def push(self, stop: int, drafts: Sequence[Sent] = (), flush: bool = False) -> None:
        """Send the inputs up to position `stop` of the window that were not sent.

        Args:
            drafts: tokens after these inputs that are to be judged, by position.
            flush: the drafts so far are to be judged now.
        """
        assert self._session is not None, "attach a session first"
        self._follow_window()
        bulk, first = [], self.sent
        if flush:
            first = min(first, stop - 1)  # it needs a frame: the last position may go twice
        while first < stop:
            last = min(first + FRAME_POSITIONS, stop)
            frame = self._frame(first, last, drafts, flush and last == stop)
            self._count(frame)
            if first >= _DIRECT and frame.count >= _BULK and not frame.drafts:
                bulk.append(frame)
            else:
                self._session.send(frame)
            first = last
        if bulk:
            self._session.upload(bulk)
        self.sent = max(self.sent, stop)

    def push_aside(self, replaced: Sent, stop: int, drafts: Sequence[Sent]) -> None:
        """Send what follows if the coordinator replaces a draft as foreseen.

        Args:
            replaced: the draft's place, and the token that is expected there.
            stop: end of the inputs, which start behind that place and are the window's now.
        """
        assert self._session is not None, "attach a session first"
        frame = self._frame(replaced.position + 1, stop, drafts, flush=True)
        self._count(frame)
        condition = (replaced.position, replaced.token)
        self._session.send(substitute(frame, epoch=self.epoch + 1, if_replaced=condition))

    def may_waste(self, positions: int) -> bool:
        """Whether a position may be sent in vain when so many more are needed for certain."""
        if self._limit_bytes is None or not self._positions_sent:
            return True
        position_bytes = self.payload_bytes / self._positions_sent
        return self.payload_bytes + (positions + 1) * position_bytes <= self._limit_bytes

    def send_again(self, position: int) -> None:
        """Let the next push begin at `position`: the cloud lacks what was sent from there on."""
        self.sent = min(self.sent, position)

    def take_back(self, position: int) -> None:
        """Void what was sent from `position` on: the text is another from there."""
        self.epoch += 1
        self.send_again(position)
        self._confirmed = min(self._confirmed, position)

    def confirm(self, length: int) -> None:
        """Take note that the cloud has said something that is based on `length` inputs."""
        self._confirmed = max(self._confirmed, length)

    def revival(self, session_id: str) -> Revival:
        """Return how to take a session up again with the inputs that the cloud has for certain."""
        self._follow_window()
        self.epoch += 2  # the next one has been used, for what was to be kept aside
        length = min(self._confirmed, self._window.done)
        if self._codec is None:
            prefix = self._payload(0, length)
        else:
            width = self._window.model.bundle.manifest.architecture.width
            prefix = self._codec.decode(self._payload(0, length), length, width).tobytes()
        prefix_hash = hashlib.blake2b(prefix, digest_size=16).digest()
        return Revival(session_id, self.epoch, length, prefix_hash)

    def _count(self, frame: Inputs) -> None:
        self.payload_bytes += len(frame.payload) + _TOKEN_BYTES * len(frame.tokens)
        self._positions_sent += frame.count

    def _follow_window(self) -> None:
        if self._start != self._window.start:
            self._start = self._window.start
            self.take_back(0)

    def _frame(self, first: int, last: int, drafts: Sequence[Sent], flush: bool) -> Inputs:
        own = [draft for draft in drafts if first <= draft.position < last]
        committed = [draft.committed for draft in own]
        return Inputs(
            self.epoch,
            first,
            last - first,
            self._payload(first, last),
            [draft.token for draft in own],
            committed if any(committed) else (),
            flush,
            self._start,
            tokens=self._completion(first, last),
        )

    def _completion(self, first: int, last: int) -> Sequence[int]:
        """Return the tokens by which the coordinator follows a constraint up to these inputs."""
        if self._constrained_from is None:
            return ()
        before = self._window.passed[self._constrained_from :] if first == 0 else []
        begin = max(first, self._constrained_from - self._start)
        if self._codec is None or begin >= last:
            return before
        return [*before, *self._window.tokens(begin, last).tolist()]

    def _payload(self, first: int, last: int) -> bytes:
        if self._codec is None:
            return self._window.tokens(first, last).astype("<u4").tobytes()
        return self._codec.encode(self._window.states(first, last))
