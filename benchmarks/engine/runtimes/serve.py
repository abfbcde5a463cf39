"""Runs one runtime in a process of its own, in whichever Python has it.

serve.py versions NAME                           what is installed, as JSON
serve.py convert NAME CHECKPOINT MODEL OPTIONS   convert a checkpoint; prints {"weight_bytes": …}
serve.py run NAME MODEL THREADS OPTIONS          generate on demand: one JSON object per line

A line `{"prompt": [token, …], "tokens": n}` is answered, when all are there, by the tokens and the
seconds from the line to each of them.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Protocol, TextIO

_STATUS = Path("/proc/self/status")
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


class Runtime(Protocol):
    """A loaded model; `__init__` takes (model, threads, options).

    One that says what it will take has `started_bytes`, the memory of its process before loading.
    """

    def generate(self, prompt: list[int], count: int, emit: Callable[[int], None]) -> None:
        """Decode `count` tokens greedily, with an empty cache, and emit each when it is there."""


class Module(Protocol):
    """What every module beside this one offers.

    Attributes:
        PACKAGES: that must be installed, the runtime first.
        Runtime: the class.
    """

    PACKAGES: tuple[str, ...]
    Runtime: Callable[[Path, int, dict[str, Any]], Runtime]

    def convert(self, checkpoint: Path, model: Path, options: dict[str, Any]) -> int:
        """Write the model as the runtime takes it; return the bytes of weights a token reads."""


def main(action: str, name: str, *arguments: str) -> None:
    """Do one of the three actions."""
    _die_with_parent()
    answers = _keep_stdout()
    module: Any = importlib.import_module(name)
    if action == "versions":
        _answer(answers, {package: version(package) for package in module.PACKAGES})
    elif action == "convert":
        checkpoint, model, options = arguments
        weight_bytes = module.convert(Path(checkpoint), Path(model), json.loads(options))
        _answer(answers, {"weight_bytes": weight_bytes})
    else:
        path, threads, options = arguments
        _run(answers, module.Runtime(Path(path), int(threads), json.loads(options)))


def _run(answers: TextIO, runtime: Runtime) -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        tokens: list[int] = []
        times_s: list[float] = []
        cpu_s, start = process_time(), perf_counter()

        def emit(token: int, start: float = start) -> None:
            times_s.append(perf_counter() - start)  # noqa: B023  # called before the next round
            tokens.append(int(token))  # noqa: B023

        runtime.generate(asked["prompt"], asked["tokens"], emit)
        done = {
            "cpu_s": process_time() - cpu_s,
            "peak_bytes": _peak_bytes(),
            "started_bytes": getattr(runtime, "started_bytes", 0),
        }
        _answer(answers, {"tokens": tokens, "times_s": times_s, **done})


def _die_with_parent() -> None:
    """Have the system kill this process with its parent: stopped, it would wait for ever."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)


def _keep_stdout() -> TextIO:
    """Keep standard output for answers: what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _answer(answers: TextIO, value: dict[str, Any]) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


def _peak_bytes() -> int:
    """Return the most memory that this process has held, mapped files counted."""
    if _STATUS.is_file():
        # Not `ru_maxrss`: that of a child starts with its parent's.
        line = next(each for each in _STATUS.read_text().splitlines() if each.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    main(*sys.argv[1:])
