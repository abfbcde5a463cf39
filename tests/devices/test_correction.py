"""Learning from measurements: right in the end, careful in the beginning, and never for ever."""

import json
from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.devices.correction import KINDS, Correction

ratios = st.floats(0.1, 10)


def taught(ratio, scatter, count, seed=0, correction=None):
    """Return a correction after so many measurements that scatter around a ratio."""
    correction = correction or Correction()
    for factor in np.exp(np.random.default_rng(seed).normal(0, scatter, count)):
        correction.update("decode", 2.0, 2.0 * ratio * factor)
    return correction


@pytest.mark.parametrize("kind", KINDS)
def test_without_samples_the_data_sheet_holds(kind):
    factor = Correction().factor(kind)
    assert (factor.value, factor.samples) == (1, 0)
    assert factor.low == pytest.approx(1 / factor.high)
    assert 0.4 < factor.low < 0.6


@given(ratios, st.floats(0, 0.3))
def test_it_ends_at_the_true_ratio(ratio, scatter):
    factor = taught(ratio, scatter, 500).factor("decode")
    assert abs(log(factor.value / ratio)) <= 0.005 * abs(log(ratio)) + 0.5 * scatter
    assert factor.samples == 500


@given(ratios)
def test_few_samples_move_it_part_of_the_way(ratio):
    values = [taught(ratio, 0, count).factor("decode").value for count in (0, 1, 2, 4, 8, 16)]
    distances = [abs(log(value / ratio)) for value in values]
    assert distances == sorted(distances, reverse=True)
    assert all(min(1, ratio) <= value <= max(1, ratio) for value in values)


@given(st.lists(ratios, max_size=30))
def test_the_value_lies_within_its_interval(samples):
    correction = Correction()
    for sample in samples:
        correction.update("energy", 1.0, sample)
    factor = correction.factor("energy")
    assert factor.low < factor.value < factor.high


def test_samples_that_scatter_move_it_less():
    agreeing = Correction()
    scattering = Correction()
    for sample in (3.0, 3.0, 3.0, 3.0):
        agreeing.update("decode", 1.0, sample)
    for sample in (1.0, 9.0, 1.0, 9.0):
        scattering.update("decode", 1.0, sample)
    assert scattering.factor("decode").value < agreeing.factor("decode").value
    assert scattering.factor("decode").high / scattering.factor("decode").low > (
        agreeing.factor("decode").high / agreeing.factor("decode").low
    )


@pytest.mark.parametrize("scatter", [0.1, 0.3])
@pytest.mark.parametrize("count", [3, 10, 40, 150])
def test_the_interval_covers_the_truth_at_its_rate(scatter, count):
    """95% of 400 devices, less four standard deviations of such a count."""
    truths = np.exp(np.random.default_rng(3).normal(0, 0.35, 400))
    covered = 0
    for seed, truth in enumerate(truths):
        factor = taught(truth, scatter, count, seed).factor("decode")
        covered += factor.low <= truth <= factor.high
    assert covered >= 363


def test_the_interval_narrows():
    widths = []
    for count in (0, 3, 10, 40):
        factor = taught(1.5, 0.1, count).factor("decode")
        widths.append(log(factor.high / factor.low))
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.1


def test_it_follows_a_device_that_has_changed():
    correction = taught(1.0, 0.05, 500)
    correction = taught(2.0, 0.05, 150, seed=1, correction=correction)
    assert correction.factor("decode").value == pytest.approx(2.0, rel=0.1)


def test_kinds_do_not_touch_each_other():
    correction = taught(3.0, 0, 20)
    assert correction.factor("prefill").value == 1
    assert correction.factor("decode").value > 2.5


@pytest.mark.parametrize("measured", [0.0, -1.0, float("nan"), float("inf")])
def test_a_dead_meter_teaches_nothing(measured):
    correction = Correction()
    correction.update("energy", 1.0, measured)
    assert correction.factor("energy").samples == 0


def test_one_absurd_sample_among_many_does_little():
    correction = taught(1.0, 0.05, 50)
    correction.update("decode", 1.0, 1e9)
    assert correction.factor("decode").value < 1.1


@pytest.mark.parametrize("predicted", [0.0, -1.0, float("nan")])
def test_a_prediction_is_positive(predicted):
    with pytest.raises(ValueError, match="positive"):
        Correction().update("decode", predicted, 1.0)


@given(st.lists(ratios, max_size=20))
def test_what_was_learned_outlives_the_process(samples):
    correction = Correction()
    for sample in samples:
        correction.update("prefill", 1.0, sample)
    read = Correction.from_dict(json.loads(json.dumps(correction.to_dict())))
    read.update("prefill", 1.0, 2.0)
    correction.update("prefill", 1.0, 2.0)
    assert read.factor("prefill") == correction.factor("prefill")


@pytest.mark.parametrize(
    "document",
    [
        {"speed": {}},
        {"decode": 3},
        {"decode": {"samples": 1}},
        {"decode": {"samples": -1, "weight": 1, "squares": 1, "mean": 0, "scatter": 0}},
        {"decode": {"samples": 1, "weight": 1, "squares": "x", "mean": 0, "scatter": 0}},
        {"decode": {"samples": 1, "weight": 1, "squares": 0, "mean": 0, "scatter": 0}},
        {"decode": {"samples": 1, "weight": 1, "squares": 1, "mean": float("nan"), "scatter": 0}},
    ],
)
def test_a_damaged_document_is_refused(document):
    with pytest.raises(ValueError, match="correction"):
        Correction.from_dict(document)


def test_the_interval_never_grows_beyond_the_priors():
    correction = Correction()
    for sample in (exp(2), exp(-2)):
        correction.update("decode", 1.0, sample)
    prior, factor = Correction().factor("decode"), correction.factor("decode")
    assert factor.high / factor.low <= prior.high / prior.low * (1 + 1e-9)
