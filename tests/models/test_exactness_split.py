"""Imported checkpoints split across edge and cloud: the tokens of `transformers`, over gRPC."""

import runpy
from pathlib import Path

import pytest
import torch

from updraft.config.endpoint import parse_endpoint
from updraft.devices.meters.modelled import ModelledMeter
from updraft.edge.engine import Engine
from updraft.edge.link import CloudLink, Deadlines
from updraft.edge.request import GenerationRequest
from updraft.models.checkpoints.importing import ImportPlan, import_checkpoint
from updraft.models.runtime import RuntimeOptions

_tiny = runpy.run_path(str(Path(__file__).with_name("tiny_checkpoints.py")))
_PROMPT, _STEPS = "for item in items:\n    print(", 128


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """Return a function that gives a checkpoint's folder and model, each written once."""
    written = {}

    def reference(name):
        if name not in written:
            folder = tmp_path_factory.mktemp(name) / "checkpoint"
            written[name] = folder, _tiny["write_checkpoint"](name, folder)
        return written[name]

    return reference


@pytest.mark.parametrize(
    ("name", "split"),
    [("qwen2-yarn-window", 1), ("qwen2-yarn-window", 2), ("qwen3", 3), ("qwen2-moe", 2)],
)
def test_edge_and_cloud_give_the_tokens_of_transformers(
    references, start_daemon, tmp_path, name, split
):
    checkpoint, reference = references(name)
    plan = ImportPlan(split=split, exits=(), precision="fp32", context_length=_tiny["CONTEXT"])
    bundle = import_checkpoint(checkpoint, tmp_path / "bundle", plan)
    daemon = start_daemon("cloud", "serve", "--listen", "127.0.0.1:0", "--bundle", bundle.folder)
    deadlines = Deadlines(open_s=30, answer_s=30)
    link = CloudLink(parse_endpoint(daemon.address), bundle.fingerprint, None, deadlines)
    engine = Engine(bundle, RuntimeOptions(threads=1), ModelledMeter(10), link)
    try:
        prompt = engine.tokenizer.encode(_PROMPT)
        with torch.no_grad():
            whole = reference.generate(
                torch.tensor([prompt]), max_new_tokens=_STEPS, do_sample=False
            )
        expected = whole[0, len(prompt) :].tolist()
        for mode in ("lossless", "cloud"):
            request = GenerationRequest(_PROMPT, mode, max_tokens=_STEPS, wire="fp32")
            generation = engine.start(request)
            for _ in generation:
                pass
            assert generation.result.usage.cloud_tokens > 0
            assert generation.result.tokens == expected
    finally:
        link.close()
