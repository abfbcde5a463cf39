"""What the link has been like: the laws of the running estimates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.edge.estimate import LinkEstimate

seconds = st.floats(0, 60)


def after(*samples):
    estimate = LinkEstimate()
    for sample in samples:
        estimate.round_trip(sample, 0.0)
    return estimate


@given(st.lists(seconds, max_size=7))
def test_nobody_is_impatient_before_enough_was_seen(samples):
    assert after(*samples).patience_s is None


@given(st.lists(seconds, min_size=8, max_size=60))
def test_patience_is_a_second_at_least_and_never_less_than_the_mean(samples):
    estimate = after(*samples)
    assert estimate.samples == len(samples)
    assert estimate.patience_s >= 1
    assert estimate.patience_s >= estimate.round_trip_s


@given(st.lists(seconds, min_size=1, max_size=60))
def test_the_mean_stays_between_the_extremes(samples):
    estimate = after(*samples)
    assert min(samples) * (1 - 1e-9) <= estimate.round_trip_s <= max(samples) * (1 + 1e-9)
    assert 0 <= estimate.deviation_s <= max(samples)


@given(seconds, seconds)
def test_the_time_that_the_cloud_computes_is_not_the_links(total_s, compute_s):
    estimate = LinkEstimate()
    estimate.round_trip(total_s, compute_s)
    assert estimate.round_trip_s == max(0.0, total_s - compute_s)


def test_a_steady_link_leaves_little_patience_beyond_its_round_trip():
    estimate = after(*[2.0] * 100)
    assert estimate.round_trip_s == pytest.approx(2.0)
    assert estimate.patience_s == pytest.approx(2.0, abs=0.01)


def test_an_unsteady_link_is_given_more_time():
    steady, unsteady = after(*[2.0] * 40), after(*[1.5, 2.5] * 20)
    assert unsteady.patience_s > steady.patience_s + 1


def test_one_late_answer_does_not_stay_on_the_mind():
    estimate = after(*[0.05] * 50, 3.0)
    assert estimate.patience_s > 1
    for _ in range(50):
        estimate.round_trip(0.05, 0.0)
    assert estimate.patience_s == 1.0


def test_the_first_upload_sets_the_rate_and_later_ones_move_it():
    estimate = LinkEstimate()
    estimate.upload(100_000, 1.0)
    assert estimate.bytes_per_s == pytest.approx(100_000)
    estimate.upload(900_000, 1.0)
    assert 100_000 < estimate.bytes_per_s < 900_000


@given(st.integers(0, (16 << 10) - 1), seconds)
def test_a_short_upload_says_nothing(payload_bytes, took_s):
    estimate = LinkEstimate()
    estimate.upload(payload_bytes, took_s)
    assert estimate.bytes_per_s is None


@given(st.integers(16 << 10, 1 << 30), st.floats(-1, 60))
def test_the_rate_is_positive_even_where_the_clock_saw_no_time(payload_bytes, took_s):
    estimate = LinkEstimate()
    estimate.upload(payload_bytes, took_s)
    assert 0 < estimate.bytes_per_s < float("inf")
