"""Starting daemons: their logs, and how a parent process learns where they listen."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, Queue
from typing import IO

from updraft.config.endpoint import Endpoint, parse_endpoint
from updraft.errors import RuntimeMissing

_START_TIMEOUT_S = 30
_STOP_TIMEOUT_S = 10
_LISTENING = "listening on "


def set_up_logging() -> None:
    """Log to standard error, one line per event; prompts are never logged."""
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )


def announce(endpoint: Endpoint) -> None:
    """Print the line that tells people and parent processes where a daemon listens."""
    print(f"{_LISTENING}{endpoint}", flush=True)


@contextmanager
def running(arguments: Sequence[str]) -> Iterator[Endpoint]:
    """Run `updraft ARGUMENTS` as a daemon of its own; yields where it listens.

    Raises:
        RuntimeMissing: it ended or said nothing within 30 s; carries its last words.
    """
    process = subprocess.Popen(  # our own interpreter and module
        [sys.executable, "-m", "updraft.cli.main", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None, "a pipe was asked for"
    assert process.stderr is not None, "a pipe was asked for"
    lines: Queue[str] = Queue()
    streams = (process.stdout, process.stderr)
    pumps = [threading.Thread(target=_pump, args=(s, lines), daemon=True) for s in streams]
    for pump in pumps:
        pump.start()
    try:
        yield _wait_for_endpoint(arguments, lines)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pump in pumps:
            pump.join()


def _wait_for_endpoint(arguments: Sequence[str], lines: Queue[str]) -> Endpoint:
    said: list[str] = []
    while True:
        try:
            line = lines.get(timeout=_START_TIMEOUT_S)
        except Empty:
            line = ""
        if line.startswith(_LISTENING):
            return parse_endpoint(line.removeprefix(_LISTENING).strip())
        if not line:
            raise RuntimeMissing(
                f"`updraft {' '.join(arguments)}` did not start: {' '.join(said) or 'no word'}"
            )
        said.append(line.strip())


def _pump(stream: IO[str], lines: Queue[str]) -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put("")
