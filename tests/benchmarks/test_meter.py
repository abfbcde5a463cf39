"""The simulation of short requests: its errors are those that the geometry allows."""

from updraft.benchmarks.meter import _REST_W, _WORK_W, simulate


def test_the_error_of_a_request_is_at_most_half_a_period_of_the_jump():
    for (rate_hz, length_s), errors in simulate(requests=40).items():
        most_j = (_WORK_W - _REST_W) / rate_hz / 2
        true_j = (_WORK_W - _REST_W) * length_s
        assert len(errors) == 40
        assert -min(most_j / true_j, 0.5) - 1e-9 <= min(errors)
        assert max(errors) <= 1e-9
