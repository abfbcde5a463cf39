"""Fixtures that several parts share: bundles, daemons, and waiting for what must come about."""

import runpy
import shutil
import time
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from updraft.models.build import BundlePlan, add_channel_scales, add_files, write_bundle
from updraft.models.bundle import open_bundle, write_manifest
from updraft.models.manifest import Architecture, Quantization
from updraft.models.recipes.tokenizer import train_tokenizer
from updraft.models.shipped import shipped_bundle

# How long an example takes says nothing of what is right: the machine may be busy.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

_Daemon = runpy.run_path(str(Path(__file__).with_name("daemons.py")))["Daemon"]
_EXITS = (1, 2)
_LINES = (
    "def add(a, b):\n    return a + b\n",
    "for item in items:\n    print(item)\n",
    "é ü 漢字 🙂\n",
)


@pytest.fixture(scope="session")
def bundle():
    """The bundle that comes with Updraft."""
    return open_bundle(shipped_bundle())


@pytest.fixture(scope="session")
def tiny_plan():
    """What the tiny bundle is made of: four layers, exits after the first two."""
    tokenizer = train_tokenizer(_LINES, vocabulary_size=288)
    return BundlePlan(
        name="tiny",
        architecture=Architecture(
            vocabulary_size=tokenizer.get_vocab_size(),
            width=64,
            layers=4,
            heads=4,
            kv_heads=2,
            ffn_width=96,
            context_length=64,
        ),
        exits=_EXITS,
        quantization=Quantization(weights="int8", block=16),
        tokenizer_json=tokenizer.to_str(),
        end_of_text=0,
        provenance={"recipe": "random", "seed": 0},
    )


@pytest.fixture(scope="session")
def tiny_weights(tiny_plan):
    """Random weights, large enough that exits disagree and attention matters."""
    shape, rng = tiny_plan.architecture, np.random.default_rng(7)
    kv_width = shape.kv_heads * shape.head_width
    matrices = {"embedding.weight": (shape.vocabulary_size, shape.width)}
    gains = [f"exit_norms.{layer}.weight" for layer in (*_EXITS, shape.layers)]
    for layer in range(shape.layers):
        own = f"layers.{layer}."
        gains += [own + "attention_norm.weight", own + "ffn_norm.weight"]
        matrices |= {
            own + "q.weight": (shape.width, shape.width),
            own + "k.weight": (kv_width, shape.width),
            own + "v.weight": (kv_width, shape.width),
            own + "o.weight": (shape.width, shape.width),
            own + "gate.weight": (shape.ffn_width, shape.width),
            own + "up.weight": (shape.ffn_width, shape.width),
            own + "down.weight": (shape.width, shape.ffn_width),
        }
    weights = {name: rng.normal(0, size[1] ** -0.5, size) for name, size in matrices.items()}
    weights |= {name: rng.uniform(0.5, 1.5, shape.width) for name in gains}
    return {name: array.astype(np.float32) for name, array in weights.items()}


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory, tiny_plan, tiny_weights):
    """A bundle with random weights; copy its folder before changing anything in it."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    bundle = add_channel_scales(write_bundle(folder, tiny_plan, tiny_weights), _LINES)
    return add_files(bundle, {"card.md": "# tiny\n"})


@pytest.fixture(scope="session")
def with_template(tmp_path_factory):
    """Return a function that copies a bundle and gives it a chat template."""

    def make(bundle, source):
        folder = tmp_path_factory.mktemp("chat") / bundle.folder.name
        shutil.copytree(bundle.folder, folder)
        manifest = add_files(open_bundle(folder), {"chat.jinja": source}).manifest
        changes = {"chat_template": "chat.jinja", "begin_token": 1}
        entry = manifest.tokenizer.model_copy(update=changes)
        write_manifest(folder, manifest.model_copy(update={"tokenizer": entry}))
        return open_bundle(folder)

    return make


@pytest.fixture(scope="session")
def daemon_of():
    """Return a function that starts a daemon: `updraft` with these arguments; close it."""
    return _Daemon


@pytest.fixture(scope="session")
def coordinator():
    """A coordinator that serves the shipped bundle and outlives every test."""
    daemon = _Daemon("cloud", "serve", "--listen", "127.0.0.1:0")
    yield daemon
    log = daemon.close()
    assert "Traceback" not in log, log


@pytest.fixture
def start_daemon():
    """Return a function that starts a daemon of the test's own."""
    daemons = []

    def start(*arguments, environment=None):
        daemons.append(_Daemon(*arguments, environment=environment))
        return daemons[-1]

    yield start
    for daemon in daemons:
        log = daemon.close()
        assert "Traceback" not in log, log


@pytest.fixture(scope="session")
def wait_until():
    """Return a function that waits for a condition, for a minute at most."""

    def wait(condition):
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "it did not come about within a minute"
            time.sleep(0.02)

    return wait
