"""The idle draw: configured, from the catalog, or as seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.devices.meters.baseline import Baseline
from updraft.devices.meters.trace import Segment


def idle(baseline, *watts):
    for number, value in enumerate(watts):
        baseline.add(Segment(number, number + 1, value, value))


def test_nothing_is_subtracted_while_nothing_is_known():
    assert Baseline().watts == 0
    assert Baseline().words == "above 0 W idle (not known yet)"


def test_what_is_configured_stands():
    baseline = Baseline(4.6, 9.0)
    idle(baseline, 1.0, 1.0)
    assert baseline.words == "above 4.6 W idle (as configured)"


def test_configured_nothing_is_nothing():
    assert Baseline(0.0, 9.0).words == "above 0 W idle (as configured)"


def test_the_catalog_stands_until_the_device_is_seen_to_draw_less():
    baseline = Baseline(None, 4.6)
    idle(baseline, 5.0)
    assert baseline.words == "above 4.6 W idle (from the catalog)"
    idle(baseline, 4.0)
    assert baseline.words == "above 4 W idle (measured)"


def test_a_device_that_idles_higher_than_its_catalog_is_believed_after_a_while():
    baseline = Baseline(None, 4.6)
    idle(baseline, *[7.0] * 19)
    assert baseline.words == "above 4.6 W idle (from the catalog)"
    idle(baseline, 7.0)
    assert baseline.words == "above 7 W idle (measured)"


def test_a_moment_is_not_enough_to_measure():
    baseline = Baseline()
    baseline.add(Segment(0.0, 0.2, 5.0, 5.0))
    assert baseline.words.endswith("(not known yet)")
    baseline.add(Segment(0.2, 0.3, 5.0, 5.0))
    assert baseline.watts == pytest.approx(5.0)


def test_other_programs_do_not_raise_it():
    baseline = Baseline()
    idle(baseline, *[30.0] * 80, *[4.0] * 20)
    assert baseline.watts == 4.0


def test_it_follows_a_device_that_changed_for_good():
    baseline = Baseline()
    idle(baseline, *[4.0] * 1200, *[9.0] * 1200)
    assert baseline.watts == 9.0


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60))
def test_it_is_never_above_what_was_mostly_seen(watts):
    baseline = Baseline()
    idle(baseline, *watts)
    assert min(watts) <= baseline.watts <= max(watts)
    assert sum(value < baseline.watts for value in watts) <= 0.1 * len(watts)
