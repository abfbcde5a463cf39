"""Directory trees of real boards, with files that can be changed while they are open."""

import os
import stat
from contextlib import contextmanager

import pytest

from updraft.errors import ProbeError


def put(path, content):
    """Write a file in place, as the kernel changes what it shows: whoever has it open sees it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{content}\n")


class Board:
    """A system's files below a folder."""

    def __init__(self, root):
        self.root = root

    def chip(self, address, number, *rails):
        """Add an INA3221; a rail is a label, mV and mA, or None where it is switched off."""
        folder = self.root / f"sys/bus/i2c/drivers/ina3221/1-00{address}/hwmon/hwmon{number}"
        put(folder / "name", "ina3221")
        for channel, rail in enumerate(rails, start=1):
            if rail is not None:
                label, millivolts, milliamperes = rail
                put(folder / f"in{channel}_label", label)
                put(folder / f"in{channel}_input", millivolts)
                put(folder / f"curr{channel}_input", milliamperes)
        put(folder / "in7_label", "sum of shunt voltages")
        put(folder / "in7_input", 760)
        put(folder / "curr4_input", 99_999)
        return folder

    def zone(self, name, kind, microjoules, range_uj=262_143_328_850):
        """Add a RAPL zone."""
        folder = self.root / "sys/class/powercap" / name
        put(folder / "name", kind)
        put(folder / "energy_uj", microjoules)
        put(folder / "max_energy_range_uj", range_uj)
        return folder

    def tool(self, *lines):
        """Install a `vcgencmd` of these shell lines."""
        path = self.root / "usr/bin/vcgencmd"
        put(path, "\n".join(("#!/bin/sh", *lines)))
        path.chmod(0o755)
        return path


@pytest.fixture
def board(tmp_path):
    """A system without any sensor."""
    return Board(tmp_path)


@pytest.fixture
def orin_nx(board):
    """An Orin NX, as its files stood at idle."""
    board.folder = board.chip(
        40, 1, ("VDD_IN", 4920, 936), ("VDD_CPU_GPU_CV", 4920, 160), ("VDD_SOC", 4920, 288)
    )
    return board


@pytest.fixture
def agx(board):
    """An AGX Orin: two chips, no rail of the total, channels without a name."""
    board.folder = board.chip(
        40, 3, ("VDD_GPU_SOC", 4976, 640), ("VDD_CPU_CV", 4984, 160), ("VIN_SYS_5V0", 4968, 953)
    )
    board.second = board.chip(41, 4, ("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 4968, 80), None)
    return board


@pytest.fixture
def xeon(board):
    """A host of two sockets, as RAPL shows it."""
    for socket in (0, 1):
        board.zone(f"intel-rapl:{socket}", f"package-{socket}", 1_000_000 * (socket + 1))
        board.zone(f"intel-rapl:{socket}:0", "dram", 500_000)
        board.zone(f"intel-rapl:{socket}:1", "core", 77)
    board.zone("intel-rapl:2", "psys", 123)
    return board


@pytest.fixture
def as_nobody_of():
    """Drop root's rights, for what is done inside `with as_nobody_of(root)`."""

    @contextmanager
    def dropped(root):
        if os.geteuid() != 0:
            yield
            return
        for folder in (root, *root.parents):
            if not folder.stat().st_mode & stat.S_IXOTH:
                folder.chmod(0o755)
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)

    return dropped


class Script:
    """A sensor that says what a test tells it to: a number, or an error."""

    kind = "ina3221"
    rail = "VDD_TEST"

    def __init__(self, first, counts=False, most_w=200.0):
        self.now = first
        self.counts = counts
        self.most_w = most_w
        self.fastest_hz = 50.0
        self.closed = False

    def read(self):
        if isinstance(self.now, str):
            raise ProbeError(self.now)
        return self.now

    def close(self):
        self.closed = True


class Hands:
    """A clock whose hands a test moves."""

    def __init__(self):
        self.at = 100.0

    def __call__(self):
        return self.at


@pytest.fixture
def script():
    return Script


@pytest.fixture
def hands():
    return Hands()
