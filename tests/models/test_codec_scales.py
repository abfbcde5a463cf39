"""Channel scales: fitted on calibration texts, kept in the bundle, part of its identity."""

import json

import numpy as np
import pytest

from updraft.errors import BundleError
from updraft.models.build import add_channel_scales, write_bundle
from updraft.models.bundle import describe_files, open_bundle, write_manifest
from updraft.models.manifest import PLAIN_CODECS, SCALED_CODECS
from updraft.models.runtime import RuntimeOptions
from updraft.models.scales import LARGEST, SMALLEST, fit_scales, read_scales, scales_to_bytes
from updraft.models.sequence import Model
from updraft.models.tokenizer import Tokenizer

_FILE = "channel-scales.f32"


def tampered(folder, content):
    """Write other scales, correct their size and hash, and open the bundle."""
    bundle = open_bundle(folder)
    (folder / _FILE).write_bytes(content)
    files = {**bundle.manifest.files, **describe_files(folder, [_FILE])}
    write_manifest(folder, bundle.manifest.model_copy(update={"files": files}))
    return open_bundle(folder)


def test_a_scale_is_the_root_mean_square_of_its_channel():
    states = np.array([[3, -1, 0.5], [-3, 7, 0.5]], np.float32)
    np.testing.assert_allclose(fit_scales(states), [3, 5, 0.5], rtol=1e-6)


def test_a_silent_channel_gets_a_thousandth_of_what_the_others_have():
    states = np.array([[4, 0, 4, 0], [4, 0, -4, 0]], np.float32)
    quiet = 8**0.5 / 1000
    np.testing.assert_allclose(fit_scales(states), [4, quiet, 4, quiet], rtol=1e-6)


@pytest.mark.parametrize(("value", "scale"), [(0, SMALLEST), (1e-30, SMALLEST), (1e30, LARGEST)])
def test_scales_stay_within_their_bounds(value, scale):
    np.testing.assert_array_equal(fit_scales(np.full((2, 4), value, np.float32)), scale)


def test_scales_are_read_as_they_were_written(tmp_path):
    scales = np.array([SMALLEST, 1, 2.5, LARGEST], np.float32)
    path = tmp_path / "scales"
    path.write_bytes(scales_to_bytes(scales))
    np.testing.assert_array_equal(read_scales(path, 4), scales)
    assert path.read_bytes()[4:8] == bytes.fromhex("0000803f")


def test_a_bundle_gets_the_scales_of_its_own_states(tiny_plan, tiny_weights, tmp_path):
    text = "def add(a, b):\n    return a + b\n"
    plain = write_bundle(tmp_path / "plain", tiny_plan, tiny_weights)
    assert plain.manifest.wire is None
    assert plain.manifest.codecs == list(PLAIN_CODECS)
    with pytest.raises(BundleError, match="has no channel scales"):
        _ = plain.channel_scales
    bundle = add_channel_scales(plain, [text])
    sequence = Model.load(bundle, range(bundle.manifest.split), RuntimeOptions()).new_sequence()
    sequence.append(Tokenizer(bundle).encode(text))
    expected = fit_scales(sequence.advance(bundle.manifest.split))
    np.testing.assert_array_equal(bundle.channel_scales, expected)
    assert bundle.manifest.codecs == [*PLAIN_CODECS, *SCALED_CODECS]
    assert bundle.fingerprint != plain.fingerprint


def test_the_same_texts_give_the_same_scales(tiny_bundle, folder):
    texts = ["for item in items:\n", "é ü 漢字 🙂\n"]
    once = add_channel_scales(open_bundle(folder), texts)
    twice = add_channel_scales(once, texts)
    assert once.fingerprint == twice.fingerprint
    assert once.manifest == twice.manifest


def test_a_long_calibration_text_is_cut_to_the_context(folder):
    bundle = add_channel_scales(open_bundle(folder), ["item " * 500])
    assert np.isfinite(bundle.channel_scales).all()


def test_the_shipped_bundle_s_scales_come_from_its_calibration_prompts(bundle, tmp_path):
    rows = map(json.loads, bundle.path("calibration.jsonl").read_text("utf-8").splitlines())
    model = Model.load(bundle, range(bundle.manifest.split), RuntimeOptions())
    tokenizer, states = Tokenizer(bundle), []
    for row in rows:
        sequence = model.new_sequence()
        sequence.append(tokenizer.encode(row["prompt"] + row["completion"]))
        states.append(sequence.advance(bundle.manifest.split))
    expected = fit_scales(np.concatenate(states))
    np.testing.assert_allclose(bundle.channel_scales, expected, rtol=1e-4)


def test_other_scales_change_the_fingerprint(tiny_bundle, folder):
    changed = tampered(folder, scales_to_bytes(2 * tiny_bundle.channel_scales))
    assert changed.fingerprint != tiny_bundle.fingerprint


@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf, SMALLEST / 2, LARGEST * 2])
def test_a_scale_that_is_no_scale_is_refused(folder, tiny_bundle, value):
    scales = tiny_bundle.channel_scales.copy()
    scales[3] = value
    with pytest.raises(BundleError, match=r"channel-scales\.f32: a channel scale lies outside"):
        tampered(folder, scales_to_bytes(scales))


@pytest.mark.parametrize("size", [0, 4 * 63, 4 * 64 + 1])
def test_scales_of_another_width_are_refused(folder, size):
    with pytest.raises(BundleError, match=f"{size} bytes, the scales of 64 channels take 256"):
        tampered(folder, bytes(size))
