"""What earlier texts leave to later ones: the same tokens, less work, never more memory."""

import gc
import shutil
import weakref
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.devices.meters.modelled import ModelledMeter
from updraft.edge.engine import Engine
from updraft.edge.prefix import PrefixCache, Stack
from updraft.edge.request import GenerationRequest
from updraft.models.build import write_bundle
from updraft.models.bundle import open_bundle, write_manifest
from updraft.models.manifest import Quantization
from updraft.models.runtime import RuntimeOptions
from updraft.models.sequence import CHUNK

# More than two chunks of a prefill, which are passed on whole.
_SYSTEM = "def add(a, b):\n    return a + b\nitem = b\nab = a\n" * 10
_ROOM = 16 << 20
_SOME = 1 << 20


@pytest.fixture(scope="module")
def tiny_bundle(tmp_path_factory, tiny_plan, tiny_weights):
    """The tiny model with room for texts of several chunks."""
    shape = tiny_plan.architecture.model_copy(update={"context_length": 512})
    folder = tmp_path_factory.mktemp("bundles") / "long"
    return write_bundle(folder, replace(tiny_plan, architecture=shape), tiny_weights)


def engine_of(bundle, prefix_cache_bytes):
    return Engine(
        bundle,
        RuntimeOptions(),
        ModelledMeter(10),
        whole_model=True,
        prefix_cache_bytes=prefix_cache_bytes,
    )


@pytest.fixture(scope="module")
def plain(tiny_bundle):
    """An engine that computes every text from its start."""
    return engine_of(tiny_bundle, 0)


@pytest.fixture
def engine(tiny_bundle):
    return engine_of(tiny_bundle, _ROOM)


def complete(engine, prompt, mode="full", max_tokens=6, **choices):
    request = GenerationRequest(prompt, mode, max_tokens=max_tokens, wire="fp32", **choices)
    generation = engine.start(request)
    for _ in generation:
        pass
    return generation.result


@pytest.mark.parametrize("mode", ["full", "standalone"])
def test_a_second_turn_computes_only_what_is_new(engine, plain, mode):
    first = complete(engine, _SYSTEM, mode)
    second = _SYSTEM + first.text + "\nfor"
    found, computed = complete(engine, second, mode), complete(plain, second, mode)
    assert found.tokens == computed.tokens
    assert found.text == computed.text
    assert first.cached_tokens == computed.cached_tokens == 0
    assert found.cached_tokens == len(engine.tokenizer.encode(_SYSTEM)) // CHUNK * CHUNK > CHUNK


def test_the_same_prompt_again_draws_the_same(engine, plain):
    for seed in range(3):
        sampled = {"temperature": 1.0, "seed": seed}
        assert (
            complete(engine, _SYSTEM, **sampled).tokens
            == complete(plain, _SYSTEM, **sampled).tokens
        )
    assert complete(engine, _SYSTEM).cached_tokens > 0


def test_what_full_has_left_serves_standalone_and_another_codec(engine, plain):
    complete(engine, _SYSTEM)
    for mode, wire in (("standalone", "fp32"), ("full", "fp16"), ("full", "fp32")):
        request = GenerationRequest(_SYSTEM + "for", mode, max_tokens=6, wire=wire)
        generations = [one.start(request) for one in (engine, plain)]
        for generation in generations:
            list(generation)
        found, computed = (generation.result for generation in generations)
        assert found.tokens == computed.tokens
        assert found.cached_tokens > 0


def test_the_start_of_a_text_that_runs_is_copied(engine, plain):
    running = engine.start(GenerationRequest(_SYSTEM + "for", "full", max_tokens=8, wire="fp32"))
    tokens = iter(running)
    drawn = [next(tokens).token for _ in range(3)]
    beside = complete(engine, _SYSTEM + "item")
    drawn += [token.token for token in tokens]
    assert beside.cached_tokens > 0
    assert beside.tokens == complete(plain, _SYSTEM + "item").tokens
    assert drawn == complete(plain, _SYSTEM + "for", max_tokens=8).tokens


