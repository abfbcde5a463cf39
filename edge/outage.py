"""When the cloud is gone: when to try again, and attempts that nobody waits for."""

from __future__ import annotations

import random
from collections.abc import Callable
from time import monotonic

from updraft.edge.session import CloudSession
from updraft.errors import LinkError

_FIRST_DELAY_S = 0.25
_LARGEST_DELAY_S = 5.0


class Breaker:
    """Opens when the cloud fails and spaces attempts out; shared by all generations of an engine.

    Delays double from 0.25 s to 5 s, each times a random factor, so that a fleet does not come
    back all at once.
    """

    def __init__(self) -> None:
        self._delay_s = _FIRST_DELAY_S
        self._not_before = 0.0

    @property
    def ready(self) -> bool:
        """An attempt may be made now."""
        return monotonic() >= self._not_before

    def failed(self) -> None:
        """Note a failure; those that come while no attempt may be made are the same outage."""
        if not self.ready:
            return
        self._not_before = monotonic() + self._delay_s * random.uniform(0.5, 1.5)
        self._delay_s = min(2 * self._delay_s, _LARGEST_DELAY_S)

    def succeeded(self) -> None:
        """Note a success: the next failure starts from the shortest delay."""
        self._delay_s, self._not_before = _FIRST_DELAY_S, 0.0


class Reconnect:
    """Takes the session up again in the background while the edge decodes on its own.

    Args:
        attempt: starts a stream that takes the session up; None: there is none to be taken up.
    """

    def __init__(self, breaker: Breaker, attempt: Callable[[], CloudSession] | None) -> None:
        self._breaker = breaker
        self._attempt = attempt
        self._session: CloudSession | None = None

    def poll(self) -> CloudSession | None:
        """Return an open session once there is one; never waits.

        The breaker learns of failed attempts here, and of success from whoever gets an answer.

        Raises:
            LinkClosed: the link was closed, so no attempt can be made.
            ProtocolError: the coordinator that came back serves another model.
        """
        if self._session is None:
            if self._attempt is not None and self._breaker.ready:
                self._session = self._attempt()
            return None
        if not self._session.opened.done():
            return None
        session, self._session = self._session, None
        try:
            session.opened.result()
        except LinkError:
            self._breaker.failed()
            return None
        return session

    def abandon(self) -> None:
        """Stop trying; a session that still opens is closed at once."""
        if self._session is not None:
            self._session.cancel()
