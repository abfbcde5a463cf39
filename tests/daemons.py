"""Daemons as users run them: `updraft …` in a process of its own, with everything it logged."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

LISTENING = "listening on "
_STOP_TIMEOUT_S = 20


class Daemon:
    """A started daemon; `address` is where it listens."""

    def __init__(self, *arguments, environment=None):
        with tempfile.NamedTemporaryFile(prefix="updraft-log-", delete=False) as log:
            self._log = Path(log.name)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "updraft.cli.main", *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        line = self.process.stdout.readline()
        if not line.startswith(LISTENING):
            raise RuntimeError(f"{arguments} did not start: {line}{self.close()}")
        self.address = line.removeprefix(LISTENING).strip()
        self.port = int(self.address.rpartition(":")[2])

    @property
    def log(self):
        return self._log.read_text()

    def kill(self):
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def hang(self):
        """Let it neither answer nor end, as an overloaded machine would."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        """Ask it to end; returns the exit code."""
        self.resume()
        self.process.terminate()
        return self.process.wait(_STOP_TIMEOUT_S)

    def close(self):
        """Free what it holds, whatever state it is in; returns what it logged."""
        if self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()
        self.process.stdout.close()
        log = self.log if self._log.exists() else ""
        self._log.unlink(missing_ok=True)
        return log
