"""Operating points: what a device can choose from, and what it costs."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.devices.budgets.expectation import Coordinator, Outlook, Shape, Way
from updraft.devices.budgets.point import OperatingPoint
from updraft.devices.budgets.points import operating_points, switchable, undominated
from updraft.devices.correction import Correction
from updraft.devices.performance import PerformanceModel

_AGREEMENT = {2: 0.5, 3: 0.7}
_FAR = Coordinator(20, 1e6, token_ms=5, position_ms=0.5)


@pytest.fixture(scope="module")
def points(board, workload):
    def make(**changes):
        settings = {"prompt_tokens": 100, "new_tokens": 50, "agreement": _AGREEMENT} | changes
        return operating_points(board, workload, **settings)

    return make


def test_alone_a_device_chooses_between_depths_and_power_modes(points):
    found = {(p.mode, p.exit_layer, p.power_mode) for p in points()}
    assert found == {
        (mode, layer, power_mode)
        for mode, layer in [("full", 8), ("standalone", 3), ("standalone", 2)]
        for power_mode in ("normal", "slow")
    }


def test_costs_are_those_of_the_performance_model(points, board, workload):
    point = next(p for p in points() if (p.mode, p.power_mode) == ("full", "normal"))
    expected = PerformanceModel(board, board.default_mode, workload).predict(100, 50, 8)
    assert point.quality == 1
    assert point.first_token_ms == expected.first_token_ms.value
    assert point.token_ms == expected.per_token_ms.value
    assert point.token_j * 50 == pytest.approx(expected.energy_j.value)
    assert point.power_w == 12
    assert point.token_uplink_bytes == point.token_cloud == 0


def test_shallower_exits_cost_less_and_agree_less(points):
    normal = sorted((p for p in points() if p.power_mode == "normal"), key=lambda p: p.exit_layer)
    for shallow, deep in pairwise(normal):
        assert shallow.quality < deep.quality
        assert shallow.token_ms < deep.token_ms
        assert shallow.token_j < deep.token_j
        assert shallow.first_token_ms < deep.first_token_ms


def test_with_a_coordinator_it_can_draft_or_leave_all_to_the_cloud(points):
    # In these figures the cloud betters drafting in all, so it is asked for by itself.
    assert {p.mode for p in points(coordinator=_FAR)} == {"full", "standalone", "cloud"}
    found = points(coordinator=_FAR, modes=["lossless"]) + points(coordinator=_FAR)
    cloud = next(p for p in found if p.mode == "cloud")
    assert (cloud.token_j, cloud.power_w, cloud.quality) == (0, 4, 1)
    assert cloud.token_uplink_bytes == 4 * 100 / 50
    assert cloud.token_cloud == 150 / 50
    drafting = sorted(
        (p for p in found if p.mode == "lossless" and p.power_mode == "normal"),
        key=lambda p: p.draft_length,
    )
    assert len(drafting) > 1
    for fewer, more in pairwise(drafting):
        assert more.token_ms < fewer.token_ms
        assert more.token_j > fewer.token_j
        assert more.token_uplink_bytes > fewer.token_uplink_bytes
    assert all(p.quality == 1 and 4 < p.power_w <= 12 for p in drafting)


def test_a_draft_at_a_time_pays_every_trip(board, workload):
    outlook = Outlook(board, workload, {3: 0.7}, _FAR)
    found = outlook.expect(Way("lossless", 3, 1, board.default_mode), Shape(100, 50))
    trip_ms = 20 + 5 + 1e3 * 4096 / 1e6
    assert found.token_ms.value == pytest.approx(trip_ms + 0.3 * trip_ms)
    assert found.uplink_bytes == 150 * 4096
    assert found.cloud_tokens == 150


def test_drafts_that_are_always_right_cost_no_energy_of_their_own(board, workload):
    outlook = Outlook(board, workload, {3: 1.0}, _FAR)
    found = outlook.expect(Way("lossless", 3, 16, board.default_mode), Shape(100, 50))
    alone = outlook.expect(Way("standalone", 3, 0, board.default_mode), Shape(100, 50))
    assert found.energy_j.value == alone.energy_j.value
    assert found.memory_bytes == alone.memory_bytes


def test_exits_that_were_not_measured_are_left_out(points):
    assert {p.mode for p in points(agreement={}, coordinator=_FAR)} == {"full", "cloud"}
    assert {p.exit_layer for p in points(agreement={2: 0.5})} == {2, 8}


def test_modes_and_power_modes_can_be_limited(points, board):
    found = points(modes=["standalone"], power_modes=board.power_modes[2:])
    assert {(p.mode, p.power_mode) for p in found} == {("standalone", "slowest")}


def test_power_modes_that_need_a_reboot_are_not_changed_into_or_out_of(board):
    assert [mode.name for mode in switchable(board)] == ["normal", "slow"]
    turned = board.model_copy(update={"power_modes": board.power_modes[::-1]})
    assert [mode.name for mode in switchable(turned)] == ["slowest"]


def test_what_was_measured_moves_the_points(points):
    correction = Correction()
    for _ in range(50):
        correction.update("decode", 10.0, 20.0)
    before, after = points(modes=["full"])[0], points(modes=["full"], correction=correction)[0]
    assert after.token_ms == pytest.approx(2 * before.token_ms, rel=0.1)


@pytest.mark.parametrize("mode", ["lossless", "cloud", "threshold"])
def test_a_way_that_cannot_be_predicted_is_refused(board, workload, mode):
    outlook = Outlook(board, workload, _AGREEMENT)
    with pytest.raises(ValueError, match=f"mode '{mode}' needs a coordinator"):
        outlook.expect(Way(mode, 3, 1, board.default_mode), Shape(1, 1))
    with pytest.raises(ValueError, match="mode 'threshold' is not predicted, but full, lossless"):
        replace(outlook, coordinator=_FAR).expect(
            Way("threshold", 3, 1, board.default_mode), Shape(1, 1)
        )


_COSTS = st.sampled_from([1.0, 2.0, 3.0])
_POINTS = st.lists(
    st.builds(
        OperatingPoint, st.just("full"), st.just(8), st.just(0), st.just("normal"),
        *[_COSTS] * 7,
    ),
    max_size=12,
)  # fmt: skip


def _costs(point):
    return (
        -point.quality, point.first_token_ms, point.token_ms, point.token_j, point.power_w,
        point.token_uplink_bytes, point.token_cloud,
    )  # fmt: skip


def _as_good(one, other):
    return all(a <= b for a, b in zip(_costs(one), _costs(other), strict=True))


@given(_POINTS)
def test_what_is_left_out_is_bettered_and_what_is_kept_is_not(points):
    kept = undominated(points)
    assert all(any(_as_good(best, point) for best in kept) for point in points)
    for number, point in enumerate(kept):
        assert not any(_as_good(o, point) for i, o in enumerate(kept) if i != number)
