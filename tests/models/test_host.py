"""Calibration: whatever the timings, what comes out is a device that predictions can be made on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.devices.bandwidth import measure_sizes
from updraft.devices.catalog.entries import load_catalog
from updraft.devices.performance import PerformanceModel
from updraft.devices.workload import Piece, Workload
from updraft.models.host import calibrate, fitted
from updraft.models.timings import SHORT, Timings
from updraft.models.workload import workload_of

_X86 = load_catalog()["x86"]
_SIZES = (1 << 20, 8 << 20, 64 << 20, 256 << 20)
_WORKLOAD = Workload(
    name="toy",
    precision="fp32",
    partitions=(
        Piece(6_000_000, 1_500_000, 2_048, 2, attention_macs=1_024, nodes=33),
        Piece(3_000_000, 750_000, 1_024, 3, attention_macs=512, nodes=14),
        Piece(15_000_000, 3_750_000, 5_120, 8, attention_macs=2_560, nodes=70),
    ),
    head=Piece(4_200_000, 1_050_000, 0, 8, nodes=10),
    exits=(2, 3, 8),
    split=3,
    state_bytes={"fp32": 1_024},
    context_length=512,
)
seconds = st.floats(1e-6, 1e-1)
rates = st.floats(1e9, 1e12)


def machine(cache, memory, node_s, outside_s, attention, ops_per_s):
    """Return the timings that a machine of which all is known would give."""
    pieces = [*_WORKLOAD.partitions, _WORKLOAD.head]

    def run_s(piece, past, rate):
        over_s = outside_s + piece.nodes * node_s
        return piece.weight_bytes / rate + over_s + 2 * past * piece.attention_macs / attention

    steps = []
    for layer in _WORKLOAD.exits:
        below = [p for p in _WORKLOAD.partitions if p.last_layer <= layer]
        steps.append(sum(run_s(p, SHORT + 1, memory) for p in [*below, _WORKLOAD.head]))
    macs = 128 * 6_000_000 + 128 * 129 / 2 * 4_096
    return Timings(
        pieces=[run_s(p, 0, cache) for p in pieces],
        long_pieces=[run_s(p, 511 - SHORT, cache) for p in _WORKLOAD.partitions],
        steps=steps,
        chunk=2 * macs / ops_per_s + 3 * outside_s + 117 * node_s,
        outside=outside_s,
    )


def test_what_is_put_in_comes_out():
    timings = machine(9e10, 4e10, 7e-7, 3e-6, 1.5e10, 1.7e11)
    device = fitted(_X86, _WORKLOAD, timings, [(size, 12e10) for size in _SIZES[:2]])
    assert device.measured.node_overhead_s == pytest.approx(7e-7, rel=0.01)
    assert device.measured.attention_ops_per_s == pytest.approx(1.5e10, rel=0.01)
    assert device.ops_per_s["fp32"] == pytest.approx(1.7e11, rel=0.01)
    assert device.step_overhead_s == 3e-6
    curve = dict(device.measured.bandwidth)
    assert curve[1 << 20] == pytest.approx(9e10, rel=0.01)
    assert curve[28_200_000] == pytest.approx(4e10, rel=0.01)
    model = PerformanceModel(device, device.default_mode, _WORKLOAD)
    assert model.step(8, 1, SHORT).seconds == pytest.approx(timings.steps[-1], rel=0.01)


@given(
    st.lists(seconds, min_size=4, max_size=4),
    st.lists(seconds, min_size=3, max_size=3),
    st.lists(seconds, min_size=3, max_size=3),
    seconds,
    st.floats(0, 1e-5),
    st.lists(rates, min_size=4, max_size=4),
)
def test_no_timings_make_an_impossible_device(pieces, long_pieces, steps, chunk, outside, read):
    timings = Timings(pieces, long_pieces, steps, chunk, outside)
    device = fitted(_X86, _WORKLOAD, timings, list(zip(_SIZES, read, strict=True)))
    sizes = [size for size, _ in device.measured.bandwidth]
    speeds = [rate for _, rate in device.measured.bandwidth]
    assert sizes == sorted(set(sizes))
    assert speeds == sorted(speeds, reverse=True)
    model = PerformanceModel(device, device.default_mode, _WORKLOAD)
    assert 0 < model.step(2, 1, 10).seconds < model.step(8, 1, 10).seconds
    assert model.predict(20, 5, 8).latency_ms.value > 0


def test_this_machine(tiny_bundle):
    device = calibrate(_X86, tiny_bundle, rounds=1)
    assert device.model_validate(device.model_dump()) == device
    assert "measured: on this machine with bundle tiny" in device.sources[-1]
    model = PerformanceModel(device, device.default_mode, workload_of(tiny_bundle))
    assert 1e-6 < model.step(4, 1, 10).seconds < 1


@pytest.mark.parametrize("threads", [1, 2])
def test_reading_is_timed_at_every_size(threads):
    found = measure_sizes((4096, 1 << 16), threads, seconds=0.001)
    assert [size for size, _ in found] == [4096, 1 << 16]
    assert all(rate > 0 for _, rate in found)
