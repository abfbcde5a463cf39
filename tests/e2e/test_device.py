"""`updraft device` as a user runs it, on this machine and on the files of others."""

import json
import runpy
import threading
import time
from pathlib import Path

import pytest

made = runpy.run_path(str(Path(__file__).parents[1] / "devices" / "boards.py"))
write_board = made["write_board"]


def output(done):
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_list_and_show_tell_the_catalog(updraft):
    ids = [device["id"] for device in json.loads(output(updraft("device", "list", "--json")))]
    table = output(updraft("device", "list"))
    for id_ in ids:
        assert id_ in table
    shown = output(updraft("device", "show", "jetson-orin-nx-16", COLUMNS="200"))
    assert "102.4 GB/s" in shown
    assert "MAXN_SUPER" in shown
    assert "reboot" in shown
    assert "recalled: " in shown
    found = json.loads(output(updraft("device", "show", "h200", "--json")))
    assert found["memory_bytes"] == 141 * 2**30


def test_a_catalog_of_ones_own_is_shown(updraft, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text('id = "x86"\nidle_w = 3.25\n')
    found = json.loads(output(updraft("device", "show", "x86", "--catalog", own, "--json")))
    assert found["idle_w"] == 3.25


@pytest.mark.parametrize("name", sorted(made["BOARDS"]))
def test_a_foreign_tree_is_identified_and_nothing_is_measured(updraft, tmp_path, name):
    root = write_board(tmp_path, name)
    found = json.loads(output(updraft("device", "probe", "--root", root, "--json")))
    assert (found["device"] is None) == (name in {"unknown", "damaged"})
    assert bool(found["unread"]) == (name == "damaged")
    assert found["bandwidth"] is None
    assert found["decode"] is None


def test_the_table_tells_what_is_known_and_what_could_not_be_read(updraft, tmp_path):
    good = write_board(tmp_path / "good", "nx-16")
    table = output(updraft("device", "probe", "--root", good, COLUMNS="200"))
    for told in (
        "jetson-orin-nx-16",
        "36.4.4, JetPack 6.2.1",
        "MAXN_SUPER",
        "Cortex-A78AE, 8 of 8",
    ):
        assert told in table
    damaged = write_board(tmp_path / "damaged", "damaged")
    table = output(updraft("device", "probe", "--root", damaged, COLUMNS="200"))
    assert "unknown: describe it in a file for --catalog" in table
    assert "/proc/meminfo: does not say MemTotal" in table
    assert "\x1b]" not in table


def test_this_machine_is_measured(updraft):
    found = json.loads(output(updraft("device", "probe", "--json")))
    assert found["cpu"]["cores"] >= 1
    assert found["bandwidth"]["bytes_per_s"] > 1e8
    assert found["decode"]["bundle"] == "code"
    assert found["decode"]["per_token_ms"] > 0
    assert found["decode"]["energy_method"]
    table = output(updraft("device", "probe", "--threads", "2", COLUMNS="200"))
    assert "2 threads" in table
    assert "J per token" in table


def test_what_was_measured_can_be_laid_over_the_catalog(updraft, refusal, tmp_path):
    own = tmp_path / "own.toml"
    output(updraft("device", "probe", "--write", own))
    found = json.loads(output(updraft("device", "show", "x86", "--catalog", own, "--json")))
    assert found["measured"]["bandwidth"]
    assert found["sources"][-1].startswith("measured: on this machine")
    root = write_board(tmp_path / "board", "pi-5")
    said = refusal("device", "probe", "--root", root, "--write", own)
    assert "only a machine of the catalog is measured, and only itself" in said


def test_a_board_the_catalog_learns_of_is_known(updraft, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text('id = "x86"\ncompatible = ["friendlyarm,nanopc-t6"]\n')
    root = write_board(tmp_path / "board", "unknown")
    arguments = ("device", "probe", "--root", root, "--catalog", own, "--json")
    assert json.loads(output(updraft(*arguments)))["device"] == "x86"


def test_watch_prints_a_line_per_interval_or_says_that_nothing_measures(updraft):
    done = updraft("device", "watch", "--interval", "0.05", "--lines", "3", "--json")
    if done.returncode == 0:  # this machine has a meter
        readings = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(readings) == 3
        assert all(reading["method"] for reading in readings)
    else:
        assert b"nothing here measures what it draws; energy is modelled" in done.stderr


@pytest.fixture
def drawing(tmp_path):
    """A laptop that draws 20 W: the counter of its package moves on in a thread."""
    root, stop = write_board(tmp_path, "laptop"), threading.Event()
    started = time.monotonic()

    def count():
        with (root / "sys/class/powercap/intel-rapl:0/energy_uj").open("r+b", buffering=0) as file:
            while not stop.wait(0.005):
                file.seek(0)
                file.write(b"%012d\n" % (20e6 * (time.monotonic() - started)))

    thread = threading.Thread(target=count)
    thread.start()
    yield root
    stop.set()
    thread.join()


def test_watch_shows_what_a_meter_reads(updraft, drawing):
    arguments = ("device", "watch", "--root", drawing, "--interval", "0.3", "--lines", "3")
    readings = [json.loads(line) for line in output(updraft(*arguments, "--json")).splitlines()]
    assert len(readings) == 3
    for reading in readings:
        assert "package-0" in reading["method"]
        assert 0 <= reading["power_w"] < 1000
        assert reading["idle_w"] == 8
    lines = output(updraft(*arguments)).splitlines()
    assert len(lines) == 3
    assert all("above idle" in line for line in lines)


def test_bad_input_is_answered_in_one_message(refusal, tmp_path):
    assert "did you mean 'h200'" in refusal("device", "show", "h20")
    assert "is no folder" in refusal("device", "probe", "--root", tmp_path / "nowhere")
    own = tmp_path / "own.toml"
    own.write_text('id = "x86"\nidle_wat = 1\n')
    assert "own.toml:2: idle_wat: unknown key" in refusal("device", "list", "--catalog", own)
    assert "there is none here" in refusal("device", "watch", "--meter", "pi5-pmic")


@pytest.mark.skipif(Path("/etc/nvpmodel.conf").exists(), reason="this machine is a Jetson")
def test_power_modes_are_a_jetsons(refusal):
    assert "only a Jetson has them" in refusal("device", "mode")
    assert "only a Jetson has them" in refusal("device", "mode", "MAXN")
