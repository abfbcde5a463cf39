"""The local engine as a fleet sees it: an expert that is kept ready or parked, and answers work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import monotonic
from typing import NamedTuple, Protocol

from updraft.devices.budgets.admission import Wait
from updraft.devices.usage import Usage
from updraft.edge.engine import Engine
from updraft.edge.generation import Generation
from updraft.edge.governor import Governor
from updraft.edge.request import GeneratedToken, GenerationRequest, Mode

CANCELLED = "cancelled"


@dataclass(frozen=True)
class Work:
    """A request that a coordinator gave this node.

    Attributes:
        deadline: by the monotonic clock; nobody waits for the answer after it.
    """

    prompt: str
    max_tokens: int
    temperature: float
    seed: int
    deadline: float


class Answer(NamedTuple):
    """How an answer ended, and what it cost.

    Attributes:
        finish_reason: `CANCELLED` where nobody waited for it any more.
        alone: the device worked on nothing else meanwhile.
    """

    finish_reason: str
    usage: Usage
    first_token_ms: float
    energy_method: str
    prompt_tokens: int
    new_tokens: int
    alone: bool = True


# Takes the text of each token as it is produced.
Give = Callable[[str], None]


class Expert(Protocol):
    """What a node offers; called from threads, `answer` from several at one time."""

    @property
    def exhausted(self) -> bool:
        """Whether budgets of the device's own forbid work for now."""
        ...

    def load(self) -> None:
        """Make ready; returns when it is."""
        ...

    def park(self) -> None:
        """Give up what being ready takes; running answers may finish."""
        ...

    def answer(self, work: Work, give: Give, cancelled: threading.Event) -> Answer:
        """Answer a request.

        Raises:
            UpdraftError: it cannot; the coordinator asks another node.
        """
        ...


class EngineExpert:
    """Answers by an engine that serves the device's own requests too.

    A parked engine loads again when the device itself needs it.
    """

    def __init__(self, engine: Engine, mode: Mode, governor: Governor | None = None) -> None:
        self._engine = engine
        self._mode: Mode = mode
        self._governor = governor

    @property
    def exhausted(self) -> bool:
        return self._governor is not None and self._governor.exhausted

    def load(self) -> None:
        _ = self._engine.model

    def park(self) -> None:
        self._engine.park()

    def answer(self, work: Work, give: Give, cancelled: threading.Event) -> Answer:
        started = monotonic()
        generation, tokens = self._start(work)
        first: float | None = None
        for token in tokens:
            first = first or monotonic()
            give(token.text)
            if cancelled.is_set() or monotonic() > work.deadline:
                generation.cancel()
        result = generation.result
        ended = monotonic()
        return Answer(
            result.finish_reason,
            replace(result.usage, latency_ms=1000 * (ended - started)),
            1000 * ((first or ended) - started),
            result.energy.method,
            generation.prompt_tokens,
            len(result.tokens),
            result.alone,
        )

    def _start(self, work: Work) -> tuple[Generation, Iterator[GeneratedToken]]:
        request = GenerationRequest(
            prompt=work.prompt,
            mode=self._mode,
            max_tokens=work.max_tokens,
            temperature=work.temperature,
            seed=work.seed,
        )
        governor = self._governor
        if governor is None:
            generation = self._engine.start(request)
            return generation, generation.settled()
        prompt = self._engine.tokenizer.encode(request.prompt)
        found = governor.try_admit(request, len(prompt), own_mode=True)
        if isinstance(found, Wait):
            raise found.refusal  # another node may have room
        generation = governor.start(self._engine, found, prompt)
        return generation, governor.follow(found, generation)
