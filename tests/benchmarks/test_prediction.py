"""The benchmark of predictions: what it measures and predicts, not how fast this machine is."""

import pytest

from updraft.benchmarks.measures.prediction import Subject, learning, points
from updraft.benchmarks.measures.random_bundle import parameters, write_random_bundle
from updraft.devices.catalog.entries import load_catalog
from updraft.models.manifest import Architecture

_SHAPE = Architecture(
    vocabulary_size=4096, width=64, layers=3, heads=4, kv_heads=2, ffn_width=128, context_length=64
)


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "random"
    return Subject(write_random_bundle(folder, "random", _SHAPE, (1,)))


def test_a_random_bundle_has_the_parameters_that_are_told(subject):
    pieces = [*subject.workload.partitions, subject.workload.head]
    assert sum(piece.macs_per_position for piece in pieces) == parameters(_SHAPE)


def test_every_point_is_predicted_in_every_way(subject):
    sheet = load_catalog()["x86"]
    found = points(subject, {"one": sheet, "other": sheet}, tokens=4, chunks=(2,))
    assert [point.kind for point in found] == ["answer", *["step"] * 4, "chunk"]
    for point in found:
        assert point.error("one") == point.error("other") > -1
        assert point.measured.cpu_s > 0
        assert point.predicted_s["one"] > 0


def test_an_error_is_told_for_every_answer(subject):
    errors = list(learning(subject, load_catalog()["x86"], answers=3, tokens=6))
    assert len(errors) == 3
    assert min(errors) > -1
