"""What fits into memory is known before anything is loaded, and what does not is refused."""

import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.devices.fit import Load, check, memory_needed
from updraft.devices.free_memory import free_bytes, resident_bytes
from updraft.devices.workload import Piece, Workload
from updraft.errors import BundleError, ProbeError
from updraft.models.room import require_room
from updraft.models.workload import workload_of

_WORKLOAD = Workload(
    name="toy",
    precision="fp32",
    partitions=(
        Piece(40_000_000, 10_000_000, 2_000, 2, kept_bytes=5_000_000),
        Piece(60_000_000, 15_000_000, 3_000, 5, kept_bytes=5_000_000),
    ),
    head=Piece(8_000_000, 2_000_000, 0, 5, kept_bytes=2_000_000),
    exits=(2, 5),
    split=2,
    state_bytes={"fp32": 400.0, "fp16": 200.0},
    context_length=1_000,
)


def root_of(tmp_path, available_bytes, **files):
    """Make a root whose system says how much memory is free; `files` are added by path."""
    write(tmp_path / "proc/meminfo", f"MemTotal: 99 kB\nMemAvailable: {available_bytes // 1024} kB")
    write(tmp_path / "proc/self/status", "Name:\tpython\nVmRSS:\t  102400 kB\n")
    for path, text in files.items():
        write(tmp_path / path, text)
    return tmp_path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_need_counts_weights_caches_states_and_runtime():
    need = memory_needed(_WORKLOAD, contexts=3, runtime_bytes=7)
    assert need.weights == 120_000_000
    assert need.kv == 3 * 1_000 * (5_000 + 3 * 400)
    assert need.total == need.weights + need.kv + 7


def test_layers_above_the_split_count_only_where_they_are_loaded():
    need = memory_needed(_WORKLOAD, contexts=1, top=2)
    assert need.weights == 45_000_000 + 10_000_000
    assert need.kv == 1_000 * (2_000 + 2 * 400)


@given(st.integers(0, 400_000_000), st.integers(1, 40))
def test_what_is_said_to_fit_fits_and_one_more_does_not(free, contexts):
    load = Load(_WORKLOAD, contexts, contexts_key="max")
    try:
        assert check(load, free).total <= free
    except BundleError as error:
        found = re.search(r"max = (\d+)", str(error))
        if found is None:
            with pytest.raises(BundleError):
                check(Load(_WORKLOAD, 1, contexts_key="max"), free)
        else:
            most = int(found[1])
            check(Load(_WORKLOAD, most, contexts_key="max"), free)
            with pytest.raises(BundleError):
                check(Load(_WORKLOAD, most + 1, contexts_key="max"), free)


def test_the_longest_context_that_would_fit_is_told():
    need = memory_needed(_WORKLOAD, contexts=1)
    with pytest.raises(BundleError, match=r"room for 1 text of at most 400 positions"):
        check(Load(_WORKLOAD, 1, runtime_bytes=need.runtime), need.total - 600 * 6_200)


def test_weights_that_never_fit_are_told_what_would():
    with pytest.raises(BundleError) as refused:
        check(Load(_WORKLOAD, 2, runtime_bytes=20_000_000), 100_000_000)
    assert "it needs 152 MB" in str(refused.value)
    assert "weights 120 MB, 2 texts of 1000 positions 12 MB, runtime 20 MB" in str(refused.value)
    assert "100 MB are free" in str(refused.value)
    assert "room for weights of 74 MB" in str(refused.value)


def test_contexts_take_no_more_than_their_limit():
    load = Load(_WORKLOAD, 100, kv_limit_mib=50, kv_limit_key="sessions.memory_mib")
    assert load.need.kv == 50 << 20
    with pytest.raises(BundleError, match=r"set sessions\.memory_mib = 49, or free"):
        check(load, load.need.total - 1)


def test_a_second_copy_of_the_layers_counts():
    assert Load(_WORKLOAD, 1, copies=2).need.weights == 230_000_000


