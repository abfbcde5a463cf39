"""Boards are identified from their files, whatever state these are in."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.devices.bandwidth import measure
from updraft.devices.catalog.entries import load_catalog
from updraft.devices.gpus import read_gpus
from updraft.devices.l4t import read_jetpack
from updraft.devices.probe import identify
from updraft.devices.tree import Tree

made = runpy.run_path(str(Path(__file__).with_name("boards.py")))
write, write_board = made["write"], made["write_board"]


@pytest.fixture(scope="module")
def catalog():
    return load_catalog()


@pytest.mark.parametrize(
    ("name", "device", "l4t", "jetpack", "mode", "cpu", "cores"),
    [
        ("agx-64", "jetson-agx-orin-64", "36.4.3", "6.2", "MODE_30W", "Cortex-A78AE", 12),
        ("nx-16", "jetson-orin-nx-16", "36.4.4", "6.2.1", "MAXN_SUPER", "Cortex-A78AE", 8),
        ("nano-8", "jetson-orin-nano-8", "39.2.1", "7.2", "25W", "Cortex-A78AE", 6),
        ("pi-5", "raspberry-pi-5", None, None, None, "Cortex-A76", 4),
        ("laptop", "x86", None, None, None, "13th Gen Intel(R) Core(TM) i7-1360P", 16),
        ("unknown", None, None, None, None, "Arm core 0xd05", 1),
    ],
)
def test_a_board_is_identified(tmp_path, catalog, name, device, l4t, jetpack, mode, cpu, cores):
    board = identify(write_board(tmp_path, name), catalog)
    assert board.device == device
    assert (board.l4t, board.jetpack, board.power_mode) == (l4t, jetpack, mode)
    assert (board.cpu.name, board.cpu.cores, board.cpu.cores_present) == (cpu, cores, cores)
    assert 0 < board.memory_free_bytes < board.memory_total_bytes
    assert board.unread == ()


def test_every_board_of_the_catalog_knows_its_module_on_any_carrier(tmp_path, catalog):
    for number, device in enumerate(catalog.values()):
        if device.family == "jetson":
            for compatible in device.compatible:
                files = {"proc/device-tree/compatible": f"acme,box+{compatible}\0nvidia,tegra234\0"}
                board = identify(write(tmp_path / f"{number}{compatible}", files), catalog)
                assert board.device == device.id
                assert board.identified_by == compatible


def test_models_and_flags_are_told(tmp_path, catalog):
    laptop = identify(write_board(tmp_path / "laptop", "laptop"), catalog)
    assert laptop.model == "LENOVO 21HMCTO1WW"
    assert laptop.cpu.flags == ("avx2", "fma", "f16c", "avx_vnni")
    nano = identify(write_board(tmp_path / "nano", "nano-8"), catalog)
    assert nano.model == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert nano.cpu.flags == ("asimd", "asimdhp", "asimddp")


def test_cores_that_are_off_are_counted(tmp_path, catalog):
    root = write_board(tmp_path, "agx-64")
    (root / "sys/devices/system/cpu/present").write_text("0-3,6,8-11\n")
    (root / "proc/cpuinfo").write_text("processor\t: 0\nCPU part\t: 0xd42\n")
    cpu = identify(root, catalog).cpu
    assert (cpu.cores, cpu.cores_present) == (1, 9)


def test_gpus_are_found_without_the_drivers_library(tmp_path, catalog):
    board = identify(write_board(tmp_path, "gpu-server"), catalog)
    assert board.device == "x86"
    assert [(gpu.names, gpu.device) for gpu in board.gpus] == [
        (("pci:10de:2335",), "h200"),
        (("NVIDIA L4", "pci:10de:27b8"), "l4"),
    ]


class _NvmlError(Exception):
    pass


def _nvml(**functions):
    """The library of a machine with one H200; functions replace those that matter."""

    def memory(handle):
        return SimpleNamespace(total=150_754_820_096)

    return SimpleNamespace(
        **{
            "NVMLError": _NvmlError,
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlDeviceGetCount": lambda: 1,
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetName": lambda handle: "NVIDIA H200",
            "nvmlDeviceGetPciInfo": lambda handle: SimpleNamespace(pciDeviceId=0x233510DE),
            "nvmlDeviceGetMemoryInfo": memory,
            **functions,
        }
    )


def _fails(*arguments):
    raise _NvmlError("Driver Not Loaded")


def test_the_drivers_library_tells_names_and_memory():
    (gpu,) = read_gpus(Tree(Path("/")), _nvml())
    assert gpu.names == ("NVIDIA H200", "pci:10de:2335")
    assert gpu.memory_bytes == 150_754_820_096
    (integrated,) = read_gpus(Tree(Path("/")), _nvml(nvmlDeviceGetMemoryInfo=_fails))
    assert integrated.memory_bytes is None


@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetName"])
def test_a_driver_that_fails_is_said(function):
    tree = Tree(Path("/"))
    read_gpus(tree, _nvml(**{function: _fails}))
    assert [(unread.what, unread.why) for unread in tree.unread] == [
        ("NVML", "Driver Not Loaded: is the NVIDIA driver loaded?")
    ]


def test_the_library_is_not_asked_about_another_system(tmp_path):
    assert read_gpus(Tree(tmp_path), _nvml()) == ()


def test_what_cannot_be_read_is_said_and_nothing_is_raised(tmp_path, catalog):
    board = identify(write_board(tmp_path, "damaged"), catalog)
    assert board.device is None
    assert board.cpu is None
    assert board.memory_total_bytes is None
    assert (board.l4t, board.power_mode) == (None, None)
    assert "\x1b" not in board.model
    assert "\x07" not in board.model
    said = {unread.what: unread.why for unread in board.unread}
    assert said.keys() >= {
        "/proc/cpuinfo", "/proc/meminfo", "/etc/nv_tegra_release", "/etc/nvpmodel.conf",
        "/var/lib/nvpmodel/status",
    }  # fmt: skip
    assert all(said.values())


def test_a_file_that_may_not_be_read_is_named(tmp_path):
    (tmp_path / "etc/nv_tegra_release").mkdir(parents=True)
    tree = Tree(tmp_path)
    assert tree.text("etc/nv_tegra_release") is None
    assert [(u.what, u.why) for u in tree.unread] == [("/etc/nv_tegra_release", "Is a directory")]


def test_an_empty_tree_is_a_board_of_which_nothing_is_known(tmp_path, catalog):
    board = identify(tmp_path, catalog)
    assert (board.device, board.model, board.cpu, board.gpus) == (None, "unknown", None, ())
    assert board.unread == ()


def test_a_kept_mode_that_the_board_does_not_have_is_said(tmp_path, catalog):
    root = write_board(tmp_path, "nano-8")
    (root / "var/lib/nvpmodel/status").write_text("pmode:0008\n")
    board = identify(root, catalog)
    assert board.power_mode is None
    assert "mode 8 is not one of /etc/nvpmodel.conf: [0, 1, 2, 3]" in board.unread[0].why


def test_of_entries_for_one_board_the_memory_decides_and_the_users_own_wins(tmp_path, catalog):
    small = catalog["raspberry-pi-5"].model_copy(update={"id": "pi-4gb", "memory_bytes": 2**32})
    own = catalog["raspberry-pi-5"].model_copy(update={"id": "own"})
    root = write_board(tmp_path, "pi-5")
    assert identify(root, catalog | {"pi-4gb": small}).device == "raspberry-pi-5"
    assert identify(root, catalog | {"own": own}).device == "own"
    meminfo = root / "proc/meminfo"
    meminfo.write_text("MemTotal: 4050000 kB\nMemAvailable: 3000000 kB\n")
    assert identify(root, catalog | {"pi-4gb": small}).device == "pi-4gb"


@pytest.mark.parametrize(
    ("l4t", "jetpack"),
    [
        ("35.4.1", "5.1.2"), ("36.3.0", "6.0"), ("36.4.0", "6.1"), ("36.4.3", "6.2"),
        ("36.4.9", "6.2"), ("36.9", "6"), ("39.2.0", "7.2"), ("41.1", None), (None, None),
    ],
)  # fmt: skip
def test_a_jetpack_goes_with_each_release(tmp_path, l4t, jetpack):
    assert read_jetpack(Tree(tmp_path), l4t) == jetpack


def test_a_release_is_read_from_the_packages_where_the_file_is_missing(tmp_path, catalog):
    root = write_board(tmp_path, "nx-16")
    (root / "etc/nv_tegra_release").unlink()
    write(root, {"var/lib/dpkg/status": "Package: nvidia-l4t-core\nVersion: 36.4.3-20250107\n"})
    board = identify(root, catalog)
    assert (board.l4t, board.jetpack) == ("36.4.3", "6.2")


_FILES = sorted(made["BOARDS"]["nano-8"])
_CATALOG = load_catalog()


@given(content=st.binary(max_size=300), path=st.sampled_from(_FILES))
def test_no_content_of_any_file_breaks_it(tmp_path_factory, content, path):
    root = write_board(tmp_path_factory.mktemp("board"), "nano-8")
    (root / path).write_bytes(content)
    board = identify(root, _CATALOG)
    assert board.device in {"jetson-orin-nano-8", None} or path.endswith("compatible")


def test_this_machine_is_identified_and_measured(catalog):
    board = identify(Path("/"), catalog)
    assert board.cpu.cores >= 1
    assert board.memory_total_bytes > 2**28
    found = measure(buffer_bytes=8 * 2**20, threads=2, seconds=0.05)
    assert (found.threads, found.buffer_bytes) == (2, 8 * 2**20)
    # Nothing that runs this is slower than a spinning disk or faster than the best GPU.
    assert 1e8 < found.bytes_per_s < 1e13
