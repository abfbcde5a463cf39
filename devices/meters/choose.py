"""Which meter a device has: the configured one, or the best that works."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from updraft.config import Section
from updraft.devices.catalog.device import Device, MeterKind
from updraft.devices.meters.baseline import Baseline
from updraft.devices.meters.ina3221 import CHIPS, Ina3221
from updraft.devices.meters.meter import Meter
from updraft.devices.meters.modelled import ACTIVE_POWER_W, ModelledMeter
from updraft.devices.meters.nvml import Nvml
from updraft.devices.meters.pmic import TOOL, Pmic
from updraft.devices.meters.rapl import ZONES, Rapl
from updraft.devices.meters.sampled import SampledMeter
from updraft.devices.meters.sensor import Sensor
from updraft.errors import ProbeError

# A GPU is not among them: its meter says nothing of a model that runs beside it, so it is taken
# where the catalog says that the device is that GPU, or where it is configured.
_ANYWHERE: tuple[MeterKind, ...] = ("ina3221", "pi5-pmic", "rapl")


class _Kind(NamedTuple):
    """How one kind is found and opened, below a root."""

    there: Callable[[Path], bool]
    open: Callable[[Path], Sensor]
    place: str


_KINDS: Mapping[MeterKind, _Kind] = {
    "ina3221": _Kind(Ina3221.there, Ina3221, CHIPS),
    "nvml": _Kind(lambda root: root == Path("/"), lambda _: Nvml(), "the NVIDIA driver"),
    "rapl": _Kind(Rapl.there, Rapl, f"{ZONES}/intel-rapl:*"),
    "pi5-pmic": _Kind(Pmic.there, Pmic, TOOL),
}

_log = logging.getLogger(__name__)


class MeterSettings(Section):
    """How energy is measured, and what is assumed where it cannot be.

    Attributes:
        meter: a kind, which then must work; `auto` takes what the device has, else models.
        rate_hz: readings per second.
        idle_w: draw of the idle device, which is subtracted; by default as measured while
            nothing is served, and the catalog's until then.
        active_power_w: power of the busy device above idle, where energy is modelled; by default
            the catalog's, else 10.
    """

    meter: Literal["auto", MeterKind] = "auto"
    rate_hz: float = Field(default=25, ge=10, le=50)
    idle_w: float | None = Field(default=None, ge=0, le=10_000)
    active_power_w: float | None = Field(default=None, ge=0, le=10_000)


def open_meter(
    settings: MeterSettings, device: Device | None = None, root: Path = Path("/")
) -> Meter:
    """Open the meter that settings and device ask for; close it when done.

    With `auto`, a sensor that is there but cannot be used is logged, and why stands in the
    `method` of what is used in its place.

    Args:
        device: what this is, where that is known.
        root: the system to look at; another than `/` has no NVML.

    Raises:
        ProbeError: the configured meter is not there or cannot be read; says what to do.
    """
    if settings.meter != "auto":
        return _open(settings.meter, settings, device, root)
    faults: list[str] = []
    for kind in (device.meter,) if device is not None else _ANYWHERE:
        if kind == "modelled" or not _KINDS[kind].there(root):
            continue
        try:
            return _open(kind, settings, device, root)
        except ProbeError as error:
            _log.warning("the %s meter cannot be used: %s", kind, error)
            faults.append(f"the {kind} meter cannot be used: {error}")
    return _modelled(settings, device, "; ".join(faults))


def _open(kind: MeterKind, settings: MeterSettings, device: Device | None, root: Path) -> Meter:
    modelled = _modelled(settings, device)
    if kind == "modelled":
        return modelled
    if not _KINDS[kind].there(root):
        raise ProbeError(
            f"energy.meter = {kind!r}: there is none here: looked for "
            f"{root / _KINDS[kind].place}; 'auto' takes what there is"
        )
    sensor = _KINDS[kind].open(root)
    # The catalog's idle draw is that of the rail which its own meter reads.
    known = device is not None and device.meter == kind
    baseline = Baseline(settings.idle_w, device.idle_w if device is not None and known else None)
    meter = SampledMeter(sensor, baseline, modelled, settings.rate_hz)
    try:
        meter.start()
    except ProbeError:
        sensor.close()
        raise
    return meter


def _modelled(settings: MeterSettings, device: Device | None, why: str = "") -> ModelledMeter:
    active_w, idle_w = settings.active_power_w, settings.idle_w
    if device is not None:
        if active_w is None:
            active_w = max(device.default_mode.active_w - device.idle_w, 0.0)
        idle_w = device.idle_w if idle_w is None else idle_w
    return ModelledMeter(ACTIVE_POWER_W if active_w is None else active_w, idle_w or 0.0, why)
