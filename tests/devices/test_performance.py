"""The roofline: what binds, what grows with what, and how measurements correct it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.devices.catalog.device import Device, Measured, PowerMode
from updraft.devices.correction import Correction
from updraft.devices.performance import CHUNK, PerformanceModel
from updraft.devices.workload import Piece, Workload
from updraft.errors import ConfigError

_FAST = PowerMode(name="MAXN", active_w=15)
_SLOW = PowerMode(name="7W", active_w=7, compute=0.25, bandwidth=0.5)
_DEVICE = Device(
    id="toy",
    name="Toy",
    family="jetson",
    memory_bytes=8 << 30,
    unified=True,
    bandwidth_bytes_per_s=100e9,
    ops_per_s={"fp32": 1e12, "int8": 4e12},
    efficiency=0.8,
    step_overhead_s=1e-4,
    idle_w=5,
    meter="modelled",
    power_modes=(_FAST, _SLOW),
    sources=("invented",),
)
_WORKLOAD = Workload(
    name="toy",
    precision="fp32",
    partitions=(
        Piece(400_000_000, 100_000_000, 40_000, 8, attention_macs=20_000, nodes=80),
        Piece(600_000_000, 150_000_000, 60_000, 20, attention_macs=30_000, nodes=120),
    ),
    head=Piece(200_000_000, 50_000_000, 0, 20, nodes=10),
    exits=(8, 20),
    split=8,
    state_bytes={"fp32": 4_096},
    context_length=2_048,
)

tops = st.sampled_from(_WORKLOAD.exits)
contexts = st.integers(0, 2_000)
counts = st.integers(1, 200)


def model(device=_DEVICE, mode=_FAST, workload=_WORKLOAD, correction=None):
    return PerformanceModel(device, mode, workload, correction)


def with_measured(**changes):
    values = {
        "bandwidth": ((1e6, 400e9), (1e8, 200e9), (1e9, 50e9)),
        "node_overhead_s": 1e-6,
        "attention_ops_per_s": 1e11,
    }
    return _DEVICE.model_copy(update={"measured": Measured(**(values | changes))})


class TestStep:
    def test_decoding_waits_for_memory(self):
        step = model().step(20, positions=1, context=0)
        read_bytes = 1_200_000_000 + 100_000
        assert step.bound == "memory"
        assert step.seconds == pytest.approx(read_bytes / 80e9 + 3e-4)

    def test_a_prompt_waits_for_multiplications(self):
        step = model().step(20, positions=CHUNK, context=0, looks=0)
        macs = CHUNK * 250_000_000 + CHUNK * (CHUNK + 1) / 2 * 50_000
        assert step.bound == "compute"
        assert step.seconds == pytest.approx(2 * macs / 1e12 + 2e-4)

    def test_the_energy_is_that_above_idle(self):
        step = model().step(20, 1, 0)
        assert step.joules == pytest.approx(10 * step.seconds)

    def test_a_mode_below_idle_costs_nothing_rather_than_less(self):
        mode = PowerMode(name="nap", active_w=4)
        assert model(mode=mode).step(20, 1, 0).joules == 0

    def test_partitions_and_heads_add_up(self):
        whole = model().step(20, 1, 100)
        pieces = [*_WORKLOAD.partitions, _WORKLOAD.head]
        parts = [model().piece(piece, 1, 100 if piece.last_layer else 0) for piece in pieces]
        assert whole.seconds == pytest.approx(sum(part.seconds for part in parts), rel=1e-3)

    def test_each_look_costs_a_head(self):
        head = model().piece(_WORKLOAD.head, 1, 0)
        none, two = model().step(8, 1, 0, looks=0), model().step(8, 1, 0, looks=2)
        assert two.seconds - none.seconds == pytest.approx(2 * head.seconds)

    def test_an_end_that_is_none_is_refused(self):
        with pytest.raises(ValueError, match="ends at 9, but at 8, 20"):
            model().step(9, 1, 0)

    def test_a_precision_that_the_device_does_not_know_is_refused(self):
        workload = Workload(**(vars(_WORKLOAD) | {"precision": "int4"}))
        with pytest.raises(ConfigError, match="'toy': ops_per_s has no int4"):
            model(workload=workload)

    @given(tops, counts, contexts, st.integers(1, 64))
    def test_more_never_takes_less(self, top, positions, context, batch):
        seconds = model().step(top, positions, context, batch).seconds
        assert model().step(20, positions, context, batch).seconds >= seconds
        assert model().step(top, positions + 1, context, batch).seconds >= seconds
        assert model().step(top, positions, context + 1, batch).seconds >= seconds
        assert model().step(top, positions, context, batch + 1).seconds >= seconds
        assert model(mode=_SLOW).step(top, positions, context, batch).seconds >= seconds

    @given(tops, contexts, st.integers(1, 64))
    def test_a_batch_never_takes_longer_than_one_by_one(self, top, context, batch):
        one = model().step(top, 1, context).seconds
        assert model().step(top, 1, context, batch).seconds <= batch * one * (1 + 1e-9)

    @given(tops, counts, contexts)
    def test_fewer_bytes_and_faster_sums_never_take_longer(self, top, positions, context):
        small = [Piece(**(vars(p) | {"weight_bytes": p.weight_bytes // 4})) for p in pieces()]
        *parts, head = small
        changes = {"precision": "int8", "partitions": tuple(parts), "head": head}
        workload = Workload(**(vars(_WORKLOAD) | changes))
        seconds = model().step(top, positions, context).seconds
        assert model(workload=workload).step(top, positions, context).seconds <= seconds


def pieces():
    return [*_WORKLOAD.partitions, _WORKLOAD.head]


class TestMeasured:
    def test_what_fits_into_a_cache_is_read_faster(self):
        small = Workload(
            **(vars(_WORKLOAD) | {"partitions": (Piece(500_000, 1, 0, 8),), "exits": (8,)}),
        )
        head = Piece(300_000, 1, 0, 8)
        small = Workload(**(vars(small) | {"head": head}))
        step = model(with_measured(), workload=small).step(8, 1, 0)
        assert step.seconds == pytest.approx(800_000 / 400e9 + 2e-4)

    def test_what_fits_into_none_is_read_at_the_rate_of_the_largest(self):
        step = model(with_measured()).step(20, 1, 0, looks=0)
        overhead_s = 2e-4 + 200 * 1e-6
        past_s = 2 * 50_000 / 1e11
        assert step.seconds == pytest.approx((1e9 / 50e9) + overhead_s + past_s)

    @given(st.floats(1e6, 1e9))
    def test_between_two_working_sets_the_rate_lies_between_theirs(self, size):
        head = Piece(int(size), 1, 0, 20)
        seconds = model(with_measured()).piece(head, 1, 0).seconds - 1e-4
        assert 50e9 * (1 - 1e-6) <= int(size) / seconds <= 400e9 * (1 + 1e-6)

    def test_attention_has_a_rate_of_its_own(self):
        fast, slow = with_measured(), with_measured(attention_ops_per_s=1e10)
        assert model(slow).step(20, 1, 500).seconds > model(fast).step(20, 1, 500).seconds
        no_past = model(slow).piece(_WORKLOAD.head, 1, 0)
        assert no_past == model(fast).piece(_WORKLOAD.head, 1, 0)


class TestPredict:
    def test_an_answer_is_a_prompt_and_tokens(self):
        found = model().predict(prompt_tokens=300, new_tokens=11, top=20)
        head_s = model().piece(_WORKLOAD.head, 1, 0).seconds
        first_s = model().prefill(300, 20).seconds + head_s
        assert found.first_token_ms.value == pytest.approx(1e3 * first_s)
        assert found.per_token_ms.value == pytest.approx(1e3 * model().step(20, 1, 305).seconds)
        assert found.latency_ms.value == pytest.approx(
            found.first_token_ms.value + 10 * found.per_token_ms.value
        )
        assert found.energy_j.value == pytest.approx(10 * found.latency_ms.value / 1e3)

    def test_prompts_run_in_chunks(self):
        chunks = [model().step(8, 128, 0, looks=0), model().step(8, 72, 128, looks=0)]
        assert model().prefill(200, 8).seconds == pytest.approx(sum(c.seconds for c in chunks))

    @given(st.integers(1, 1_000), st.integers(1, 500), tops)
    def test_every_interval_holds_its_value(self, prompt, new, top):
        found = model().predict(prompt, new, top)
        for estimate in vars(found).values():
            assert 0 < estimate.low < estimate.value < estimate.high

    @pytest.mark.parametrize(("prompt", "new"), [(0, 5), (5, 0)])
    def test_nothing_to_do_is_refused(self, prompt, new):
        with pytest.raises(ValueError, match="at least 1 each"):
            model().predict(prompt, new, 20)


class TestObserve:
    @given(st.floats(0.5, 3), st.floats(0.5, 3), st.floats(0.5, 2))
    def test_predictions_come_to_what_is_measured(self, prefill, decode, power):
        watched = model()
        raw = watched.predict(100, 20, 20)
        first_ms = prefill * raw.first_token_ms.value
        each_ms = decode * raw.per_token_ms.value
        energy_j = power * 10 * (first_ms + 19 * each_ms) / 1e3
        for _ in range(60):
            watched.observe(
                100, 20, 20, first_token_ms=first_ms, per_token_ms=each_ms, energy_j=energy_j
            )
        found = watched.predict(100, 20, 20)
        assert found.first_token_ms.value == pytest.approx(first_ms, rel=0.02)
        assert found.per_token_ms.value == pytest.approx(each_ms, rel=0.02)
        assert found.energy_j.value == pytest.approx(energy_j, rel=0.04)
        assert found.latency_ms.high - found.latency_ms.low < raw.latency_ms.high

    def test_what_was_not_measured_is_not_learned(self):
        watched = model()
        watched.observe(100, 1, 20, first_token_ms=50)
        samples = {kind: watched.correction.factor(kind).samples for kind in ("prefill", "decode")}
        assert samples == {"prefill": 1, "decode": 0}
        assert watched.correction.factor("energy").samples == 0

    def test_models_may_share_what_was_learned(self):
        correction = Correction()
        model(correction=correction).observe(10, 2, 8, first_token_ms=1e3, per_token_ms=100)
        assert model(correction=correction).predict(10, 2, 8) != model().predict(10, 2, 8)
