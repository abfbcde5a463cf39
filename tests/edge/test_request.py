"""Requests are checked when they are made; results have the documented form."""

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.devices.meters.meter import Energy
from updraft.devices.meters.modelled import ModelledMeter
from updraft.edge.request import (
    CLOUD_MODES,
    COMBINED_MODES,
    MODES,
    GenerationRequest,
    GenerationResult,
)
from updraft.errors import RequestError
from updraft.models.manifest import CodecName


@given(
    mode=st.sampled_from(MODES),
    theta=st.floats(0, 2),
    max_tokens=st.integers(1, 1 << 20),
    temperature=st.floats(0, 100),
    seed=st.integers(0, (1 << 63) - 1),
    stop=st.lists(st.text(min_size=1), max_size=16).map(tuple),
    wire=st.sampled_from(get_args(CodecName)),
)
def test_every_value_within_its_limits_is_taken(**values):
    request = GenerationRequest("x", **values)
    assert {name: getattr(request, name) for name in values} == values


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"mode": "fast"}, "mode 'fast' is unknown: choose from full, standalone, cloud"),
        ({"theta": -0.1}, "theta -0.1 lies outside 0 to 2"),
        ({"theta": 2.1}, "theta 2.1 lies outside 0 to 2"),
        ({"theta": float("nan")}, "theta nan lies outside 0 to 2"),
        ({"max_tokens": 0}, "max_tokens 0: at least 1 is needed"),
        ({"max_tokens": -5}, "max_tokens -5: at least 1 is needed"),
        ({"temperature": -1}, "temperature -1 lies outside 0 to 100"),
        ({"temperature": 101}, "temperature 101 lies outside 0 to 100"),
        ({"temperature": float("inf")}, "temperature inf lies outside 0 to 100"),
        ({"temperature": float("nan")}, "temperature nan lies outside 0 to 100"),
        ({"seed": -1}, "seed -1 lies outside"),
        ({"seed": 1 << 63}, "seed 9223372036854775808 lies outside"),
        ({"stop": ("a",) * 17}, "up to 16 strings"),
        ({"stop": ("a", "")}, "none of them empty"),
        ({"wire": "fp8"}, "wire codec 'fp8' is unknown: choose from fp32, fp16"),
        ({"weight": -0.1}, "weight -0.1 lies outside 0 to 10"),
        ({"weight": float("nan")}, "weight nan lies outside 0 to 10"),
        ({"plausibility": 1.1}, "plausibility 1.1 lies outside 0 to 1"),
        ({"plausibility": float("nan")}, "plausibility nan lies outside 0 to 1"),
    ],
)
def test_a_value_that_can_never_be_served_is_refused_with_its_limit(values, reason):
    with pytest.raises(RequestError, match=reason):
        GenerationRequest("x", **values)


def test_a_request_cannot_be_changed_after_it_was_checked():
    request = GenerationRequest("x")
    with pytest.raises(AttributeError, match="cannot assign"):
        request.theta = 7


def test_modes_that_need_the_cloud_are_modes():
    assert set(MODES) > CLOUD_MODES
    assert "standalone" not in CLOUD_MODES


def test_contrastive_alone_leaves_implausible_tokens_out_by_default():
    assert GenerationRequest("x", "contrastive").plausible_from == 0.1
    assert GenerationRequest("x", "proxy").plausible_from == 0
    for mode in COMBINED_MODES:
        assert GenerationRequest("x", mode, plausibility=0.0).plausible_from == 0
        assert GenerationRequest("x", mode, plausibility=0.3).plausible_from == 0.3


def test_a_result_prints_as_documented():
    result = GenerationResult(
        mode="threshold",
        wire="int8",
        tokens=[5, 6],
        text="ab",
        finish_reason="stop",
        decisions={"exit_2": 1, "cloud": 1},
        cloud_calls=1,
        cloud_positions=4,
        stalls=2,
        judged=3,
        agreed=2,
        foreseen=1,
        uplink_bytes=2048,
        downlink_bytes=40,
        total_s=0.5,
        edge_s=0.25,
        cloud_s=0.125,
        comm_s=0.1250004,
        energy=ModelledMeter(active_power_w=10).begin().end(busy_s=0.25),
        degraded=True,
        unverified_from=1,
        cached_tokens=128,
    )
    assert json.loads(json.dumps(result.to_json())) == {
        "mode": "threshold",
        "wire": "int8",
        "tokens": [5, 6],
        "text": "ab",
        "finish_reason": "stop",
        "decisions": {"exit_2": 1, "cloud": 1},
        "cloud": {
            "calls": 1,
            "tokens": 4,
            "compute_s": 0.125,
            "stalls": 2,
            "judged": 3,
            "agreed": 2,
            "foreseen": 1,
        },
        "bytes": {"up": 2048, "down": 40},
        "seconds": {"total": 0.5, "edge": 0.25, "cloud": 0.125, "comm": 0.125},
        "cached_tokens": 128,
        "energy": {
            "joules": 2.5,
            "method": "modelled: 10 W above idle while the edge computes",
        },
        "degraded": True,
        "unverified_from": 1,
    }


def test_a_result_that_was_never_filled_claims_nothing():
    printed = GenerationResult(mode="full").to_json()
    assert printed["energy"] == Energy(0.0, "not computed").__dict__
    assert printed["unverified_from"] is None
    assert not printed["degraded"]
    assert printed["cloud"]["calls"] == printed["bytes"]["up"] == 0
