"""Which meter is taken, and what is said where none can be."""

import logging

import pytest

from updraft.config import load_config
from updraft.devices.catalog.entries import load_catalog
from updraft.devices.meters.choose import MeterSettings, open_meter
from updraft.devices.meters.modelled import ModelledMeter
from updraft.errors import ConfigError, ProbeError

AUTO = MeterSettings()


@pytest.fixture(scope="module")
def catalog():
    return load_catalog()


def opened(settings, device, root):
    """Return a meter's method and idle draw, and close it."""
    meter = open_meter(settings, device, root)
    meter.close()
    return meter


def test_each_board_has_its_own_meter_even_if_nobody_knows_the_board(orin_nx):
    meter = open_meter(AUTO, None, orin_nx.root)
    assert meter.method == (
        "ina3221: VDD_IN, the module's total at 25 Hz, above 0 W idle (not known yet)"
    )
    meter.close()


def test_a_pi_is_read_five_times_a_second_at_most(board):
    board.tool("echo '  VDD_CORE_A current(7)=1.0A'", "echo '  VDD_CORE_V volt(15)=0.9V'")
    meter = open_meter(MeterSettings(rate_hz=50), None, board.root)
    assert "board by 1.1451·W + 0.5879 W at 5 Hz" in meter.method
    meter.close()


def test_a_host_has_its_counters(xeon):
    meter = open_meter(AUTO, None, xeon.root)
    assert meter.method.startswith("rapl: package-0 + dram of intel-rapl:0:0 + ")
    assert "Hz" not in meter.method
    meter.close()


def test_a_host_without_any_is_modelled_by_the_catalog(board, catalog):
    nano = catalog["jetson-orin-nano-8"]
    above_w = nano.default_mode.active_w - nano.idle_w
    assert open_meter(AUTO, nano, board.root) == ModelledMeter(above_w, nano.idle_w)
    assert open_meter(AUTO, None, board.root) == ModelledMeter(10.0)


def test_what_is_configured_goes_before_the_catalog(board, orin_nx, catalog):
    nano = catalog["jetson-orin-nano-8"]
    settings = MeterSettings(meter="modelled", active_power_w=7, idle_w=2)
    assert open_meter(settings, nano, orin_nx.root) == ModelledMeter(7, 2)
    meter = open_meter(MeterSettings(idle_w=3.3), nano, orin_nx.root)
    assert meter.method.endswith("above 3.3 W idle (as configured)")
    meter.close()


def test_the_catalogs_idle_draw_holds_for_the_rail_of_its_own_meter_only(xeon, catalog):
    x86, nano = catalog["x86"], catalog["jetson-orin-nano-8"]
    own = open_meter(AUTO, x86, xeon.root)
    other = open_meter(MeterSettings(meter="rapl"), nano, xeon.root)
    assert own.idle_w == x86.idle_w
    assert other.idle_w == 0
    own.close()
    other.close()


def test_a_gpus_device_is_not_measured_by_its_hosts_processor(xeon, catalog):
    assert isinstance(open_meter(AUTO, catalog["h200"], xeon.root), ModelledMeter)


def test_a_sensor_that_only_root_may_read_gives_way_and_every_answer_says_why(
    xeon, as_nobody_of, caplog
):
    for file in xeon.root.glob("sys/class/powercap/*/energy_uj"):
        file.chmod(0o400)
    with as_nobody_of(xeon.root):
        meter = open_meter(AUTO, None, xeon.root)
    assert isinstance(meter, ModelledMeter)
    assert "energy_uj: permission denied: only root may read it" in meter.begin().end(1).method
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "the rapl meter cannot be used: " in record.getMessage()


def test_the_next_meter_is_taken_where_one_cannot_be_read(xeon, board):
    board.chip(40, 1, ("NC", 0, 0), None, None)
    meter = open_meter(AUTO, None, board.root)
    assert meter.method.startswith("rapl: ")
    meter.close()


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("ina3221", "sys/bus/i2c/drivers/ina3221"),
        ("rapl", "sys/class/powercap/intel-rapl:\\*"),
        ("pi5-pmic", "usr/bin/vcgencmd"),
        ("nvml", "the NVIDIA driver"),
    ],
)
def test_a_configured_meter_must_be_there(board, kind, place):
    with pytest.raises(ProbeError, match=f"energy.meter = '{kind}': there is none here.*{place}"):
        open_meter(MeterSettings(meter=kind), None, board.root)


def test_settings_are_checked_with_file_and_line(tmp_path):
    path = tmp_path / "meter.toml"
    path.write_text('meter = "ina"\nrate_hz = 100\nidle_w = -1\nwatts = 3\n')
    with pytest.raises(ConfigError) as wrong:
        load_config(MeterSettings, path, {}, "X")
    lines = [fault.split(": ")[0] for fault in wrong.value.faults]
    assert sorted(lines) == [f"{path}:{line}" for line in (1, 2, 3, 4)]
