"""The agent's meter: of the board that it runs on, or of its GPU; and what answers say of it."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from time import monotonic

import pytest

from updraft.devices.catalog.entries import load_catalog
from updraft.devices.meters.choose import MeterSettings
from updraft.devices.meters.modelled import ModelledMeter
from updraft.edge.engine import Engine
from updraft.edge.metering import open_own_meter
from updraft.edge.request import GenerationRequest
from updraft.models.runtime import RuntimeOptions


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


@pytest.fixture
def orin_nx(tmp_path):
    """Files of an Orin NX."""
    put(tmp_path / "proc/device-tree/compatible", "nvidia,p3768-0000+p3767-0000\0nvidia,tegra234\0")
    chip = tmp_path / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
    put(chip / "in1_label", "VDD_IN\n")
    put(chip / "in1_input", "5000\n")
    put(chip / "curr1_input", "3000\n")
    return tmp_path


def test_a_board_is_measured_above_its_own_idle_draw(orin_nx):
    nx = load_catalog()["jetson-orin-nx-16"]
    with closing(open_own_meter(MeterSettings(), "cuda", orin_nx)) as meter:
        assert meter.idle_w == nx.idle_w
        assert meter.method.startswith("ina3221: VDD_IN")
        assert meter.power_w() == 15.0


def test_graphs_on_a_gpu_cost_what_the_gpu_draws_and_on_the_processor_what_that_draws(tmp_path):
    catalog = load_catalog()
    put(tmp_path / "proc/cpuinfo", "processor : 0\nvendor_id : GenuineIntel\nmodel name : Xeon\n")
    gpu = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    for name, value in (("vendor", "0x10de"), ("class", "0x030200"), ("device", "0x2335")):
        put(gpu / name, f"{value}\n")
    for provider, device in (("cuda", catalog["h200"]), ("cpu", catalog["x86"])):
        above_w = device.default_mode.active_w - device.idle_w
        meter = open_own_meter(MeterSettings(), provider, tmp_path)
        assert meter == ModelledMeter(above_w, device.idle_w)


def test_an_answer_says_what_was_measured_and_how(bundle, orin_nx):
    with closing(open_own_meter(MeterSettings(idle_w=5), "cpu", orin_nx)) as meter:
        generation = Engine(bundle, RuntimeOptions(), meter).start(
            GenerationRequest("import ", "standalone", max_tokens=4)
        )
        list(generation)
    result = generation.result
    assert result.energy.method == (
        "ina3221: VDD_IN, the module's total at 25 Hz, above 5 W idle (as configured)"
    )
    assert result.energy.joules >= 10.0 * result.edge_s > 0


def test_answers_at_the_same_time_cost_together_what_the_device_drew(bundle, orin_nx):
    with closing(open_own_meter(MeterSettings(idle_w=5), "cpu", orin_nx)) as meter:
        engine = Engine(bundle, RuntimeOptions(), meter)

        def answer(prompt):
            generation = engine.start(GenerationRequest(prompt, "standalone", max_tokens=32))
            list(generation)
            return generation.result

        started = monotonic()
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(answer, ["import ", "def ", "class ", "for "]))
        passed_s = monotonic() - started
    joules = [result.energy.joules for result in results]
    assert all(value > 0 for value in joules)
    assert 10.0 * max(result.edge_s for result in results) <= sum(joules)
    assert sum(joules) <= 10.0 * passed_s * 1.000001
