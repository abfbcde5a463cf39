"""MILP and constraint solvers beside ours.

Each is timed, and stopped, by what it computes itself: that PuLP makes models in Python is not
its fault. Only the limit of one run of a solver is by the clock on the wall.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import highspy
import numpy as np

from updraft.benchmarks.optimizer.clock import children_cpu_s, timed
from updraft.benchmarks.optimizer.outcome import Outcome
from updraft.benchmarks.optimizer.plan import BENDERS, CBC, CP_SAT, HIGHS
from updraft.errors import RuntimeMissing
from updraft.optimizer.program import Program
from updraft.optimizer.solvers import mip

# A MILP solver proves within its tolerances only.
_TOLERANCE = 1e-6
# What a rival may take past its limit before it is killed, in a process of its own.
_GRACE_S = 60
_SCRIPT = Path(__file__).with_name("cp_sat.py")

Run = Callable[[Program, float], Outcome]


def rivals(cp_sat_python: Path | None) -> dict[str, Run]:
    """Return the rivals that can run here, by name."""
    found: dict[str, Run] = {
        HIGHS: partial(_highs, HIGHS, "plain"),
        BENDERS: partial(_highs, BENDERS, "benders"),
        CBC: _cbc,
    }
    if cp_sat_python is not None:
        found[CP_SAT] = partial(_cp_sat, cp_sat_python)
    return found


def _highs(name: str, formulation: mip.Formulation, program: Program, limit_s: float) -> Outcome:
    with _timed_highs() as seconds:
        found = mip.solve(
            program,
            engine="highs",
            formulation=formulation,
            time_limit_s=limit_s,
            clock=lambda: sum(seconds),
        )
    return Outcome.of(name, sum(seconds), found.objective, found.upper_bound, limit_s, _TOLERANCE)


@contextmanager
def _timed_highs() -> Iterator[list[float]]:
    """Collect the CPU seconds of each run of HiGHS, where PuLP calls it."""
    seconds: list[float] = []
    run = highspy.Highs.run

    def timed_run(highs: highspy.Highs) -> Any:
        taken_s, status = timed(lambda: run(highs))
        seconds.append(taken_s)
        return status

    with patch.object(highspy.Highs, "run", timed_run):
        yield seconds


def _cbc(program: Program, limit_s: float) -> Outcome:
    started = children_cpu_s()
    found = mip.solve(program, engine="cbc", time_limit_s=limit_s, clock=children_cpu_s)
    seconds = children_cpu_s() - started
    return Outcome.of(CBC, seconds, found.objective, found.upper_bound, limit_s, _TOLERANCE)


def _cp_sat(python: Path, program: Program, limit_s: float) -> Outcome:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "problem.npz"
        np.savez(path, value=program.value, cost=program.cost, limit=program.limit)
        # Isolated: the modules beside the script have names that others may use too.
        command = [str(python), "-I", str(_SCRIPT), str(path), str(limit_s)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit_s + _GRACE_S, check=False
        )
    if done.returncode:
        raise RuntimeMissing(f"CP-SAT did not run: {done.stderr.strip() or done.returncode}")
    found = json.loads(done.stdout)
    return Outcome.of(
        CP_SAT, found["seconds"], found["objective"], found["upper_bound"], limit_s, _TOLERANCE
    )
