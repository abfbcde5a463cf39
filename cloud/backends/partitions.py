"""The bundle that the coordinator serves as a backend: its own partitions, its own tokenizer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from updraft.cloud.backends.backend import Capabilities, Finish, Piece, Question
from updraft.cloud.context import Terms
from updraft.cloud.desk import Desk
from updraft.cloud.events import Event, Token
from updraft.errors import LinkBroken, UpdraftError
from updraft.models.bundle import Bundle
from updraft.models.chat import ChatTemplate
from updraft.models.codecs import wire_codec
from updraft.models.sampling import Sampling
from updraft.models.tokenizer import TextStream, Tokenizer


class Partitions:
    """Answers by sessions among those of the devices, in the same forward passes."""

    kind = "partitions"
    ready = True

    def __init__(self, bundle: Bundle, desk: Desk) -> None:
        self._desk = desk
        self._tokenizer = Tokenizer(bundle)
        self._template = ChatTemplate(bundle, self._tokenizer)
        codecs = bundle.manifest.codecs
        # No states cross the wire, so they are rounded as little as may be.
        self._codec = wire_codec(bundle, "fp32" if "fp32" in codecs else codecs[0])
        self.model = bundle.manifest.name
        self.capabilities = Capabilities(
            text=True,
            chat=True,
            streams=True,
            counts=True,
            seeds=True,
            json_schema=True,
            grammar=True,
        )

    def start(self) -> None:
        """Nothing is to be looked after: it lives and dies with the coordinator."""

    async def close(self) -> None:
        self._template.close()

    async def answer(self, question: Question) -> AsyncGenerator[Piece | Finish, None]:
        # In a thread: a prompt of a megabyte takes half a second to tokenize.
        prompt = await asyncio.to_thread(self._encode, question)
        sampling = Sampling(question.temperature, question.seed, question.top_p, question.top_k)
        terms = Terms(
            sampling, self._codec, tokens=True, constraint=question.constraint, start=len(prompt)
        )
        outlet = _Outlet()
        session = await self._desk.begin(terms, outlet)
        try:
            await self._desk.generate(session, prompt, question.max_tokens)
            own = () if question.text is not None else self._template.stop
            text = TextStream(self._tokenizer, (*question.stop, *own))
            new_tokens, given, compute_s, given_s = 0, 0, 0.0, 0.0
            while True:
                event = await outlet.next()
                new_tokens += 1
                compute_s += event.cost.compute_s
                piece = text.push(event.pick.token)
                over = event.last or text.stopped
                if over:
                    piece += text.finish()
                if piece:
                    yield Piece(piece, new_tokens - given, compute_s - given_s)
                    given, given_s = new_tokens, compute_s
                if over:
                    break
            last = event.pick
            ended = text.stopped or last.is_last or self._tokenizer.ends(last.token)
            yield Finish("stop" if ended else "length", len(prompt), new_tokens, compute_s)
        finally:
            self._desk.end(session)

    def _encode(self, question: Question) -> list[int]:
        if question.text is not None:
            return self._tokenizer.encode(question.text)
        return self._template.encode(self._template.render(question.messages))


class _Outlet:
    """Takes a session's answers in this process; never more than `max_tokens` wait."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[Event | UpdraftError] = asyncio.Queue()

    def send(self, event: Event) -> None:
        self._events.put_nowait(event)

    def fail(self, error: UpdraftError) -> None:
        self._events.put_nowait(error)

    async def next(self) -> Token:
        """Return the next token.

        Raises:
            UpdraftError: the session failed.
        """
        event = await self._events.get()
        if isinstance(event, UpdraftError):
            raise event
        if not isinstance(event, Token):
            raise LinkBroken("the session had to make room for others")
        return event
