"""`updraft bench engine`: all contenders in one run, by turns, one process each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import numpy as np
import psutil
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from updraft.benchmarks.engine.contenders import UPDRAFT, Contender
from updraft.benchmarks.engine.models import Model, Workshop
from updraft.benchmarks.engine.plan import SEED, Case, Tier
from updraft.benchmarks.engine.results import CaseResults, Results, Setting
from updraft.benchmarks.engine.samples import Sample, Series
from updraft.benchmarks.engine.worker import Answer, RuntimeFailed, Worker
from updraft.devices import bandwidth
from updraft.devices.fit import Load
from updraft.devices.meters.choose import MeterSettings, open_meter
from updraft.devices.meters.meter import Meter
from updraft.devices.meters.modelled import ModelledMeter
from updraft.models.bundle import open_bundle
from updraft.models.workload import workload_of

T = TypeVar("T")

# A first text may compile or repack weights; later ones take seconds.
_FIRST_LIMIT_S = 300.0
_LIMIT_S = 240.0
_PROBE_S = 0.2
# Processes stay loaded side by side: what each may need beside twice its weights.
_ROOM_BYTES = 512 << 20
_COLD_TOKENS = 9


@dataclass(frozen=True)
class _Bench:
    """What the measurements of one run share."""

    workshop: Workshop
    threads: int
    meter: Meter | None
    progress: Progress

    def track(self, items: Sequence[T], told: str) -> Iterator[T]:
        task = self.progress.add_task(told, total=len(items))
        for item in items:
            yield item
            self.progress.advance(task)


def measure(
    tier: Tier, folder: Path, rivals_python: Path, threads: int, console: Console
) -> Results:
    """Measure everything that a tier asks for.

    Args:
        folder: for checkpoints and converted models, which the next run finds there again.
        rivals_python: a Python that has other runtimes; those that it lacks are left out.
        threads: of every runtime, and of the probe of the memory.
    """
    started = perf_counter()
    load = psutil.getloadavg()[0]
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=console) as progress,
        _sensor() as meter,
    ):
        bench = _Bench(Workshop(folder, rivals_python), threads, meter, progress)
        cases = [_measure_case(bench, case) for case in tier.cases]
        energy = "no meter here" if meter is None else meter.method
    results = Results(Setting.here(tier, threads, load, energy), cases)
    results.seconds = perf_counter() - started
    return results


def _measure_case(bench: _Bench, case: Case) -> CaseResults:
    results = CaseResults(case)
    models = _convert(bench, case, results)
    with ExitStack() as stack:
        running = _start(bench, case, models, results, stack)
        for number in bench.track(range(case.rounds), f"{case.shape.name}: rounds"):
            for contender, worker in _shuffled(running, number):
                try:
                    sample = _sample(bench, worker, case, number)
                except RuntimeFailed as error:
                    results.left_out.append(f"{contender.name}, round {number + 1}: {error}")
                    worker.close()
                    del running[contender]
                else:
                    results.series[contender.name].samples.append(sample)
    colds = [
        contender
        for _ in range(case.cold_starts)
        for contender in models
        if results.series[contender.name].samples
    ]
    for number, contender in enumerate(bench.track(colds, f"{case.shape.name}: cold starts")):
        try:
            answer = _cold_start(bench, case, contender, models[contender], number)
        except RuntimeFailed as error:
            results.left_out.append(f"{contender.name}, cold start: {error}")
        else:
            results.series[contender.name].cold.append(answer)
    return results


def _convert(bench: _Bench, case: Case, results: CaseResults) -> dict[Contender, Model]:
    models = {}
    for contender in bench.track(case.contenders, f"{case.shape.name}: models"):
        versions = bench.workshop.versions(contender)
        if versions is None:
            results.left_out.append(
                f"{contender.name}: not installed: pip install {contender.install} into an "
                "environment of its own, and name its Python with --rivals-python"
            )
            continue
        try:
            model = bench.workshop.convert(case.shape, contender)
        except RuntimeFailed as error:
            results.left_out.append(f"{contender.name}: its model was not made: {error}")
            continue
        models[contender] = model
        results.series[contender.name] = Series(contender, versions, model.weight_bytes)
    return models


def _loading_bytes(model: Model) -> int:
    """Return the memory that our model is said to take on, before it is loaded."""
    return Load(workload_of(open_bundle(model.folder / "bundle")), contexts=1).need.total


def _start(
    bench: _Bench,
    case: Case,
    models: dict[Contender, Model],
    results: CaseResults,
    stack: ExitStack,
) -> dict[Contender, Worker]:
    """Load every model and decode a first text, which is not counted."""
    running = {}
    for contender in bench.track(list(models), f"{case.shape.name}: loading"):
        need = 2 * models[contender].weight_bytes + _ROOM_BYTES
        if (free := psutil.virtual_memory().available) < need:
            results.left_out.append(
                f"{contender.name}: {free / 1e6:.0f} MB of memory are free beside the others, "
                f"{need / 1e6:.0f} MB are needed"
            )
            continue
        try:
            worker = stack.enter_context(
                closing(_worker(bench, case, contender, models[contender]))
            )
            first = worker.ask(case.prompt(case.rounds), case.tokens, _FIRST_LIMIT_S)
        except RuntimeFailed as error:
            results.left_out.append(f"{contender.name}: {error}")
        else:
            running[contender] = worker
            if contender == UPDRAFT:
                results.predicted_bytes = first.started_bytes + _loading_bytes(models[contender])
    return running


def _shuffled(running: dict[Contender, Worker], number: int) -> list[tuple[Contender, Worker]]:
    """Return who computes after whom in a round: each would suffer always from the same one."""
    turns, rng = list(running.items()), np.random.default_rng((SEED, number))
    return [turns[place] for place in rng.permutation(len(turns))]


def _worker(bench: _Bench, case: Case, contender: Contender, model: Model) -> Worker:
    options = json.dumps(dict(contender.options))
    arguments = ["run", contender.runtime, str(model.folder), str(bench.threads), options]
    workshop = bench.workshop
    return Worker(workshop.python(contender), arguments, workshop.log(case.shape, contender, "run"))


def _sample(bench: _Bench, worker: Worker, case: Case, number: int) -> Sample:
    read = bandwidth.measure(threads=bench.threads, seconds=_PROBE_S)
    span = bench.meter.begin() if bench.meter is not None else None
    answer = worker.ask(case.prompt(number), case.tokens, _LIMIT_S)
    joules = span.end(answer.times_s[-1]).joules if span is not None else None
    return Sample(answer, read.bytes_per_s, joules)


def _cold_start(
    bench: _Bench, case: Case, contender: Contender, model: Model, number: int
) -> Answer:
    with closing(_worker(bench, case, contender, model)) as worker:
        return worker.ask(case.prompt(case.rounds + 1 + number), _COLD_TOKENS, _FIRST_LIMIT_S)


@contextmanager
def _sensor() -> Iterator[Meter | None]:
    """Open the device's meter; a model of one measures nothing, so it does not count."""
    with closing(open_meter(MeterSettings())) as meter:
        yield None if isinstance(meter, ModelledMeter) else meter
