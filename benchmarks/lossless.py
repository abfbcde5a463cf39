"""Whether `lossless` says exactly what `cloud` says, with and without faults; writes a table.

python benchmarks/lossless.py            200 held-out prompts × 64 tokens, into docs/results
python benchmarks/lossless.py --quick    20 prompts, printed only

Faults: about once a second all connections are cut for a moment, and now and then the coordinator
is killed and started again with empty memory. The exit code is 1 when any text differs.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.progress import track

from updraft.benchmarks.collab.emulator import Emulator
from updraft.benchmarks.collab.wire import Link
from updraft.benchmarks.measures.bench import Cores, bundle_prompts, complete, serve
from updraft.benchmarks.measures.report import ROOT, commit, machine, terminal, write
from updraft.config.endpoint import Endpoint
from updraft.devices.meters.modelled import ModelledMeter
from updraft.edge.engine import Engine
from updraft.edge.link import CloudLink, Deadlines
from updraft.edge.request import GenerationRequest, Mode
from updraft.models.bundle import Bundle, open_bundle
from updraft.models.card import Table
from updraft.models.manifest import CodecName
from updraft.models.runtime import RuntimeOptions
from updraft.models.shipped import shipped_bundle

_TOKENS = 64
_SAMPLINGS = (0.0, 0.8)
_WIRES: tuple[CodecName, ...] = ("fp32",)
_LINK = Link(2, 31)
_CUT_EACH_S, _CUT_S = 1.0, 0.05
_RESTART_EACH = 25
_PATIENCE_S = 60.0


@dataclass
class Row:
    """One way to run all prompts.

    Attributes:
        different: prompts whose text is not that of `cloud`.
        degraded: texts during which the coordinator was missing at some point.
        unverified: texts that were never mended.
    """

    wire: CodecName
    temperature: float
    faults: str
    prompts: int = 0
    tokens: int = 0
    different: int = 0
    degraded: int = 0
    unverified: int = 0
    restarts: int = 0


class Coordinator:
    """A daemon on a port of its own that can be killed and started again."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self.endpoint = self._start(Endpoint("127.0.0.1", 0))

    def restart(self) -> None:
        """Kill it and start it with empty memory at the same address."""
        self.kill()
        self._start(self.endpoint)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._served.close()

    def _start(self, at: Endpoint) -> Endpoint:
        self._served = ExitStack()
        daemon = serve(self._bundle, Cores(None, None), "--listen", str(at))
        endpoint, self._process = self._served.enter_context(daemon)
        return endpoint


@contextmanager
def cutting(emulator: Emulator, seed: int) -> Iterator[None]:
    """Cut all connections about once a second."""
    over, moments = threading.Event(), random.Random(seed)

    def cut() -> None:
        while not over.wait(_CUT_EACH_S * moments.uniform(0.5, 1.5)):
            emulator.black_out(_CUT_S, cut=True)

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="20 prompts")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--output", type=Path, help="folder for lossless.md and lossless.json")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # outages are what this is about
    started = perf_counter()
    rows = measure(20 if arguments.quick else 200)
    found = {
        "commit": commit(),
        "machine": machine(),
        "seconds": round(perf_counter() - started),
        "rows": [asdict(row) for row in rows],
    }
    table = _table(rows)
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        Console(width=120).print(terminal(table))
    folder = arguments.output or (None if arguments.quick else ROOT / "docs" / "results")
    if folder is not None:
        write(folder / "lossless.json", json.dumps(found, indent=2) + "\n")
        about = f"Made by `python benchmarks/lossless.py` in {found['seconds']} s on"
        text = f"# `lossless` is `cloud`\n\n{about} {found['machine']}; commit {found['commit']}."
        write(folder / "lossless.md", f"{text}\n\n{table.markdown()}\n")
    sys.exit(any(row.different or row.unverified for row in rows))


def measure(count: int) -> list[Row]:
    """Decode the prompts by `cloud`, and by `lossless` without and with faults."""
    bundle = open_bundle(shipped_bundle())
    prompts = bundle_prompts(bundle)[1][:count]
    rows: list[Row] = []
    with ExitStack() as open_things:
        coordinator = Coordinator(bundle)
        open_things.callback(coordinator.kill)
        emulator = Emulator(coordinator.endpoint)
        open_things.callback(emulator.close)
        emulator.shape(_LINK)
        patient = Deadlines(open_s=10, answer_s=10)
        link = CloudLink(emulator.endpoint, bundle.fingerprint, None, patient)
        open_things.callback(link.close)
        engine = Engine(bundle, RuntimeOptions(), ModelledMeter(10), link)
        for wire in _WIRES:
            for temperature in _SAMPLINGS:
                texts = [
                    complete(engine, _request(p, n, "cloud", wire, temperature)).tokens
                    for n, p in enumerate(prompts)
                ]
                for faults in ("none", "cuts and restarts"):
                    row = Row(wire, temperature, faults)
                    if faults == "none":
                        _run(row, engine, prompts, texts, None)
                    else:
                        with cutting(emulator, seed=len(rows)):
                            _run(row, engine, prompts, texts, coordinator)
                    rows.append(row)
    return rows


def _run(
    row: Row,
    engine: Engine,
    prompts: list[str],
    texts: list[list[int]],
    coordinator: Coordinator | None,
) -> None:
    told = f"{row.wire}, T = {row.temperature:g}, faults: {row.faults}"
    for number, prompt in enumerate(track(prompts, told, transient=True)):
        request = _request(prompt, number, "lossless", row.wire, row.temperature)
        generation = engine.start(request)
        for count, _ in enumerate(generation):
            if coordinator is not None and number % _RESTART_EACH == 0 and count == _TOKENS // 4:
                coordinator.restart()
                row.restarts += 1
        result = generation.result
        row.prompts += 1
        row.tokens += len(result.tokens)
        row.different += result.tokens != texts[number]
        row.degraded += result.degraded
        row.unverified += result.unverified_from is not None


def _request(
    prompt: str, number: int, mode: Mode, wire: CodecName, temperature: float
) -> GenerationRequest:
    return GenerationRequest(
        prompt,
        mode,
        max_tokens=_TOKENS,
        temperature=temperature,
        seed=number,
        wire=wire,
        repair_wait_s=_PATIENCE_S,
    )


def _table(rows: list[Row]) -> Table:
    return Table(
        title=f"`lossless` beside `cloud` of the same codec, {_LINK.name}",
        header=(
            "wire", "T", "faults", "prompts", "tokens", "texts that differ",
            "texts with an outage", "restarts", "never mended",
        ),
        rows=[
            (
                row.wire, f"{row.temperature:g}", row.faults, str(row.prompts), str(row.tokens),
                str(row.different), str(row.degraded), str(row.restarts), str(row.unverified),
            )
            for row in rows
        ],
        note="Each text that met an outage went on alone and was mended when the coordinator was "
        "back: by resuming its session, or from the beginning after a restart.",
    )  # fmt: skip


if __name__ == "__main__":
    main()
