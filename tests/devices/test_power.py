"""Power modes go by name, and a change counts only when it is seen."""

import runpy
from pathlib import Path

import pytest

from updraft.devices.power import PowerControl
from updraft.errors import ProbeError

made = runpy.run_path(str(Path(__file__).with_name("boards.py")))
write, write_board, add_nvpmodel = made["write"], made["write_board"], made["add_nvpmodel"]


@pytest.fixture
def nx(tmp_path):
    """An Orin NX 16 GB in MAXN_SUPER, with a working `nvpmodel`."""
    root = write_board(tmp_path, "nx-16")
    add_nvpmodel(root, 0)
    return root


def status(root):
    return (root / "var/lib/nvpmodel/status").read_text()


def test_the_same_id_is_another_mode_on_another_board(tmp_path):
    names = {}
    for board in ("nx-16", "nano-8", "agx-64"):
        modes = PowerControl(write_board(tmp_path / board, board)).modes()
        names[board] = {mode.id: mode.name for mode in modes}
    assert (names["nx-16"][2], names["nano-8"][2], names["agx-64"][2]) == (
        "15W",
        "MAXN_SUPER",
        "MODE_30W",
    )
    assert 9 not in names["nx-16"], "comments are no modes"


def test_the_cores_of_each_mode_are_known(nx):
    modes = {mode.name: mode for mode in PowerControl(nx).modes()}
    assert modes["10W"].cores == (0, 1, 2, 3)
    assert len(modes["25W"].cores) == 8
    assert modes["10W"].needs_reboot_from(modes["25W"])
    assert not modes["40W"].needs_reboot_from(modes["25W"])


def test_a_mode_is_set_by_name_and_seen(nx):
    control = PowerControl(nx)
    assert control.set("25W") == "set"
    assert control.current().name == "25W"
    assert "-m 3" in (nx / "calls").read_text()
    assert control.set("25w") == "unchanged"
    assert (nx / "calls").read_text().count("-m") == 1


def test_the_prefix_that_some_releases_write_may_be_left_out(tmp_path):
    root = write_board(tmp_path, "agx-64")
    add_nvpmodel(root, 3)
    assert PowerControl(root).set("maxn") == "set"
    assert PowerControl(root).set("50W") == "set"
    assert PowerControl(root).current().name == "MODE_50W"


def test_a_mode_with_other_cores_is_refused_before_anything_is_called(nx):
    with pytest.raises(ProbeError, match="'10W' turns other cores or GPU parts on than 'MAXN_SU"):
        PowerControl(nx).set("10W")
    assert "-m" not in (nx / "calls").read_text()
    assert status(nx) == "pmode:0000 fmode:fanNull\n"


def test_it_can_be_scheduled_for_the_next_boot(nx):
    control = PowerControl(nx)
    assert control.set("10W", schedule=True) == "scheduled"
    assert status(nx) == "pmode:0001 fmode:fanNull\n"
    assert control.current().name == "MAXN_SUPER", "only the boot brings it into effect"
    # Going back takes no reboot, and the board must forget what was scheduled.
    assert control.set("MAXN_SUPER") == "set"
    assert status(nx) == "pmode:0000 fmode:fanNull\n"


def test_scheduling_where_no_reboot_is_needed_sets_it_now(nx):
    assert PowerControl(nx).set("40W", schedule=True) == "set"


def test_a_change_that_is_silently_not_made_is_found_out(nx):
    (nx / "reboot").write_text("4\n")
    with pytest.raises(
        ProbeError, match=r"'MAXN_SUPER' is still in effect.*schedule it.*NVPM WARN"
    ):
        PowerControl(nx).set("40W")
    assert PowerControl(nx).set("40W", schedule=True) == "scheduled"
    assert status(nx).startswith("pmode:0004")


def test_gpu_parts_that_go_off_take_a_reboot_too(nx):
    conf = nx / "etc/nvpmodel.conf"
    head, tail = conf.read_text().split("NAME=40W >")
    conf.write_text(head + "NAME=40W >" + tail.replace("TPC_PG_MASK 0", "TPC_PG_MASK 252"))
    with pytest.raises(ProbeError, match="takes a reboot"):
        PowerControl(nx).set("40W")


def test_an_unknown_mode_is_answered_with_what_there_is(nx):
    with pytest.raises(ProbeError, match=r"'MAXN_SUPR' is not one .* did you mean 'MAXN_SUPER'"):
        PowerControl(nx).set("MAXN_SUPR")
    with pytest.raises(ProbeError, match="it has MAXN_SUPER, 10W, 15W, 25W, 40W"):
        PowerControl(nx).set("turbo")


def test_without_the_tool_the_kept_mode_counts_and_nothing_can_be_set(tmp_path):
    control = PowerControl(write_board(tmp_path, "nano-8"))
    assert control.current().name == "25W"
    with pytest.raises(ProbeError, match=r"none of /usr/sbin/nvpmodel.* is here"):
        control.set("15W")
    assert control.set("7W", schedule=True) == "scheduled"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("#!/bin/sh\necho must be root >&2; exit 1\n", "ended with 1: 'must be root'.*root rights"),
        ("#!/bin/sh\necho hello\n", "-q names no power mode: 'hello'"),
        ("#!/bin/sh\necho NV Power Mode: WARP\n", "power mode 'WARP' is not one of this board"),
        ("#!/nowhere/sh\n", "cannot be run: No such file"),
    ],
)
def test_a_tool_that_does_not_work_is_named(nx, script, message):
    add_nvpmodel(nx, 0, script)
    with pytest.raises(ProbeError, match=message):
        PowerControl(nx).set("25W")


def test_a_board_without_modes_says_so(tmp_path):
    with pytest.raises(ProbeError, match="no power modes here: the file is missing"):
        PowerControl(write_board(tmp_path / "pi", "pi-5")).modes()
    with pytest.raises(ProbeError, match="names no power mode"):
        PowerControl(write_board(tmp_path / "damaged", "damaged")).current()


@pytest.mark.parametrize("kept", [None, "fmode:quiet\n", "pmode:0017\n"])
def test_a_kept_mode_that_makes_no_sense_is_not_believed(tmp_path, kept):
    root = write_board(tmp_path, "nano-8")
    file = root / "var/lib/nvpmodel/status"
    file.unlink() if kept is None else file.write_text(kept)
    with pytest.raises(ProbeError, match="/var/lib/nvpmodel/status: the power mode is not known"):
        PowerControl(root).current()


def test_a_status_that_cannot_be_written_stays_as_it_was(nx):
    # Root may write anywhere, but not a file where a folder of its name is.
    (nx / "var/lib/nvpmodel/status.new").mkdir()
    with pytest.raises(ProbeError, match="the mode cannot be kept"):
        PowerControl(nx).set("10W", schedule=True)
    assert status(nx) == "pmode:0000 fmode:fanNull\n"
