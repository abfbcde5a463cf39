"""Jetson boards: which rails are read, and what is left out."""

import pytest

from updraft.devices.meters.ina3221 import Ina3221
from updraft.errors import ProbeError


def put(path, content):
    path.write_text(f"{content}\n")


def test_the_total_of_the_module_is_read_where_there_is_one(orin_nx):
    sensor = Ina3221(orin_nx.root)
    assert sensor.rail == "VDD_IN, the module's total"
    assert sensor.read() == pytest.approx(4.92 * 0.936)
    sensor.close()


def test_an_agx_has_no_total_so_its_rails_are_summed_and_that_is_said(agx):
    sensor = Ina3221(agx.root)
    assert sensor.rail == (
        "sum of VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0, as the board has no rail of its total"
    )
    assert sensor.read() == pytest.approx(4.976 * 0.64 + 4.984 * 0.16 + 4.968 * 0.953)
    sensor.close()


def test_readings_follow_the_files(orin_nx):
    sensor = Ina3221(orin_nx.root)
    put(orin_nx.folder / "curr1_input", 2000)
    assert sensor.read() == pytest.approx(9.84)
    put(orin_nx.folder / "curr1_input", -8)
    assert sensor.read() == pytest.approx(-0.03936)
    sensor.close()


def test_a_missing_rail_is_left_out_and_named(agx):
    (agx.folder / "curr2_input").unlink()
    sensor = Ina3221(agx.root)
    assert sensor.rail.startswith("sum of VDD_GPU_SOC + VIN_SYS_5V0, as")
    assert "; left out: VDD_CPU_CV: " in sensor.rail
    assert sensor.rail.endswith("curr2_input: cannot be opened: No such file or directory")
    sensor.close()


def test_a_total_that_cannot_be_read_leaves_its_parts(orin_nx):
    put(orin_nx.folder / "in1_input", "<no data>")
    sensor = Ina3221(orin_nx.root)
    assert sensor.rail.startswith("sum of VDD_CPU_GPU_CV + VDD_SOC, as")
    assert "left out: VDD_IN: " in sensor.rail
    sensor.close()


def test_no_rail_at_all_is_an_error(board):
    board.chip(41, 4, ("NC", 0, 0), None, ("NC", 0, 0))
    with pytest.raises(ProbeError, match="no rail has a name"):
        Ina3221(board.root)


def test_permission_denied_says_what_to_do(orin_nx, as_nobody_of):
    for channel in (1, 2, 3):
        (orin_nx.folder / f"in{channel}_input").chmod(0o400)
    with as_nobody_of(orin_nx.root), pytest.raises(ProbeError) as refused:
        Ina3221(orin_nx.root)
    assert "in1_input: permission denied: let the agent's user read it" in str(refused.value)


@pytest.mark.parametrize("content", ["", "-", "4.9"])
def test_a_file_that_holds_no_number_is_an_error_at_that_reading(orin_nx, content):
    sensor = Ina3221(orin_nx.root)
    put(orin_nx.folder / "in1_input", content)
    with pytest.raises(ProbeError, match="in1_input: holds no whole number"):
        sensor.read()
    put(orin_nx.folder / "in1_input", 4920)
    assert sensor.read() == pytest.approx(4.92 * 0.936)
    sensor.close()


def test_a_host_without_chips_has_none(board, orin_nx, tmp_path_factory):
    assert Ina3221.there(orin_nx.root)
    assert not Ina3221.there(tmp_path_factory.mktemp("bare"))
