"""What is made of runs: medians, ratios, formulas of the payload, the replay."""

import pytest

from updraft.benchmarks.collab.agreement import Agreement
from updraft.benchmarks.collab.cells import Cell, Range, payload_faults
from updraft.benchmarks.collab.constants import Constants, Passes
from updraft.benchmarks.collab.emulator import Counters
from updraft.benchmarks.collab.plan import CLOUD, LOSSLESS, NAIVE, NEAR, THETAS
from updraft.benchmarks.collab.ratios import compare, targets
from updraft.benchmarks.collab.reference import Judgement, acceptance, buckets, repeats_itself
from updraft.benchmarks.collab.replay import replay
from updraft.benchmarks.collab.simulation import Draft
from updraft.benchmarks.collab.stage import Run
from updraft.edge.pilot import Tuning
from updraft.edge.request import GenerationResult

WIDTH = 8


def run(total_s, prompt=10, new=4, **figures):
    result = GenerationResult("cloud", tokens=[1] * new, total_s=total_s, **figures)
    return Run(0, prompt, result, (0.0,), Counters(1000, 100))


def cell(row, *totals_s, **figures):
    runs = [run(total_s, **figures) for total_s in totals_s]
    return Cell(row, NEAR, 0.0, [[each] for each in runs], Tuning())


def agreeing(row, share):
    return Agreement(row, 0.0, 1, 4, share, share, share, None, 0.5)


def test_a_figure_is_scaled_to_a_hundred_prompts_and_spread_over_the_repeats():
    assert cell(CLOUD, 0.1, 0.3, 0.2).per_100(lambda r: r.result.total_s) == Range(
        pytest.approx(20), pytest.approx(10), pytest.approx(30)
    )


def test_a_range_shows_its_spread_where_there_is_one():
    assert Range.of([2.0]).show() == "2.0"
    assert Range.of([3.0, 1.0, 2.0]).show() == "2.0 (1.0 to 3.0)"


def test_payload_must_be_that_of_the_formula():
    positions = 10 + 4 - 1
    right = cell(
        THETAS[0], 1.0, cloud_calls=3, uplink_bytes=2 * WIDTH * positions, downlink_bytes=12
    )
    assert payload_faults(right, WIDTH) == []
    wrong = cell(THETAS[0], 1.0, cloud_calls=3, uplink_bytes=1, downlink_bytes=12)
    assert len(payload_faults(wrong, WIDTH)) == 1


def test_a_naive_client_sends_the_whole_context_each_time():
    sent = 4 * WIDTH * (10 + 11 + 12 + 13)
    assert payload_faults(cell(NAIVE, 1.0, uplink_bytes=sent, downlink_bytes=16), WIDTH) == []


def test_ours_is_compared_with_the_theta_that_agrees_likewise():
    rivals = [cell(row, total) for row, total in zip(THETAS, (0.5, 1.0, 2.0), strict=True)]
    agreements = [
        agreeing(LOSSLESS, 1.0),
        *(agreeing(row, s) for row, s in zip(THETAS, (0.9, 0.99, 1.0), strict=True)),
    ]
    ratios = compare([cell(LOSSLESS, 0.5), *rivals], agreements)
    assert [(each.theirs.row, each.time) for each in ratios] == list(
        zip(THETAS, (1.0, 0.5, 0.25), strict=True)
    )
    assert [each.nearest for each in ratios] == [False, False, True]
    found = {each.what: each for each in targets(ratios, agreements, [])}
    near = found["lossless time, 2 ms/31 Mbit/s, greedy"]
    assert (near.seen, near.is_met) == (0.25, True)
    assert found["lossless time, RTT ≥ 50 ms, greedy"].seen is None


def test_of_thetas_that_agree_alike_the_strictest_counts():
    cells = [cell(LOSSLESS, 1.0), *(cell(row, 1.0) for row in THETAS)]
    agreements = [agreeing(row, 1.0) for row in (LOSSLESS, *THETAS)]
    nearest = [each.theirs.row for each in compare(cells, agreements) if each.nearest]
    assert nearest == [THETAS[-1]]


def test_a_text_of_one_trigram_repeats_itself():
    assert repeats_itself([1, 2, 3] * 5)
    assert not repeats_itself(range(15))
    assert not repeats_itself([1])


def test_acceptance_counts_right_drafts_by_confidence(rng):
    judged = Judgement(rng([1, 2, 3, 4]), rng([1, 2, 0, 0]), rng([0.95, 1.0, 0.91, 0.12]))
    assert acceptance([judged]) == 0.5
    assert [(b.above, b.drafts, b.confirmed) for b in buckets([judged])] == [
        (0.1, 1, 0.0),
        (0.9, 3, pytest.approx(2 / 3)),
    ]


@pytest.fixture
def rng():
    import numpy as np

    return np.array


@pytest.fixture
def constants():
    passes = Passes({1: 0.002}, 0.002, 0.0)
    sizes = {"fp16": 100.0}
    return Constants(0.001, 0.001, 0.0, 0.003, passes, passes, 0.002, 0.0, 0.0, 0.0, 0.0, sizes)


def test_the_replay_predicts_each_row_by_its_formula(constants):
    cells = [cell(CLOUD, 0.014, uplink_bytes=40), cell(LOSSLESS, 0.1, uplink_bytes=1300)]
    drafts = [Draft(1.0, right=True), Draft(1.0, right=False)] * 2
    found = replay(cells, {NEAR: constants}, lambda _cell, _run: drafts)
    cloud, lossless = found
    assert cloud.predicted_s == pytest.approx(0.002 + 4 * 0.003)
    assert not cloud.is_apart
    assert lossless.rate == 0.5
    assert lossless.is_apart
    assert lossless.simulated_s is not None


def test_passes_fit_a_straight_line():
    line = Passes.of({1: 1.0, 2: 1.5, 5: 3.0})
    assert (line.first_s, line.growth) == (pytest.approx(1.0), pytest.approx(0.5))
