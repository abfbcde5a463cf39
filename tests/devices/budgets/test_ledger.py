"""The ledger: what it counts, and what it keeps through crashes, full disks, damage and clocks."""

import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.devices.budgets.entry import DAY_S, Entry, day_of
from updraft.devices.budgets.ledger import Ledger
from updraft.devices.budgets.ledger_file import LedgerFile
from updraft.devices.usage import Usage

_WRITER = Path(__file__).with_name("ledger_writer.py")
_NOON = 20_000 * DAY_S + DAY_S / 2


class Clock:
    """A clock that tests set; `steady` counts the time that really passes."""

    def __init__(self, now=_NOON):
        self.now = now
        self.passed = 0.0

    def __call__(self):
        return self.now

    def steady(self):
        return self.passed

    def go(self, seconds):
        self.now += seconds
        self.passed += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "ledger.sqlite"


def entry(name, at, joules=1.0, seconds=0.0, **usage):
    spent = Usage(1e3 * seconds, joules, **usage)
    return Entry(name, at - seconds, at, spent, 10, 5.0, "standalone", "modelled")


def joules(ledger):
    return ledger.today().usage.energy_j


def test_a_day_is_counted_and_found_again(path, clock):
    ledger = Ledger(path, clock)
    for number in range(5):
        clock.go(60)
        ledger.record(entry(f"r{number}", clock(), 2.0, uplink_bytes=7, cloud_tokens=3))
    before = ledger.today()
    assert (before.requests, before.tokens, before.usage.energy_j) == (5, 50, 10.0)
    assert (before.usage.uplink_bytes, before.usage.cloud_tokens) == (35, 15)
    ledger.close()
    again = Ledger(path, clock)
    assert again.today() == before
    assert again.hour_cloud_tokens() == 15
    assert again.fault is None
    again.close()


def test_the_same_request_counts_once(path, clock):
    for _ in range(3):
        ledger = Ledger(path, clock)
        ledger.record(entry("r", clock()))
        ledger.record(entry("r", clock()))
        assert joules(ledger) == 1.0
        ledger.close()


def test_a_new_day_starts_at_nothing_and_the_old_one_is_kept(path, clock):
    ledger = Ledger(path, clock)
    ledger.record(entry("r1", clock(), 4.0))
    assert ledger.day_left_s() == DAY_S / 2
    clock.go(DAY_S / 2)
    assert joules(ledger) == 0.0
    ledger.record(entry("r2", clock(), 1.0))
    assert joules(ledger) == 1.0
    ledger.close()
    file = LedgerFile(path)
    assert file.totals(day_of(_NOON)).usage.energy_j == 4.0
    file.close()


def test_a_request_counts_for_the_day_in_which_it_started(path, clock):
    ledger = Ledger(path, clock)
    clock.go(DAY_S / 2 + 5)
    ledger.record(entry("over midnight", clock(), 4.0, seconds=10))
    assert joules(ledger) == 0.0
    assert ledger.window_j() == pytest.approx(4.0)
    ledger.close()


def test_old_days_are_kept_as_sums(path, clock):
    ledger = Ledger(path, clock)
    for number in range(30):
        ledger.record(entry(f"r{number}", clock(), 2.0))
        clock.go(DAY_S)
    ledger.close()
    for _ in range(2):
        Ledger(path, clock).close()
    file = LedgerFile(path)
    assert [file.totals(day_of(_NOON) + day).usage.energy_j for day in range(30)] == [2.0] * 30
    assert not file.knows("r0")
    assert file.knows("r29")
    file.close()


def test_the_windows_hold_what_was_spent_lately(path, clock):
    ledger = Ledger(path, clock, window_s=60)
    clock.go(100)
    ledger.record(entry("r", clock(), 30.0, seconds=30, cloud_tokens=8))
    assert ledger.window_j() == pytest.approx(30.0)
    clock.go(45)
    assert 14.0 <= ledger.window_j() <= 16.1
    assert ledger.window_has_room_in_s(8.0) == pytest.approx(7.0, abs=1.1)
    clock.go(30)
    assert ledger.window_j() == 0.0
    assert ledger.hour_cloud_tokens() == 8
    clock.go(3700)
    assert ledger.hour_cloud_tokens() == 0
    ledger.close()


