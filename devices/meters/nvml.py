"""NVML: NVIDIA's cards, by their energy counter, or by their power where they have none."""

from __future__ import annotations

import importlib
from typing import Any

from updraft.devices.catalog.device import MeterKind
from updraft.errors import ProbeError


class Nvml:
    """Joules or watts of the first NVIDIA GPU, with the memory on its board, without the host.

    Args:
        library: has the functions of `nvidia-ml-py`; by default that package.

    Raises:
        ProbeError: the package, the driver or a GPU with such a sensor is missing.
    """

    kind: MeterKind = "nvml"
    most_w = 3000.0
    fastest_hz = 20.0  # the counter moves 10 to 50 times a second

    def __init__(self, library: Any = None) -> None:
        self._nvml = library or _load()
        try:
            self._nvml.nvmlInit()
            self._gpu = self._nvml.nvmlDeviceGetHandleByIndex(0)
            name = self._nvml.nvmlDeviceGetName(self._gpu)
        except self._nvml.NVMLError as error:
            raise ProbeError(f"NVML: {error}: is the NVIDIA driver loaded?") from error
        self.counts = self._can(self._nvml.nvmlDeviceGetTotalEnergyConsumption)
        if not self.counts and not self._can(self._nvml.nvmlDeviceGetPowerUsage):
            self.close()
            raise ProbeError(f"NVML: {name} tells neither energy nor power; a Jetson has ina3221")
        how = "energy counter" if self.counts else "power"
        self.rail = f"{how} of GPU 0, {name}, without the host"

    def read(self) -> float:
        try:
            if self.counts:
                return self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu) * 1e-3
            return self._nvml.nvmlDeviceGetPowerUsage(self._gpu) * 1e-3
        except self._nvml.NVMLError as error:
            raise ProbeError(f"NVML: {error}") from error

    def close(self) -> None:
        self._nvml.nvmlShutdown()

    def _can(self, function: Any) -> bool:
        try:
            function(self._gpu)
        except self._nvml.NVMLError:
            return False
        return True


def _load() -> Any:
    try:
        return importlib.import_module("pynvml")
    except ImportError as error:
        raise ProbeError(
            "NVML: nvidia-ml-py is not installed: pip install 'updraft[gpu]'"
        ) from error
