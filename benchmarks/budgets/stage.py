"""The processes of a run: emulated nodes that stay, and a coordinator for each day."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

import numpy as np
from numpy.typing import NDArray

from updraft.benchmarks.budgets.scenario import EmulatedNode, fleet
from updraft.config.endpoint import Endpoint
from updraft.edge.asking import FleetClient
from updraft.errors import LinkError, RuntimeMissing

_START_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 10
_LOOK_EVERY_S = 0.05


class Stage:
    """Emulated nodes as processes, which join whatever coordinator listens at `endpoint`.

    Args:
        folder: for logs and budgets.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes = fleet()
        self.endpoint = Endpoint("127.0.0.1", _free_port())
        self._processes = {node.name: self._start(node) for node in self.nodes}

    def close(self) -> None:
        """End all nodes."""
        for process in self._processes.values():
            _end(process)

    def kill(self, name: str) -> None:
        """End a node as a power cut would."""
        self._processes[name].kill()
        self._processes[name].wait()

    def hang(self, name: str) -> None:
        """Let a node neither answer nor end."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let a node that hangs go on."""
        self._processes[name].send_signal(signal.SIGCONT)

    def restart(self, name: str) -> None:
        """Start a node that was killed."""
        node = next(node for node in self.nodes if node.name == name)
        self._processes[name] = self._start(node)

    def spent_j(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what all nodes had drawn at some monotonic times, standby included."""
        total = np.zeros(len(times))
        for log in self.folder.glob("*.meter"):
            rows = np.array([json.loads(line) for line in log.read_text().splitlines()])
            if len(rows):
                total += np.interp(times, rows[:, 0], rows[:, 1])
        return total

    @contextmanager
    def coordinator(self, policy: str, budgets: str, rate_per_s: float) -> Iterator[FleetClient]:
        """Run a coordinator until all nodes are in its fleet; yields a client of it.

        Args:
            budgets: text of its budgets file.
            rate_per_s: of prompts, to plan for before any has come.
        """
        path = self.folder / "budgets.toml"
        path.write_text(budgets)
        arguments = (policy, str(rate_per_s), str(self.endpoint), str(path))
        process = _run("coordinator", arguments, self.folder / "coordinator.log")
        client = FleetClient(self.endpoint)
        try:
            self._wait(client)
            yield client
        finally:
            client.close()
            _end(process)

    def _start(self, node: EmulatedNode) -> subprocess.Popen[bytes]:
        # A meter of its own for each life of a node: the new one starts at nothing.
        lives = len(list(self.folder.glob(f"{node.name}.*.meter")))
        log = self.folder / f"{node.name}.{lives}.meter"
        arguments = (node.name, str(self.endpoint), str(log))
        return _run("node", arguments, self.folder / f"{node.name}.log")

    def _wait(self, client: FleetClient) -> None:
        """Wait until every node is in the fleet and those that the plan wants on are ready."""
        end = monotonic() + _START_TIMEOUT_S
        while monotonic() < end:
            with suppress(LinkError):
                plan = client.plan()
                on = [node for node in plan["nodes"] if node["on"]]
                joined = len(plan["nodes"]) == len(self.nodes)
                if joined and on and all(node["ready"] for node in on):
                    return
            sleep(_LOOK_EVERY_S)
        raise RuntimeMissing(f"the fleet did not come up in {_START_TIMEOUT_S} s: {self.folder}")


def _run(module: str, arguments: tuple[str, ...], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", f"updraft.benchmarks.budgets.{module}", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