def test_what_another_process_spends_counts_too(path, clock):
    mine, other = Ledger(path, clock), Ledger(path, clock)
    other.record(entry("theirs", clock(), 5.0))
    mine.record(entry("mine", clock(), 1.0))
    assert joules(mine) == 6.0
    mine.close()
    other.close()


def test_killed_at_any_moment_it_loses_only_what_was_in_flight(path):
    rng, first, ended = random.Random(1), 0, []
    for turn in range(12):
        arguments = [sys.executable, str(_WRITER), str(path), str(first), str(turn)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as writer:
            for _ in range(rng.randrange(1, 60)):
                writer.stdout.readline()
            writer.kill()
            said = writer.stdout.read().split()
        file = LedgerFile(path)
        assert file.mended is None
        last = file.totals(0).requests  # nothing was spent in 1970
        assert last == 0
        total = sum(file.totals(day_of(file.last()[0]) - back).requests for back in range(2))
        # Numbers are given in order, so the ledger must hold 0, 1, 2, …, each once.
        assert all(file.knows(f"r{number}") for number in range(total))
        assert not file.knows(f"r{total}")
        ended += [int(word) for word in said if word.isdigit()]
        assert total >= max(ended, default=0)
        spent = sum(file.totals(day_of(file.last()[0]) - back).usage.energy_j for back in range(2))
        assert spent == 2.0 * total
        file.close()
        first = total


@pytest.mark.parametrize("policy_path", ["file-in-the-way/ledger", "missing/ledger"])
def test_without_a_place_it_counts_in_memory_and_says_so(tmp_path, clock, policy_path):
    (tmp_path / "file-in-the-way").write_text("")
    path = tmp_path / policy_path
    ledger = Ledger(path, clock)
    ledger.record(entry("r", clock(), 2.0))
    ledger.record(entry("r", clock(), 2.0))
    assert joules(ledger) == 2.0
    assert (ledger.fault is None) == policy_path.startswith("missing")
    ledger.close()


def test_once_the_disk_works_again_everything_is_written(tmp_path, clock):
    (tmp_path / "state").write_text("in the way")
    path = tmp_path / "state" / "ledger.sqlite"
    ledger = Ledger(path, clock)
    ledger.record(entry("r1", clock(), 2.0))
    assert "state" in ledger.fault
    (tmp_path / "state").unlink()
    clock.go(2)
    ledger.record(entry("r2", clock(), 3.0))
    assert ledger.fault is None
    assert joules(ledger) == 5.0
    ledger.close()
    again = Ledger(path, clock)
    assert joules(again) == 5.0
    again.close()


def test_a_full_disk_loses_no_earlier_record(path):
    run = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(path)],
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    counted, written = map(int, run.stdout.split())
    assert counted == 4000 > written
    file = LedgerFile(path)
    assert file.mended is None
    assert file.totals(day_of(_NOON)).requests >= written
    assert all(file.knows(f"r{number}") for number in range(written))
    file.close()


_FULL_DISK = f"""
import sys
from pathlib import Path
from updraft.devices.budgets.entry import Entry
from updraft.devices.budgets.ledger import Ledger
from updraft.devices.usage import Usage

ledger = Ledger(Path(sys.argv[1]), lambda: {_NOON})
written = None
for number in range(4000):
    name = f"r{{number}}"
    ledger.record(Entry(name, {_NOON}, {_NOON}, Usage(energy_j=1.0), 1, None, "full", "m" * 200))
    if ledger.fault is not None and written is None:
        written = number
assert ledger.fault is not None
print(ledger.today().requests, written)
"""


