"""When to try the cloud again: jittered backoff, and attempts that nobody waits for."""

from __future__ import annotations

import random
from concurrent.futures import Future
from time import monotonic

from updraft.edge.link import CloudLink, CloudSession
from updraft.errors import LinkError
from updraft.models.manifest import CodecName
from updraft.models.sampling import Sampling

_FIRST_DELAY_S = 0.25
_LARGEST_DELAY_S = 5.0


class Backoff:
    """Spaces attempts out, shared by all generations of an engine.

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
        """Note a failure."""
        self._not_before = monotonic() + self._delay_s * random.uniform(0.5, 1.5)
        self._delay_s = min(2 * self._delay_s, _LARGEST_DELAY_S)

    def succeeded(self) -> None:
        """Note a success: the next failure starts from the shortest delay."""
        self._delay_s, self._not_before = _FIRST_DELAY_S, 0.0


class Reconnect:
    """Opens a session in the background while the edge decodes on its own."""

    def __init__(
        self, link: CloudLink, backoff: Backoff, codec: CodecName, sampling: Sampling
    ) -> None:
        self._link = link
        self._backoff = backoff
        self._codec = codec
        self._sampling = sampling
        self._attempt: Future[CloudSession] | None = None

    def poll(self) -> CloudSession | None:
        """Return an open session once there is one; never waits.

        Raises:
            ProtocolError: the coordinator that came back serves another model.
        """
        if self._attempt is None:
            if self._backoff.ready:
                self._attempt = self._link.open_soon(self._codec, self._sampling)
            return None
        if not self._attempt.done():
            return None
        attempt, self._attempt = self._attempt, None
        try:
            session = attempt.result()
        except LinkError:
            self._backoff.failed()
            return None
        self._backoff.succeeded()
        return session

    def abandon(self) -> None:
        """Stop trying; a session that still opens is closed at once."""
        if self._attempt is not None:
            self._attempt.add_done_callback(_discard)


def _discard(attempt: Future[CloudSession]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().cancel()
