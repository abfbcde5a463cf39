"""A coordinator under load: many sessions at once, right answers, memory that comes back."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from time import monotonic, perf_counter, sleep

import psutil

from updraft.benchmarks.measures.bench import Bench, complete
from updraft.benchmarks.measures.report import Section
from updraft.edge.engine import Engine
from updraft.edge.request import GenerationRequest
from updraft.errors import UpdraftError
from updraft.models.card import Table

_THETA = 0.8
_MIB = 1 << 20
_SAMPLE_S = 0.05
_SETTLE_S = 30


@dataclass
class Round:
    """One batch of concurrent generations.

    Attributes:
        sessions: most at one time, as the coordinator says.
        left: sessions that did not end.
        settled_mib: memory once no session is left.
    """

    generations: int
    seconds: float = 0.0
    tokens: int = 0
    errors: list[str] = field(default_factory=list)
    different: int = 0
    sessions: int = 0
    left: int = 0
    peak_mib: float = 0.0
    settled_mib: float = 0.0


class Watch:
    """Samples a coordinator's memory and sessions while a batch runs."""

    def __init__(self, engine: Engine, process: psutil.Process) -> None:
        self.peak_mib = 0.0
        self.sessions = 0
        self._engine = engine
        self._process = process
        self._done = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._sample, name="watch")
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    def _sample(self) -> None:
        while not self._done.wait(_SAMPLE_S):
            self.peak_mib = max(self.peak_mib, memory_mib(self._process))
            self.sessions = max(self.sessions, sessions(self._engine))


def measure(bench: Bench) -> Section:
    """Run batches of concurrent sessions against a fresh coordinator."""
    count = bench.plan.sessions
    prompts = (bench.prompts(count) * count)[:count]
    requests = [
        GenerationRequest(prompt, mode, theta=_THETA, max_tokens=bench.plan.max_tokens)
        for mode in ("threshold", "cloud")
        for prompt in prompts
    ]
    with bench.serve() as (endpoint, process):
        engine = bench.connect(endpoint)
        assert engine.link is not None, "it was made with a link"
        try:
            fresh = memory_mib(process)
            alone = [
                complete(engine, request).tokens
                for request in bench.track(requests, "load: one session at a time")
            ]
            one_by_one = _settle(engine, process)
            rounds = [
                _run_round(engine, process, requests, alone)
                for _ in bench.track(range(bench.plan.rounds), "load: sessions at once")
            ]
        finally:
            engine.link.close()
    return Section(
        key="load",
        tables=[_table(rounds, fresh, one_by_one, len(prompts))],
        figures={
            "fresh_mib": fresh,
            "one_by_one_mib": one_by_one,
            "rounds": [asdict(one) for one in rounds],
        },
        failures=_failures(rounds),
    )


def _run_round(
    engine: Engine,
    process: psutil.Process,
    requests: Sequence[GenerationRequest],
    alone: Sequence[list[int]],
) -> Round:
    batch = Round(len(requests))
    start = threading.Barrier(len(requests))
    watch = Watch(engine, process)

    def run(request: GenerationRequest) -> list[int] | UpdraftError:
        start.wait()
        try:
            return complete(engine, request).tokens
        except UpdraftError as error:
            return error

    started = perf_counter()
    with watch.running(), ThreadPoolExecutor(len(requests)) as threads:
        answers = list(threads.map(run, requests))
    batch.seconds = perf_counter() - started
    for answer, expected in zip(answers, alone, strict=True):
        if isinstance(answer, UpdraftError):
            batch.errors.append(f"{answer.code}: {answer}")
        else:
            batch.tokens += len(answer)
            batch.different += answer != expected
    batch.settled_mib = _settle(engine, process)
    batch.left = sessions(engine)
    batch.sessions, batch.peak_mib = watch.sessions, watch.peak_mib
    return batch


def sessions(engine: Engine) -> int:
    """Ask the coordinator how many sessions it holds."""
    assert engine.link is not None, "it was made with a link"
    return engine.link.describe().sessions


def memory_mib(process: psutil.Process) -> float:
    """Return a process's resident memory."""
    return float(process.memory_info().rss) / _MIB


def _settle(engine: Engine, process: psutil.Process) -> float:
    """Wait until no session is left; returns the memory then."""
    deadline = monotonic() + _SETTLE_S
    while sessions(engine) and monotonic() < deadline:
        sleep(_SAMPLE_S)
    return memory_mib(process)


def _failures(rounds: Sequence[Round]) -> list[str]:
    failures = []
    for number, batch in enumerate(rounds, start=1):
        failures += [f"round {number}: {error}" for error in batch.errors[:5]]
        if batch.different:
            failures.append(f"round {number}: {batch.different} outputs differ from those alone")
        if batch.left:
            failures.append(f"round {number}: {batch.left} sessions did not end")
    return failures


def _table(rounds: Sequence[Round], fresh: float, one_by_one: float, sessions_each: int) -> Table:
    blank = ("",) * 5
    return Table(
        "A coordinator under load",
        ("batch", "sessions at once", "errors", "outputs unlike alone", "tokens/s", "peak RSS, MiB",
         "RSS after, MiB"),
        [
            ("started", *blank, f"{fresh:.1f}"),
            ("one session at a time", *blank, f"{one_by_one:.1f}"),
            *(
                (
                    f"round {number}",
                    str(batch.sessions),
                    f"**{len(batch.errors)}**",
                    f"**{batch.different}**",
                    f"{batch.tokens / batch.seconds:,.0f}",
                    f"{batch.peak_mib:.1f}",
                    f"{batch.settled_mib:.1f}",
                )
                for number, batch in enumerate(rounds, start=1)
            ),
        ],
        f"Each round: {sessions_each} `threshold` generations (θ = {_THETA:g}, fp16 wire) and "
        f"{sessions_each} of `cloud`, all at once from one edge process with a thread each; "
        "memory after: when no session is left.",
    )  # fmt: skip
