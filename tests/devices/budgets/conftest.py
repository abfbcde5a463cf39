"""A board and a model that are like real ones, with round figures."""

import pytest

from updraft.devices.catalog.device import Device, PowerMode
from updraft.devices.workload import Piece, Workload


@pytest.fixture(scope="session")
def board():
    """Three power modes, the last of which needs a reboot."""
    return Device(
        id="board",
        name="Board",
        family="jetson",
        memory_bytes=8 << 30,
        unified=True,
        bandwidth_bytes_per_s=100e9,
        ops_per_s={"fp32": 2e12, "int8": 30e12},
        idle_w=4,
        meter="modelled",
        power_modes=(
            PowerMode(name="normal", active_w=12),
            PowerMode(name="slow", active_w=8, compute=0.5, bandwidth=0.7),
            PowerMode(name="slowest", active_w=6, compute=0.3, bandwidth=0.5, needs_reboot=True),
        ),
        sources=("made up",),
    )


@pytest.fixture(scope="session")
def workload():
    """Eight layers in three partitions, exits after 2, 3 and 8, 5 GB of weights."""
    return model("large", 5e9)


@pytest.fixture(scope="session")
def small():
    """The same in a tenth of the size."""
    return model("small", 5e8)


def model(name, weight_bytes):
    """Make a workload whose weights are spread evenly over its layers."""

    def piece(layers, last_layer):
        share = layers / 8
        return Piece(
            weight_bytes=int(weight_bytes * share),
            macs_per_position=int(weight_bytes * share),
            kv_bytes_per_position=int(40_000 * share),
            last_layer=last_layer,
        )

    return Workload(
        name=name,
        precision="int8",
        partitions=(piece(2, 2), piece(1, 3), piece(5, 8)),
        head=Piece(int(weight_bytes / 50), int(weight_bytes / 50), 0, 8),
        exits=(2, 3, 8),
        split=3,
        state_bytes={"fp32": 8192.0, "fp16": 4096.0},
        context_length=2048,
    )
