"""RAPL: which zones count, and counters that start again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.devices.meters.rapl import Counter, Rapl
from updraft.errors import ProbeError


@given(st.integers(1, 10**12), st.data())
def test_wraps_never_lose_or_invent_a_unit(range_units, data):
    value = data.draw(st.integers(0, range_units))
    counter, total = Counter(value, range_units), 0
    for step in data.draw(st.lists(st.integers(0, range_units), max_size=30)):
        total += step
        value = (value + step) % (range_units + 1)
        assert counter.advance(value) == total


@given(st.integers(0, 1000), st.lists(st.integers(0, 1000)))
def test_whatever_a_counter_says_energy_never_goes_back(first, values):
    counter = Counter(first, 1000)
    sums = [counter.advance(value) for value in values]
    assert sums == sorted(sums)
    assert all(total >= 0 for total in sums)


@pytest.mark.parametrize("value", [-1, 1001])
def test_a_value_out_of_range_is_refused(value):
    with pytest.raises(ProbeError, match=f"says {value}, which is not within 0 to 1000"):
        Counter(0, 1000).advance(value)


def test_packages_and_their_memory_are_added_up_and_nothing_twice(xeon):
    sensor = Rapl(xeon.root)
    assert sensor.rail == (
        "package-0 + dram of intel-rapl:0:0 + package-1 + dram of intel-rapl:1:0, "
        "without the rest of the host"
    )
    assert sensor.read() == 0
    zones = xeon.root / "sys/class/powercap"
    (zones / "intel-rapl:0/energy_uj").write_text("2500000\n")
    (zones / "intel-rapl:1:0/energy_uj").write_text("750000\n")
    (zones / "intel-rapl:0:1/energy_uj").write_text("999999999\n")
    (zones / "intel-rapl:2/energy_uj").write_text("999999999\n")
    assert sensor.read() == pytest.approx(1.75)
    sensor.close()


def test_each_package_wraps_by_its_own_range(board):
    first = board.zone("intel-rapl:0", "package-0", 990_000, range_uj=999_999)
    second = board.zone("intel-rapl:1", "package-1", 100, range_uj=65_532_610_987)
    sensor = Rapl(board.root)
    (first / "energy_uj").write_text("40000\n")
    (second / "energy_uj").write_text("100100\n")
    assert sensor.read() == pytest.approx(0.05 + 0.1)
    sensor.close()


def test_only_root_may_read_it_and_the_remedy_is_said(xeon, as_nobody_of):
    for file in xeon.root.glob("sys/class/powercap/*/energy_uj"):
        file.chmod(0o400)
    with as_nobody_of(xeon.root), pytest.raises(ProbeError) as refused:
        Rapl(xeon.root)
    assert "energy_uj: permission denied: only root may read it" in str(refused.value)
    assert "by the udev rule in docs/energy.md" in str(refused.value)


def test_a_zone_whose_counter_is_missing_is_an_error(xeon):
    (xeon.root / "sys/class/powercap/intel-rapl:1/energy_uj").unlink()
    with pytest.raises(ProbeError, match="intel-rapl:1/energy_uj: cannot be opened"):
        Rapl(xeon.root)


def test_a_host_whose_only_zone_holds_others_has_none(board):
    board.zone("intel-rapl:0", "psys", 123)
    assert not Rapl.there(board.root)
