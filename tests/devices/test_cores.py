"""How many threads pay: cores that this process may use, not processors that there are."""

import os

import pytest

from updraft.devices.cores import usable_cores


@pytest.fixture
def processors(monkeypatch):
    """Let this process run on four processors."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1, 2, 3}, raising=False)


def siblings(root, *lists):
    for cpu, shared in enumerate(lists):
        folder = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(shared + "\n")


def limit(root, text):
    (root / "sys/fs/cgroup").mkdir(parents=True)
    (root / "sys/fs/cgroup/cpu.max").write_text(text + "\n")


def test_threads_of_one_core_count_once(processors, tmp_path):
    siblings(tmp_path, "0,2", "1,3", "0,2", "1,3")
    assert usable_cores(tmp_path) == 2


def test_processors_of_unknown_cores_count_each(processors, tmp_path):
    assert usable_cores(tmp_path) == 4


@pytest.mark.parametrize(
    ("text", "expected"), [("max 100000", 4), ("150000 100000", 2), ("1000 100000", 1), ("?", 4)]
)
def test_a_limit_on_processor_time_is_kept(processors, tmp_path, text, expected):
    limit(tmp_path, text)
    assert usable_cores(tmp_path) == expected
