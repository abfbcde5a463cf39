"""The meter of what this agent runs on."""

from __future__ import annotations

from pathlib import Path

from updraft.devices.catalog.entries import load_catalog
from updraft.devices.meters.choose import MeterSettings, open_meter
from updraft.devices.meters.meter import Meter
from updraft.devices.probe import identify
from updraft.models.runtime import ProviderName


def open_own_meter(
    settings: MeterSettings,
    provider: ProviderName,
    root: Path = Path("/"),
    own_devices: Path | None = None,
) -> Meter:
    """Identify the device and open its meter: the GPU's where graphs run on a GPU of its own.

    Args:
        own_devices: file or folder that adds to the catalog.

    Raises:
        ConfigError: that adds nonsense; with every fault.
        ProbeError: the configured meter is not there or cannot be read.
    """
    catalog = load_catalog(own_devices)
    board = identify(root, catalog)
    device = board.device
    if provider != "cpu" and board.gpus:
        device = board.gpus[0].device
    return open_meter(settings, catalog.get(device) if device else None, root)
