"""How graphs are loaded: as many threads as pay, and partitions that leave each other the cores."""

import pytest

from updraft.devices.cores import usable_cores
from updraft.errors import BundleError
from updraft.models.runtime import RuntimeOptions, load_session, threads_of
from updraft.models.sequence import Model


def test_small_graphs_take_one_thread_and_large_ones_all_cores():
    options = RuntimeOptions()
    assert options.threads_for(1 << 20) == 1
    assert options.threads_for(1 << 30) == usable_cores()


def test_what_is_asked_for_is_kept(tiny_bundle):
    assert RuntimeOptions(threads=3).threads_for(1 << 20) == 3
    layers = range(tiny_bundle.manifest.architecture.layers)
    assert Model.load(tiny_bundle, layers, RuntimeOptions(threads=3)).threads == 3
    assert Model.load(tiny_bundle, layers, RuntimeOptions()).threads == 1


def test_threads_do_not_change_what_is_computed(bundle):
    """Sums are not split between threads, so edge and cloud need not have the same."""
    layers, tokens = range(bundle.manifest.architecture.layers), [5, 17, 99, 300, 41]
    said = []
    for threads in (1, 2):
        model = Model.load(bundle, layers, RuntimeOptions(threads=threads))
        sequence = model.new_sequence()
        sequence.append(tokens)
        states = sequence.advance(model.top).copy()
        sequence.look(model.top)
        said.append((states.tobytes(), sequence.logits.tobytes()))
    assert said[0] == said[1]


def test_sessions_keep_no_memory_and_no_core_after_a_run(tiny_bundle):
    entry = tiny_bundle.manifest.partitions[0]
    settings = load_session(tiny_bundle.path(entry.file), RuntimeOptions()).get_session_options()
    assert settings.get_session_config_entry("session.force_spinning_stop") == "1"
    assert not settings.enable_cpu_mem_arena
    assert not settings.enable_mem_pattern


def test_a_file_that_is_no_graph_is_named(tmp_path):
    (tmp_path / "odd.onnx").write_bytes(b"\xff" * 64)
    with pytest.raises(BundleError, match=r"odd\.onnx: ONNX Runtime .* refuses it"):
        load_session(tmp_path / "odd.onnx", RuntimeOptions())


def test_threads_are_counted_from_the_graphs(tiny_bundle):
    entry = tiny_bundle.manifest.partitions[0]
    assert threads_of(load_session(tiny_bundle.path(entry.file), RuntimeOptions(threads=2))) == 2
