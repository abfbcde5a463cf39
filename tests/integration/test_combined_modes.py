"""`contrastive` and `proxy` over the wire: the formula's tokens, whatever comes in between."""

import runpy
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from updraft.config.endpoint import parse_endpoint
from updraft.devices.meters.modelled import ModelledMeter
from updraft.edge.engine import Engine
from updraft.edge.link import CloudLink, Deadlines
from updraft.edge.request import GenerationRequest
from updraft.errors import BundleError, RequestError
from updraft.models.build import write_bundle
from updraft.models.bundle import describe_files, open_bundle, write_manifest
from updraft.models.runtime import RuntimeOptions
from updraft.models.sampling import Sampling
from updraft.models.sequence import Model

decode = runpy.run_path(str(Path(__file__).parents[1] / "combined.py"))["decode"]
_TOKENS = 32
SAMPLINGS = [{}, {"temperature": 0.8, "seed": 1}]
WIRES = ["fp16", "int8"]


def tune(bundle, folder):
    """Write a bundle whose first layers were changed a little, as by tuning, and open it."""
    shutil.copytree(bundle.folder, folder)
    file = bundle.manifest.partitions[0].file
    graph, rng = onnx.load(folder / file), np.random.default_rng(5)
    for weights in graph.graph.initializer:
        if weights.name.endswith("_gain"):
            gain = onnx.numpy_helper.to_array(weights)
            changed = gain * rng.uniform(0.7, 1.3, gain.shape).astype(np.float32)
            weights.CopyFrom(onnx.numpy_helper.from_array(changed, weights.name))
    onnx.save(graph, folder / file)
    listed = {**bundle.manifest.files, **describe_files(folder, [file])}
    write_manifest(folder, bundle.manifest.model_copy(update={"files": listed}))
    return open_bundle(folder)


@pytest.fixture(scope="module")
def tuned(bundle, tmp_path_factory):
    """The shipped bundle, tuned; nothing of it is known to any coordinator."""
    return tune(bundle, tmp_path_factory.mktemp("tuned") / "bundle")


@pytest.fixture(scope="module")
def start_tuned_engine():
    """Return a function that makes an engine with a tuned small model."""
    engines = []

    def start(address, bundle, tuned):
        deadlines = Deadlines(open_s=30, answer_s=30)
        link = CloudLink(parse_endpoint(address), bundle.fingerprint, None, deadlines)
        options, meter = RuntimeOptions(), ModelledMeter(10)
        engines.append(Engine(bundle, options, meter, link, whole_model=True, tuned=tuned))
        return engines[-1]

    yield start
    for engine in engines:
        engine.link.close()


@pytest.fixture(scope="module")
def tuned_engine(start_tuned_engine, coordinator, bundle, tuned):
    return start_tuned_engine(coordinator.address, bundle, tuned)


@pytest.fixture(scope="module")
def small_model(tuned):
    return Model.load(tuned, range(tuned.manifest.split), RuntimeOptions())


def formula(engine, prompt, tuned=None, count=_TOKENS, **choices):
    """Return what one process makes of a prompt, and how many tokens were plausible each time."""
    sampling = Sampling(choices.get("temperature", 0.0), choices.get("seed", 0))
    weight, share = choices.get("weight", 1.0), choices.get("plausibility", 0.0)
    wire, ids = choices.get("wire", "fp16"), engine.tokenizer.encode(prompt)
    return decode(engine.model, ids, count, wire, sampling, weight=weight, share=share, tuned=tuned)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("choices", [{}, {"weight": 0.5, "plausibility": 0.3}])
def test_contrastive_gives_the_formulas_tokens(engine, complete, snippets, wire, sampling, choices):
    choices = {"wire": wire, **sampling, **choices}
    for prompt in snippets:
        wanted, _ = formula(engine, prompt, **{"plausibility": 0.1, **choices})
        result = complete(engine, prompt, "contrastive", max_tokens=_TOKENS, **choices)
        assert result.tokens == wanted
        assert not result.degraded


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("choices", [{}, {"weight": 1.5, "plausibility": 0.1}])
def test_proxy_gives_the_formulas_tokens(
    tuned_engine, small_model, complete, snippets, wire, sampling, choices
):
    choices = {"wire": wire, **sampling, **choices}
    for prompt in snippets:
        wanted, _ = formula(tuned_engine, prompt, small_model, **choices)
        result = complete(tuned_engine, prompt, "proxy", max_tokens=_TOKENS, **choices)
        assert result.tokens == wanted
        assert not result.degraded


