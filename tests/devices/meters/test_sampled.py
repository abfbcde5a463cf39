"""The meter itself: sensors that die, hang or lie, and threads that end."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.devices.meters.baseline import Baseline
from updraft.devices.meters.choose import MeterSettings, open_meter
from updraft.devices.meters.modelled import ModelledMeter
from updraft.devices.meters.sampled import SampledMeter
from updraft.errors import ProbeError

MODELLED = "modelled: 9 W above idle while the edge computes"


@pytest.fixture
def build(script, hands):
    """Make a meter without a thread: a test moves the clock and says when to read."""

    def build(first=10.0, idle_w=4.0, counts=False):
        sensor = script(first, counts)
        meter = SampledMeter(sensor, Baseline(idle_w), ModelledMeter(9.0), 50, hands)
        meter.sample()

        def after(seconds, reading=None):
            hands.at += seconds
            sensor.now = sensor.now if reading is None else reading
            meter.sample()

        return meter, sensor, after

    return build


def test_a_request_pays_for_its_time_above_idle(build, hands):
    meter, _, after = build()
    hands.at += 0.3
    span = meter.begin()
    for _ in range(10):
        after(0.1)
    energy = span.end(0.5)
    assert energy.joules == pytest.approx(6.0)
    assert energy.method == "ina3221: VDD_TEST at 50 Hz, above 4 W idle (as configured)"
    assert meter.power_w() == 10.0


def test_a_request_shorter_than_the_time_between_readings_is_cut_out_of_the_line(build, hands):
    meter, sensor, _ = build()
    hands.at += 0.01
    span = meter.begin()
    hands.at += 0.01
    sensor.now = 14.0
    assert span.end(0.01).joules == pytest.approx(0.01 * (13.0 - 4.0))


def test_its_last_moments_are_measured_at_its_end(build, hands):
    meter, sensor, _ = build()
    span = meter.begin()
    hands.at += 2.0
    sensor.now = 30.0
    assert span.end(2.0).joules == pytest.approx(2.0 * (20.0 - 4.0))


def test_a_counter_that_has_not_moved_is_carried_on(build, hands):
    meter, _, after = build(100.0, counts=True)
    after(0.1, 101.0)
    span = meter.begin()
    hands.at += 0.05
    assert span.end(0.05).joules == pytest.approx(0.05 * (10.0 - 4.0))
    later = meter.begin()
    after(0.05, 102.0)
    assert later.end(0.0).joules == pytest.approx(0.05 * (10.0 - 4.0))


def test_energy_below_idle_is_none(build, hands):
    meter, _, _ = build(3.0)
    span = meter.begin()
    hands.at += 1.0
    assert span.end(1.0).joules == 0


def test_requests_that_overlap_share_by_what_they_compute(build, hands):
    meter, _, _ = build()
    busy = {"a": 0.0, "b": 0.0}
    a, b = meter.begin(lambda: busy["a"]), meter.begin(lambda: busy["b"])
    hands.at += 4.0
    busy |= {"a": 3.0, "b": 1.0}
    assert a.end(3.0).joules == pytest.approx(18.0)
    assert b.end(1.0).joules == pytest.approx(6.0)


def test_a_short_failure_is_bridged(build, hands, caplog):
    meter, _, after = build()
    span = meter.begin()
    after(0.3, "EIO")
    after(0.3, "EIO")
    after(0.4, 10.0)
    assert span.end(1.0).joules == pytest.approx(6.0)
    assert caplog.records == []


@pytest.mark.parametrize("end", ["No such device", float("nan"), -500.0, 1e9])
def test_a_sensor_that_dies_or_lies_in_a_request_is_modelled_from_there_on(build, caplog, end):
    meter, _, after = build()
    busy = [0.0]
    span = meter.begin(lambda: busy[0])
    busy[0] = 1.0
    after(2.0)
    for _ in range(5):
        after(0.5, end)
    busy[0] = 1.8
    after(1.0)
    energy = span.end(2.2)
    # Measured for 2 s. It computed 1 s in the 4.5 s until the sensor was given up, of which 2.5 s
    # were not measured, and 1.2 s after that.
    assert energy.joules == pytest.approx(12.0 + 9.0 * (1.0 * 2.5 / 4.5 + 1.2))
    assert energy.method.startswith("ina3221: VDD_TEST at 50 Hz, above 4 W idle (as configured); ")
    assert f"then {MODELLED} (the ina3221 meter failed: " in energy.method
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "energy is modelled from now on" in caplog.text


def test_after_a_death_every_answer_says_so_and_nothing_comes_back(build):
    meter, sensor, after = build()
    for _ in range(5):
        after(0.5, "No such device")
    sensor.now = 10.0
    later = meter.begin()
    after(1.0)
    energy = later.end(0.25)
    assert energy.joules == pytest.approx(9.0 * 0.25)
    assert energy.method == f"{MODELLED} (the ina3221 meter failed: No such device)"
    assert meter.method == energy.method
    assert meter.power_w() is None


def test_a_counter_that_stands_still_is_dead(build):
    meter, _, after = build(50.0, counts=True)
    after(0.1, 51.0)
    for _ in range(20):
        after(0.5, 51.0)
    assert "the ina3221 meter failed: the counter stands still at 51 J" in meter.method


def test_a_clock_that_stands_still_does_not_divide_by_nothing(build, hands):
    meter, _, after = build()
    span = meter.begin()
    after(0.0, 20.0)
    after(0.0, 30.0)
    assert span.end(0.0).joules == 0


def test_old_power_is_no_power(build, hands):
    meter, _, _ = build()
    hands.at += 2.5
    assert meter.power_w() is None


def test_idle_is_measured_while_no_request_is_open(build, hands):
    meter, _, after = build(5.0, idle_w=None)
    assert meter.idle_w == 0
    for _ in range(8):
        after(0.25)
    assert meter.idle_w == pytest.approx(5.0)
    span = meter.begin()
    after(1.0, 15.0)
    after(1.0, 15.0)
    energy = span.end(2.0)
    assert energy.joules == pytest.approx(20.0 - 5.0)
    assert energy.method.endswith("above 5 W idle (measured)")
    assert meter.idle_w == pytest.approx(5.0)


@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=8), st.data())
def test_what_all_answers_cost_is_what_was_drawn(waits, data):
    class Sensor:
        kind, rail, counts, most_w, fastest_hz = "ina3221", "VDD_TEST", False, 200.0, 50.0

        def read(self):
            return 2.0 * now[0]  # a ramp, so that trapezoids are exact

        def close(self):
            pass

    now, spans, open_s = [1.0], [], []
    meter = SampledMeter(Sensor(), Baseline(0.0), ModelledMeter(9.0), 50, lambda: now[0])
    meter.sample()
    total = 0.0
    for wait_s in waits:
        spans.append(meter.begin())
        if data.draw(st.booleans()):
            meter.sample()
        now[0] += wait_s
        open_s.append(wait_s)
        while spans and data.draw(st.booleans()):
            total += spans.pop(0).end(wait_s / 2).joules
        if not spans:
            break
    for span in spans:
        total += span.end(0.1).joules
    end_s = 1.0 + sum(open_s)
    assert total == pytest.approx(end_s**2 - 1.0)


def test_real_files_are_read_by_a_thread_that_ends(orin_nx):
    before = threading.active_count()
    meter = open_meter(MeterSettings(rate_hz=50, idle_w=4.0), root=orin_nx.root)
    current = orin_nx.folder / "curr1_input"
    outer_s = monotonic()
    span = meter.begin()
    inner_s = monotonic()
    for milliamperes in (2000, 2000, 2000):
        current.write_text(f"{milliamperes}\n")
        sleep(0.1)
    inner_s = monotonic() - inner_s
    energy = span.end(0.2)
    outer_s = monotonic() - outer_s
    # From 4.6 W, a ramp of a reading's time, to 9.84 W.
    assert 0.6 * inner_s < energy.joules <= 5.84 * outer_s * 1.0001
    assert threading.active_count() == before + 1
    meter.close()
    meter.close()
    assert threading.active_count() == before


def test_steady_power_costs_exactly_power_times_time(orin_nx):
    meter = open_meter(MeterSettings(rate_hz=50, idle_w=1.0), root=orin_nx.root)
    outer_s = monotonic()
    span = meter.begin()
    inner_s = monotonic()
    sleep(0.2)
    inner_s = monotonic() - inner_s
    joules = span.end(0.2).joules
    outer_s = monotonic() - outer_s
    meter.close()
    watts = 4.92 * 0.936 - 1.0
    assert watts * inner_s <= joules * 1.000001
    assert joules <= watts * outer_s * 1.000001


def test_a_sensor_that_dies_while_a_thread_reads_it(orin_nx):
    meter = open_meter(MeterSettings(rate_hz=50, idle_w=4.0), root=orin_nx.root)
    span = meter.begin()
    for file in ("in1_input", "curr1_input"):
        (orin_nx.folder / file).write_text("")
    deadline = monotonic() + 20
    while "failed" not in meter.method and monotonic() < deadline:
        sleep(0.05)
    assert "in1_input: holds no whole number" in span.end(0.1).method
    meter.close()


def test_a_reading_that_hangs_in_the_driver_holds_up_neither_answers_nor_the_end(script):
    sensor, hangs, let_go = script(10.0), threading.Event(), threading.Event()

    def read():
        if threading.current_thread().name == "updraft-meter":
            hangs.set()
            let_go.wait()
        return 10.0

    sensor.read = read
    meter = SampledMeter(sensor, Baseline(4.0), ModelledMeter(9.0), 50)
    meter.start()
    assert hangs.wait(10)
    first = meter.begin()
    first.end(0.0)
    second = meter.begin()
    for _ in range(7):
        sleep(0.3)
        meter.begin().end(0.0)
    assert "a reading has not come back for" in second.end(0.5).method
    let_go.set()
    meter.close()
    assert sensor.closed


def test_a_closed_meter_still_answers(orin_nx):
    meter = open_meter(MeterSettings(idle_w=4.0, active_power_w=9), root=orin_nx.root)
    span = meter.begin(lambda: 0.5)
    meter.close()
    assert span.end(0.5).joules > 0
    assert meter.begin().end(1.0).joules == pytest.approx(9.0)
    assert "the ina3221 meter failed: it was closed" in meter.method


def test_nonsense_at_the_start_is_refused(orin_nx):
    (orin_nx.folder / "curr1_input").write_text("99999999\n")
    with pytest.raises(ProbeError, match="is not within 0 to 200 W"):
        open_meter(MeterSettings(meter="ina3221"), root=orin_nx.root)


def test_many_threads_begin_and_end_at_once(orin_nx):
    meter = open_meter(MeterSettings(rate_hz=50, idle_w=0.0), root=orin_nx.root)

    def request(_):
        span = meter.begin()
        sleep(0.001)
        return span.end(0.001).joules

    outer_s = monotonic()
    with ThreadPoolExecutor(16) as pool:
        joules = list(pool.map(request, range(400)))
    outer_s = monotonic() - outer_s
    meter.close()
    assert min(joules) >= 0
    assert sum(joules) <= 4.92 * 0.936 * outer_s * 1.000001
