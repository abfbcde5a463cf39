"""The catalog's own figures make sense, and a user's files over them are checked whole."""

import re

import pytest

from updraft.devices.catalog.device import Measured
from updraft.devices.catalog.entries import find, load_catalog
from updraft.devices.catalog.text import device_text
from updraft.errors import ConfigError

_OWN = """\
id = "acme-box"
name = "Acme box"
family = "x86"
compatible = ["cpu:AcmeInside"]
memory_bytes = 8_000_000_000
unified = true
bandwidth_bytes_per_s = 20e9
idle_w = 5.0
meter = "modelled"
sources = ["measured here"]

[ops_per_s]
fp32 = 1e11
fp16 = 1e11
int8 = 2e11
int4 = 2e11

[[power_modes]]
name = "slow"
active_w = 7.0
compute = 0.5

[[power_modes]]
name = "fast"
active_w = 12.0
"""


@pytest.fixture(scope="module")
def catalog():
    return load_catalog()


@pytest.fixture
def extra(tmp_path):
    """Return a function that writes a file of the user's own and gives its path."""

    def make(text, name="own.toml"):
        file = tmp_path / name
        file.write_text(text)
        return file

    return make


def faults(path):
    with pytest.raises(ConfigError) as caught:
        load_catalog(path)
    return caught.value.faults


def test_all_that_was_promised_ships(catalog):
    assert set(catalog) == {
        "jetson-agx-orin-64", "jetson-agx-orin-32", "jetson-orin-nx-16", "jetson-orin-nx-8",
        "jetson-orin-nano-8", "jetson-orin-nano-4", "raspberry-pi-5", "x86", "rtx-4090", "l4",
        "a100", "h100", "h200",
    }  # fmt: skip


def test_the_figures_of_a_device_go_together(catalog):
    for id_, device in catalog.items():
        assert device.id == id_
        ops = device.ops_per_s
        assert ops["fp32"] <= ops["fp16"] <= ops["int8"], id_
        assert ops["fp16"] <= ops["int4"], id_
        assert {"fp32", "fp16", "int8", "int4"} == set(ops), id_
        # Every byte of memory can be read within a second or two, and no faster than HBM is.
        assert 0.02 < device.memory_bytes / device.bandwidth_bytes_per_s < 1.1, id_
        assert device.idle_w < min(mode.active_w for mode in device.power_modes), id_
        assert device.unified == (device.meter != "nvml"), id_
        assert device.default_mode == device.power_modes[0], id_
        for source in device.sources:
            assert re.match(r"(published|recalled|estimated): ", source), source


def test_a_mode_of_more_watts_by_name_draws_more(catalog):
    for device in catalog.values():
        by_cap = {
            int(mode.name.removeprefix("MODE_").removesuffix("W")): mode.active_w
            for mode in device.power_modes
            if mode.name.endswith("W")
        }
        draws = [by_cap[cap] for cap in sorted(by_cap)]
        draws += [mode.active_w for mode in device.power_modes if mode.name.startswith("MAXN")]
        assert draws == sorted(draws), device.id


def test_no_two_devices_answer_to_one_name(catalog):
    names = [name for device in catalog.values() for name in device.compatible]
    assert len(names) == len(set(names))


def test_a_device_of_the_users_own_is_added(extra, catalog):
    found = load_catalog(extra(_OWN))
    assert found["acme-box"].default_mode.name == "slow"
    assert found["acme-box"].efficiency == 0.8
    assert {id_: device for id_, device in found.items() if id_ != "acme-box"} == catalog


def test_single_figures_of_a_device_that_ships_are_replaced(extra, catalog):
    own = 'id = "raspberry-pi-5"\nbandwidth_bytes_per_s = 11e9\n[ops_per_s]\nint8 = 5e11\n'
    found = load_catalog(extra(own))["raspberry-pi-5"]
    shipped = catalog["raspberry-pi-5"]
    assert found.bandwidth_bytes_per_s == 11e9
    assert found.ops_per_s == shipped.ops_per_s | {"int8": 5e11}
    assert found.power_modes == shipped.power_modes