def test_a_read_only_disk_still_tells_what_was_spent(path, clock):
    ledger = Ledger(path, clock)
    ledger.record(entry("r1", clock(), 2.0))
    if not _mounts(path.parent):
        pytest.skip("mounting read-only needs rights that this user lacks")
    mounted = ["unshare", "-m", "sh", "-c", f'{_MOUNT}; exec "$@"', str(path.parent)]
    run = subprocess.run(
        [*mounted, sys.executable, "-c", _READ_ONLY, str(path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    counted, fault = run.stdout.splitlines()
    assert float(counted) == 5.0
    assert "readonly" in fault or "read-only" in fault.lower() or "can be written to" in fault
    ledger.close()
    again = Ledger(path, clock)
    assert joules(again) == 2.0
    again.close()


_MOUNT = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0"'
_READ_ONLY = f"""
import sys
from pathlib import Path
from updraft.devices.budgets.entry import Entry
from updraft.devices.budgets.ledger import Ledger
from updraft.devices.usage import Usage

ledger = Ledger(Path(sys.argv[1]), lambda: {_NOON})
ledger.record(Entry("r2", {_NOON}, {_NOON}, Usage(energy_j=3.0), 1, None, "full", "modelled"))
print(ledger.today().usage.energy_j)
print(ledger.fault)
"""


def _mounts(folder):
    command = ["unshare", "-m", "sh", "-c", _MOUNT, str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def filled(path, clock, count=2000):
    ledger = Ledger(path, clock)
    with ledger._file_lock:
        for number in range(count):
            ledger._waiting[f"r{number}"] = day_of(clock()), entry(f"r{number}", clock())
        ledger.flush()
    ledger.close()


def damage_header(content, rng):
    content[:4096] = rng.randbytes(4096)


def damage_middle(content, rng):
    at = len(content) // 2 // 4096 * 4096
    content[at : at + 4096] = rng.randbytes(4096)


def damage_end(content, rng):
    del content[len(content) * 3 // 4 :]


def damage_all(content, rng):
    content[:] = rng.randbytes(len(content))


@pytest.mark.parametrize(
    ("damage", "saved"),
    [(damage_header, 2000), (damage_middle, 1500), (damage_end, 500), (damage_all, 0)],
)
def test_a_damaged_file_is_put_aside_and_what_can_be_read_is_saved(path, clock, damage, saved):
    filled(path, clock)
    content = bytearray(path.read_bytes())
    damage(content, random.Random(3))
    path.write_bytes(content)
    ledger = Ledger(path, clock)
    assert saved <= ledger.today().requests <= 2000
    assert "damaged" in ledger.warning
    aside = path.with_name(path.name + ".damaged-1")
    assert aside.read_bytes() == content
    ledger.record(entry("new", clock()))
    assert ledger.fault is None
    ledger.close()
    again = Ledger(path, clock)
    assert again.warning is None
    assert again.today().requests == ledger.today().requests
    again.close()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from([-DAY_S * 3, -7200.0, 7200.0, DAY_S * 2]), max_size=6), st.data())
def test_setting_the_clock_never_lowers_what_counts_as_spent(tmp_path_factory, jumps, data):
    path, clock = tmp_path_factory.mktemp("ledger") / "l", Clock()
    ledger = Ledger(path, clock, clock.steady)
    spent = 0.0
    for number, jump in enumerate(jumps):
        amount = data.draw(st.integers(0, 5))
        ledger.record(entry(f"r{number}", clock(), float(amount)))
        spent += amount
        before = joules(ledger)
        clock.now += jump
        assert joules(ledger) >= before
        assert joules(ledger) <= spent  # and nothing counts twice
        if data.draw(st.booleans()):
            ledger.close()
            ledger = Ledger(path, clock, clock.steady)
            assert joules(ledger) <= spent
        clock.go(60)
    ledger.close()


def test_a_clock_that_lost_its_time_at_boot_does_not_give_a_second_budget(path, clock):
    ledger = Ledger(path, clock, clock.steady)
    ledger.record(entry("r1", clock(), 8.0))
    ledger.close()
    clock.now = 1000.0  # no battery: 1970
    booted = Ledger(path, clock, clock.steady)
    assert joules(booted) == 8.0
    assert "back" in booted.warning
    booted.record(entry("r2", clock(), 1.0))
    assert joules(booted) == 9.0
    clock.now = _NOON + 300  # the network tells the time
    assert joules(booted) == 9.0
    assert "forward" in booted.warning
    booted.record(entry("r3", clock(), 1.0))
    booted.close()
    again = Ledger(path, clock, clock.steady)
    assert joules(again) == 10.0
    clock.go(DAY_S)
    assert joules(again) == 0.0
    again.close()


def test_a_sleeping_machine_has_not_set_its_clock(path, clock):
    ledger = Ledger(path, clock, clock.steady)
    ledger.record(entry("r1", clock(), 8.0))
    clock.go(DAY_S)
    assert joules(ledger) == 0.0
    assert ledger.warning is None
    ledger.close()
