"""What the measurements share: a bundle, an engine, a coordinator in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import psutil
from rich.progress import Progress

from updraft.cli.daemon import running
from updraft.cli.prompt_file import read_prompts
from updraft.config.endpoint import Endpoint
from updraft.devices.meters.modelled import ModelledMeter
from updraft.edge.engine import Engine
from updraft.edge.link import CloudLink, Deadlines
from updraft.edge.request import GenerationRequest, GenerationResult
from updraft.errors import LinkBroken
from updraft.models.bundle import Bundle
from updraft.models.runtime import RuntimeOptions

T = TypeVar("T")

# A busy machine is no fault of the code: what is slow shows in the times.
PATIENT = Deadlines(open_s=30, answer_s=30)

# For bundles without prompts of their own.
_SNIPPETS = (
    "import os\n\n\ndef main():\n    ",
    "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, ",
    "for index, value in enumerate(",
    'def read(path):\n    """Read a file."""\n    with open(path) as file:\n        ',
    "try:\n    import json\nexcept ImportError:\n    ",
    "if __name__ == '__main__':\n    ",
)


@dataclass(frozen=True)
class Plan:
    """How much is measured; prompts are spread evenly over those of the bundle."""

    max_tokens: int = 64
    exact_prompts: int = 200
    payload_prompts: int = 40
    mode_prompts: int = 100
    step_prompts: int = 80
    stop_prompts: int = 240
    sessions: int = 32
    rounds: int = 3


QUICK = Plan(
    max_tokens=32,
    exact_prompts=20,
    payload_prompts=6,
    mode_prompts=10,
    step_prompts=40,
    stop_prompts=24,
)


class Cores(NamedTuple):
    """The core that each side is held to; `None` where the system cannot hold a process.

    Attributes:
        usable: every core that this process was given.
    """

    edge: int | None
    cloud: int | None
    usable: frozenset[int] = frozenset()

    @classmethod
    def choose(cls) -> Cores:
        """Take two cores where this process may use so many."""
        if not hasattr(os, "sched_getaffinity"):
            return cls(None, None)
        usable = frozenset(os.sched_getaffinity(0))
        edge, cloud, *_ = (*sorted(usable), None)
        return cls(edge, cloud, usable) if cloud is not None else cls(None, None)

    def __str__(self) -> str:
        if self.edge is None:
            return f"not pinned, {os.cpu_count()} cores, one thread per forward pass"
        return (
            f"coordinator on core {self.cloud}, edge on core {self.edge}, one thread per "
            "forward pass"
        )


class Served(NamedTuple):
    """A running coordinator."""

    endpoint: Endpoint
    process: psutil.Process


class Bench:
    """Everything a measurement needs; close it when done."""

    def __init__(self, bundle: Bundle, plan: Plan, progress: Progress) -> None:
        self.bundle = bundle
        self.plan = plan
        self.cores = Cores.choose()
        self._progress = progress
        self.prompt_source, self._prompts = bundle_prompts(bundle)
        with ExitStack() as stack:
            self.coordinator = stack.enter_context(self.serve())
            hold(self.cores.edge)
            self.engine = self.connect(self.coordinator.endpoint)
            assert self.engine.link is not None, "it was made with a link"
            stack.callback(self.engine.link.close)
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Stop the coordinator and the link to it."""
        self._stack.close()

    def serve(self) -> AbstractContextManager[Served]:
        """Run a coordinator on its core."""
        return serve(self.bundle, self.cores)

    def connect(self, endpoint: Endpoint) -> Engine:
        """Load all layers, with a link to a coordinator."""
        return Engine(
            self.bundle,
            RuntimeOptions(),
            ModelledMeter(),
            CloudLink(endpoint, self.bundle.fingerprint, None, PATIENT),
            whole_model=True,
        )

    def prompts(self, count: int) -> list[str]:
        """Return up to `count` prompts, spread evenly over those there are."""
        stride = max(1, len(self._prompts) // count)
        return self._prompts[::stride][:count]

    def complete(self, prompt: str, **choices: Any) -> GenerationResult:
        """Run one generation to its end.

        Raises:
            LinkBroken: the cloud was lost on the way, so that this measured something else.
        """
        choices.setdefault("max_tokens", self.plan.max_tokens)
        return complete(self.engine, GenerationRequest(prompt, **choices))

    @contextmanager
    def stage(self, description: str) -> Iterator[None]:
        """Show something that takes a while in one piece."""
        task = self._progress.add_task(description, total=1)
        yield
        self._progress.advance(task)

    def track(self, items: Sequence[T], description: str) -> Iterator[T]:
        """Iterate with a progress bar."""
        task = self._progress.add_task(description, total=len(items))
        for item in items:
            yield item
            self._progress.advance(task)


def complete(engine: Engine, request: GenerationRequest) -> GenerationResult:
    """Run one generation to its end.

    Raises:
        LinkBroken: the cloud was lost on the way, so that this measured something else.
    """
    generation = engine.start(request)
    for _ in generation:
        pass
    if generation.result.degraded:
        raise LinkBroken(f"the coordinator was lost in mode {request.mode}")
    return generation.result


@contextmanager
def serve(bundle: Bundle, cores: Cores, *options: str) -> Iterator[Served]:
    """Run a coordinator on its core, with further options of `updraft cloud serve`."""
    before = {child.pid for child in psutil.Process().children()}
    arguments = ["cloud", "serve", "--listen", "127.0.0.1:0", "--bundle", str(bundle.folder)]
    # A child keeps its parent's core, and so do all of its threads.
    hold(cores.cloud)
    try:
        with running([*arguments, *options]) as endpoint:
            hold(cores.edge)
            children = psutil.Process().children()
            yield Served(endpoint, next(c for c in children if c.pid not in before))
    finally:
        hold(cores.edge)


def bundle_prompts(bundle: Bundle) -> tuple[str, list[str]]:
    """Return where prompts come from, and the prompts."""
    path = bundle.path("prompts.jsonl")
    if not path.is_file():
        return f"{len(_SNIPPETS)} snippets, the bundle has no prompts", list(_SNIPPETS)
    return "the bundle's prompts from held-out files", list(read_prompts(path))


def hold(core: int | None) -> None:
    """Hold this thread, and what it starts from now on, to one core."""
    if core is not None:
        os.sched_setaffinity(0, {core})


@contextmanager
def all_but_cloud(cores: Cores) -> Iterator[None]:
    """Let what is started meanwhile use every core but the coordinator's."""
    if cores.cloud is not None:
        os.sched_setaffinity(0, cores.usable - {cores.cloud})
    try:
        yield
    finally:
        hold(cores.edge)


def let_go(cores: Cores) -> None:
    """Let this thread, and what it starts from now on, use every core again."""
    if cores.usable:
        os.sched_setaffinity(0, cores.usable)
