"""Real parts: coordinators as processes, engines in this one, gRPC between them."""

import json
import shutil

import grpc
import pytest

from updraft.config.endpoint import parse_endpoint
from updraft.devices.meters.modelled import ModelledMeter
from updraft.edge.engine import Engine
from updraft.edge.link import CloudLink, Deadlines
from updraft.edge.request import GenerationRequest
from updraft.models.bundle import open_bundle, write_manifest
from updraft.models.runtime import RuntimeOptions
from updraft.proto.v1 import collaboration_pb2_grpc as rpc

# Long enough for a busy machine; nothing waits for it unless something is wrong.
_PATIENT = Deadlines(open_s=30, answer_s=30)


@pytest.fixture
def start_coordinator(start_daemon, tmp_path):
    """Return a function that starts a coordinator of the test's own."""

    def start(*options, config=None, port=0):
        arguments = ["cloud", "serve", "--listen", f"127.0.0.1:{port}", *options]
        if config is not None:
            path = tmp_path / "coordinator.toml"
            path.write_text(config)
            arguments += ["--config", path]
        return start_daemon(*arguments)

    return start


def _engine(bundle, address, deadlines):
    link = CloudLink(parse_endpoint(address), bundle.fingerprint, None, deadlines)
    return Engine(bundle, RuntimeOptions(), ModelledMeter(10), link, whole_model=True)


@pytest.fixture(scope="session")
def engine(bundle, coordinator):
    """An engine beside the session's coordinator."""
    engine = _engine(bundle, coordinator.address, _PATIENT)
    yield engine
    engine.link.close()


@pytest.fixture
def start_engine(bundle):
    """Return a function that makes an engine with a link to an address."""
    engines = []

    def start(address, of=bundle, deadlines=_PATIENT):
        engines.append(_engine(of, address, deadlines))
        return engines[-1]

    yield start
    for engine in engines:
        engine.link.close()


@pytest.fixture(scope="session")
def complete():
    """Return a function that runs one request to its end."""

    def run(engine, prompt, mode, **choices):
        generation = engine.start(GenerationRequest(prompt, mode, **choices))
        for _ in generation:
            pass
        return generation.result

    return run


@pytest.fixture
def stub(coordinator):
    """Return a gRPC client of the session's coordinator, with nothing of ours in it."""
    with grpc.insecure_channel(coordinator.address) as channel:
        yield rpc.CollaborationStub(channel)


@pytest.fixture(scope="session")
def sliding_bundle(tiny_bundle, tmp_path_factory):
    """The tiny bundle, told to slide its window when the context is full."""
    folder = tmp_path_factory.mktemp("sliding") / "bundle"
    shutil.copytree(tiny_bundle.folder, folder)
    write_manifest(folder, tiny_bundle.manifest.model_copy(update={"overflow": "slide"}))
    return open_bundle(folder)


@pytest.fixture(scope="session")
def snippets(bundle):
    """Prompts: held-out ones where the bundle brings them."""
    path = bundle.path("prompts.jsonl")
    if path.is_file():
        lines = path.read_bytes().splitlines()
        return [json.loads(line)["prompt"] for line in lines[:: max(1, len(lines) // 4)][:4]]
    return [
        "import os\n\n\ndef main():\n    ",
        "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, ",
        "for index, value in enumerate(",
        "# größe 漢字 🙂\nname = ",
    ]


@pytest.fixture(scope="session")
def long_prompt(engine, snippets, complete):
    """A prompt whose greedy completion fills half the context without ending."""
    wanted = engine.bundle.manifest.architecture.context_length // 2
    for prompt in (*snippets, "import os\n", "def ", "x = [1, 2, 3, "):
        if len(engine.tokenizer.encode(prompt)) > wanted // 2:
            continue
        if len(complete(engine, prompt, "full", max_tokens=wanted).tokens) == wanted:
            return prompt
    raise AssertionError("every prompt's completion ended early")
