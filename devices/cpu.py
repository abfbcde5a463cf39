"""The processor, as `/proc/cpuinfo` tells of it."""

from __future__ import annotations

from dataclasses import dataclass

from updraft.devices.tree import Tree

# Instructions that decide how fast small models decode.
_FLAGS = (
    "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16",
    "amx_int8", "amx_bf16",
    "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip

# Arm cores carry numbers instead of names; those of boards that Updraft runs on.
_ARM_CORES = {
    "0xd03": "Cortex-A53",
    "0xd08": "Cortex-A72",
    "0xd0b": "Cortex-A76",
    "0xd42": "Cortex-A78AE",
    "0xd83": "Neoverse-V3AE",
}


@dataclass(frozen=True)
class Cpu:
    """A processor.

    Attributes:
        vendor: as x86 processors give it; empty on Arm.
        cores: that are on; a power mode may have turned others off.
        cores_present: all of them.
        flags: those that matter for decoding.
    """

    name: str
    vendor: str
    cores: int
    cores_present: int
    flags: tuple[str, ...]


def read_cpu(tree: Tree) -> Cpu | None:
    """Return the processor; None where nothing tells of it."""
    path = "proc/cpuinfo"
    if (text := tree.text(path)) is None:
        return None
    fields: dict[str, str] = {}
    cores = 0
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
            cores += key.strip() == "processor"
    if not cores:
        tree.complain(path, "names no processor")
        return None
    part = fields.get("CPU part", "")
    name = fields.get("model name") or _ARM_CORES.get(part, f"Arm core {part}".strip())
    offered = fields.get("flags", fields.get("Features", "")).split()
    return Cpu(
        name,
        fields.get("vendor_id", ""),
        cores,
        max(cores, _count(tree.text("sys/devices/system/cpu/present") or "")),
        tuple(flag for flag in _FLAGS if flag in offered),
    )


def _count(ranges: str) -> int:
    """Count the numbers of a list as `0-3,6`; 0 where it is no such list."""
    count = 0
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        if not first.isdigit() or not (last or first).isdigit():
            return 0
        count += int(last or first) - int(first) + 1
    return count
