"""Files of several boards, of the shape that the real ones have, written below a folder."""

import stat
from pathlib import Path

_INTEL = """\
processor\t: {n}
vendor_id\t: GenuineIntel
model name\t: 13th Gen Intel(R) Core(TM) i7-1360P
flags\t\t: fpu vme sse2 avx avx2 fma f16c avx_vnni
"""
_A78AE = """\
processor\t: {n}
Features\t: fp asimd aes atomics fphp asimdhp asimddp lrcpc ilrcpc
CPU implementer\t: 0x41
CPU part\t: 0xd42
"""
_A76 = _A78AE.replace("0xd42", "0xd0b")

# The header line of each mode is the real one; of its settings, those that decide about reboots.
_NX_16_MODES = {0: "MAXN_SUPER", 1: "10W", 2: "15W", 3: "25W", 4: "40W"}
_NANO_8_MODES = {0: "15W", 1: "25W", 2: "MAXN_SUPER", 3: "7W"}
_AGX_MODES = {0: "MAXN", 1: "MODE_15W", 2: "MODE_30W", 3: "MODE_50W"}
_FEWER_CORES = {"10W": 4, "7W": 4, "MODE_15W": 4, "MODE_30W": 8}


def write(root, files):
    """Write files below a folder; text as it is, bytes as they are."""
    for path, content in files.items():
        file = Path(root, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Path(root)


def nvpmodel_conf(modes, cores):
    """Return an `/etc/nvpmodel.conf`."""
    text = "# < POWER_MODEL ID=9 NAME=COMMENT >\n< PARAM TYPE=FILE NAME=CPU_ONLINE >\n"
    text += "".join(f"CORE_{n} /sys/devices/system/cpu/cpu{n}/online\n" for n in range(cores))
    for number, name in modes.items():
        on = _FEWER_CORES.get(name, cores)
        text += f"\n< POWER_MODEL ID={number} NAME={name} >\n"
        text += "".join(f"CPU_ONLINE CORE_{n} {int(n < on)}\n" for n in range(cores))
        text += "TPC_POWER_GATING TPC_PG_MASK 0\nGPU MAX_FREQ 612000000\n"
    return text + "\n< PM_CONFIG DEFAULT=2 >\n"


def _jetson(compatible, model, release, modes, mode, cores, memory_kb):
    return {
        "proc/device-tree/compatible": "\0".join([*compatible, "nvidia,tegra234"]) + "\0",
        "proc/device-tree/model": model + "\0",
        "proc/cpuinfo": "\n".join(_A78AE.format(n=n) for n in range(cores)),
        "sys/devices/system/cpu/present": f"0-{cores - 1}\n",
        "proc/meminfo": _meminfo(memory_kb),
        "etc/nv_tegra_release": f"# {release}, GCID: 38968081, BOARD: generic, EABI: aarch64, "
        "DATE: Fri Jan 10 18:46:55 UTC 2025\n# KERNEL_VARIANT: oot\n",
        "etc/nvpmodel.conf": nvpmodel_conf(modes, cores),
        "var/lib/nvpmodel/status": f"pmode:{mode:04d} fmode:fanNull\n",
    }


def _meminfo(total_kb):
    return (
        f"MemTotal:       {total_kb} kB\nMemFree:         1000 kB\n"
        f"MemAvailable:   {total_kb // 2} kB\nHugePages_Total:       0\n"
    )


def _pc(cores, memory_kb):
    return {
        "proc/cpuinfo": "\n".join(_INTEL.format(n=n) for n in range(cores)),
        "sys/devices/system/cpu/present": f"0-{cores - 1}\n",
        "proc/meminfo": _meminfo(memory_kb),
    }


BOARDS = {
    "agx-64": _jetson(
        ["nvidia,p3737-0000+p3701-0005"],
        "NVIDIA Jetson AGX Orin Developer Kit",
        "R36 (release), REVISION: 4.3",
        _AGX_MODES,
        2,
        12,
        64_349_568,
    ),
    "nx-16": _jetson(
        ["nvidia,p3768-0000+p3767-0000-super"],
        "NVIDIA Jetson Orin NX Engineering Reference Developer Kit Super",
        "R36 (release), REVISION: 4.4",
        _NX_16_MODES,
        0,
        8,
        15_656_408,
    ),
    # JetPack 7.2, whose packages say so themselves.
    "nano-8": _jetson(
        ["nvidia,p3768-0000+p3767-0005-super"],
        "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        "R39 (release), REVISION: 2.1",
        _NANO_8_MODES,
        1,
        6,
        7_802_020,
    )
    | {
        "var/lib/dpkg/status": "Package: bash\nVersion: 5.2\n\nPackage: nvidia-jetpack\n"
        "Status: install ok installed\nVersion: 7.2+b112\nArchitecture: arm64\n\n"
    },
    "pi-5": {
        "proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0",
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "proc/cpuinfo": "\n".join(_A76.format(n=n) for n in range(4)),
        "sys/devices/system/cpu/present": "0-3\n",
        "proc/meminfo": _meminfo(8_256_352),
    },
    "laptop": _pc(16, 32_560_000)
    | {
        "sys/class/dmi/id/sys_vendor": "LENOVO\n",
        "sys/class/dmi/id/product_name": "21HMCTO1WW\n",
        "sys/class/powercap/intel-rapl:0/name": "package-0\n",
        "sys/class/powercap/intel-rapl:0/energy_uj": "000000123456\n",
        "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850\n",
    },
    "gpu-server": _pc(4, 131_000_000)
    | {
        "sys/bus/pci/devices/0000:00:02.0/vendor": "0x8086\n",
        "sys/bus/pci/devices/0000:00:02.0/device": "0x46a6\n",
        "sys/bus/pci/devices/0000:00:02.0/class": "0x030000\n",
        "sys/bus/pci/devices/0000:18:00.0/vendor": "0x10de\n",
        "sys/bus/pci/devices/0000:18:00.0/device": "0x2335\n",
        "sys/bus/pci/devices/0000:18:00.0/class": "0x030200\n",
        "sys/bus/pci/devices/0000:19:00.0/vendor": "0x10de\n",
        "sys/bus/pci/devices/0000:19:00.0/device": "0x27b8\n",
        "sys/bus/pci/devices/0000:19:00.0/class": "0x030200\n",
        "proc/driver/nvidia/gpus/0000:19:00.0/information": "Model: \t NVIDIA L4\nIRQ: \t 120\n",
    },
    "unknown": {
        "proc/device-tree/compatible": "friendlyarm,nanopc-t6\0rockchip,rk3588\0",
        "proc/device-tree/model": "FriendlyElec NanoPC-T6\0",
        "proc/cpuinfo": "processor\t: 0\nCPU part\t: 0xd05\nFeatures\t: fp asimd asimddp\n",
        "proc/meminfo": _meminfo(16_000_000),
    },
    "damaged": {
        "proc/device-tree/compatible": b"\xff\xfe\x00\x1b[31mnvidia,p3767-0000\x00",
        "proc/device-tree/model": b"\x1b]0;owned\x07\xc3(\x00",
        "proc/cpuinfo": "no colon anywhere\n",
        "proc/meminfo": "MemTotal: a lot\n",
        "etc/nv_tegra_release": "garbage\n",
        "etc/nvpmodel.conf": "< POWER_MODEL NAME=15W >\n",
        "var/lib/nvpmodel/status": "fmode:quiet\n",
        "sys/devices/system/cpu/present": "0-x\n",
        # A folder where a file is expected cannot be read even by root.
        "sys/class/dmi/id/product_name/oops": "",
        "sys/bus/pci/devices": "a file where a folder belongs\n",
    },
}


def write_board(root, name):
    """Write a board's files below a folder and return it."""
    return write(root, BOARDS[name])


# An `nvpmodel` that keeps its mode in files of the tree, and behaves as the real one: it silently
# stays where a reboot is needed, since nobody is there to say yes.
_NVPMODEL = """\
#!/bin/sh
root=$(cd "$(dirname "$0")/../.." && pwd)
now=$(cat "$root/now")
name_of() { sed -n "s/^< POWER_MODEL ID=$1 NAME=\\\\(.*\\\\) >/\\\\1/p" "$root/etc/nvpmodel.conf"; }
echo "$@" >> "$root/calls"
case $1 in
-q) echo "NV Power Mode: $(name_of "$now")"; echo "$now" ;;
-m)
    if grep -qw "$2" "$root/reboot" 2> /dev/null; then
        echo "NVPM WARN: Reboot required for changing to this power mode: $2"
    else
        echo "$2" > "$root/now"
        printf 'pmode:%04d fmode:fanNull\\n' "$2" > "$root/var/lib/nvpmodel/status"
    fi ;;
esac
"""


def add_nvpmodel(root, now, script=_NVPMODEL):
    """Give a board a working `nvpmodel`, now in the mode with that id; return its path."""
    write(root, {"now": f"{now}\n", "usr/sbin/nvpmodel": script})
    tool = Path(root, "usr/sbin/nvpmodel")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    return tool
