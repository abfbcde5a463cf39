"""Exits trained on a text: better on held-out text, and nothing else of the bundle changed."""

from dataclasses import replace

import numpy as np
import pytest

from updraft.errors import BundleError, RequestError
from updraft.models.bundle import open_bundle
from updraft.models.exits.train import read_shortlist, train_exits
from updraft.models.runtime import RuntimeOptions
from updraft.models.sequence import Model

_OPTIONS = RuntimeOptions(threads=1)


def _load(bundle):
    return Model.load(bundle, range(bundle.manifest.architecture.layers), _OPTIONS)


def test_every_exit_comes_nearer_to_the_full_depth(trained):
    _, report = trained
    assert [exit_.layer for exit_ in report.exits] == [1, 2]
    for exit_ in report.exits:
        assert exit_.after.kl < 0.9 * exit_.before.kl
        assert exit_.after.agreement > exit_.before.agreement
        assert exit_.after.acceptance > exit_.before.acceptance
        assert exit_.after.positions == exit_.before.positions > 500


def test_the_full_depth_is_bit_identical(trained, tiny_bundle):
    new = open_bundle(trained[0])
    tokens = list(range(20, 60))
    said = []
    for bundle in (tiny_bundle, new):
        model = _load(bundle)
        sequence = model.new_sequence()
        sequence.append(tokens)
        said.append(model.heads.predict(model.top, sequence.advance(model.top)))
    for old, found in zip(*said, strict=True):
        np.testing.assert_array_equal(old, found)


def test_the_new_bundle_is_another_model_with_exits_of_its_own(trained, tiny_bundle):
    folder, report = trained
    new = open_bundle(folder)
    assert new.fingerprint == report.fingerprint != tiny_bundle.fingerprint
    shared = {entry.file for entry in tiny_bundle.manifest.partitions}
    assert all(new.manifest.files[name] == tiny_bundle.manifest.files[name] for name in shared)
    for entry in new.manifest.edge_exits:
        assert entry.calibration is not None
        assert len(read_shortlist(new, entry)) == report.shortlist == 200
    assert new.manifest.exits[-1] == tiny_bundle.manifest.exits[-1]
    assert not new.manifest.guarantees
    assert not folder.with_name(folder.name + ".tmp").exists()


def test_a_trained_exit_says_tokens_of_its_shortlist(trained):
    new = open_bundle(trained[0])
    model = _load(new)
    sequence = model.new_sequence()
    sequence.append(range(20, 60))
    entry = new.manifest.edge_exits[-1]
    said = model.heads.predict(entry.layer, sequence.advance(entry.layer)).token
    assert set(said.tolist()) <= set(read_shortlist(new, entry).tolist())


def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    tiny_bundle, sentences, plan, trained, tmp_path
):
    class Stopped(Exception):
        pass

    def stop(stage, done, total):
        if (stage, done) in {("collecting", 7), ("training exit 2", 110)}:
            raise Stopped

    text, output, work = [sentences(800)], tmp_path / "out", tmp_path / "work"
    asked = replace(plan, exits=(1, 2))
    for _ in range(2):
        with pytest.raises(Stopped):
            train_exits(tiny_bundle, text, output, work, asked, stop)
        assert not output.exists()
    report = train_exits(tiny_bundle, text, output, work, asked, lambda *_: None)
    assert report.fingerprint == trained[1].fingerprint


def test_work_of_another_text_is_not_continued(tiny_bundle, sentences, plan, tmp_path):
    class Stopped(Exception):
        pass

    def stop(*_):
        raise Stopped

    work = tmp_path / "work"
    with pytest.raises(Stopped):
        train_exits(tiny_bundle, [sentences(800)], tmp_path / "out", work, plan, stop)
    with pytest.raises(RequestError, match="holds the work of another run"):
        train_exits(tiny_bundle, [sentences(800, 1)], tmp_path / "out", work, plan, stop)


@pytest.mark.parametrize(
    ("exits", "lines", "message"),
    [
        ((3,), 800, "has no exit after layer 3: choose from 1, 2"),
        ((4,), 800, "has no exit after layer 4: choose from 1, 2"),
        ((), 20, "at least 1890 are needed"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    tiny_bundle, sentences, plan, tmp_path, exits, lines, message
):
    asked = replace(plan, exits=exits)
    text = [sentences(lines)]
    with pytest.raises(RequestError, match=message):
        train_exits(tiny_bundle, text, tmp_path / "o", tmp_path / "w", asked, lambda *_: None)
    assert not (tmp_path / "o").exists()


def test_nothing_is_overwritten(tiny_bundle, sentences, plan, tmp_path):
    with pytest.raises(BundleError, match="exists already"):
        train_exits(tiny_bundle, [sentences(9)], tmp_path, tmp_path / "w", plan, lambda *_: None)


def test_exits_are_trained_again_alone_and_together(trained, sentences, plan, tmp_path):
    first, text = open_bundle(trained[0]), [sentences(800, 3)]
    small = replace(plan, steps=2, exits=(2,), shortlist=280)
    train_exits(first, text, tmp_path / "one", tmp_path / "w1", small, lambda *_: None)
    one = open_bundle(tmp_path / "one")
    assert one.manifest.exits[0] == first.manifest.exits[0]
    assert len(read_shortlist(one, one.manifest.exits[1])) == 280
    small = replace(plan, steps=2, exits=(), shortlist=1 << 24)
    train_exits(one, text, tmp_path / "both", tmp_path / "w2", small, lambda *_: None)
    both = open_bundle(tmp_path / "both")
    assert {entry.shortlist for entry in both.manifest.exits} == {None}
    assert not [name for name in both.manifest.files if "shortlist" in name or "exits-2" in name]