def test_a_folder_holds_one_device_a_file(extra):
    extra(_OWN, "a.toml")
    extra('id = "l4"\nidle_w = 12.5\n', "b.toml")
    extra("not read", "notes.txt")
    found = load_catalog(extra('id = "x86"\nidle_w = 3\n', "c.toml").parent)
    assert (found["acme-box"].idle_w, found["l4"].idle_w, found["x86"].idle_w) == (5, 12.5, 3)


def test_every_fault_of_every_file_is_told_with_its_line(extra):
    a = extra(_OWN.replace("active_w = 12.0", "active_w = -1").replace("fp16", "fp17"), "a.toml")
    b = extra('id = "x86"\nidle_wat = 3\nmeter = "clock"\n', "b.toml")
    c = extra("id = ", "c.toml")
    told = faults(a.parent)
    assert len(told) == 5
    assert f"{a}:14: ops_per_s.fp17" in told[0]
    assert f"{a}:25: power_modes.1.active_w: Input should be greater than 0, found -1" in told[1]
    assert told[2].startswith(f"{b}:3: meter: Input should be 'ina3221'")
    assert told[3] == f"{b}:2: idle_wat: unknown key; did you mean 'idle_w'?"
    assert told[4].startswith(f"{c}:1: not TOML")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("active_w = 7.0", "active_w = 4.5"), ":20: power_modes.0.active_w: power mode 'slow'"),
        (('name = "fast"', 'name = "slow"'), ":24: power_modes.1.name: a second mode"),
        (("int4 = 2e11\n", ""), ":12: ops_per_s: int4 is missing"),
        (("compute = 0.5", "compute = 1.5"), ":21: power_modes.0.compute: Input should be l"),
        (('id = "acme-box"', 'id = "Acme Box"'), ":1: id: String should match pattern"),
        (('sources = ["measured here"]', "sources = []"), ":10: sources: Tuple should have"),
        (("compute = 0.5", "computes = 0.5"), ":21: power_modes.0.computes: unknown key; did"),
    ],
)
def test_figures_that_contradict_each_other_are_faults(extra, change, message):
    file = extra(_OWN.replace(*change))
    assert any(fault.startswith(f"{file}{message}") for fault in faults(file)), faults(file)


def test_an_idle_draw_above_the_shipped_modes_is_told_where_it_is_written(extra):
    file = extra('id = "x86"\n\nidle_w = 50\n')
    (fault,) = faults(file)
    assert fault.startswith(f"{file}:3: idle_w: power mode 'default' draws 20 W while decoding")


def test_a_mistyped_id_is_answered_with_the_right_one(extra, catalog):
    file = extra('id = "jetson-orin-nano8"\nidle_w = 3\n')
    assert faults(file)[-1] == (
        f"{file}:1: id: 'jetson-orin-nano8' does not ship, so all figures are needed; "
        "did you mean 'jetson-orin-nano-8'?"
    )
    with pytest.raises(ConfigError, match="'h20' is not in the catalog; did you mean 'h200'"):
        find(catalog, "h20")
    with pytest.raises(ConfigError, match="known are a100, h100"):
        find(catalog, "something else")
    assert find(catalog, "l4").name == "NVIDIA L4"


def test_two_files_for_one_device_are_a_fault(extra):
    first = extra('id = "l4"\nidle_w = 12\n', "a.toml")
    second = extra('id = "l4"\nidle_w = 13\n', "b.toml")
    assert faults(first.parent) == [f"{second}: id: 'l4' stands in {first} too"]


def test_what_is_no_file_is_said(tmp_path):
    (fault,) = faults(tmp_path / "missing.toml")
    assert fault.endswith("cannot be read: No such file or directory")
    (fault,) = faults(tmp_path)
    assert fault == f"{tmp_path}: holds no .toml file with a device"


def test_a_device_that_is_written_is_read_as_it_was(extra, catalog):
    measured = Measured(
        bandwidth=((1048576.0, 1.5e11), (2.5e8, 4e10)),
        node_overhead_s=0,
        attention_ops_per_s=3e9,
    )
    for device in catalog.values():
        sources = (*device.sources, 'measured: "here"\\ at 21 °C\n')
        own = device.model_copy(update={"measured": measured, "sources": sources})
        assert load_catalog(extra(device_text(own)))[own.id] == own
        assert load_catalog(extra(device_text(device)))[device.id] == device