def test_a_text_that_shares_little_of_another_leaves_it_whole(engine):
    tail = "for item in items:\n    print(item)\n" * 10
    complete(engine, _SYSTEM + tail, max_tokens=2)
    known = complete(engine, _SYSTEM + tail + "for", max_tokens=2).cached_tokens
    assert known >= 3 * CHUNK
    other = complete(engine, _SYSTEM[: len(_SYSTEM) // 2] + "é ü" * 20, max_tokens=2)
    assert 0 < other.cached_tokens < known / 2
    assert complete(engine, _SYSTEM + tail + "for", max_tokens=2).cached_tokens == known


def test_memory_is_bounded_and_the_least_recently_used_goes_first(tiny_bundle, plain):
    model = plain.model.below(tiny_bundle.manifest.split)
    context_length = tiny_bundle.manifest.architecture.context_length
    length = CHUNK + 20
    text_bytes = model.sequence_bytes * length // context_length
    cache = PrefixCache(2 * text_bytes + 1)
    cache.serve(model.partitions)
    texts = [[10 + i] * length for i in range(3)]
    sequences = []
    for text in texts:
        stack = cache.take(model, text)
        stack.lower.append(text)
        stack.lower.advance(model.top)
        sequences.append(weakref.ref(stack.lower))
        cache.give(stack)
        assert cache.held_bytes <= 2 * text_bytes + 1
    del stack
    gc.collect()
    assert [sequence() is None for sequence in sequences] == [True, False, False]
    assert cache.take(model, texts[0]).lower.length == 0
    assert cache.take(model, texts[2]).lower.length == CHUNK


def test_memory_once_written_to_counts_although_the_text_is_short_now(plain):
    model = plain.model.below(plain.bundle.manifest.split)
    cache = PrefixCache(_ROOM)
    cache.serve(model.partitions)
    stack = Stack(model.new_sequence())
    stack.lower.append([7] * 250)
    stack.lower.advance(model.top)
    cache.give(stack)
    held = cache.held_bytes
    assert held > 0
    again = cache.take(model, [*[7] * 140, 3])
    assert again.lower.length == CHUNK
    cache.give(again)
    assert cache.held_bytes == held


@pytest.mark.parametrize("limit_bytes", [0, _ROOM])
def test_a_cancelled_text_gives_its_memory_back_at_once(tiny_bundle, limit_bytes):
    engine = engine_of(tiny_bundle, limit_bytes)
    generation = engine.start(GenerationRequest(_SYSTEM, "standalone", max_tokens=20))
    for index, _ in enumerate(generation):
        sequence = weakref.ref(generation._window.sequence)
        if index == 1:
            generation.cancel()
    gc.collect()
    assert generation.result.finish_reason == "cancelled"
    assert (sequence() is None) == (limit_bytes == 0)
    assert engine._prefixes.held_bytes <= limit_bytes


def test_a_window_that_is_dropped_is_forgotten(engine):
    window = engine.edge_window()
    window.look(engine.tokenizer.encode(_SYSTEM))
    sequence = weakref.ref(window.sequence)
    del window
    gc.collect()
    assert sequence() is None
    assert complete(engine, _SYSTEM).cached_tokens == 0


def test_a_request_that_waits_takes_no_memory(engine):
    generation = engine.start(GenerationRequest(_SYSTEM, "standalone", max_tokens=4))
    assert generation._window._stack is None


def test_a_parked_model_keeps_no_text(engine, plain):
    complete(engine, _SYSTEM)
    running = engine.start(GenerationRequest(_SYSTEM, "full", max_tokens=4, wire="fp32"))
    tokens = iter(running)
    next(tokens)
    engine.park()
    assert len(list(tokens)) == 3
    assert engine._prefixes.held_bytes == 0
    again = complete(engine, _SYSTEM)
    assert again.cached_tokens == 0
    assert again.tokens == complete(plain, _SYSTEM).tokens


@settings(max_examples=8, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, CHUNK, CHUNK + 60, len(_SYSTEM)]),
            st.sampled_from(["", "for ", "é ü", "print(item)\n"]),
            st.sampled_from(["full", "standalone"]),
        ),
        min_size=2,
        max_size=5,
    )
)
def test_whatever_ran_before_changes_no_token(tiny_bundle, plain, asked):
    engine = engine_of(tiny_bundle, _SOME)
    for length, tail, mode in asked:
        prompt = (_SYSTEM[:length] + tail) or "x"
        assert complete(engine, prompt, mode, 4).tokens == complete(plain, prompt, mode, 4).tokens
        assert engine._prefixes.held_bytes <= _SOME


def test_a_text_that_slides_out_of_its_window_draws_the_same(tiny_bundle, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle.folder, folder)
    write_manifest(folder, tiny_bundle.manifest.model_copy(update={"overflow": "slide"}))
    sliding = open_bundle(folder)
    with_cache, without = engine_of(sliding, _ROOM), engine_of(sliding, 0)
    for _ in range(2):
        for mode in ("full", "standalone"):
            found = complete(with_cache, _SYSTEM * 2, mode, 100)
            assert found.tokens == complete(without, _SYSTEM * 2, mode, 100).tokens
    assert found.cached_tokens > 0


def test_a_found_prefix_is_the_one_that_would_be_computed_bit_for_bit(
    tmp_path, tiny_plan, tiny_weights
):
    """Here a token alone gives other bits than the same token in a chunk."""
    shape = tiny_plan.architecture.model_copy(update={"context_length": 512})
    quantization = Quantization(weights="int4", block=16, activations="int8")
    plan = replace(tiny_plan, architecture=shape, quantization=quantization)
    bundle = write_bundle(tmp_path / "int4", plan, tiny_weights)
    with_cache, without = engine_of(bundle, _ROOM), engine_of(bundle, 0)
    tokens = [index % 250 + 1 for index in range(300)]
    first = with_cache.edge_window()
    for length in range(140, 290):
        first.look(tokens[:length])
    first.release()
    found, computed = with_cache.edge_window(), without.edge_window()
    assert found.look(tokens) == computed.look(tokens)
    assert found.found == CHUNK
    np.testing.assert_array_equal(found.states(0, 300), computed.states(0, 300))