def test_each_formula_has_a_text_of_its_own(tuned_engine, complete, long_prompt):
    modes = ("cloud", "contrastive", "proxy")
    texts = {complete(tuned_engine, long_prompt, mode, max_tokens=_TOKENS).text for mode in modes}
    assert len(texts) == len(modes)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_without_weight_both_give_the_tokens_of_cloud(tuned_engine, complete, snippets, sampling):
    for prompt in snippets:
        cloud = complete(tuned_engine, prompt, "cloud", max_tokens=_TOKENS, **sampling)
        for mode in ("contrastive", "proxy"):
            choices = {"weight": 0.0, "plausibility": 0.0, **sampling}
            result = complete(tuned_engine, prompt, mode, max_tokens=_TOKENS, **choices)
            assert result.tokens == cloud.tokens


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_small_model_that_was_not_tuned_gives_the_tokens_of_cloud(
    start_tuned_engine, coordinator, bundle, complete, snippets, sampling
):
    engine = start_tuned_engine(coordinator.address, bundle, bundle)
    for prompt in snippets:
        cloud = complete(engine, prompt, "cloud", max_tokens=_TOKENS, **sampling)
        proxy = complete(engine, prompt, "proxy", max_tokens=_TOKENS, **sampling)
        assert proxy.tokens == cloud.tokens


def test_the_downlink_carries_plausible_tokens_only(engine, complete, snippets):
    """Each verdict brings 4 bytes per token, and 8 per candidate."""
    for prompt in snippets:
        _, candidates = formula(engine, prompt, plausibility=0.1)
        result = complete(engine, prompt, "contrastive", max_tokens=_TOKENS)
        assert result.judged == len(result.tokens) == len(candidates)
        least = sum(4 + 8 * count for count in candidates)
        # Drafts behind a replaced one were judged in vain.
        assert least <= result.downlink_bytes
        lean = complete(engine, prompt, "contrastive", max_tokens=_TOKENS, plausibility=1.0)
        assert lean.downlink_bytes % 12 == 0


def test_proxy_brings_all_logits_down(tuned_engine, complete, long_prompt):
    size = tuned_engine.bundle.manifest.architecture.vocabulary_size
    result = complete(tuned_engine, long_prompt, "proxy", max_tokens=_TOKENS)
    verdicts, rest = divmod(result.downlink_bytes, 4 + 4 * size)
    assert rest == 0
    assert verdicts >= result.judged == len(result.tokens)


def test_the_tuned_model_counts_as_work_of_the_edge(tuned_engine, complete, long_prompt):
    generation = tuned_engine.start(GenerationRequest(long_prompt, "proxy", max_tokens=_TOKENS))
    for _ in generation:
        pass
    assert generation.result.edge_s > generation._window.compute_s > 0


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("mode", ["contrastive", "proxy"])
def test_a_sliding_bundle_goes_on_beyond_its_context(
    sliding_bundle, start_coordinator, start_tuned_engine, complete, tmp_path, sampling, mode
):
    tuned = tune(sliding_bundle, tmp_path / "tuned")
    daemon = start_coordinator("--bundle", sliding_bundle.folder)
    engine = start_tuned_engine(daemon.address, sliding_bundle, tuned)
    count = 3 * sliding_bundle.manifest.architecture.context_length
    small = Model.load(tuned, range(tuned.manifest.split), RuntimeOptions())
    for prompt in ("def ", "for item in items:\n    " * 40):
        choices = {"plausibility": 0.2, **sampling}
        other = small if mode == "proxy" else None
        wanted, _ = formula(engine, prompt, other, count, **choices)
        result = complete(engine, prompt, mode, max_tokens=count, **choices)
        assert result.tokens == wanted
        assert not result.degraded


@pytest.mark.parametrize("mode", ["contrastive", "proxy"])
def test_a_coordinator_that_comes_back_with_empty_memory_changes_no_token(
    start_coordinator, start_tuned_engine, bundle, tuned, small_model, long_prompt, mode
):
    daemon = start_coordinator()
    engine = start_tuned_engine(daemon.address, bundle, tuned)
    small = small_model if mode == "proxy" else None
    choices = {"plausibility": 0.1, "temperature": 0.8, "seed": 4}
    wanted, _ = formula(engine, long_prompt, small, **choices)
    request = GenerationRequest(long_prompt, mode, max_tokens=_TOKENS, repair_wait_s=60, **choices)
    generation = engine.start(request)
    assert generation.request.on_outage == "repair"
    for count, token in enumerate(generation, start=1):
        if count == 5:
            daemon.kill()
        if not token.verified and daemon.process.poll() is not None:
            daemon = start_coordinator(port=daemon.port)
    assert generation.result.tokens == wanted
    assert generation.result.degraded
    assert generation.result.unverified_from is None


def test_proxy_without_a_tuned_model_is_refused(engine):
    with pytest.raises(RequestError, match="give --tuned BUNDLE"):
        engine.start(GenerationRequest("def ", "proxy"))


def test_a_tuned_model_with_another_tokenizer_is_refused(bundle, tiny_bundle):
    with pytest.raises(BundleError, match="its tokens are not those of bundle 'code'"):
        Engine(bundle, RuntimeOptions(), ModelledMeter(10), tuned=tiny_bundle)


def test_a_tuned_model_with_a_shorter_context_is_refused(
    tiny_bundle, tiny_plan, tiny_weights, tmp_path
):
    shape = tiny_plan.architecture.model_copy(update={"context_length": 32})
    plan = replace(tiny_plan, architecture=shape)
    short = write_bundle(tmp_path / "short", plan, tiny_weights)
    with pytest.raises(BundleError, match="context of 32 is shorter than that of bundle 'tiny'"):
        Engine(tiny_bundle, RuntimeOptions(), ModelledMeter(10), tuned=short)