class TestFreeMemory:
    def test_this_system_tells(self):
        assert free_bytes() > 0
        assert resident_bytes() > 10_000_000

    def test_the_machine_limits(self, tmp_path):
        assert free_bytes(root_of(tmp_path, 512 << 20)) == 512 << 20

    def test_a_control_group_limits(self, tmp_path):
        group = "sys/fs/cgroup/system.slice/updraft.service"
        root = root_of(
            tmp_path,
            8 << 30,
            **{
                "proc/self/cgroup": "0::/system.slice/updraft.service\n",
                f"{group}/memory.max": "268435456\n",
                f"{group}/memory.current": "134217728\n",
                f"{group}/memory.stat": "anon 1\ninactive_file 33554432\n",
                "sys/fs/cgroup/system.slice/memory.max": "max\n",
                "sys/fs/cgroup/system.slice/memory.current": "134217728\n",
            },
        )
        assert free_bytes(root) == 268435456 - 134217728 + 33554432

    def test_a_group_around_the_group_limits(self, tmp_path):
        root = root_of(
            tmp_path,
            8 << 30,
            **{
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/memory.max": "1000\n",
                "sys/fs/cgroup/a/memory.current": "400\n",
            },
        )
        assert free_bytes(root) == 600

    def test_a_control_group_of_version_1_limits(self, tmp_path):
        group = "sys/fs/cgroup/memory/docker/x"
        root = root_of(
            tmp_path,
            8 << 30,
            **{
                "proc/self/cgroup": "5:devices:/docker/x\n4:cpu,memory:/docker/x\n0::/\n",
                f"{group}/memory.limit_in_bytes": "300000000\n",
                f"{group}/memory.usage_in_bytes": "100000000\n",
                f"{group}/memory.stat": "total_inactive_file 50000000\n",
            },
        )
        assert free_bytes(root) == 250_000_000

    @pytest.mark.parametrize("text", ["", "MemAvailable: lots", "MemTotal: 5 kB\n"])
    def test_a_system_that_says_nothing_is_told_so(self, tmp_path, text):
        write(tmp_path / "proc/meminfo", text)
        with pytest.raises(ProbeError, match="MemAvailable"):
            free_bytes(tmp_path)

    def test_no_file_at_all(self, tmp_path):
        with pytest.raises(ProbeError, match=r"proc/meminfo: cannot be read"):
            free_bytes(tmp_path)


class TestRequireRoom:
    def test_refuses_before_anything_is_loaded(self, tiny_bundle, tmp_path):
        load = Load(workload_of(tiny_bundle), 4, contexts_key="api.max_generations")
        root = root_of(tmp_path, 30 << 20)
        with pytest.raises(BundleError, match=r"'tiny' does not fit .* 31 MB are free"):
            require_room(load, root=root)
        require_room(load, root=root_of(tmp_path, 400 << 20))

    def test_counts_the_tuned_bundle_beside_the_other(self, tiny_bundle, tmp_path):
        load = Load(workload_of(tiny_bundle), 4)
        root = root_of(tmp_path, load.need.total + 8192)
        require_room(load, root=root)
        with pytest.raises(BundleError, match="does not fit"):
            require_room(load, tiny_bundle, root=root)

    def test_a_budget_limits_what_the_whole_process_may_take(self, tiny_bundle, tmp_path):
        load, root = Load(workload_of(tiny_bundle), 4), root_of(tmp_path, 4 << 30)
        held = resident_bytes(root)
        require_room(load, limit_bytes=held + load.need.total, root=root)
        with pytest.raises(BundleError, match="does not fit"):
            require_room(load, limit_bytes=held + load.need.total - 1, root=root)

    def test_goes_on_where_the_system_does_not_tell(self, tiny_bundle, tmp_path, caplog):
        with caplog.at_level(logging.WARNING):
            require_room(Load(workload_of(tiny_bundle), 4), root=tmp_path)
        assert "is not known" in caplog.text
