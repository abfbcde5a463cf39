"""An agent as clients meet it: a process, with a tiny model that has a chat template."""

import os
from dataclasses import replace
from pathlib import Path

import openai
import pytest

from updraft.models.build import write_bundle

_TEMPLATES = Path(__file__).parents[1] / "templates"
# A byte of a chat is about a token of the tiny model.
_CONTEXT = 4096


@pytest.fixture(scope="session")
def chat_bundle(tiny_plan, tiny_weights, with_template, tmp_path_factory):
    """The tiny bundle with room for chats, and the template of one family."""
    shape = tiny_plan.architecture.model_copy(update={"context_length": _CONTEXT})
    folder = tmp_path_factory.mktemp("roomy") / "tiny"
    roomy = write_bundle(folder, replace(tiny_plan, architecture=shape), tiny_weights)
    return lambda family: with_template(roomy, (_TEMPLATES / f"{family}.jinja").read_text())


@pytest.fixture(scope="session")
def agent_of(daemon_of):
    """Return a function that starts an agent with a bundle; all end with the session."""
    daemons = []

    def start(bundle):
        arguments = ["edge", "serve", "--listen", "127.0.0.1:0", "--bundle", bundle.folder]
        daemons.append(daemon_of(*arguments, environment=os.environ | {"OMP_NUM_THREADS": "1"}))
        return daemons[-1]

    yield start
    for daemon in daemons:
        log = daemon.close()
        assert "Traceback" not in log, log


@pytest.fixture(scope="session")
def agent(chat_bundle, agent_of):
    """An agent whose model calls tools as Qwen's do."""
    return agent_of(chat_bundle("qwen"))


@pytest.fixture(scope="session")
def client_of():
    """Return a function that makes an `openai` client of an agent."""
    clients = []

    def make(agent):
        url = f"http://{agent.address}/v1"
        clients.append(openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=100))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture(scope="session")
def client(agent, client_of):
    return client_of(agent)
