"""The file of budgets, changed while the coordinator runs."""

import os

import pytest

from updraft.cloud.fleet.budgets import FleetBudgets
from updraft.cloud.fleet.limits import FleetBudget
from updraft.errors import ConfigError

BUDGETS = """
[fleet]
average_power = "8 W"
first_token = "900 ms"

[total]
average_power = "20 W"

[device.small]
average_power = "3 W"
"""


@pytest.fixture
def write(tmp_path):
    """Return a function that writes the file, each time a second later."""
    path, count = tmp_path / "budgets.toml", iter(range(1, 100))

    def put(text):
        path.write_text(text)
        stamp = 1_000_000_000 + next(count)
        os.utime(path, (stamp, stamp))
        return path

    return put


def test_without_a_file_nothing_is_limited():
    budgets = FleetBudgets(None)
    assert budgets.of(["a"]) == FleetBudget()
    assert not budgets.changed()


def test_the_total_is_the_fleets_and_lines_of_devices_are_the_nodes(write):
    found = FleetBudgets(write(BUDGETS)).of(["small", "other"])
    assert (found.power_w, found.first_token_ms) == (20.0, 900.0)
    assert found.node_power_w == {"small": 3.0, "other": 8.0}


def test_a_change_holds_at_once_and_a_touch_is_none(write):
    budgets = FleetBudgets(write(BUDGETS))
    assert not budgets.changed()
    write(BUDGETS.replace("20 W", "12 W"))
    assert budgets.changed()
    assert budgets.of([]).power_w == 12.0
    write(BUDGETS.replace("20 W", "12 W"))
    assert not budgets.changed()


def test_a_change_that_makes_no_sense_changes_nothing(write, caplog):
    budgets = FleetBudgets(write(BUDGETS))
    write(BUDGETS.replace("20 W", "20 J"))
    assert not budgets.changed()
    assert budgets.of([]).power_w == 20.0
    assert "average_power" in caplog.text
    write("[total]\n").unlink()
    assert not budgets.changed()
    write(BUDGETS.replace("20 W", "9 W"))
    assert budgets.changed()


def test_a_file_that_is_wrong_from_the_start_is_refused(write, tmp_path):
    with pytest.raises(ConfigError, match="average_power"):
        FleetBudgets(write(BUDGETS.replace("20 W", "20 J")))
    with pytest.raises(ConfigError, match="cannot be read"):
        FleetBudgets(tmp_path / "gone.toml")
