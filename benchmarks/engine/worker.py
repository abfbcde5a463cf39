"""A runtime in a process of its own, that computes only while it is asked to."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from updraft.errors import UpdraftError

_SERVE = Path(__file__).with_name("runtimes") / "serve.py"
_LAST_LINES = 3
_LONGEST_LINE = 300
_CAN_PAUSE = hasattr(signal, "SIGSTOP")


class RuntimeFailed(UpdraftError):
    """A runtime crashed, hung or does not take the model; the message has its last lines."""


@dataclass(frozen=True)
class Answer:
    """One greedy text.

    Attributes:
        times_s: from the question to each token.
        cpu_s: of all its threads.
        peak_bytes: the most memory its process has held so far.
        since_start_s: from the start of the process to the first token.
        started_bytes: memory of its process before the model was loaded, where it says so; else 0.
    """

    prompt_tokens: int
    tokens: tuple[int, ...]
    times_s: tuple[float, ...]
    cpu_s: float
    peak_bytes: int
    since_start_s: float
    started_bytes: int = 0

    @property
    def first_token_s(self) -> float:
        """Seconds to the first token: the prompt, the head and its choice."""
        return self.times_s[0]

    @property
    def prefill_rate(self) -> float:
        """Prompt tokens per second."""
        return self.prompt_tokens / self.first_token_s

    @property
    def decode_rate(self) -> float:
        """Tokens per second after the first."""
        return (len(self.times_s) - 1) / (self.times_s[-1] - self.times_s[0])


def call(python: Path, arguments: Sequence[str], log: Path, limit_s: float) -> dict[str, Any]:
    """Run `serve.py` to its end and return the object that it prints.

    Raises:
        RuntimeFailed: it failed, or was not done in time.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as errors:
        try:
            done = subprocess.run(
                _command(python, arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise RuntimeFailed(f"not done after {limit_s:g} s: {_tail(log)}") from error
        except OSError as error:
            raise RuntimeFailed(f"{python} does not start: {error}") from error
    if done.returncode:
        raise RuntimeFailed(f"exit code {done.returncode}: {_tail(log)}")
    return json.loads(done.stdout)


class Worker:
    """`serve.py run` of one runtime; stopped between questions, so that it cannot spin.

    Raises:
        RuntimeFailed: its Python does not start.
    """

    def __init__(self, python: Path, arguments: Sequence[str], log: Path) -> None:
        self._log = log
        self._lines: queue.Queue[str] = queue.Queue()
        self._paused = False
        self._started = perf_counter()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as errors:
            try:
                self._process = subprocess.Popen(
                    _command(python, arguments),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                )
            except OSError as error:
                raise RuntimeFailed(f"{python} does not start: {error}") from error
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def ask(self, prompt: Sequence[int], tokens: int, limit_s: float) -> Answer:
        """Decode `tokens` tokens after a prompt.

        Raises:
            RuntimeFailed: it crashed, hung, or decoded fewer tokens.
        """
        self._pause(False)
        try:
            assert self._process.stdin is not None, "it was made with a pipe"
            self._process.stdin.write(json.dumps({"prompt": [*prompt], "tokens": tokens}) + "\n")
            self._process.stdin.flush()
            line = self._lines.get(timeout=limit_s)
        except queue.Empty:
            self._process.kill()
            raise RuntimeFailed(f"no answer within {limit_s:g} s: {_tail(self._log)}") from None
        except OSError:
            line = ""
        arrived = perf_counter()
        if not line:
            self._process.wait()
            raise RuntimeFailed(f"exit code {self._process.returncode}: {_tail(self._log)}")
        self._pause(True)
        found = json.loads(line)
        times_s = tuple(found["times_s"])
        if len(times_s) != tokens:
            raise RuntimeFailed(f"decoded {len(times_s)} tokens in place of {tokens}")
        return Answer(
            len(prompt),
            tuple(found["tokens"]),
            times_s,
            found["cpu_s"],
            found["peak_bytes"],
            arrived - self._started - (times_s[-1] - times_s[0]),
            found["started_bytes"],
        )

    def close(self) -> None:
        """End the process; idempotent."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None, "it was made with a pipe"
        try:
            for line in self._process.stdout:
                self._lines.put(line)
        except ValueError:  # closed meanwhile
            return
        self._lines.put("")

    def _pause(self, paused: bool) -> None:
        if _CAN_PAUSE and paused != self._paused and self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGSTOP if paused else signal.SIGCONT)
            self._paused = paused


def _command(python: Path, arguments: Sequence[str]) -> list[str]:
    return [str(python), str(_SERVE), *arguments]


def _tail(log: Path) -> str:
    """Return the last lines that a process wrote to its standard error."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    shown = " / ".join([line for line in lines if line][-_LAST_LINES:])
    return shown[-_LONGEST_LINE:] or "it said nothing"


def own_python() -> Path:
    """Return the Python that runs Updraft."""
    return Path(sys.executable)
