"""Many clients at once: how much one coordinator gets done, and how long each waits."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import numpy as np

from updraft.benchmarks.collab.cells import Prompt
from updraft.benchmarks.collab.plan import Row
from updraft.benchmarks.collab.stage import Stage
from updraft.benchmarks.collab.wire import Link
from updraft.benchmarks.measures.bench import Cores, all_but_cloud
from updraft.errors import LinkBroken
from updraft.models.bundle import Bundle

_SAMPLE_S = 0.05
_MIB = 1 << 20


@dataclass(frozen=True)
class Crowd:
    """What so many clients did at once by one row over one link each.

    Attributes:
        makespan_s: from the start of all until the last one ended.
        p50_ms, p95_ms: time between two tokens of one client.
        edge_busy_s: seconds inside the runtime, of all clients.
        cloud_busy_s: seconds of the coordinator's forward passes.
        coordinator_cpu_s: processor seconds of its process; `cloud_cpu_s`: of its forward passes.
        passes: forward passes; `positions` and `sessions` in them, summed over all.
        spilled, evicted: sessions that gave up their context, or their inputs too.
        context_mib: most memory of all sessions' context since the start, of `limit_mib`.
        resident_mib: most resident memory of the coordinator.
        different: completions that are not those of one client alone.
    """

    row: Row
    link: Link
    clients: int
    tokens: int
    makespan_s: float
    p50_ms: float
    p95_ms: float
    edge_busy_s: float
    cloud_busy_s: float
    coordinator_cpu_s: float
    cloud_cpu_s: float
    passes: int
    positions: int
    sessions: int
    spilled: int
    evicted: int
    context_mib: float
    limit_mib: int
    resident_mib: float
    different: int
    degraded: int

    @property
    def tokens_s(self) -> float:
        return self.tokens / self.makespan_s

    @property
    def positions_per_pass(self) -> float:
        return self.positions / max(1, self.passes)

    @property
    def sessions_per_pass(self) -> float:
        return self.sessions / max(1, self.passes)

    @property
    def cloud_s_per_token(self) -> float:
        """Processor seconds: where clients take the coordinator's core, its clock says little."""
        return self.cloud_cpu_s / self.tokens


class Clients:
    """Client processes, started once and told what to do; close them when done."""

    def __init__(self, bundle: Bundle, cores: Cores, count: int) -> None:
        module = "updraft.benchmarks.collab.client"
        command = [sys.executable, "-m", module, str(bundle.folder)]
        with all_but_cloud(cores):
            self._processes = [
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                for _ in range(count)
            ]
        for process in self._processes:
            _hear(process)

    def prepare(self, jobs: Sequence[dict[str, Any]]) -> list[subprocess.Popen[str]]:
        """Give as many clients as there are jobs theirs, and wait until all are warm."""
        working = self._processes[: len(jobs)]
        for process, job in zip(working, jobs, strict=True):
            _tell(process, json.dumps(job))
        for process in working:
            _hear(process)
        return working

    def close(self) -> None:
        """End all clients."""
        for process in self._processes:
            process.communicate()


def measure_crowd(
    stage: Stage,
    clients: Clients,
    row: Row,
    prompts: Sequence[Sequence[Prompt]],
    texts: dict[int, tuple[int, ...]],
    max_tokens: int,
) -> Crowd:
    """Let clients complete their prompts at once.

    Args:
        prompts: those of each client, of as many as there shall be.
        texts: what must come of each prompt, by number; none: whatever comes is fine.
    """
    jobs = [
        {
            "endpoint": str(stage.emulator.endpoint),
            "row": asdict(row),
            "prompts": list(part),
            "max_tokens": max_tokens,
            "temperature": 0.0,
        }
        for part in prompts
    ]
    working = clients.prepare(jobs)
    with _watch(stage) as resident:
        before, cpu_before = stage.statistics(), stage.coordinator_cpu_s()
        started = perf_counter()
        for process in working:
            _tell(process, "go")
        answers = [json.loads(_hear(process)) for process in working]
        makespan = perf_counter() - started
        after, cpu = stage.statistics(), stage.coordinator_cpu_s() - cpu_before
    gaps = np.concatenate([answer["gaps_s"] for answer in answers])
    different = sum(
        tuple(text) != texts.get(prompt.number, tuple(text))
        for part, answer in zip(prompts, answers, strict=True)
        for prompt, text in zip(part, answer["texts"], strict=True)
    )
    p50, p95 = np.percentile(gaps, (50, 95)) * 1e3
    return Crowd(
        row,
        stage.link,
        len(prompts),
        sum(answer["tokens"] for answer in answers),
        makespan,
        float(p50),
        float(p95),
        sum(answer["edge_s"] for answer in answers),
        after.busy_s - before.busy_s,
        cpu,
        cpu - (after.overhead_cpu_s - before.overhead_cpu_s),
        after.passes - before.passes,
        after.pass_positions - before.pass_positions,
        after.pass_sessions - before.pass_sessions,
        after.spilled - before.spilled,
        after.evicted - before.evicted,
        after.peak_memory_bytes / _MIB,
        stage.memory_mib,
        max(resident),
        different,
        sum(answer["degraded"] for answer in answers),
    )


@contextmanager
def _watch(stage: Stage) -> Iterator[list[float]]:
    """Sample the coordinator's resident memory in MiB."""
    seen = [stage.coordinator_mib()]
    done = threading.Event()

    def sample() -> None:
        while not done.wait(_SAMPLE_S):
            seen.append(stage.coordinator_mib())

    thread = threading.Thread(target=sample, name="watch")
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def _tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None, "the pipe was asked for"
    print(line, file=process.stdin, flush=True)


def _hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None, "the pipe was asked for"
    line = process.stdout.readline()
    if not line:
        raise LinkBroken("a client process has ended; its last words stand above")
    return line
