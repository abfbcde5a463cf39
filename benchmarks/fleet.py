"""How long a fleet takes to get over a node's death, and to publish a plan; writes a table.

python benchmarks/fleet.py            20 deaths, fleets of up to 5,000 nodes, into docs/results
python benchmarks/fleet.py --quick    a look, printed only

Deaths: three nodes are processes as `updraft edge serve` runs them, four clients ask without pause.
A node that has just spoken to a client is killed (SIGKILL) or made to hang (SIGSTOP). Counted is
the time until each of its requests is spoken to again, by whichever node, and every answer must be
complete and the same. Publishing: nodes are bare streams of this process; a plan turns each of them
round, counted from its cause until the last node has heard its role, planning left out.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from pathlib import Path
from queue import Queue
from typing import Any

import grpc
from rich.console import Console

from updraft.benchmarks.measures.goals import Goal
from updraft.benchmarks.measures.report import Spread, save, terminal, where
from updraft.cloud.fleet.config import FleetLimits
from updraft.cloud.fleet.limits import FleetBudget
from updraft.cloud.fleet.live import Planning
from updraft.cloud.fleet.opening import open_fleet
from updraft.cloud.fleet.records import Capability, Plan
from updraft.cloud.fleet.traffic import Traffic
from updraft.config.endpoint import Endpoint
from updraft.edge.asking import FleetClient, Part, Routed
from updraft.errors import UpdraftError
from updraft.models.bundle import open_bundle
from updraft.models.card import Table
from updraft.models.shipped import shipped_bundle
from updraft.proto.v1 import fleet_pb2 as pb
from updraft.proto.v1 import fleet_pb2_grpc as rpc

_WANTED_S = 2.0
# Nodes that join at one time: all at once, some would have to try again.
_AT_ONCE = 250
_PUBLISHED_S = {50: 1.0, 5000: 3.0}
_NODES, _CLIENTS, _TOKENS = 3, 4, 64
_PROMPT = "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, "
_KINDS = {"killed": signal.SIGKILL, "hangs": signal.SIGSTOP}


class AllOn:
    """Keeps every node on, or parks every node."""

    def __init__(self) -> None:
        self.on = True

    def plan(
        self,
        nodes: Sequence[Capability],
        traffic: Traffic,
        budget: FleetBudget,
        previous: Plan | None,
        cause: str,
    ) -> Plan:
        selected = frozenset(node.node for node in nodes) if self.on else frozenset[str]()
        return Plan(previous.version + 1 if previous else 1, selected, reason=cause)


@asynccontextmanager
async def serving(planner: Planning | None, **limits: Any) -> AsyncIterator[tuple[Any, Endpoint]]:
    """Serve a fleet on loopback; yields the service and its address."""
    chosen = FleetLimits(enabled=True, max_nodes=10_000, **limits)
    service = open_fleet(chosen, open_bundle(shipped_bundle()), planner)
    server = grpc.aio.server()
    rpc.add_FleetServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    service.start()
    try:
        yield service, Endpoint("127.0.0.1", port)
    finally:
        await service.close(0)
        await server.stop(0.5)


@contextmanager
def beside(planner: Planning | None) -> Iterator[Endpoint]:
    """Serve a fleet on a thread of its own."""
    started: Queue[Endpoint] = Queue()
    loop = asyncio.new_event_loop()
    stopped = asyncio.Event()

    async def serve() -> None:
        async with serving(planner) as (_, endpoint):
            started.put(endpoint)
            await stopped.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        yield started.get(timeout=60)
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join()
        loop.close()


class Deaths:
    """Nodes that die, and clients that notice."""

    def __init__(self, endpoint: Endpoint, folder: Path) -> None:
        self.texts: list[str] = []
        self.failures: list[str] = []
        self._endpoint = endpoint
        self._folder = folder
        self._client = FleetClient(endpoint)
        # By client: who speaks to it. By request: when it was spoken to, from its routing on.
        self._speaks: dict[int, str] = {}
        self._heard: list[list[float]] = []
        self._stopped = threading.Event()
        self._nodes = {f"n{number}": self._start(f"n{number}") for number in range(_NODES)}
        self._clients: list[threading.Thread] = []
        try:
            self._await_all()
        except BaseException:
            self.close()  # or the nodes would go on without this process
            raise
        self._clients = [
            threading.Thread(target=self._ask, args=(number,)) for number in range(_CLIENTS)
        ]
        for client in self._clients:
            client.start()

    def one(self, sign: signal.Signals) -> float:
        """Let a node that works die; returns the longest silence of a request of that time."""
        while not (speakers := list(self._speaks.values())):
            time.sleep(0.01)
        name = speakers[0]
        died = time.monotonic()
        self._nodes[name].send_signal(sign)
        time.sleep(2 * _WANTED_S)
        gaps = [
            later - max(before, died)
            for times in list(self._heard)
            for before, later in pairwise(list(times))
            if later > died and before < died + _WANTED_S
        ]
        if sign == signal.SIGSTOP:
            self._nodes[name].send_signal(signal.SIGCONT)
        else:
            self._nodes[name].wait()
            self._nodes[name] = self._start(name)
        self._await_all()
        return max(gaps)

    def close(self) -> None:
        """Stop clients, then nodes."""
        self._stopped.set()
        for client in self._clients:
            client.join()
        for node in self._nodes.values():
            node.terminate()
            node.wait()
        self._client.close()

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        config = self._folder / f"{name}.toml"
        config.write_text(
            f'[api]\nlisten = "127.0.0.1:0"\n[node]\nenabled = true\nname = "{name}"\n'
            f'coordinator = "{self._endpoint}"\nconcurrency = 2\n'
        )
        command = [sys.executable, "-m", "updraft.cli.main", "edge", "serve"]
        command += ["--config", str(config)]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(command, stdout=quiet, stderr=quiet)

    def _await_all(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            nodes = self._client.plan()["nodes"]
            ready = all(node["ready"] for node in nodes if node["on"])
            if len(nodes) == _NODES and ready:
                return
            assert time.monotonic() < deadline, "nodes do not come back"
            time.sleep(0.1)

    def _ask(self, number: int) -> None:
        while not self._stopped.is_set():
            text, times = "", list[float]()
            self._heard.append(times)
            try:
                for event in self._client.ask(_PROMPT, _TOKENS):
                    times.append(time.monotonic())
                    if isinstance(event, Routed):
                        text, self._speaks[number] = "", event.node
                    elif isinstance(event, Part):
                        text += event.text
                self.texts.append(text)
            except UpdraftError as error:
                self.failures.append(str(error))
            self._speaks.pop(number, None)


def deaths(planner: Planning | None, count: int) -> tuple[dict[str, list[float]], Deaths]:
    """Return, for each way to die, the longest silences in seconds."""
    with tempfile.TemporaryDirectory() as folder, beside(planner) as endpoint:
        fleet = Deaths(endpoint, Path(folder))
        try:
            found = {kind: [fleet.one(sign) for _ in range(count)] for kind, sign in _KINDS.items()}
        finally:
            fleet.close()
    return found, fleet


async def published(nodes: int, rounds: int) -> tuple[float, list[float]]:
    """Return how long it took until all nodes were in, and for each plan until all had heard."""
    planner = AllOn()
    async with (
        serving(planner, beat_interval_ms=60_000) as (service, endpoint),
        grpc.aio.insecure_channel(str(endpoint)) as channel,
    ):
        stub, heard = rpc.FleetStub(channel), asyncio.Queue[bool]()
        started = time.perf_counter()
        tasks = []
        for first in range(0, nodes, _AT_ONCE):
            some = range(first, min(first + _AT_ONCE, nodes))
            tasks += [asyncio.ensure_future(_listen(stub, n, heard)) for n in some]
            for _ in some:
                assert await heard.get()
        joined_s, seconds = time.perf_counter() - started, []
        for _ in range(rounds):
            planner.on = not planner.on
            started = time.perf_counter()
            service.replan()
            for _ in range(nodes):
                assert await heard.get() is planner.on
            seconds.append(time.perf_counter() - started)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return joined_s, seconds


async def _listen(stub: rpc.FleetStub, number: int, heard: asyncio.Queue[bool]) -> None:
    call = stub.Join(timeout=None)
    record = pb.CapabilityRecord(
        node=f"n{number}",
        expert="e",
        version="v",
        device="x86",
        prompt_tokens=1,
        context_length=512,
        max_tokens=64,
        concurrency=1,
    )
    await call.write(pb.JoinRequest(record=record))
    while isinstance(frame := await call.read(), pb.JoinResponse):
        if frame.HasField("role"):
            heard.put_nowait(frame.role.on)


def main() -> None:
    """Measure, print, and write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a look, nothing written")
    quick = parser.parse_args().quick
    rows, goals, figures = [], [], dict[str, Any]()
    for name, planner in (("all on", AllOn()), ("as planned", None)):
        found, fleet = deaths(planner, 2 if quick else 5)
        lost = len(fleet.failures) + sum(text != fleet.texts[0] for text in fleet.texts)
        for kind, seconds in found.items():
            spread = Spread.of(seconds)
            rows.append(
                [f"{name}, {kind}", str(spread.n), spread.show(digits=2), f"{max(seconds):.2f}"]
            )
            goals.append(Goal(f"{name}: node {kind}, longest silence", _WANTED_S, "s", seconds))
        goals.append(Goal(f"{name}: requests lost or wrong", 0, "", [lost]))
        figures[name] = {"silence_s": found, "answers": len(fleet.texts), "lost": lost}
    told = []
    for nodes in (50, 500) if quick else (50, 500, 5000):
        joined_s, seconds = asyncio.run(published(nodes, 2 if quick else 6))
        told.append([str(nodes), f"{joined_s:.2f}", Spread.of(seconds).show(digits=3)])
        figures[f"publish {nodes}"] = {"joined_s": joined_s, "published_s": seconds}
        if nodes in _PUBLISHED_S:
            goals.append(Goal(f"publishing to {nodes}", _PUBLISHED_S[nodes], "s", seconds))
    tables = [
        Table(
            "Figures to reach",
            ["figure", "wanted", "median", "worst", "runs", ""],
            [goal.as_row() for goal in goals],
            "Met: by the worst run.",
        ),
        Table(
            "Silence after a death",
            ["fleet and death", "n", "median s (quartiles)", "longest s"],
            rows,
            f"{_NODES} nodes, {_CLIENTS} clients that ask without pause. All on: the next best is "
            "ready. As planned: the planner keeps few on; who takes over may have to load first.",
        ),
        Table(
            "Publishing",
            ["nodes", "s until all had joined", "median s (quartiles) until all had heard"],
            told,
            "The nodes' ends are in the same process and take about half of the time.",
        ),
    ]
    for table in tables:
        Console().print(terminal(table))
    if not quick:
        _write(tables, figures)
    sys.exit(0 if all(goal.verdict == "met" for goal in goals) else 1)


def _write(tables: Sequence[Table], figures: dict[str, Any]) -> None:
    here = where()
    text = (
        "# The fleet, measured\n\n"
        f"Commit {here['commit'][:12]}, {here['machine']}, {here['measured']}. Written by "
        "`python benchmarks/fleet.py`. What is counted stands at its head; how it "
        "works, in [fleet.md](../guides/fleet.md).\n\n"
    )
    page = text + "\n".join(table.markdown() for table in tables)
    save("fleet", page, {**here, **figures})


if __name__ == "__main__":
    main()
