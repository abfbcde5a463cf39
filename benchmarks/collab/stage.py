"""What the measurements share: a coordinator, an emulated link to it, engines, and single runs."""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import grpc

from updraft.benchmarks.collab.emulator import Counters, Emulator
from updraft.benchmarks.collab.plan import NAIVE, Row
from updraft.benchmarks.collab.rivals import complete_naively
from updraft.benchmarks.collab.wire import LOOPBACK, Link
from updraft.benchmarks.measures.bench import PATIENT, Cores, hold, let_go, serve
from updraft.cloud.config import SessionLimits
from updraft.config.endpoint import Endpoint
from updraft.devices.meters.modelled import ModelledMeter
from updraft.edge.engine import Engine
from updraft.edge.link import CloudLink, Deadlines
from updraft.edge.request import GenerationRequest, GenerationResult
from updraft.errors import BundleError, RequestError
from updraft.models.bundle import Bundle, open_bundle, write_manifest
from updraft.models.manifest import PLAIN_CODECS
from updraft.models.runtime import RuntimeOptions
from updraft.proto.v1 import collaboration_pb2 as pb
from updraft.proto.v1 import collaboration_pb2_grpc as rpc

_SETTLE_S = 0.005


@dataclass(frozen=True)
class Run:
    """One completion.

    Attributes:
        number: of the prompt.
        prompt_tokens: P.
        result: what the engine says of it.
        arrivals_s: when each token came, from the start.
        carried: what the interface counters saw.
    """

    number: int
    prompt_tokens: int
    result: GenerationResult
    arrivals_s: tuple[float, ...]
    carried: Counters

    @property
    def new_tokens(self) -> int:
        return len(self.result.tokens)


class Stage:
    """A coordinator on one core and this process as the edge on another; close it when done.

    Args:
        memory_mib: the coordinator's limit for the context of all sessions.
    """

    def __init__(self, bundle: Bundle, memory_mib: int = SessionLimits().memory_mib) -> None:
        self.bundle = bundle
        self.memory_mib = memory_mib
        self.cores = Cores.choose()
        self.link = LOOPBACK
        self._engines: dict[bool, Engine] = {}
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            config = folder / "coordinator.toml"
            config.write_text(f"[sessions]\nmemory_mib = {memory_mib}\n")
            options = ("--config", str(config))
            endpoint, self._process = stack.enter_context(serve(bundle, self.cores, *options))
            let_go(self.cores)
            self.emulator = stack.enter_context(closing(Emulator(endpoint)))
            hold(self.cores.edge)
            self.channel = stack.enter_context(grpc.insecure_channel(str(self.emulator.endpoint)))
            # Beside the emulated link, for questions that are no part of what is measured.
            self._direct = stack.enter_context(grpc.insecure_channel(str(endpoint)))
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Stop the coordinator and the link to it."""
        self._stack.close()

    def shape(self, link: Link) -> None:
        """Measure over another link from now on."""
        self.link = link
        self.emulator.shape(link)

    def engine(self, row: Row) -> Engine:
        """Return the engine that a row runs on, with as much patience as a busy machine needs."""
        if row.paper not in self._engines:
            self._engines[row.paper] = self.connect(row, PATIENT, whole_model=True)
        return self._engines[row.paper]

    def connect(self, row: Row, deadlines: Deadlines, whole_model: bool = False) -> Engine:
        """Load another engine for a row; its link is closed with the stage."""
        bundle = as_paper(self.bundle) if row.paper else self.bundle
        engine = connect(bundle, self.emulator.endpoint, deadlines, whole_model)
        assert engine.link is not None, "it was made with a link"
        self._stack.callback(engine.link.close)
        return engine

    def refusal(self, row: Row, temperature: float) -> str | None:
        """Return why a row cannot be measured with this bundle; None: it can."""
        if row == NAIVE:
            return None
        request = GenerationRequest("x", temperature=temperature, **row.choices())
        try:
            self.engine(row).start(request)
        except (BundleError, RequestError) as error:
            return str(error)
        return None

    def run(self, row: Row, prompt: str, number: int, temperature: float, tokens: int) -> Run:
        """Complete one prompt.

        Args:
            number: of the prompt; the seed of its sampling.
            tokens: the most new ones.
        """
        before, engine = self.emulator.counters(), self.engine(row)
        started = perf_counter()
        if row == NAIVE:
            completion = complete_naively(
                engine, self.channel, prompt, tokens, temperature, seed=number
            )
            arrivals, result = completion.arrivals, completion.result
        else:
            generation = engine.start(
                GenerationRequest(
                    prompt,
                    max_tokens=tokens,
                    temperature=temperature,
                    seed=number,
                    **row.choices(),
                )
            )
            arrivals = [perf_counter() for _ in generation]
            result = generation.result
        # What a completion leaves behind on the way must not count for the next one.
        time.sleep(_SETTLE_S + 1.5 * self.link.round_trip_ms / 1e3)
        return Run(
            number,
            len(engine.tokenizer.encode(prompt)),
            result,
            tuple(at - started for at in arrivals),
            self.emulator.counters().since(before),
        )

    def call(self) -> None:
        """Ask the coordinator something small over the emulated link."""
        rpc.CollaborationStub(self.channel).Describe(pb.DescribeRequest())

    def statistics(self) -> pb.Statistics:
        """Ask the coordinator what it has done so far."""
        stub = rpc.CollaborationStub(self._direct)
        answer: pb.DescribeResponse = stub.Describe(pb.DescribeRequest())
        return answer.statistics

    def coordinator_cpu_s(self) -> float:
        """Return the processor seconds of the coordinator so far."""
        spent = self._process.cpu_times()
        return float(spent.user + spent.system)

    def coordinator_mib(self) -> float:
        """Return the coordinator's resident memory."""
        return float(self._process.memory_info().rss) / (1 << 20)


def connect(bundle: Bundle, endpoint: Endpoint, deadlines: Deadlines, whole_model: bool) -> Engine:
    """Load a bundle, with a link to a coordinator."""
    return Engine(
        bundle,
        RuntimeOptions(),
        ModelledMeter(),
        CloudLink(endpoint, bundle.fingerprint, None, deadlines),
        whole_model,
    )


def split_at_first_exit(bundle: Bundle, folder: Path) -> Bundle:
    """Write a copy of a bundle whose split is its first exit, with the codecs that need no scales.

    What was fitted to the states and drafts of the old split is left out.
    """
    shutil.copytree(bundle.folder, folder, dirs_exist_ok=True)
    manifest = bundle.manifest
    changes = {
        "split": manifest.exits[0].layer,
        "codecs": [codec for codec in manifest.codecs if codec in PLAIN_CODECS],
        "wire": None,
        "guarantees": [],
        "stop_rules": [],
    }
    write_manifest(folder, manifest.model_copy(update=changes))
    return open_bundle(folder)


def as_paper(bundle: Bundle) -> Bundle:
    """Return the bundle with confidences as CE-CoLLM has them: probabilities, uncalibrated."""
    exits = [exit_.model_copy(update={"calibration": None}) for exit_ in bundle.manifest.exits]
    return Bundle(bundle.folder, bundle.manifest.model_copy(update={"exits": exits}))
