"""One request under way: its answers run one after another, in one place."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, NamedTuple

from updraft.edge.api.places import Place
from updraft.edge.engine import Engine
from updraft.edge.generation import Generation
from updraft.edge.governor import Governor
from updraft.edge.request import CLOUD_MODES, GeneratedToken, GenerationRequest, GenerationResult
from updraft.edge.ticket import Ticket
from updraft.errors import UpdraftError

# Tokens that may wait for a client; decoding waits for those who read more slowly.
_MOST_UNREAD = 256

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """One answer that is asked for.

    Attributes:
        own_mode: the request says how it is to be worked on; a budget's controller leaves it so.
        local_only: nothing of it may leave the device.
    """

    request: GenerationRequest
    prompt: list[int]
    own_mode: bool
    local_only: bool


class Written(NamedTuple):
    """A token of an answer."""

    choice: int
    token: GeneratedToken


class Ended(NamedTuple):
    """The end of an answer.

    Attributes:
        budget: what is left of the device's, if it has one.
    """

    choice: int
    prompt_tokens: int
    result: GenerationResult
    budget: dict[str, Any]


Event = Written | Ended


class Serving:
    """Runs the answers of one request; lives on an event loop, decodes in a thread.

    Args:
        place: where it runs; given back when the thread has ended.
    """

    def __init__(
        self,
        orders: Sequence[Order],
        place: Place,
        engine: Engine,
        governor: Governor | None,
        threads: Executor,
    ) -> None:
        self._orders = orders
        self._place = place
        self._engine = engine
        self._governor = governor
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | UpdraftError | None] = asyncio.Queue()
        self._unread = threading.Semaphore(_MOST_UNREAD)
        self._begun: asyncio.Future[None] = self._loop.create_future()
        # Whoever asked may be gone before there is an answer.
        self._begun.add_done_callback(lambda begun: begun.cancelled() or begun.exception())
        self._cancelled = threading.Event()
        self._admission: asyncio.Task[Ticket] | None = None
        self._generation: Generation | None = None
        self._task = self._loop.create_task(self._run())

    async def begin(self) -> None:
        """Wait until the first answer is under way.

        Raises:
            UpdraftError: it cannot be served as asked.
        """
        await asyncio.shield(self._begun)

    async def events(self) -> AsyncIterator[Event]:
        """Give what happens; once.

        Raises:
            UpdraftError: an answer failed.
        """
        while (event := await self._events.get()) is not None:
            if isinstance(event, UpdraftError):
                raise event
            self._unread.release()
            yield event

    def cancel(self) -> None:
        """End it before the next token; idempotent."""
        self._cancelled.set()
        self._unread.release()
        if self._admission is not None:
            self._admission.cancel()
        if (generation := self._generation) is not None:
            generation.cancel()

    async def _run(self) -> None:
        try:
            for index, order in enumerate(self._orders):
                if self._cancelled.is_set():
                    break
                ticket = await self._admit(order)
                if ticket is not None:
                    _check_privacy(order, ticket.request)
                work = self._loop.run_in_executor(self._threads, self._answer, index, order, ticket)
                if (error := await work) is not None:
                    raise error
        except UpdraftError as error:
            self._fail(error)
        except asyncio.CancelledError:
            if not self._cancelled.is_set():
                self.cancel()
                raise
        except Exception as error:
            _log.exception("a request failed")
            self._fail(UpdraftError(f"the agent failed: {type(error).__name__}"))
        finally:
            self._place.free()
            self._events.put_nowait(None)
            if not self._begun.done():
                self._begun.cancel()

    async def _admit(self, order: Order) -> Ticket | None:
        if self._governor is None:
            return None
        asked = self._governor.admit(order.request, len(order.prompt), own_mode=order.own_mode)
        self._admission = self._loop.create_task(asked)
        try:
            return await self._admission
        finally:
            self._admission = None

    def _fail(self, error: UpdraftError) -> None:
        # Its frames would keep the context alive until somebody collects garbage.
        error.__traceback__ = error.__context__ = error.__cause__ = None
        _log.info("refused: %s", error.code)
        if self._begun.done():
            self._events.put_nowait(error)
        else:
            self._begun.set_exception(error)

    def _answer(self, index: int, order: Order, ticket: Ticket | None) -> UpdraftError | None:
        """Decode one answer, in a thread; returns what went wrong."""
        try:
            self._decode(index, order, ticket)
        except UpdraftError as error:
            return error
        except Exception as error:
            _log.exception("an answer failed")
            return UpdraftError(f"the agent failed: {type(error).__name__}")
        finally:
            self._generation = None
        return None

    def _decode(self, index: int, order: Order, ticket: Ticket | None) -> None:
        generation = self._generation = self._start(order, ticket)
        if self._cancelled.is_set():
            generation.cancel()
        self._loop.call_soon_threadsafe(self._mark_begun)
        for token in self._follow(generation, ticket):
            if self._cancelled.is_set():
                continue  # nobody reads, and `cancel` lets this thread wait no more than once
            self._unread.acquire()
            self._loop.call_soon_threadsafe(self._events.put_nowait, Written(index, token))
        said = {} if self._governor is None or ticket is None else self._governor.statement(ticket)
        ended = Ended(index, generation.prompt_tokens, generation.result, said)
        self._loop.call_soon_threadsafe(self._events.put_nowait, ended)

    def _mark_begun(self) -> None:
        if not self._begun.done():
            self._begun.set_result(None)

    def _start(self, order: Order, ticket: Ticket | None) -> Generation:
        if self._governor is None or ticket is None:
            return self._engine.start(order.request, order.prompt)
        return self._governor.start(self._engine, ticket, order.prompt)

    def _follow(self, generation: Generation, ticket: Ticket | None) -> Iterator[GeneratedToken]:
        if self._governor is None or ticket is None:
            return generation.settled()
        return self._governor.follow(ticket, generation)


def _check_privacy(order: Order, admitted: GenerationRequest) -> None:
    """State that a budget has changed nothing of where a request's data go."""
    local = admitted.mode not in CLOUD_MODES and admitted.on_stop != "escalate"
    assert local or not order.local_only, "a budget moves requests to modes of this device only"
