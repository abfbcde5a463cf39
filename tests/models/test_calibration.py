"""Calibrated confidence: the probability that the full depth says the same token."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.models.calibration import confidence_of, fit_calibration
from updraft.models.evaluate import Settings, calibrate_exits
from updraft.models.manifest import Calibration, ExitEntry
from updraft.models.recipes.corpus import SourceFile, part_of


def entry(calibration=None):
    return ExitEntry(layer=2, head="head.onnx", index=0, calibration=calibration)


def draw(slope, intercept, count=100_000):
    rng = np.random.default_rng(0)
    probability = rng.uniform(0.02, 0.98, count)
    truth = Calibration(slope=slope, intercept=intercept)
    return probability, rng.random(count) < confidence_of(entry(truth), probability)


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.5, 1.0), (2.0, -1.5)])
def test_a_fit_finds_what_the_data_were_drawn_from(slope, intercept):
    found = fit_calibration(*draw(slope, intercept))
    assert found.slope == pytest.approx(slope, abs=0.05)
    assert found.intercept == pytest.approx(intercept, abs=0.05)


def test_a_fitted_confidence_is_right_as_often_as_it_says():
    probability, agrees = draw(0.7, 0.8)
    confidence = confidence_of(entry(fit_calibration(probability, agrees)), probability)
    for low in (0.3, 0.5, 0.7, 0.9):
        inside = (confidence >= low) & (confidence < low + 0.1)
        assert agrees[inside].mean() == pytest.approx(confidence[inside].mean(), abs=0.03)


@pytest.mark.parametrize("agrees", [np.zeros(50, bool), np.ones(50, bool)])
def test_data_that_cannot_tell_give_no_calibration(agrees):
    assert fit_calibration(np.linspace(0.1, 0.9, 50), agrees) is None


def test_an_exit_that_is_wrong_when_sure_gets_no_calibration():
    probability, agrees = draw(1.0, 0.0)
    assert fit_calibration(probability, ~agrees) is None


def test_without_a_calibration_confidence_is_the_probability():
    assert float(confidence_of(entry(), np.float32(0.25))) == 0.25


@given(st.floats(0, 1, width=32), st.floats(0, 1, width=32), st.floats(0.1, 5), st.floats(-5, 5))
def test_confidence_stays_inside_0_and_1_and_rises_with_the_probability(p, q, slope, intercept):
    calibrated = entry(Calibration(slope=slope, intercept=intercept))
    low, high = (float(confidence_of(calibrated, np.float32(x))) for x in sorted((p, q)))
    assert 0 <= low <= high <= 1


def test_calibrating_a_bundle_keeps_its_fingerprint(tiny_bundle, folder):
    from updraft.models.bundle import open_bundle

    names = (f"module_{number}.py" for number in range(1000))
    name = next(name for name in names if part_of(name) == "calibration")
    text = "def add(a, b):\n    return a + b\n" * 40
    settings = Settings(calibration_tokens=500)
    found = calibrate_exits(open_bundle(folder), [SourceFile(name, text, False)], settings)
    assert found.fingerprint == tiny_bundle.fingerprint
    assert found.manifest.exits[-1].calibration is None
