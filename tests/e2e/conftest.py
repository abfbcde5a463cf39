"""The `updraft` command as a user runs it: processes, files, exit codes."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest

from updraft.models.shipped import shipped_bundle

_UPDRAFT = str(Path(sys.executable).with_name("updraft"))


@pytest.fixture(scope="session")
def updraft():
    """Return a function that runs the command to its end."""

    def run(*arguments, **environment):
        return subprocess.run(
            [_UPDRAFT, *(a if isinstance(a, bytes) else str(a) for a in arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=100,
            check=False,
            env=os.environ | environment,
        )

    return run


@pytest.fixture(scope="session")
def refusal(updraft):
    """Return a function that runs a command that must fail, and gives its one message."""

    def run(*arguments, **environment):
        done = updraft(*arguments, **environment)
        said = done.stderr.decode()
        assert done.returncode == 1, said
        assert done.stdout == b""
        lines = said.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        assert len(errors) == 1, said
        assert lines.index(errors[0]) == len(lines) - 1, said
        assert "Traceback" not in said
        return errors[0].removeprefix("error: ")

    return run


@pytest.fixture(scope="session")
def manifest():
    """The shipped bundle's manifest, as a reader of the file sees it."""
    return json.loads((shipped_bundle() / "manifest.json").read_bytes())


@pytest.fixture(scope="session")
def agent_of(daemon_of):
    """Return a context manager that runs an agent beside a coordinator, or none."""

    @contextmanager
    def run(coordinator, **environment):
        arguments = ["edge", "serve", "--listen", "127.0.0.1:0"]
        if coordinator is not None:
            arguments += ["--cloud", coordinator]
        daemon = daemon_of(*arguments, environment=os.environ | environment)
        try:
            yield daemon
        finally:
            log = daemon.close()
        assert "Traceback" not in log, log

    return run


@pytest.fixture(scope="session")
def client_of():
    """Return a function that makes an `openai` client of an agent; close it, or use `with`."""

    def make(agent):
        return openai.OpenAI(
            base_url=f"http://{agent.address}/v1", api_key="none", max_retries=0, timeout=100
        )

    return make
