"""Jetson's power modes as its files state them: `/etc/nvpmodel.conf` and the kept choice."""

from __future__ import annotations

import re
from dataclasses import dataclass

from updraft.devices.tree import Tree

CONFIGURATION = "etc/nvpmodel.conf"
STATUS = "var/lib/nvpmodel/status"

_MODE = re.compile(r"<\s*POWER_MODEL\s+ID\s*=\s*(\d+)\s+NAME\s*=\s*([^\s>]+)\s*>")
_CORE = re.compile(r"CPU_ONLINE\s+CORE_(\d+)\s+([01])\b")
_GATING = re.compile(r"(\w+_POWER_GATING)\s+\w+\s+(\S+)")
_STATUS = re.compile(r"pmode:\s*0*(\d+)")


@dataclass(frozen=True)
class NvpMode:
    """A mode of this board's configuration.

    Attributes:
        id: means this mode on this board only; boards number them differently.
        cores: the CPU cores that are on; empty where the configuration does not say.
        gating: masks of the GPU parts that are off, as the configuration writes them.
    """

    id: int
    name: str
    cores: tuple[int, ...]
    gating: tuple[tuple[str, str], ...]

    def needs_reboot_from(self, other: NvpMode) -> bool:
        """Say whether cores or GPU parts go on or off, which takes a reboot."""
        return self.cores != other.cores or self.gating != other.gating


def read_modes(tree: Tree) -> tuple[NvpMode, ...]:
    """Return the modes in the order of the configuration; empty where there is none."""
    if (text := tree.text(CONFIGURATION)) is None:
        return ()
    # What follows a mode's header is its settings, up to the next header of any kind.
    text = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    modes = []
    for header in _MODE.finditer(text):
        body = text[header.end() :].partition("<")[0]
        cores = tuple(sorted(int(core) for core, on in _CORE.findall(body) if on == "1"))
        gating = tuple(sorted(_GATING.findall(body)))
        modes.append(NvpMode(int(header[1]), header[2], cores, gating))
    if not modes:
        tree.complain(CONFIGURATION, "names no power mode: < POWER_MODEL ID=… NAME=… > is expected")
    return tuple(modes)


def kept_mode(tree: Tree, modes: tuple[NvpMode, ...]) -> NvpMode | None:
    """Return the mode that the board keeps over a reboot; None where that is not known."""
    if (text := tree.text(STATUS)) is None:
        return None
    if (found := _STATUS.search(text)) is None:
        tree.complain(STATUS, f"{text[:40]!r} is no mode: pmode:000N is expected")
        return None
    by_id = {mode.id: mode for mode in modes}
    if modes and int(found[1]) not in by_id:
        tree.complain(STATUS, f"mode {found[1]} is not one of /{CONFIGURATION}: {sorted(by_id)}")
    return by_id.get(int(found[1]))


def plain_name(name: str) -> str:
    """Return a mode's name as people say it: releases differ in `MODE_30W` and `30W`."""
    return name.upper().removeprefix("MODE_")
