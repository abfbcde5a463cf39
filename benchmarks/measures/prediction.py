"""Predicted against measured: what the rounds of `benchmarks/performance.py` do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter, thread_time
from typing import Literal

import numpy as np

from updraft.devices.catalog.device import Device
from updraft.devices.fit import Load
from updraft.devices.meters.modelled import ModelledMeter
from updraft.devices.performance import PerformanceModel
from updraft.edge.engine import Engine
from updraft.edge.request import GenerationRequest
from updraft.models.bundle import Bundle
from updraft.models.runtime import RuntimeOptions
from updraft.models.sequence import Model
from updraft.models.workload import workload_of

Kind = Literal["answer", "step", "chunk"]

_PROMPT = "def mean(values):\n    total = 0\n    for value in values:\n        "
_STEPS, _CHUNKS, _LOOPS = 40, 5, 100

# Runs in a fresh interpreter: memory that this one holds must not count.
_MEMORY_PROBE = """
import sys
from pathlib import Path
import psutil
import updraft.edge.agent
from updraft.devices.meters.modelled import ModelledMeter
from updraft.edge.engine import Engine
from updraft.edge.request import GenerationRequest
from updraft.models.bundle import open_bundle
from updraft.models.runtime import RuntimeOptions
from updraft.models.workload import workload_of

def held():
    return psutil.Process().memory_info().rss

bundle = open_bundle(Path(sys.argv[1]))
workload_of(bundle)
before = held()
engine = Engine(bundle, RuntimeOptions(), ModelledMeter(1), whole_model=True)
limit = bundle.manifest.architecture.context_length
prompt = "x = 1\\n" * (limit // 8)
length = len(engine.tokenizer.encode(prompt))
request = GenerationRequest(prompt, "full", max_tokens=limit - length)
for _ in engine.start(request):
    pass
print(held() - before)
"""


@dataclass(frozen=True)
class Timed:
    """Median seconds of a stretch that is run again and again.

    Attributes:
        wall_s: as a user waits.
        cpu_s: of this thread; turns of other processes do not count.
    """

    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class Point:
    """One stretch, measured, and what each way to know the machine predicts for it.

    Attributes:
        what: for people.
        kind: `answer`: a token of an answer that the engine gives; `step`: one token through some
            of the layers; `chunk`: several positions at one time.
        predicted_s: by way.
    """

    subject: str
    what: str
    kind: Kind
    measured: Timed
    predicted_s: Mapping[str, float]

    def error(self, way: str) -> float:
        """Return predicted over measured time, less one."""
        return self.predicted_s[way] / self.measured.wall_s - 1

    def cpu_error(self, way: str) -> float:
        """Return likewise, with the time that other processes took left out."""
        return self.predicted_s[way] / self.measured.cpu_s - 1


class Subject:
    """A loaded bundle that is timed step by step and answer by answer."""

    def __init__(self, bundle: Bundle) -> None:
        options = RuntimeOptions()
        self.bundle = bundle
        self.name = bundle.manifest.name
        self.workload = workload_of(bundle)
        self.top = self.workload.exits[-1]
        self._model = Model.load(bundle, range(self.top), options)
        self._engine = Engine(bundle, options, ModelledMeter(1), whole_model=True)

    def answer(self, tokens: int) -> tuple[Timed, int]:
        """Decode an answer at full depth; returns what a token after the first takes, and P."""
        generation = self._engine.start(GenerationRequest(_PROMPT, "full", max_tokens=tokens))
        marks = [(perf_counter(), thread_time()) for _ in generation]
        wall, cpu = np.diff(np.array(marks), axis=0).T
        return Timed(float(np.median(wall)), float(np.median(cpu))), generation.prompt_tokens

    def loop_s(self) -> float:
        """Return what the decoding loop does around a token: all that is outside the runtime."""
        request = GenerationRequest(_PROMPT, "standalone", theta=2, max_tokens=_LOOPS)
        generation = self._engine.start(request)
        marks = [(perf_counter(), generation.edge_s) for _ in generation]
        waited, inside = np.diff(np.array(marks), axis=0).T
        return float(np.quantile(waited - inside, 0.25))

    def step(self, top: int, context: int) -> Timed:
        """Time one token through the layers up to `top` and their exit."""
        sequence = self._model.below(top).new_sequence()
        sequence.append([5] * context)
        sequence.advance(top)

        def run() -> None:
            sequence.truncate(context)
            sequence.append([7])
            sequence.advance(top)
            sequence.look(top)

        return _timed(run, _STEPS)

    def chunk(self, positions: int) -> Timed:
        """Time positions that pass all layers at one time."""
        sequence = self._model.new_sequence()

        def run() -> None:
            sequence.truncate(0)
            sequence.append([7] * positions)
            sequence.advance(self.top)

        return _timed(run, _CHUNKS)


def points(
    subject: Subject, devices: Mapping[str, Device], tokens: int, chunks: Sequence[int]
) -> list[Point]:
    """Measure a subject and predict it: an answer, steps by depth and context, and chunks.

    Args:
        devices: by way, this machine as it is known in that way.
    """
    models = {way: model_of(subject, device) for way, device in devices.items()}

    def point(what: str, kind: Kind, measured: Timed, **step: int) -> Point:
        predicted_s = {way: model.step(**step).seconds for way, model in models.items()}
        return Point(subject.name, what, kind, measured, predicted_s)

    top, context_length = subject.top, subject.workload.context_length
    answer, prompt = subject.answer(tokens)
    expected_s = {
        way: model.predict(prompt, tokens, top).per_token_ms.value / 1e3
        for way, model in models.items()
    }
    found = [Point(subject.name, "a token of an answer", "answer", answer, expected_s)]
    for layer in subject.workload.exits:
        for context in (16, context_length - 16):
            what, measured = f"{layer} layers after {context}", subject.step(layer, context)
            found.append(point(what, "step", measured, top=layer, positions=1, context=context))
    for count in chunks:
        what, measured = f"{count} positions at once", subject.chunk(count)
        found.append(point(what, "chunk", measured, top=top, positions=count, context=0, looks=0))
    return found


def model_of(subject: Subject, device: Device) -> PerformanceModel:
    """Return an uncorrected model of a subject on a device."""
    return PerformanceModel(device, device.default_mode, subject.workload)


def learning(subject: Subject, device: Device, answers: int, tokens: int) -> Iterator[float]:
    """Answer after answer, yield the error that the correction had left before it saw it."""
    model = model_of(subject, device)
    for _ in range(answers):
        measured, prompt = subject.answer(tokens)
        each_ms = 1e3 * measured.wall_s
        expected = model.predict(prompt, tokens, subject.top).per_token_ms
        yield expected.value / each_ms - 1
        model.observe(prompt, tokens, subject.top, first_token_ms=each_ms, per_token_ms=each_ms)


def memory(subject: Subject) -> tuple[int, int]:
    """Return the bytes that one text at full length takes: predicted, and held by a process."""
    command = [sys.executable, "-c", _MEMORY_PROBE, str(subject.bundle.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Load(subject.workload, contexts=1).need.total, int(json.loads(done.stdout))


def _timed(run: Callable[[], None], count: int) -> Timed:
    wall, cpu = [], []
    for _ in range(count):
        started, cpu_started = perf_counter(), thread_time()
        run()
        wall.append(perf_counter() - started)
        cpu.append(thread_time() - cpu_started)
    return Timed(median(wall), median(cpu))
