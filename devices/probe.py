"""Identifies the board, host and GPUs that a system runs on, from its files."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from math import log
from pathlib import Path

from updraft.devices.catalog.device import Device
from updraft.devices.cpu import Cpu, read_cpu
from updraft.devices.gpus import Gpu, read_gpus
from updraft.devices.l4t import read_jetpack, read_l4t
from updraft.devices.nvpmodel import kept_mode, read_modes
from updraft.devices.tree import Tree, Unread

_DEVICE_TREES = ("proc/device-tree", "sys/firmware/devicetree/base")
_DMI = "sys/class/dmi/id"


@dataclass(frozen=True)
class Board:
    """What a system runs on, as far as its files tell.

    Attributes:
        device: of the catalog; None where the catalog does not know it.
        model: what the device tree or the firmware calls it.
        identified_by: the string that led to `device`.
        l4t, jetpack: of a Jetson.
        power_mode: that the board keeps over a reboot, by its name there; None where there are
            none. `PowerControl.current` tells which is in effect.
        memory_total_bytes: that the kernel has; less than the module's.
        memory_free_bytes: that can be had without swapping.
        gpus: with their own memory; a Jetson's own is part of `device`.
        unread: what could not be read, and why.
    """

    device: str | None
    model: str
    identified_by: str | None
    l4t: str | None
    jetpack: str | None
    power_mode: str | None
    cpu: Cpu | None
    memory_total_bytes: int | None
    memory_free_bytes: int | None
    gpus: tuple[Gpu, ...]
    unread: tuple[Unread, ...]


def identify(root: Path, catalog: Mapping[str, Device]) -> Board:
    """Return what the system below `root` runs on; what cannot be read is said, never raised.

    Args:
        root: `/`, or a copy of another system's files; only files are read, nothing of it is run.
        catalog: of `load_catalog`.
    """
    tree = Tree(root)
    cpu = read_cpu(tree)
    memory = _read_memory(tree)
    total, free = memory.get("MemTotal"), memory.get("MemAvailable")
    compatible, model = _read_device_tree(tree)
    names = _parts(compatible) if compatible else [f"cpu:{cpu.vendor}"] if cpu else []
    by, device = _match(names, total, catalog)
    l4t = read_l4t(tree)
    kept = kept_mode(tree, read_modes(tree))
    return Board(
        device=device,
        model=model or _read_firmware(tree) or (cpu.name if cpu else "unknown"),
        identified_by=by,
        l4t=l4t,
        jetpack=read_jetpack(tree, l4t),
        power_mode=kept.name if kept else None,
        cpu=cpu,
        memory_total_bytes=total,
        memory_free_bytes=free,
        gpus=tuple(
            replace(gpu, device=_match(gpu.names, gpu.memory_bytes, catalog)[1])
            for gpu in read_gpus(tree)
        ),
        unread=tuple(tree.unread),
    )


def _read_device_tree(tree: Tree) -> tuple[list[str], str | None]:
    for base in _DEVICE_TREES:
        if text := tree.text(f"{base}/compatible"):
            return text.split("\n"), tree.text(f"{base}/model")
    return [], next((m for base in _DEVICE_TREES if (m := tree.text(f"{base}/model"))), None)


def _read_firmware(tree: Tree) -> str | None:
    names = (tree.text(f"{_DMI}/{name}") for name in ("sys_vendor", "product_name"))
    return " ".join(name for name in names if name) or None


def _parts(compatible: Collection[str]) -> list[str]:
    """Return the strings and, of a carrier with a module, each by itself.

    `nvidia,p3768-0000+p3767-0000-super` is a module p3767-0000 on a carrier p3768-0000.
    """
    parts = list(compatible)
    for text in compatible:
        boards = text.partition(",")[2].removesuffix("-super").split("+")
        parts += boards if len(boards) > 1 else []
    return parts


def _match(
    names: Collection[str], memory_bytes: int | None, catalog: Mapping[str, Device]
) -> tuple[str | None, str | None]:
    """Return the name that fits and the device; of several the one closest in memory."""
    found = [
        (name, device)
        for device in reversed(list(catalog.values()))  # the user's own stand last
        for name in names
        if name in device.compatible
    ]
    if not found:
        return None, None
    best = min(found, key=lambda f: abs(log(f[1].memory_bytes / (memory_bytes or 1))))
    return best[0], best[1].id


def _read_memory(tree: Tree) -> dict[str, int]:
    """Return bytes by the names of `/proc/meminfo`."""
    path = "proc/meminfo"
    text = tree.text(path)
    found = re.findall(r"^(\w+):\s+(\d+) kB$", text or "", re.MULTILINE)
    memory = {name: int(kilobytes) * 1024 for name, kilobytes in found}
    if text is not None and not {"MemTotal", "MemAvailable"} <= memory.keys():
        tree.complain(path, "does not say MemTotal and MemAvailable in kB")
    return memory
