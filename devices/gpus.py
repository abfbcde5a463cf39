"""The NVIDIA GPUs of a host: by the driver's library where it runs, else by its files and PCI."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from updraft.devices.tree import Tree, Unread

_NVIDIA = "0x10de"
_DISPLAY = "0x03"  # PCI class of display controllers, 3D ones among them


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        names: by which a catalog entry may know it: its name, its PCI device.
        memory_bytes: None where only the driver's library could tell.
        device: of the catalog; None where it is not in there.
    """

    names: tuple[str, ...]
    memory_bytes: int | None = None
    device: str | None = None


def read_gpus(tree: Tree, library: Any = None) -> tuple[Gpu, ...]:
    """Return the GPUs; the driver's library is asked only about the running system.

    Args:
        library: has the functions of `nvidia-ml-py`; by default that package.
    """
    found = _by_pci(tree)
    if not tree.is_live or not (library or found or tree.text("proc/driver/nvidia/version")):
        return found
    return _by_library(tree, library) or found


def _by_pci(tree: Tree) -> tuple[Gpu, ...]:
    gpus = []
    for folder in tree.folders("sys/bus/pci/devices"):
        kind = tree.text(f"{folder}/class") or ""
        if tree.text(f"{folder}/vendor") != _NVIDIA or not kind.startswith(_DISPLAY):
            continue
        device = (tree.text(f"{folder}/device") or "").removeprefix("0x")
        address = folder.rpartition("/")[2]
        told = tree.text(f"proc/driver/nvidia/gpus/{address}/information") or ""
        names = [
            line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("Model")
        ]
        gpus.append(Gpu((*names, f"pci:10de:{device}")))
    return tuple(gpus)


def _by_library(tree: Tree, library: Any) -> tuple[Gpu, ...]:
    try:
        nvml = library or importlib.import_module("pynvml")
    except ImportError:
        why = "its Python library is not installed: pip install 'updraft[gpu]'"
        tree.unread.append(Unread("NVML", why))
        return ()
    try:
        nvml.nvmlInit()
        try:
            return tuple(_described(nvml, i) for i in range(nvml.nvmlDeviceGetCount()))
        finally:
            nvml.nvmlShutdown()
    except nvml.NVMLError as error:
        tree.unread.append(Unread("NVML", f"{error}: is the NVIDIA driver loaded?"))
        return ()


def _described(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    name = nvml.nvmlDeviceGetName(handle)
    pci = nvml.nvmlDeviceGetPciInfo(handle).pciDeviceId
    try:
        memory = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    except nvml.NVMLError:
        memory = None  # an integrated GPU has none of its own
    return Gpu((name, f"pci:10de:{pci >> 16:04x}"), memory)
