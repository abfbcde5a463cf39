"""The processes of a run: emulated nodes that stay, and a coordinator for each day."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
_METERS_TIMEOUT_S = 2
_LOOK_EVERY_S = 0.05
# A plan that stays so long is the one to begin with.
_REST_S = 0.5
# More than two lines of a meter.
_TAIL = 256
# Below the ports that systems give to clients: a node that tries a port of those while nobody
# listens there may be connected to itself, and keep it.
_PORTS = range(20_000, 32_000)


class Stage:
    """Emulated nodes as processes, which join whatever coordinator listens at `endpoint`.

    Args:
        folder: for logs and budgets.
        daily_j: budgets of nodes for a day of `day_s` seconds, by name; others have none.
    """

    def __init__(
        self, folder: Path, daily_j: Mapping[str, float] | None = None, day_s: float = 0.0
    ) -> None:
        self.folder = folder
        self._daily_j = daily_j or {}
        self._day_s = day_s
        self.nodes = fleet()
        self.endpoint = Endpoint("127.0.0.1", _free_port())
        self._meters: dict[str, Path] = {}
        self._hung: set[str] = set()
        self._processes = {node.name: self._start(node) for node in self.nodes}

    def close(self) -> None:
        """End all nodes."""
        _end(*self._processes.values())

    def kill(self, name: str) -> None:
        """End a node as a power cut would."""
        self._processes[name].kill()
        self._processes[name].wait()

    def hang(self, name: str) -> None:
        """Let a node neither answer nor end."""
        self._processes[name].send_signal(signal.SIGSTOP)
        self._hung.add(name)

    def resume(self, name: str) -> None:
        """Let a node that hangs go on."""
        self._processes[name].send_signal(signal.SIGCONT)
        self._hung.discard(name)

    def restart(self, name: str) -> None:
        """Start a node that was killed."""
        node = next(node for node in self.nodes if node.name == name)
        self._processes[name] = self._start(node)

    def spent_j(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what all nodes had drawn at some monotonic times, standby included.

        A dead node draws nothing any more; one that hangs counts so until it goes on.
        """
        end = monotonic() + _METERS_TIMEOUT_S
        while not self._written(times.max()) and monotonic() < end:
            sleep(_LOOK_EVERY_S)
        total = np.zeros(len(times))
        for log in self.folder.glob("*.meter"):
            rows = _rows(log.read_text())
            if rows:
                read_s, read_j = np.array(rows).T
                total += np.interp(times, read_s, read_j)
        return total

    def _written(self, moment: float) -> bool:
        """Return whether the meters of all nodes that run were read at a moment or later."""
        running = (
            name
            for name, process in self._processes.items()
            if name not in self._hung and process.poll() is None
        )
        return all(_last_read(self._meters[name]) >= moment for name in running)

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
            self._wait(client, process)
            yield client
        finally:
            client.close()
            _end(process)

    def _start(self, node: EmulatedNode) -> subprocess.Popen[bytes]:
        # A meter of its own for each life of a node: the new one starts at nothing.
        lives = len(list(self.folder.glob(f"{node.name}.*.meter")))
        log = self.folder / f"{node.name}.{lives}.meter"
        self._meters[node.name] = log
        arguments = [node.name, str(self.endpoint), str(log)]
        if node.name in self._daily_j:
            arguments += [str(self._daily_j[node.name]), str(self._day_s)]
        return _run("node", arguments, self.folder / f"{node.name}.log")

    def _wait(self, client: FleetClient, coordinator: subprocess.Popen[bytes]) -> None:
        """Wait until every node is in the fleet and those that the plan wants on are ready."""
        now = monotonic()
        end, version, since = now + _START_TIMEOUT_S, None, now
        while now < end:
            if coordinator.poll() is not None:
                words = _last_words(self.folder / "coordinator.log")
                raise RuntimeMissing(f"the coordinator ended: {words}")
            found, before = self._ready(client), version
            now, version = monotonic(), found
            if found is None or found != before:
                since = now
            elif now - since > _REST_S:
                return
            sleep(_LOOK_EVERY_S)
        raise RuntimeMissing(
            f"the fleet did not come up in {_START_TIMEOUT_S} s: "
            + "; ".join(f"{name}: {_last_words(self.folder / name)}" for name in self._logs())
        )

    def _logs(self) -> list[str]:
        return sorted(log.name for log in self.folder.glob("*.log"))

    def _ready(self, client: FleetClient) -> int | None:
        """Return the version of the plan where all are there and those that are on are ready."""
        try:
            plan = client.plan()
        except LinkError:
            return None
        joined = len(plan["nodes"]) == len(self.nodes)
        ready = all(node["ready"] for node in plan["nodes"] if node["on"])
        return int(plan["version"]) if joined and ready and plan["version"] else None


def _run(module: str, arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", f"updraft.benchmarks.budgets.{module}", *arguments],
            stdin=subprocess.PIPE,  # its lifeline
            stdout=file,
            stderr=file,
        )


def _end(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        process.terminate()
        process.send_signal(signal.SIGCONT)  # one that hangs has to go on to end
    for process in processes:
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _rows(written: str) -> list[list[float]]:
    """Return what a meter wrote; a line that is not whole yet does not count."""
    whole = written[: written.rfind("\n") + 1]
    return [json.loads(line) for line in whole.splitlines()]


def _last_read(log: Path) -> float:
    """Return when a meter was last read; -inf before it was."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            rows = file.read().decode()
    except FileNotFoundError:
        return -np.inf
    whole = rows[: rows.rfind("\n")]
    return float(json.loads(whole[whole.rfind("\n") + 1 :])[0]) if whole else -np.inf


def _last_words(log: Path) -> str:
    return (log.read_text().strip().splitlines() or ["it said nothing"])[-1]


def _free_port() -> int:
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
