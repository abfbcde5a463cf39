"""A device as its data file describes it; `entries` reads them, this says what they hold."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from updraft.config import Section
from updraft.devices.workload import Precision

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
MeterKind = Literal["ina3221", "nvml", "rapl", "pi5-pmic", "modelled"]


class PowerMode(Section):
    """One setting of a device's clocks. Its name is a clock cap, not a promise of watts.

    Attributes:
        name: as the device's own tool calls it (`nvpmodel -q`).
        active_w: drawn by the whole module while it decodes.
        compute, bandwidth: share of the device's best that is left in this mode.
        needs_reboot: switching to or from it changes the number of cores.
    """

    name: str
    active_w: Positive
    compute: Share = 1.0
    bandwidth: Share = 1.0
    needs_reboot: bool = False


class Measured(Section):
    """What was measured on one machine of a kind, and that its data sheet does not say.

    Attributes:
        bandwidth: (bytes read again and again, bytes per second), rising: what fits into a cache
            is read faster. It takes the place of the published bandwidth and the efficiency.
        node_overhead_s: starting one operator of a graph.
        attention_ops_per_s: of one new position over its past, where keys and values are read
            once for each head and nothing is shared.
        token_overhead_s: what the decoding loop does around a token's graphs.
    """

    bandwidth: tuple[tuple[Positive, Positive], ...] = Field(min_length=1)
    node_overhead_s: Annotated[float, Field(ge=0)]
    attention_ops_per_s: Positive
    token_overhead_s: Annotated[float, Field(ge=0)] = 0.0


class Device(Section):
    """A board, host or GPU.

    Attributes:
        id: what budgets and commands call it.
        compatible: what identifies it: strings of the device tree, `cpu:` with a maker, a GPU's
            name, `pci:` with its ids.
        memory_bytes: of the module; shared by CPU and GPU where `unified`.
        bandwidth_bytes_per_s: of the memory that weights are read from, as published.
        ops_per_s: dense operations per second by precision (one multiply-add is two).
        efficiency: share of the published bandwidth that decoding reaches.
        step_overhead_s: one run of a graph, however small.
        idle_w: drawn by the module doing nothing, in the default mode.
        meter: what can measure it.
        power_modes: the default one first; at least one.
        sources: where each figure is from: address or document, and what it says.
        measured: what calibration found on this one; none: the data sheet holds.
    """

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    name: str
    family: Literal["jetson", "raspberry-pi", "x86", "gpu"]
    compatible: tuple[str, ...] = ()
    memory_bytes: Annotated[int, Field(gt=0)]
    unified: bool
    bandwidth_bytes_per_s: Positive
    ops_per_s: dict[Precision, Positive]
    efficiency: Share = 0.8
    step_overhead_s: Positive = 5e-5
    idle_w: Positive
    meter: MeterKind
    power_modes: tuple[PowerMode, ...] = Field(min_length=1)
    sources: tuple[str, ...] = Field(min_length=1)
    measured: Measured | None = None

    @property
    def default_mode(self) -> PowerMode:
        """The mode that it comes up in."""
        return self.power_modes[0]
