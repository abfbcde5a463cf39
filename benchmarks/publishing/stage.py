"""The processes of the publishing benchmark: one coordinator, and thousands of bare nodes."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isclose
from pathlib import Path
from time import monotonic, sleep
from typing import IO, Any

import psutil

from updraft.errors import RuntimeMissing

_NODE_PROCESSES = 2
_TIMEOUT_S = 300
_LOOK_EVERY_S = 0.005
_QUIET_S = 1.5
_MODULE = "updraft.benchmarks.publishing."


@dataclass(frozen=True)
class Told:
    """What one cause took, in seconds.

    Attributes:
        waiting: from the cause to the planning that takes it up: noticing and settling.
        planning_cpu: of it, seconds that the processor worked on it.
        publishing: from the plan to the last node that heard of its new role.
        changed: nodes that have another role.
        plans: that were made from the cause on.
    """

    waiting: float
    planning: float
    planning_cpu: float
    publishing: float
    changed: int
    plans: int

    @property
    def seconds(self) -> float:
        """Planning and publishing."""
        return self.planning + self.publishing


@dataclass(frozen=True)
class Load:
    """What beats alone take of a coordinator.

    Attributes:
        cpu: of one core.
        late_s: how late its event loop was at worst.
        lost: nodes that were taken for dead though they live.
    """

    nodes: int
    beat_ms: int
    wanted_per_s: float
    sent_per_s: float
    cpu: float
    memory_mb: float
    late_s: float
    lost: int


class Stage:
    """A fleet that runs, from `start` to `close`.

    Args:
        beat_ms: between beats, as configured; the coordinator asks a large fleet for fewer.
    """

    def __init__(self, folder: Path, nodes: int, beat_ms: int, power_w: float) -> None:
        self.nodes, self.beat_ms = nodes, beat_ms
        self.plans: list[dict[str, Any]] = []
        self.lost: list[str] = []
        self._budgets = folder / "budgets.toml"
        self._late: list[float] = []
        self._roles: Counter[int] = Counter()
        self._last_role: dict[int, float] = {}
        self._intervals_ms: dict[str, int] = {}
        self._beats: dict[int, int] = {}
        self._there = nodes
        self._power_w = power_w
        self._write_budget()
        address = f"127.0.0.1:{_free_port()}"
        self._listeners: list[threading.Thread] = []
        self._hosts: list[subprocess.Popen[str]] = []
        self._coordinator = self._run(
            folder, "coordinator", (address, nodes, self._budgets, beat_ms), self._hear_coordinator
        )
        self._wait(lambda: self._late or None, "the coordinator does not come up")
        processes = min(nodes, _NODE_PROCESSES)
        self._hosts += [
            self._run(folder, "nodes", (address, nodes, first, processes), self._hear_nodes)
            for first in range(processes)
        ]
        try:
            self._settle()
        except RuntimeMissing:
            self.close()
            raise

    def close(self) -> None:
        """End all processes; they end with their standard input."""
        for process in (*self._hosts, self._coordinator):
            assert process.stdin is not None, "a pipe was asked for"
            with suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for listener in self._listeners:
            listener.join()

    def set_budget(self, power_w: float) -> Told:
        """Write another budget of power, and see who is told what."""
        self._power_w = power_w
        plans, began = len(self.plans), monotonic()
        self._write_budget()
        return self._told(plans, began)

    def leave(self, names: Sequence[str]) -> Told:
        """Let nodes go, and see who of the others is told what."""
        self._there -= len(names)
        plans, began = len(self.plans), monotonic()
        self._command("leave", names)
        return self._told(plans, began)

    def join(self, names: Sequence[str]) -> None:
        """Let nodes that left come back."""
        self._there += len(names)
        self._command("join", names)
        self._settle()

    def told(self, version: int) -> int:
        """Return how many nodes heard of a role by a plan."""
        return self._roles[version]

    def load(self, seconds: float) -> Load:
        """Watch the coordinator while nothing but beats comes."""
        process = psutil.Process(self._coordinator.pid)
        before, lost, late = self._sent(), len(self.lost), len(self._late)
        cpu, began = sum(process.cpu_times()[:2]), monotonic()
        sleep(seconds)
        took, passed = sum(process.cpu_times()[:2]) - cpu, monotonic() - began
        return Load(
            self.nodes,
            self.beat_ms,
            sum(1000 / ms for ms in self._intervals_ms.values()),
            (self._sent() - before) / passed,
            took / passed,
            process.memory_info().rss / 1e6,
            max(self._late[late:], default=0.0),
            len(self.lost) - lost,
        )

    def _told(self, plans: int, began: float) -> Told:
        plan = self._wait(lambda: self._arrived(plans), "nobody was told")
        last = self._last_role.get(plan["version"], plan["ended"]) if plan["changed"] else 0.0
        told = Told(
            plan["began"] - began,
            plan["ended"] - plan["began"],
            plan["cpu"],
            max(0.0, last - plan["ended"]),
            plan["changed"],
            len(self.plans) - plans,
        )
        self._settle()
        return told

    def _arrived(self, plans: int) -> dict[str, Any] | None:
        """Return the plan made of what there is now, once all heard of it."""
        plan = self._newest(plans)
        if plan is None or self._roles[plan["version"]] < plan["changed"]:
            return None
        return plan

    def _newest(self, plans: int) -> dict[str, Any] | None:
        if len(self.plans) <= plans:
            return None
        plan = self.plans[-1]
        of_now = plan["nodes"] == self._there and isclose(plan["power_w"], self._power_w)
        return plan if of_now else None

    def _settle(self) -> None:
        """Wait until all is planned for and told."""
        self._wait(lambda: self._quiet() or None, "the fleet does not come to rest")

    def _quiet(self) -> bool:
        plan = self._newest(0)
        return plan is not None and monotonic() - plan["ended"] > _QUIET_S

    def _wait(self, look: Callable[[], Any], complaint: str) -> Any:
        end = monotonic() + _TIMEOUT_S
        while monotonic() < end:
            found = look()
            if found is not None:
                return found
            sleep(_LOOK_EVERY_S)
        last = self.plans[-1] if self.plans else None
        raise RuntimeMissing(f"{complaint}: {self._there} nodes, {len(self.lost)} lost, {last}")

    def _write_budget(self) -> None:
        draft = self._budgets.with_suffix(".tmp")
        draft.write_text(f'[total]\naverage_power = "{self._power_w} W"\n')
        draft.replace(self._budgets)

    def _command(self, word: str, names: Sequence[str] = ()) -> None:
        for host in self._hosts:
            assert host.stdin is not None, "a pipe was asked for"
            host.stdin.write(" ".join((word, *names)) + "\n")
            host.stdin.flush()

    def _sent(self) -> int:
        self._beats.clear()
        self._command("beats")
        self._wait(lambda: len(self._beats) == len(self._hosts) or None, "the nodes do not answer")
        return sum(self._beats.values())

    def _run(
        self, folder: Path, module: str, arguments: Sequence[object], hear: Callable[..., None]
    ) -> subprocess.Popen[str]:
        with (folder / f"{module}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", _MODULE + module, *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        listener = threading.Thread(target=hear, args=(process.stdout, process.pid), daemon=True)
        listener.start()
        self._listeners.append(listener)
        return process

    def _hear_coordinator(self, lines: IO[str], _: int) -> None:
        with lines:
            for line in lines:
                words = json.loads(line)
                if "late_s" in words:
                    self._late.append(words["late_s"])
                else:
                    self.plans.append(words)

    def _hear_nodes(self, lines: IO[str], pid: int) -> None:
        with lines:
            for line in lines:
                word, *rest = line.split(maxsplit=2)
                if word == "role":
                    version, now = int(rest[1]), float(rest[0])
                    self._last_role[version] = max(now, self._last_role.get(version, now))
                    self._roles[version] += 1
                elif word == "welcome":
                    self._intervals_ms[rest[1].strip()] = int(rest[0])
                elif word == "beats":
                    self._beats[pid] = int(rest[0])
                else:
                    self.lost.append(line)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
